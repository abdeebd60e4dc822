//! A directory that goes with whoever made it: for browsers of one engine profiles and copies of the extension.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::config::StartError;

const PREFIX: &str = "sonde_";

/// Removes one that a killed process had made.
pub(crate) fn remove_left(path: &Path) {
    let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
    let mine = path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw());
    if !(named && mine) {
        return;
    }
    match std::fs::remove_dir_all(path) {
        Ok(()) => tracing::info!(dir = ?path, "the directory of a killed service is removed"),
        Err(error) => tracing::warn!(dir = ?path, %error, "the directory of a killed service stays"),
    }
}

/// One that we made is removed when it is dropped; one that was given stays.
pub(crate) struct RunDir {
    path: PathBuf,
    ours: bool,
}

impl RunDir {
    pub fn prepare(given: Option<PathBuf>) -> Result<Self, StartError> {
        let ours = given.is_none();
        let new = || std::env::temp_dir().join(format!("{PREFIX}{:08x}", rand::random::<u32>()));
        let path = given.unwrap_or_else(new);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| StartError::RunDir { dir: path.clone(), source })?;
        Ok(Self { path, ours })
    }

    /// The same, unless it was given.
    pub fn of_ours(&self) -> Option<&Path> {
        self.ours.then_some(&*self.path)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `None` where the path of Chromium's socket would be longer than a socket's may be.
    pub fn for_sockets(&self) -> Option<String> {
        const LONGEST: usize = 108 - "/org.chromium.Chromium.XXXXXX/SingletonSocket".len() - 1;
        self.path.to_str().filter(|path| path.len() <= LONGEST).map(str::to_owned)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(dir = ?self.path, %error, "the directory of the browsers could not be removed");
        }
    }
}
