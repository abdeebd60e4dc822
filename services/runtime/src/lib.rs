//! What the three services share: configuration, endpoints, the gRPC server with its limits, health, reflection and
//! bounded drain, signals, telemetry, the clock, back-off, file locks, the process model, and the supervision of child services.
//!
//! It does NOT contain anything of the contract (see the proto crate), of browsers, or of storage; and it knows no
//! service by name beyond the configuration sections they own.

pub mod backoff;
pub mod clock;
pub mod config;
pub mod endpoint;
pub mod lock;
pub mod process;
pub mod serve;
pub mod signals;
pub mod supervise;
pub mod telemetry;

/// Exit code of a process that refuses to start because of its configuration.
pub const EXIT_CONFIG: u8 = 4;
