use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// Line and column count from 1; the column counts characters.
    File {
        path: Arc<Path>,
        line: usize,
        column: usize,
    },
    /// The variable's name.
    Env(String),
    /// The flag as typed.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    /// Dotted, with its section; empty if the problem is not one field's.
    pub field: String,
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl Problem {
    pub fn new(origin: Origin, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin, field: field.into(), message: message.into(), suggestion: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) if suggestion.starts_with("one of ") => write!(f, "; expected {suggestion}"),
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a configuration; one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// See [`crate::EXIT_CONFIG`].
    pub const EXIT_CODE: u8 = crate::EXIT_CONFIG;

    pub fn one(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }

    pub(super) fn unless_empty(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
