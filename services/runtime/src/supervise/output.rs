//! The output of children, line by line, each under its service's name.

use std::io::Write;
use std::sync::Arc;

/// Receives each line: the service's name and the line without its end; long lines in pieces. Called from the reading
/// task, so that a slow sink slows the child down instead of filling memory.
pub type LineSink = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// Writes `name | line` to standard error.
pub fn to_stderr() -> LineSink {
    Arc::new(|name, line| {
        let mut stderr = std::io::stderr().lock();
        // If standard error is gone there is nobody to tell.
        let _ = writeln!(stderr, "{name} | {line}");
    })
}
