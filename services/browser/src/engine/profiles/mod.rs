//! Profiles that outlive a browser, and profiles that are made from an archive.
//!
//! A kept profile's directory is `<root>/<crawl>/<browser>-<kind>/`: `profile/` is the browser's own; `cookies.json` has
//! the cookies at the end of the last visit that ended, because browsers write theirs late (Chromium every 30 s) and those
//! of the session never; `running` is there while a browser uses it, and so after its crash.

mod archive;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, Isolation};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

pub use self::archive::{ArchiveError, look};
use self::archive::{pack, unpack};
use crate::config::Config;
use crate::uplink::{Uplink, UplinkError};

const PROFILE: &str = "profile";
const SAVED: &str = "cookies.json";
const RUNNING: &str = "running";
const SEED: &str = "seed.tar";
/// Beside a profile that was made from a seed: its SHA-256.
const ORIGIN: &str = "seed.sha256";

/// What is asked for beside a new, empty profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileSpec {
    /// It is kept from browser to browser.
    pub keep: Option<Owner>,
    /// The archive it is made from: SHA-256 of a blob.
    pub seed: Option<String>,
}

/// Whose profile it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub crawl_id: String,
    /// Of the slot.
    pub browser_id: u32,
}

impl ProfileSpec {
    /// `None`: a new, empty one.
    pub fn of(spec: &BrowserSpec, owner: Owner) -> Option<Self> {
        let keep = (spec.isolation() == Isolation::Profile).then_some(owner);
        let seed = Some(spec.seed_profile.clone()).filter(|seed| !seed.is_empty());
        (keep.is_some() || seed.is_some()).then_some(Self { keep, seed })
    }
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("cannot prepare the profile in {dir:?}: {source}")]
    Io { dir: PathBuf, source: io::Error },
    #[error("the profile in {dir:?} was in use by another browser for {after:?}")]
    Busy { dir: PathBuf, after: Duration },
    #[error("the seed profile {sha256} cannot be used: {error}")]
    Seed { sha256: String, error: ArchiveError },
    #[error("the seed profile {sha256} cannot be had: {error}; store it first (sonde profile seed FILE)")]
    Fetch { sha256: String, error: UplinkError },
    #[error("crawl id {0:?} cannot be a directory's name")]
    Name(String),
}

type Turns = HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>;

/// The kept profiles of a service.
pub(super) struct Profiles {
    root: PathBuf,
    uplink: Uplink,
    /// One browser at a time on each.
    turns: Mutex<Turns>,
}

impl Profiles {
    /// Under `profiles_dir`; those that nothing used for `profiles_max_age` (zero: however long) are removed.
    pub fn new(config: &Config, run_dir: &Path, uplink: Uplink) -> Self {
        let root = config.profiles_dir.clone().unwrap_or_else(|| run_dir.join("profiles"));
        let max_age = config.profiles_max_age;
        if !max_age.is_zero()
            && let Err(error) = remove_old(&root, SystemTime::now() - max_age)
        {
            tracing::warn!(?root, %error, "old profiles could not be removed");
        }
        Self { root, uplink, turns: Mutex::default() }
    }

    /// A profile for one browser. One that is kept is waited for while another browser still has it.
    pub async fn prepare(
        &self,
        spec: &ProfileSpec,
        kind: BrowserKind,
        run_dir: &Path,
        deadline: Instant,
    ) -> Result<Profile, ProfileError> {
        let after = deadline.saturating_duration_since(Instant::now());
        let (home, turn) = match &spec.keep {
            Some(owner) => {
                let home = self.home(owner, kind)?;
                let turn = {
                    let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
                    turns.entry(home.clone()).or_default().clone()
                };
                let turn = timeout_at(deadline, turn.lock_owned()).await;
                let busy = |_| ProfileError::Busy { dir: home.clone(), after };
                (home.clone(), Some(turn.map_err(busy)?))
            }
            None => (run_dir.join(format!("seeded_{}", uuid::Uuid::new_v4())), None),
        };
        let profile = Profile {
            dir: home.join(PROFILE),
            crashed: false,
            seeded: false,
            origin: None,
            home,
            _turn: turn,
        };
        self.fill(profile, spec, kind, deadline).await
    }

