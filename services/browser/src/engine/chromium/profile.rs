//! The user-data directory: private, prepared before the start, removed after the end.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::launch::{LaunchError, ThirdPartyCookies};

/// A profile directory; one that we made is removed with this value.
#[derive(Debug)]
pub(super) struct ProfileDir {
    path: PathBuf,
    ours: bool,
}

impl ProfileDir {
    pub fn prepare(given: Option<&Path>, root: Option<&Path>) -> Result<Self, LaunchError> {
        let (path, ours) = match given {
            Some(path) => (path.to_owned(), false),
            None => {
                let root = root.map_or_else(std::env::temp_dir, Path::to_owned);
                (root.join(format!("chrome_{}", uuid::Uuid::new_v4())), true)
            }
        };
        let failed = |source| LaunchError::Profile { dir: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        // Chromium wants absolute paths; a relative one would depend on its working directory.
        let path = fs::canonicalize(&path).map_err(failed)?;
        Ok(Self { path, ours })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory if we made it.
    pub fn remove(mut self) -> io::Result<()> {
        let ours = std::mem::replace(&mut self.ours, false);
        if ours { remove(&self.path) } else { Ok(()) }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Drop for ProfileDir {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = remove(&self.path)
        {
            tracing::warn!(dir = ?self.path, %error, "a browser profile could not be removed");
        }
    }
}

/// Extensions of an earlier browser on a kept profile: ours is loaded anew at each start, from another place, and the
/// last one's would be started beside it.
pub(super) fn forget_extensions(profile: &Path) -> Result<(), LaunchError> {
    const NAMES: &[&str] = &[
        "Secure Preferences",
        "Extension Rules",
        "Extension Scripts",
        "Extension State",
        "Extensions",
        "Local Extension Settings",
        "Sync Extension Settings",
    ];
    for path in NAMES.iter().map(|name| profile.join("Default").join(name)) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(LaunchError::Profile { dir: path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// What can be set by preferences only, and only before the start.
pub(super) fn write_preferences(profile: &Path, cookies: ThirdPartyCookies) -> Result<(), LaunchError> {
    let block = cookies == ThirdPartyCookies::Never;
    let preferences = json!({
        "profile": {"cookie_controls_mode": i32::from(block), "block_third_party_cookies": block},
        // No offers to save passwords, cards and addresses, no sign-in: they draw over the page.
        "credentials_enable_service": false,
        "autofill": {"profile_enabled": false, "credit_card_enabled": false},
        "signin": {"allowed": false, "allowed_on_next_startup": false},
        // No look-ups of visited URLs at a third party: they would be in the traffic.
        "safebrowsing": {"enabled": false},
        "search": {"suggest_enabled": false},
        "alternate_error_pages": {"enabled": false},
        // No speculative requests: every request has a cause in the page.
        "net": {"network_prediction_options": 2},
    });
    write(&profile.join("Default"), "Preferences", preferences)?;
    // A challenge would wait for a user who is not there, and its request with it. Without a scheme that could answer
    // it, the page gets the 401 at once, as when a user presses "cancel".
    write(profile, "Local State", json!({"auth": {"schemes": ""}}))
}

/// Sets values of a JSON file and keeps the others.
fn write(dir: &Path, name: &str, values: Value) -> Result<(), LaunchError> {
    let failed = |source| LaunchError::Profile { dir: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let file = dir.join(name);
    let mut present = match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(io::Error::other(e)))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => json!({}),
        Err(error) => return Err(failed(error)),
    };
    merge(&mut present, values);
    fs::write(&file, present.to_string()).map_err(failed)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_of_a_kept_profile_are_merged_not_lost() {
        let root = tempfile::tempdir().unwrap();
        let profile = ProfileDir::prepare(Some(&root.path().join("p")), None).unwrap();
        fs::create_dir(profile.path().join("Default")).unwrap();
        let file = profile.path().join("Default/Preferences");
        fs::write(&file, r#"{"profile":{"name":"me","cookie_controls_mode":1}}"#).unwrap();
        write_preferences(profile.path(), ThirdPartyCookies::Always).unwrap();
        let now: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(now["profile"]["name"], "me");
        assert_eq!(now["profile"]["cookie_controls_mode"], 0);
        assert_eq!(fs::metadata(profile.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let path = profile.path().to_owned();
        profile.remove().unwrap();
        assert!(path.exists(), "a given profile is kept");
    }
}
