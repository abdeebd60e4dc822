//! Records of calls as our scripts in workers and documents hand them to DevTools, and their rows.

pub mod batch;
mod call_site;
mod callers;
mod rows;

pub use callers::{Callers, QUESTION, Tab};
pub use rows::{CallRows, truncation};

#[cfg(test)]
mod tests;