    async fn fill(
        &self,
        mut profile: Profile,
        spec: &ProfileSpec,
        kind: BrowserKind,
        deadline: Instant,
    ) -> Result<Profile, ProfileError> {
        let home = profile.home.clone();
        let failed = |source| ProfileError::Io { dir: home.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&home).map_err(failed)?;
        match (&spec.seed, profile.dir.exists()) {
            (Some(sha256), false) => {
                self.unpack_seed(&profile, sha256, kind, deadline).await?;
                profile.seeded = true;
            }
            (_, there) => {
                fs::create_dir_all(&profile.dir).map_err(failed)?;
                profile.crashed = there && home.join(RUNNING).exists();
                unlock(&profile.dir).map_err(failed)?;
            }
        }
        profile.origin = match fs::read_to_string(home.join(ORIGIN)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(failed)?),
        };
        fs::write(home.join(RUNNING), "").map_err(failed)?;
        Ok(profile)
    }

    async fn unpack_seed(
        &self,
        profile: &Profile,
        sha256: &str,
        kind: BrowserKind,
        deadline: Instant,
    ) -> Result<(), ProfileError> {
        let failed = |source| ProfileError::Io { dir: profile.home.clone(), source };
        let (archive, new) = (profile.home.join(SEED), profile.home.join("new"));
        let fetched = self.uplink.get_blob(sha256, &archive, deadline).await;
        fetched.map_err(|error| ProfileError::Fetch { sha256: sha256.to_owned(), error })?;
        let unpacking = {
            let (archive, new) = (archive.clone(), new.clone());
            move || {
                // What an earlier try left.
                let _ = fs::remove_dir_all(&new);
                unpack(&archive, &new, kind)
            }
        };
        let unpacked =
            tokio::task::spawn_blocking(unpacking).await.map_err(|e| failed(io::Error::other(e)))?;
        unpacked.map_err(|error| ProfileError::Seed { sha256: sha256.to_owned(), error })?;
        fs::remove_file(&archive).map_err(failed)?;
        match fs::rename(new.join(archive::COOKIES), profile.home.join(SAVED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        fs::write(profile.home.join(ORIGIN), sha256).map_err(failed)?;
        // From here on it is whole.
        fs::rename(&new, &profile.dir).map_err(failed)
    }

    fn home(&self, owner: &Owner, kind: BrowserKind) -> Result<PathBuf, ProfileError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if owner.crawl_id.is_empty() || !owner.crawl_id.chars().all(plain) {
            return Err(ProfileError::Name(owner.crawl_id.clone()));
        }
        let kind = if kind == BrowserKind::Firefox { "firefox" } else { "chromium" };
        Ok(self.root.join(&owner.crawl_id).join(format!("{}-{kind}", owner.browser_id)))
    }
}

/// A profile that is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    pub crawl_id: String,
    pub browser_id: u32,
    /// `chromium` or `firefox`.
    pub kind: &'static str,
    /// A browser runs on it, or crashed on it.
    pub in_use: bool,
    home: PathBuf,
}

impl Kept {
    /// Writes an archive of it, with the cookies at the end of its last visit. A browser may run on it.
    ///
    /// # Errors
    /// Where a file cannot be read, or the archive not be written.
    pub fn pack<W: Write>(&self, to: W) -> io::Result<W> {
        pack_home(&self.home, to)
    }
}

/// Writes an archive of the profile in a home, with the cookies that were noted last.
pub(super) fn pack_home<W: Write>(home: &Path, to: W) -> io::Result<W> {
    let cookies = match fs::read_to_string(home.join(SAVED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => Some(read?),
    };
    pack(&home.join(PROFILE), cookies.as_deref(), to)
}

/// The profiles kept under a `profiles_dir`, by crawl and browser.
///
/// # Errors
/// Where a directory cannot be read.
pub fn kept(root: &Path) -> io::Result<Vec<Kept>> {
    let mut all = Vec::new();
    for crawl in entries(root)? {
        for home in entries(&crawl.path())? {
            let (name, crawl_id) = (home.file_name(), crawl.file_name());
            let parts = name.to_str().and_then(|name| name.split_once('-'));
            let Some((Ok(browser_id), kind)) = parts.map(|(id, kind)| (id.parse(), kind)) else { continue };
            let kind = if kind == "firefox" { "firefox" } else { "chromium" };
            let (home, crawl_id) = (home.path(), crawl_id.to_string_lossy().into_owned());
            all.push(Kept { crawl_id, browser_id, kind, in_use: home.join(RUNNING).exists(), home });
        }
    }
    all.sort_by(|a, b| (&a.crawl_id, a.browser_id).cmp(&(&b.crawl_id, b.browser_id)));
    Ok(all)
}

/// What is in a directory; nothing where there is none.
fn entries(dir: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.collect(),
    }
}

/// Removes the homes that were not used since.
fn remove_old(root: &Path, since: SystemTime) -> io::Result<()> {
    for crawl in entries(root)? {
        for home in entries(&crawl.path())? {
            // Written at every start of a browser and at the end of every visit.
            let used = |name| fs::metadata(home.path().join(name)).and_then(|m| m.modified()).ok();
            let last =
                [used(RUNNING), used(SAVED), home.metadata()?.modified().ok()].into_iter().flatten().max();
            if last.is_some_and(|last| last < since) {
                tracing::info!(profile = ?home.path(), "a profile that nothing used for long is removed");
                fs::remove_dir_all(home.path())?;
            }
        }
        // Fails where there is one left.
        let _ = fs::remove_dir(crawl.path());
    }
    Ok(())
}

