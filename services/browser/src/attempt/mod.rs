//! One attempt of a visit: what comes next, by when, and how it ends.
//!
//! [`machine::Machine`] decides and is pure; [`run`] does what it says, on any engine; its teller says so to all
//! who want to know.

pub mod fault;
mod limits;
mod machine;
mod run;
mod teller;

pub use limits::{MAX_BODY_BYTES, links, or};
pub use machine::{Interrupt, Plan, timestamp};
pub use run::{Control, CrawlJob, Input, Job, Report, Supply, run};
