//! One attempt of a visit: what comes next, by when, and how it ends.
//!
//! [`machine::Machine`] decides and is pure; [`run`] does what it says, on any engine.

pub mod fault;
mod limits;
mod machine;
mod run;

pub use limits::{MAX_BODY_BYTES, links, or};
pub use machine::{Interrupt, Plan, timestamp};
pub use run::{Control, Input, Job, Report, Supply, run};
