//! Files beside a hook's outputs that say what was started, and as which process.

use std::ffi::OsString;
use std::fs::{File, FileTimes, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sonde_runtime::process::Redactor;

/// Writes the command that is about to be run in `dir` as a shell script, without its environment and secrets.
pub(super) async fn script(path: &Path, dir: &Path, words: &[OsString]) -> io::Result<()> {
    let words = words.iter().map(|word| word.to_string_lossy().into_owned());
    let words: Vec<_> = Redactor::default().arguments(words).iter().map(|word| quoted(word)).collect();
    let dir = quoted(&dir.to_string_lossy());
    let text = format!("#!/bin/sh\ncd {dir} && exec {}\n", words.join(" "));
    write(path.to_owned(), text, 0o700, None).await
}

/// Writes the pid of a process that was started then: the time of the file tells it from a later one with its pid.
pub(super) async fn pid(path: &Path, pid: u32, started: SystemTime) -> io::Result<()> {
    write(path.to_owned(), format!("{pid}\n"), 0o600, Some(started)).await
}

async fn write(path: PathBuf, text: String, mode: u32, modified: Option<SystemTime>) -> io::Result<()> {
    let writing = tokio::task::spawn_blocking(move || {
        let mut file: File = OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        match modified {
            Some(at) => file.set_times(FileTimes::new().set_modified(at)),
            None => Ok(()),
        }
    });
    writing.await.map_err(io::Error::other)?
}

/// For a shell.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use sonde_runtime::process::{self, Spawn};

    use super::*;

    /// A11: whatever the words are, the script runs just them.
    #[tokio::test]
    async fn the_script_runs_the_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b.sh");
        let words = ["printf", "%s|", "", "it's", "$HOME `id` \"x\"", "a\nb", "http://a/?b=c&d"];
        script(&path, dir.path(), &words.map(OsString::from)).await.unwrap();
        let ran = process::spawn(Spawn::new("sh", "/bin/sh").arg(&path)).await.unwrap();
        ran.wait_gone().await;
        assert_eq!(ran.stdout_tail(), words[2..].join("|") + "|");
    }
}
