//! Exit codes and the errors behind them.

/// A visit did not end ok, or a check failed.
pub const EXIT_FAILED: u8 = 9;
/// The configuration or the input is wrong.
pub const EXIT_INPUT: u8 = sonde_runtime::EXIT_CONFIG;
/// The user stopped it; running it again goes on.
pub const EXIT_INTERRUPTED: u8 = 11;
/// Something of ours failed.
const EXIT_INTERNAL: u8 = 1;

/// What ends a command early. Each says what happened, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] sonde_runtime::config::ConfigError),
    /// An argument or a site list is wrong.
    #[error("{0}")]
    Input(String),
    /// An address is wrong or cannot be bound.
    #[error("{0}")]
    Endpoint(#[from] sonde_runtime::endpoint::EndpointError),
    /// A service could not start or failed.
    #[error("{0}")]
    Service(String),
    /// A call failed.
    #[error("{}", describe(.0))]
    Call(#[from] tonic::Status),
}

impl CliError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Input(_) | Self::Endpoint(_) => EXIT_INPUT,
            Self::Call(status) if status.code() == tonic::Code::InvalidArgument => EXIT_INPUT,
            Self::Service(_) | Self::Call(_) => EXIT_INTERNAL,
        }
    }
}

fn describe(status: &tonic::Status) -> String {
    match status.code() {
        tonic::Code::Unavailable => format!(
            "the service cannot be reached: {}; is it running (sonde up), and is --server its address?",
            status.message()
        ),
        code => format!("{}: {}", code.description(), status.message()),
    }
}
