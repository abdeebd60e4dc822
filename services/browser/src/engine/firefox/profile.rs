//! The profile directory: private, prepared before the start, removed after the end.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

/// Marionette's port; written by Firefox once it listens.
const PORT_FILE: &str = "MarionetteActivePort";

/// A profile directory that is removed with this value.
#[derive(Debug)]
pub(super) struct ProfileDir {
    path: PathBuf,
    ours: bool,
    /// Tells of files that are written to it.
    news: AsyncFd<OwnedFd>,
}

impl ProfileDir {
    /// A new one under `root`, or one that is given and stays, with these preferences. Needs a tokio runtime.
    pub fn prepare(root: &Path, given: Option<&Path>, user_js: &str) -> io::Result<Self> {
        let new = || root.join(format!("firefox_{}", uuid::Uuid::new_v4()));
        let (path, ours) = (given.map_or_else(new, Path::to_owned), given.is_none());
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let path = fs::canonicalize(&path)?;
        // The port of the last browser is not that of the next.
        let forgotten = match fs::remove_file(path.join(PORT_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let prepared =
            forgotten.and_then(|()| fs::write(path.join("user.js"), user_js)).and_then(|()| watch(&path));
        match prepared {
            Ok(news) => Ok(Self { path, ours, news }),
            Err(error) if !ours => Err(error),
            Err(error) => {
                // The first error is the one to tell.
                let _ = fs::remove_dir_all(&path);
                Err(error)
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until Firefox has written Marionette's port.
    pub async fn marionette_port(&self) -> io::Result<u16> {
        loop {
            match fs::read_to_string(self.path.join(PORT_FILE)) {
                // The file may be there before its text is.
                Ok(text) => {
                    if let Ok(port) = text.trim().parse() {
                        return Ok(port);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let mut ready = self.news.readable().await?;
            let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
            // What happened does not matter: the file is read again.
            let mut events = inotify::Reader::new(self.news.get_ref(), &mut buffer);
            loop {
                match events.next() {
                    Ok(_) => {}
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
        }
    }

    /// Removes it if we made it. Idempotent; otherwise it goes with this value.
    pub fn remove(&self) -> io::Result<()> {
        if self.ours { remove(&self.path) } else { Ok(()) }
    }
}

fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let written = inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, path, written)?;
    crate::process::watched(fd)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Drop for ProfileDir {
    fn drop(&mut self) {
        if let Err(error) = ProfileDir::remove(self) {
            tracing::warn!(dir = ?self.path, %error, "a browser profile could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_profile_is_private_tells_its_port_and_goes() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let profile = ProfileDir::prepare(root.path(), None, "user_pref(\"a\", 1);\n").unwrap();
        let path = profile.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(path.join("user.js").is_file());
        let writing = async {
            fs::write(path.join("other"), "").unwrap();
            fs::write(path.join(PORT_FILE), "40123").unwrap();
        };
        let (port, ()) = tokio::join!(profile.marionette_port(), writing);
        assert_eq!(port.unwrap(), 40123);
        profile.remove().unwrap();
        assert!(!path.exists());
        drop(profile);
        let dropped = ProfileDir::prepare(root.path(), None, "").unwrap().path().to_owned();
        assert!(!dropped.exists());
        let given = root.path().join("kept");
        fs::create_dir(&given).unwrap();
        fs::write(given.join(PORT_FILE), "1").unwrap();
        let kept = ProfileDir::prepare(root.path(), Some(&given), "").unwrap();
        assert!(!given.join(PORT_FILE).exists(), "the port of an earlier browser");
        kept.remove().unwrap();
        drop(kept);
        assert!(given.exists());
    }
}
