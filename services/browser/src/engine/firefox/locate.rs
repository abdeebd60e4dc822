//! Where Firefox and geckodriver are.

use std::path::{Path, PathBuf};

/// Where Firefox is looked for, in this order; names without a slash in `PATH`.
const FIREFOX: &[&str] =
    &["/usr/lib/firefox-esr/firefox-esr", "firefox-esr", "/usr/lib/firefox/firefox", "firefox"];
const GECKODRIVER: &[&str] = &["geckodriver"];

/// What a Firefox is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    pub firefox: PathBuf,
    pub geckodriver: PathBuf,
}

/// What is missing, and how to get it.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    #[error(
        "no Firefox found; searched {}. Install one (Debian: apt install firefox-esr) or name it by \
         browser.firefox_executable", .searched.join(", ")
    )]
    Firefox { searched: Vec<String> },
    #[error(
        "no geckodriver found; searched {}. Install it (cargo install geckodriver --locked) or name it by \
         browser.geckodriver", .searched.join(", ")
    )]
    Geckodriver { searched: Vec<String> },
}

/// Finds both programs: the given ones, or the first of the usual places.
///
/// # Errors
/// What is missing, with how to get it.
pub fn locate(firefox: Option<&Path>, geckodriver: Option<&Path>) -> Result<Programs, LocateError> {
    let path: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let found = |given: Option<&Path>, names: &[&str], beside: &[PathBuf]| match given {
        Some(given) => first(&[given.to_owned()]),
        None => first(&candidates(names, &path, beside)),
    };
    Ok(Programs {
        firefox: found(firefox, FIREFOX, &[]).map_err(|searched| LocateError::Firefox { searched })?,
        geckodriver: found(geckodriver, GECKODRIVER, &installed())
            .map_err(|searched| LocateError::Geckodriver { searched })?,
    })
}

/// Where cargo and `./x` install programs.
fn installed() -> Vec<PathBuf> {
    let dir = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = dir("HOME");
    let cargo = dir("CARGO_HOME").or_else(|| home.as_ref().map(|home| home.join(".cargo")));
    let cache = dir("XDG_CACHE_HOME").or_else(|| home.as_ref().map(|home| home.join(".cache")));
    [cargo.map(|dir| dir.join("bin")), cache.map(|dir| dir.join("sonde/bin"))].into_iter().flatten().collect()
}

fn candidates(names: &[&str], path: &[PathBuf], beside: &[PathBuf]) -> Vec<PathBuf> {
    let places = |name: &&str| match name.starts_with('/') {
        true => vec![PathBuf::from(name)],
        false => path.iter().chain(beside).map(|dir| dir.join(name)).collect(),
    };
    names.iter().flat_map(places).collect()
}

/// The first that is a file; otherwise all that were looked at.
fn first(candidates: &[PathBuf]) -> Result<PathBuf, Vec<String>> {
    let found = candidates.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| candidates.iter().map(|path| path.display().to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_remedy() {
        let error = locate(Some(Path::new("/nowhere/firefox")), None).unwrap_err().to_string();
        assert!(error.contains("/nowhere/firefox") && error.contains("apt install firefox-esr"), "{error}");
        let firefox = std::env::current_exe().unwrap();
        let error = locate(Some(&firefox), Some(Path::new("/nowhere/geckodriver"))).unwrap_err().to_string();
        assert!(error.contains("cargo install geckodriver --locked"), "{error}");
        let both = locate(Some(&firefox), Some(&firefox)).unwrap();
        assert_eq!(both, Programs { firefox: firefox.clone(), geckodriver: firefox });
    }
}
