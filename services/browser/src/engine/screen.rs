//! Where a browser's windows are shown: nowhere, on a display that is there, or on one of their own.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::process::{self, EndReason, Process, ProcessKind, Spawn, SpawnError};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Display {
    /// No windows.
    #[default]
    Headless,
    /// On this X display, as `:1`; "": on that of our own environment.
    Headed(String),
    /// On an Xvfb that lives as long as the browser.
    Xvfb,
}

impl Display {
    /// As in provenance.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Headless => "headless",
            Self::Headed(_) => "headed",
            Self::Xvfb => "xvfb",
        }
    }
}

/// Why there is nothing to show windows on.
#[derive(Debug, thiserror::Error)]
pub enum ScreenError {
    #[error(
        "a headed browser needs a display: name one (--display :1), set DISPLAY or WAYLAND_DISPLAY for the \
         browser-service, or have one made (--display xvfb)"
    )]
    NoDisplay,
    #[error("the display of Xvfb: {0}; install it (Debian: apt install xvfb)")]
    Spawn(#[from] SpawnError),
    #[error("cannot prepare {what} for Xvfb: {source}")]
    Prepare { what: &'static str, source: io::Error },
    #[error("Xvfb told no display within {after:?}; its last words:\n{words}")]
    Silent { after: Duration, words: String },
    #[error("Xvfb said {said:?} in the place of its display's number; its last words:\n{words}")]
    Ended { said: String, words: String },
}

/// A browser's screen. Dropped, an Xvfb is killed with it.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// For the browser's environment.
    pub env: Vec<(String, String)>,
    own: Option<Xvfb>,
}

#[derive(Debug)]
struct Xvfb {
    process: Process,
    authority: PathBuf,
}

const PROGRAM: &str = "Xvfb";
/// Of the process: where it writes the number of its display once it takes clients.
const TELL: i32 = 3;
/// Longer than a number and its line break.
const NUMBER: u64 = 16;

impl Screen {
    /// Makes ready what `display` asks for. `size` is that of the browser's window, in pixels.
    pub async fn open(
        display: &Display,
        dir: &Path,
        size: (u32, u32),
        deadline: Duration,
    ) -> Result<Self, ScreenError> {
        match display {
            Display::Headless => Ok(Self::default()),
            Display::Headed(name) if !name.is_empty() => {
                Ok(Self { env: vec![("DISPLAY".to_owned(), name.clone())], own: None })
            }
            Display::Headed(_) => {
                let there = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                let any = ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(there);
                any.then(Self::default).ok_or(ScreenError::NoDisplay)
            }
            Display::Xvfb => Self::virtual_one(dir, size, deadline).await,
        }
    }

    async fn virtual_one(
        dir: &Path,
        (width, height): (u32, u32),
        deadline: Duration,
    ) -> Result<Self, ScreenError> {
        let authority = dir.join(format!("xauthority_{}", uuid::Uuid::new_v4()));
        write_authority(&authority)
            .map_err(|source| ScreenError::Prepare { what: "the authority file", source })?;
        let pipe = || -> io::Result<(pipe::Receiver, OwnedFd)> {
            let (sender, receiver) = pipe::pipe()?;
            Ok((receiver, sender.into_blocking_fd()?))
        };
        let (told, tells) = pipe().map_err(|source| ScreenError::Prepare { what: "a pipe", source })?;
        let spec = Spawn::new("xvfb", PROGRAM)
            .args(["-displayfd".to_owned(), TELL.to_string(), "-screen".to_owned(), "0".to_owned()])
            .arg(format!("{width}x{height}x24"))
            // It has no port, and takes nobody who does not know the word in the file.
            .args(["-nolisten", "tcp", "-noreset", "-auth"])
            .arg(&authority)
            .fd(tells, TELL)
            .kind(ProcessKind::Display);
        let process = process::spawn(spec).await?;
        let own = Xvfb { process, authority };
        let number = own.number(told, deadline).await?;
        own.process.reached_at(&format!(":{number}"));
        let env = vec![
            ("DISPLAY".to_owned(), format!(":{number}")),
            ("XAUTHORITY".to_owned(), own.authority.display().to_string()),
            // Otherwise GTK may find a Wayland display of our own environment.
            ("WAYLAND_DISPLAY".to_owned(), String::new()),
            ("GDK_BACKEND".to_owned(), "x11".to_owned()),
        ];
        Ok(Self { env, own: Some(own) })
    }

    /// Ends an Xvfb; its browser has ended. On SIGTERM it removes its lock and its socket.
    pub async fn close(&self, grace: Duration) {
        let Some(own) = &self.own else { return };
        own.process.because(EndReason::Terminated, "its browser was closed");
        own.process.terminate(grace).await;
    }
}

impl Xvfb {
    async fn number(&self, told: pipe::Receiver, deadline: Duration) -> Result<u32, ScreenError> {
        let mut said = String::new();
        let words = || self.process.stderr_tail();
        // It closes its end once it has told.
        match timeout(deadline, told.take(NUMBER).read_to_string(&mut said)).await {
            Err(_) => return Err(ScreenError::Silent { after: deadline, words: words() }),
            Ok(Err(source)) => return Err(ScreenError::Prepare { what: "the pipe", source }),
            Ok(Ok(_)) => {}
        }
        said.trim().parse().map_err(|_| ScreenError::Ended { said: said.clone(), words: words() })
    }
}

impl Drop for Xvfb {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.authority)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = ?self.authority, %error, "an authority file could not be removed");
        }
    }
}

/// Lets clients of any display in that know its word: one entry of an Xauthority file (Xau library, `FamilyWild`).
fn write_authority(path: &Path) -> io::Result<()> {
    const WILD: u16 = 0xffff;
    let cookie: [u8; 16] = rand::random();
    let mut entry = WILD.to_be_bytes().to_vec();
    for field in [&b""[..], b"", b"MIT-MAGIC-COOKIE-1", &cookie] {
        let length = u16::try_from(field.len()).map_err(io::Error::other)?;
        entry.extend(length.to_be_bytes());
        entry.extend(field);
    }
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(&entry)
}
