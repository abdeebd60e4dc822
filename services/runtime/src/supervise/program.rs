//! What a service runs, and how it ended.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::process;

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<OsString>,
    /// Added to this process's environment.
    pub env: Vec<(OsString, OsString)>,
    pub dir: Option<PathBuf>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// `None` when its exit status could not be had.
    pub(super) fn of(exit: process::Exit) -> Option<Self> {
        exit.code.map(Self::Code).or(exit.signal.map(Self::Signal))
    }
}
