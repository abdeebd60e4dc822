//! How a hook's file is started, and what keeps it from that.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Sets limits, then becomes the program; part of Debian's essential util-linux.
const PRLIMIT: &str = "/usr/bin/prlimit";

/// How hooks are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Launch {
    /// By its own first line where the file is executable, else by its suffix.
    #[default]
    Auto,
    /// By its own first line only.
    Shebang,
    /// By its suffix: .py python3, .js node, .sh bash. Needs no abxpkg or uv, which would download.
    Interpreter,
}

/// What each process of a hook may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file it writes.
    pub file: u64,
    /// Processes and threads of the user at once. The kernel does not hold root to it.
    pub processes: u64,
    /// Bytes of address space; `None`: unlimited, as V8 reserves far more than it uses.
    pub memory: Option<u64>,
}

/// Why a hook cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    #[error("{0:?} is not there; install the plugin again or remove it from [hooks] dirs")]
    Missing(PathBuf),
    #[error("{0:?} is not executable and its suffix names no interpreter; chmod +x it")]
    NotExecutable(PathBuf),
    #[error("{path:?} is not executable; chmod +x it, or start hooks by their suffix (--launch interpreter)")]
    NoShebang { path: PathBuf },
    #[error(
        "{path:?} needs {interpreter:?}, which is not in PATH; install it, or start hooks by their suffix (--launch interpreter)"
    )]
    NoInterpreter { path: PathBuf, interpreter: String },
    #[error("{path:?} cannot be read: {problem}")]
    Read { path: PathBuf, problem: String },
}

/// Program and first arguments that start the hook under its limits.
pub fn command(
    path: &Path,
    launch: Launch,
    limits: &Limits,
    search: &str,
) -> Result<(PathBuf, Vec<OsString>), LaunchError> {
    let mut args: Vec<OsString> = vec![
        "--core=0".into(),
        format!("--fsize={}", limits.file).into(),
        format!("--nproc={}", limits.processes).into(),
    ];
    if let Some(memory) = limits.memory {
        args.push(format!("--as={memory}").into());
    }
    args.push("--".into());
    let meta = std::fs::metadata(path).map_err(|_| LaunchError::Missing(path.to_owned()))?;
    if !meta.is_file() {
        return Err(LaunchError::Missing(path.to_owned()));
    }
    let executable = meta.permissions().mode() & 0o111 != 0;
    let interpreter = by_suffix(path);
    let by_suffix_now = launch == Launch::Interpreter || (launch == Launch::Auto && !executable);
    match (by_suffix_now, interpreter) {
        (true, Some(name)) => {
            let found = which(name, search);
            let found = found.ok_or_else(|| LaunchError::NoInterpreter {
                path: path.to_owned(),
                interpreter: name.to_owned(),
            })?;
            args.push(found.into());
        }
        (_, None) if !executable => return Err(LaunchError::NotExecutable(path.to_owned())),
        _ if !executable => return Err(LaunchError::NoShebang { path: path.to_owned() }),
        _ => {
            if let Some(interpreter) = missing_interpreter(path, search)? {
                return Err(LaunchError::NoInterpreter { path: path.to_owned(), interpreter });
            }
        }
    }
    args.push(path.into());
    Ok((PRLIMIT.into(), args))
}

fn by_suffix(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "py" => Some("python3"),
        "js" | "mjs" | "cjs" => Some("node"),
        "sh" => Some("bash"),
        _ => None,
    }
}

/// The program of that name in a search path, or itself where it is a path.
pub fn which(name: &str, search: &str) -> Option<PathBuf> {
    let runs = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|p| runs(p));
    }
    search.split(':').filter(|d| !d.is_empty()).map(|d| Path::new(d).join(name)).find(|p| runs(p))
}

/// The interpreter that a first line names and that is not there.
fn missing_interpreter(path: &Path, search: &str) -> Result<Option<String>, LaunchError> {
    let read = |e: std::io::Error| LaunchError::Read { path: path.to_owned(), problem: e.to_string() };
    let mut head = Vec::new();
    File::open(path).map_err(read)?.take(512).read_to_end(&mut head).map_err(read)?;
    let Some(line) = head.strip_prefix(b"#!") else { return Ok(None) };
    let line = String::from_utf8_lossy(line.split(|b| *b == b'\n').next().unwrap_or_default()).into_owned();
    let mut words = line.split_whitespace();
    let Some(interpreter) = words.next() else { return Ok(None) };
    if which(interpreter, "").is_none() {
        return Ok(Some(interpreter.to_owned()));
    }
    if Path::new(interpreter).file_name().is_some_and(|n| n == "env") {
        let wanted = words.find(|w| !w.starts_with('-') && !w.contains('='));
        return Ok(wanted.filter(|w| which(w, search).is_none()).map(str::to_owned));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { file: 1, processes: 2, memory: Some(3) };

    fn hook(name: &str, text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    /// A27, S8
    #[test]
    fn what_keeps_a_hook_from_starting_is_said() {
        let start = |path: &Path, launch| command(path, launch, &LIMITS, "/usr/bin:/bin");
        let gone = PathBuf::from("/gone/on_Snapshot__01_a.py");
        assert_eq!(start(&gone, Launch::Auto), Err(LaunchError::Missing(gone.clone())));
        let (_dir, path) = hook("on_Snapshot__01_a.rb", "", 0o644);
        assert_eq!(start(&path, Launch::Auto), Err(LaunchError::NotExecutable(path.clone())));
        let (_dir, path) = hook("on_Snapshot__01_a.sh", "", 0o644);
        assert!(matches!(start(&path, Launch::Shebang), Err(LaunchError::NoShebang { .. })));
        for text in ["#!/usr/bin/env -S abxpkg-gone run --script node\n", "#!/opt/abxpkg-gone\n"] {
            let (_dir, path) = hook("on_Snapshot__01_a.sh", text, 0o755);
            let error = start(&path, Launch::Auto).unwrap_err().to_string();
            assert!(error.contains("abxpkg-gone") && error.contains("install it"), "{error}");
            assert!(start(&path, Launch::Interpreter).is_ok());
        }
    }

    #[test]
    fn limits_come_before_the_hook() {
        let (_dir, path) = hook("on_Snapshot__01_a.sh", "#!/bin/sh\n", 0o755);
        let (program, args) = command(&path, Launch::Auto, &LIMITS, "").unwrap();
        let args: Vec<_> = args.iter().map(|a| a.to_str().unwrap()).collect();
        assert_eq!(program, Path::new(PRLIMIT));
        assert_eq!(args, ["--core=0", "--fsize=1", "--nproc=2", "--as=3", "--", path.to_str().unwrap()]);
        let (_, args) = command(&path, Launch::Interpreter, &LIMITS, "/usr/bin:/bin").unwrap();
        assert!(args[5].to_str().unwrap().ends_with("/bash"));
    }
}
