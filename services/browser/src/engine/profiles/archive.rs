//! Archives of profiles: tar files of a profile's contents, plain or gzipped, as OpenWPM makes and takes them.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sonde_proto::visit::v1::BrowserKind;

/// The cookies beside the contents: browsers write theirs late, and those of the session never.
pub(super) const COOKIES: &str = "sonde-cookies.json";
/// Bytes that an archive may unpack to.
const MAX_BYTES: u64 = 8 << 30;
/// Entries that an archive may have.
const MAX_ENTRIES: usize = 1 << 20;
/// How often a file that changes while it is read is read again.
const TRIES: usize = 5;

/// Directories and files, by name, that hold no state: caches, components, locks, what we write ourselves.
const LEFT_OUT: &[&str] = &[
    "Cache",
    "Code Cache",
    "Crashpad",
    "DawnGraphiteCache",
    "DawnWebGPUCache",
    "GPUCache",
    "GPUPersistentCache",
    "GrShaderCache",
    "MarionetteActivePort",
    "ShaderCache",
    "WebDriverBiDiServer.json",
    "cache2",
    "component_crx_cache",
    "crashes",
    "extensions_crx_cache",
    "lock",
    ".parentlock",
    "safebrowsing",
    "shader-cache",
    "startupCache",
    "user.js",
    COOKIES,
];

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("it is no tar archive, plain or gzipped: {0}")]
    Unreadable(io::Error),
    #[error("it holds no profile of {browser}: none of {expected} is at its top")]
    Foreign { browser: &'static str, expected: String },
    #[error("its entry {0:?} would lie outside of the profile")]
    Outside(PathBuf),
    #[error("it unpacks to more than {0}")]
    TooLarge(&'static str),
    #[error("it cannot be unpacked to {path:?}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// What is at the top of every profile of a browser that ran: one of these.
fn marks(kind: BrowserKind) -> (&'static str, &'static [&'static str]) {
    match kind {
        BrowserKind::Firefox => {
            ("Firefox", &["prefs.js", "cookies.sqlite", "places.sqlite", "storage.sqlite"])
        }
        BrowserKind::Chromium | BrowserKind::Unspecified => ("Chromium", &["Default", "Local State"]),
    }
}

/// Unpacks `archive` into `to`, which must not exist; on an error nothing is left of it.
///
/// # Errors
/// Where it is no archive of a profile of this browser.
pub fn unpack(archive: &Path, to: &Path, kind: BrowserKind) -> Result<(), ArchiveError> {
    let unpacked = unpack_all(archive, to).and_then(|()| check(to, kind));
    if unpacked.is_err()
        && let Err(error) = fs::remove_dir_all(to)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(dir = ?to, %error, "half a profile could not be removed");
    }
    unpacked
}

/// Reads an archive through: whether it could be unpacked to a profile of this browser.
///
/// # Errors
/// Where it could not.
pub fn look(archive: &Path, kind: BrowserKind) -> Result<(), ArchiveError> {
    let (browser, marks) = marks(kind);
    let mut tar = open(archive)?;
    let mut marked = false;
    each(&mut tar, |_, path| {
        let first = path.components().find(|part| matches!(part, Component::Normal(_)));
        marked |= first.is_some_and(|first| marks.iter().any(|mark| first.as_os_str() == *mark));
        Ok(())
    })?;
    if marked { Ok(()) } else { Err(ArchiveError::Foreign { browser, expected: marks.join(", ") }) }
}

fn check(profile: &Path, kind: BrowserKind) -> Result<(), ArchiveError> {
    let (browser, marks) = marks(kind);
    match marks.iter().any(|mark| profile.join(mark).exists()) {
        true => Ok(()),
        false => Err(ArchiveError::Foreign { browser, expected: marks.join(", ") }),
    }
}

type Content = Box<dyn Read>;

fn open(archive: &Path) -> Result<tar::Archive<Content>, ArchiveError> {
    let mut file = BufReader::new(File::open(archive).map_err(ArchiveError::Unreadable)?);
    let mut magic = [0; 2];
    let gzipped = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let file = BufReader::new(File::open(archive).map_err(ArchiveError::Unreadable)?);
    let content: Content = if gzipped { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    Ok(tar::Archive::new(content))
}

/// Takes each entry, with a path that stays inside, within what an archive may hold.
fn each(
    tar: &mut tar::Archive<Content>,
    mut take: impl FnMut(&mut tar::Entry<'_, Content>, &Path) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let (mut bytes, mut entries) = (0, 0);
    for entry in tar.entries().map_err(ArchiveError::Unreadable)? {
        let mut entry = entry.map_err(ArchiveError::Unreadable)?;
        let path = entry.path().map_err(ArchiveError::Unreadable)?.into_owned();
        if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(ArchiveError::Outside(path));
        }
        entries += 1;
        bytes += entry.size();
        if entries > MAX_ENTRIES {
            return Err(ArchiveError::TooLarge("a million files"));
        }
        if bytes > MAX_BYTES {
            return Err(ArchiveError::TooLarge("8 GiB"));
        }
        take(&mut entry, &path)?;
    }
    Ok(())
}

fn unpack_all(archive: &Path, to: &Path) -> Result<(), ArchiveError> {
    fs::create_dir_all(to).map_err(|source| ArchiveError::Write { path: to.to_owned(), source })?;
    each(&mut open(archive)?, |entry, path| {
        let target = to.join(path);
        let failed = |source| ArchiveError::Write { path: target.clone(), source };
        // Links have no place in a profile but for the locks of a browser that runs no more.
        if entry.header().entry_type().is_dir() {
            fs::create_dir_all(&target).map_err(failed)?;
        } else if entry.header().entry_type().is_file() {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            let mut file = File::create(&target).map_err(failed)?;
            io::copy(entry, &mut file).map_err(|source| match source.kind() {
                // Not of the file's, but of the archive's.
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                    ArchiveError::Unreadable(source)
                }
                _ => failed(source),
            })?;
        }
        Ok(())
    })
}

/// Writes an archive of a profile, gzipped, with these cookies beside it. The browser may run: a file that changes
/// meanwhile is read again.
///
/// # Errors
/// Where a file cannot be read, or does not come to rest.
pub fn pack<W: Write>(profile: &Path, cookies: Option<&str>, to: W) -> io::Result<W> {
    let mut tar = tar::Builder::new(GzEncoder::new(to, Compression::fast()));
    if let Some(cookies) = cookies {
        append(&mut tar, Path::new(COOKIES), cookies.as_bytes())?;
    }
    pack_dir(&mut tar, profile, Path::new(""))?;
    tar.into_inner()?.finish()
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &Path, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, content)
}

fn pack_dir<W: Write>(tar: &mut tar::Builder<W>, profile: &Path, within: &Path) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(profile.join(within))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let (path, kind) = (within.join(&name), entry.file_type()?);
        if kind.is_dir() {
            pack_dir(tar, profile, &path)?;
        } else if kind.is_file()
            && let Some(content) = read_at_rest(&entry.path())?
        {
            append(tar, &path, &content)?;
        }
    }
    Ok(())
}

