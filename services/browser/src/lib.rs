//! (being written)

pub mod engine;
pub mod process;
