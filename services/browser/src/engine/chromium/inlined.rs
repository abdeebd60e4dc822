//! Scripts of the built extension that no extension runs, but we: with their configuration in place.

use std::path::Path;

use serde_json::Value;

/// The marker that the configuration takes the place of, quotes included.
const MARKER: &str = "\"@@SONDE_CONFIG@@\"";

/// Why there is no such script.
#[derive(Debug, thiserror::Error)]
pub(super) enum InlinedError {
    #[error("cannot read {file} of the extension: {source}; build the extension again")]
    Read { file: &'static str, source: std::io::Error },
    #[error("{file} does not hold the marker of the configuration once; build the extension again")]
    Foreign { file: &'static str },
}

/// The text of a script.
#[derive(Debug, Clone)]
pub(super) struct Inlined(String);

impl Inlined {
    /// `extension`: the directory of the built extension.
    pub async fn load(extension: &Path, file: &'static str) -> Result<Self, InlinedError> {
        let read = tokio::fs::read_to_string(extension.join(file)).await;
        let script = read.map_err(|source| InlinedError::Read { file, source })?;
        match script.matches(MARKER).count() {
            1 => Ok(Self(script)),
            _ => Err(InlinedError::Foreign { file }),
        }
    }

    /// With this configuration.
    pub fn with(&self, config: &Value) -> String {
        // A JSON string is a JavaScript string literal.
        let literal = Value::from(config.to_string()).to_string();
        self.0.replacen(MARKER, &literal, 1)
    }
}

/// A name that no page can guess.
pub(super) fn word() -> String {
    use rand::Rng;
    let letters = rand::rng().sample_iter(rand::distr::Alphanumeric).take(24).map(char::from);
    // A name begins with a letter.
    std::iter::once('b').chain(letters).collect()
}