/// Removes Chromium's lock of a browser that is gone (T86): of one that ran under another host name it would be heeded
/// for ever. Nothing of ours runs on the profile, and what does is a stranger's.
fn unlock(profile: &Path) -> io::Result<()> {
    let link = profile.join("SingletonLock");
    let owner = match fs::read_link(&link) {
        Ok(owner) => owner,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let pid = owner.to_str().and_then(|name| name.rsplit_once('-')?.1.parse::<u32>().ok());
    if let Some(pid) = pid
        && uses(pid, profile)
    {
        return Err(io::Error::other(format!("process {pid} runs on it: end that first")));
    }
    for name in ["SingletonLock", "SingletonCookie", "SingletonSocket"] {
        match fs::remove_file(profile.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a process was started with this directory.
fn uses(pid: u32, profile: &Path) -> bool {
    let Ok(arguments) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let Some(profile) = profile.to_str() else { return true };
    String::from_utf8_lossy(&arguments).split('\0').any(|argument| argument.contains(profile))
}

/// A profile while one browser has it. One that is not kept goes with this value.
#[derive(Debug)]
pub(super) struct Profile {
    /// The browser's own directory.
    pub dir: PathBuf,
    /// The last browser on it did not end by itself.
    crashed: bool,
    /// It was just made from an archive.
    seeded: bool,
    /// SHA-256 of the archive that it was made from, be it for an earlier browser.
    origin: Option<String>,
    home: PathBuf,
    /// `None`: it is not kept.
    _turn: Option<OwnedMutexGuard<()>>,
}

/// The cookies that a browser is to be given at its start.
pub(super) enum Restore {
    Nothing,
    /// Those of the session, which no browser keeps.
    Session(Vec<Value>),
    /// In the place of all it has.
    All(Vec<Value>),
}

impl Restore {
    /// The cookies to set, and whether those that are there go first. `is_session` says it of one in the engine's form.
    pub fn cookies(self, is_session: impl Fn(&Value) -> bool) -> (Vec<Value>, bool) {
        match self {
            Self::Nothing => (Vec::new(), false),
            Self::Session(mut cookies) => {
                cookies.retain(is_session);
                (cookies, false)
            }
            Self::All(cookies) => (cookies, true),
        }
    }
}

impl Profile {
    pub fn is_kept(&self) -> bool {
        self._turn.is_some()
    }

    /// Where it is, with what is noted of it.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Whether it is kept, and the SHA-256 of the seed that it was made from. `None`: a new, empty one.
    pub fn provenance(profile: Option<&Self>) -> Value {
        let kept = profile.is_some_and(Self::is_kept);
        json!({"kept": kept, "seed": profile.and_then(|profile| profile.origin.as_deref())})
    }

    /// What was saved, in the engine's own form.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn restore(&self) -> io::Result<Restore> {
        let cookies = match fs::read(self.home.join(SAVED)) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Restore::Nothing),
            Err(error) => return Err(error),
        };
        // After an orderly end the rest is in the profile.
        Ok(if self.crashed || self.seeded { Restore::All(cookies) } else { Restore::Session(cookies) })
    }

    /// Notes the cookies at the end of a visit: whole, or as before.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, cookies: &Value) -> io::Result<()> {
        let new = self.home.join("cookies.new");
        fs::write(&new, cookies.to_string())?;
        fs::rename(&new, self.home.join(SAVED))
    }

    /// The browser ended by itself and has written all it had.
    pub fn ended_well(&self) {
        if let Err(error) = fs::remove_file(self.home.join(RUNNING)) {
            tracing::warn!(profile = ?self.home, %error, "a browser's orderly end could not be noted");
        }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if !self.is_kept()
            && let Err(error) = fs::remove_dir_all(&self.home)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = ?self.home, %error, "a browser profile could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T86
    #[test]
    fn a_dead_browsers_lock_is_removed_and_a_living_ones_heeded() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("SingletonLock");
        let link = |to: &str| std::os::unix::fs::symlink(to, &lock).unwrap();
        unlock(dir.path()).unwrap();
        // It lives, and is no browser on this profile.
        link(&format!("another-host-{}", std::process::id()));
        unlock(dir.path()).unwrap();
        assert!(fs::symlink_metadata(&lock).is_err());
        // The name of the test's own program stands for a browser's argument.
        let program = std::env::current_exe().unwrap();
        assert!(uses(std::process::id(), program.parent().unwrap()));
        assert!(!uses(u32::MAX, dir.path()));
    }

    #[test]
    fn profiles_that_nothing_used_for_long_go() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("c1/7-chromium");
        fs::create_dir_all(home.join(PROFILE)).unwrap();
        fs::write(home.join(SAVED), "[]").unwrap();
        remove_old(dir.path(), SystemTime::now() - Duration::from_secs(60)).unwrap();
        assert!(home.exists());
        remove_old(dir.path(), SystemTime::now() + Duration::from_secs(60)).unwrap();
        assert!(!dir.path().join("c1").exists());
        remove_old(&dir.path().join("none"), SystemTime::now()).unwrap();
    }
}