/// A file's content as it is at one moment; `None` when it is gone.
fn read_at_rest(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let state = || fs::metadata(path).and_then(|m| Ok((m.len(), m.modified()?)));
    let read = || -> io::Result<Option<Vec<u8>>> {
        for _ in 0..TRIES {
            let before = state()?;
            let content = fs::read(path)?;
            if state()? == before && content.len() as u64 == before.0 {
                return Ok(Some(content));
            }
        }
        Err(io::Error::other(format!("{} changes all the time", path.display())))
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: BrowserKind = BrowserKind::Chromium;

    fn packed(dir: &Path) -> PathBuf {
        let profile = dir.join("p");
        for (name, content) in [
            ("Default/Cookies", "c"),
            ("Default/Cache/f", "x"),
            ("Local State", "{}"),
            ("SingletonCookie", "1"),
        ] {
            let file = profile.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        std::os::unix::fs::symlink("host-1", profile.join("SingletonLock")).unwrap();
        let archive = dir.join("a.tar.gz");
        pack(&profile, Some("[]"), File::create(&archive).unwrap()).unwrap();
        archive
    }

    /// M32
    #[test]
    fn a_profile_comes_back_without_its_caches_and_locks() {
        let dir = tempfile::tempdir().unwrap();
        let archive = packed(dir.path());
        let back = dir.path().join("back");
        unpack(&archive, &back, CHROMIUM).unwrap();
        assert_eq!(fs::read_to_string(back.join("Default/Cookies")).unwrap(), "c");
        assert_eq!(fs::read_to_string(back.join(COOKIES)).unwrap(), "[]");
        assert!(
            !back.join("Default/Cache").exists() && fs::symlink_metadata(back.join("SingletonLock")).is_err()
        );
    }

    /// M32
    #[test]
    fn a_bad_archive_is_refused_in_words_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("to");
        let refused = |name: &str, content: &[u8], kind| {
            let file = dir.path().join(name);
            fs::write(&file, content).unwrap();
            let error = unpack(&file, &to, kind).unwrap_err().to_string();
            assert!(!to.exists(), "{name}");
            error
        };
        let whole = fs::read(packed(dir.path())).unwrap();
        assert!(refused("text", b"no archive at all", CHROMIUM).contains("no tar archive"));
        assert!(refused("text2", &[b'x'; 2048], CHROMIUM).contains("no tar archive"));
        assert!(refused("cut", &whole[..whole.len() / 2], CHROMIUM).contains("no tar archive"));
        assert!(refused("other", &whole, BrowserKind::Firefox).contains("no profile of Firefox"));
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.as_old_mut().name[..8].copy_from_slice(b"../evil\0");
        header.set_cksum();
        tar.append(&header, &b"x"[..]).unwrap();
        assert!(refused("outside", &tar.into_inner().unwrap(), CHROMIUM).contains("outside of the profile"));
        assert!(!dir.path().join("evil").exists());
    }
}
