//! The files a hook leaves in its directory.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};
use sonde_proto::digest::hex;

/// Files listed of one hook; the rest is counted.
const MAX_FILES: usize = 10_000;
/// How deep directories are followed.
const MAX_DEPTH: usize = 32;
/// What the runner itself writes beside a hook's files.
const OWN_SUFFIXES: [&str; 2] = [".stdout.log", ".stderr.log"];
/// The same, after the id of a process: hooks may leave files with such suffixes, too.
const OWN_SUFFIXES_OF_IDS: [&str; 2] = [".pid", ".sh"];

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Relative to the hook's directory.
    pub path: PathBuf,
    pub size: u64,
    pub mimetype: String,
    /// Lower-case hex.
    pub sha256: String,
}

/// What was there when a hook began.
#[derive(Debug, Default)]
pub struct Before(BTreeMap<PathBuf, Stamp>);

type Stamp = (u64, u64, i64, i64);

/// The new files of a hook.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// By path.
    pub files: Vec<Output>,
    /// Sentences on what was changed or left out.
    pub notes: Vec<String>,
}

/// Notes what is there, so that only what is written later counts as new.
pub fn before(dir: &Path) -> io::Result<Before> {
    let mut seen = BTreeMap::new();
    walk(dir, 0, &mut |path, meta| {
        seen.insert(path.to_owned(), stamp(meta));
        Ok(())
    })?;
    Ok(Before(seen))
}

fn stamp(meta: &fs::Metadata) -> Stamp {
    (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

/// Lists what is new or was written anew. Links that lead out of `dir` are replaced by a note in a file of the same
/// name; nothing stays executable. Reads every new file: blocking.
pub fn collect(dir: &Path, before: &Before) -> io::Result<Outputs> {
    let mut found = Outputs::default();
    let mut left_out = 0u64;
    let root = dir.canonicalize()?;
    let mut fresh = Vec::new();
    walk(&root, 0, &mut |path, meta| {
        let known = path.strip_prefix(&root).map(|p| dir.join(p)).unwrap_or_default();
        if before.0.get(&known) == Some(&stamp(meta)) {
            return Ok(());
        }
        if fresh.len() < MAX_FILES {
            fresh.push(path.to_owned())
        } else {
            left_out += 1
        }
        Ok(())
    })?;
    for path in fresh {
        let name = path.strip_prefix(&root).unwrap_or(&path).to_owned();
        let text = name.to_string_lossy();
        if is_own(&text) {
            continue;
        }
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_symlink() {
            match path.canonicalize() {
                Ok(target) if target.starts_with(&root) => continue,
                _ => found.notes.push(replace_link(&path, &name)?),
            }
        } else if !meta.is_file() {
            found.notes.push(format!("{text} is neither a file nor a directory; it is left out"));
            continue;
        }
        let mode = fs::metadata(&path)?.permissions().mode();
        if mode & 0o111 != 0 {
            fs::set_permissions(&path, Permissions::from_mode(mode & 0o7777 & !0o6111))?;
        }
        let (size, sha256) = hash(&path)?;
        let mimetype = new_mime_guess::from_path(&name).first_or_octet_stream().to_string();
        found.files.push(Output { path: name, size, mimetype, sha256 });
    }
    if left_out > 0 {
        found.notes.push(format!("{left_out} files beyond {MAX_FILES} are not listed"));
    }
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn is_own(name: &str) -> bool {
    let of_id = |suffix: &&str| {
        let id = name.strip_suffix(*suffix).and_then(|rest| rest.rsplit('.').next());
        id.is_some_and(|id| id.len() == 36 && uuid::Uuid::parse_str(id).is_ok())
    };
    OWN_SUFFIXES.iter().any(|s| name.ends_with(s)) || OWN_SUFFIXES_OF_IDS.iter().any(of_id)
}

fn replace_link(path: &Path, name: &Path) -> io::Result<String> {
    let target = fs::read_link(path)?;
    fs::remove_file(path)?;
    let note = format!(
        "{} was a link to {target:?}, outside of the hook's directory; it was replaced",
        name.display()
    );
    fs::write(path, format!("{note}\n"))?;
    Ok(note)
}

fn hash(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0u64, vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                hash.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
    Ok((size, hex(&hash.finalize())))
}

/// Every file and link below, links not followed.
fn walk(
    dir: &Path,
    depth: usize,
    tell: &mut impl FnMut(&Path, &fs::Metadata) -> io::Result<()>,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => walk(&path, depth + 1, tell)?,
            Ok(meta) => tell(&path, &meta)?,
            // A background hook of the same plugin works in this directory, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A33
    #[test]
    fn only_what_is_new_is_listed_and_nothing_escapes_or_runs() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), "secret").unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("old.txt"), "old").unwrap();
        fs::write(at("again.txt"), "one").unwrap();
        let before = before(dir.path()).unwrap();
        fs::write(at("again.txt"), "three").unwrap();
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/page.html"), "<p>").unwrap();
        fs::set_permissions(at("sub/page.html"), Permissions::from_mode(0o4755)).unwrap();
        fs::write(at("x.stdout.log"), "ours").unwrap();
        for ours in ["pid", "sh"] {
            fs::write(at(&format!("x.01900000-0000-7000-8000-000000000000.{ours}")), "ours").unwrap();
        }
        fs::write(at("theirs.sh"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), at("leak.txt")).unwrap();
        std::os::unix::fs::symlink("old.txt", at("inside.txt")).unwrap();
        let outputs = collect(dir.path(), &before).unwrap();
        let paths: Vec<_> = outputs.files.iter().map(|o| o.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["again.txt", "leak.txt", "sub/page.html", "theirs.sh"]);
        let page = &outputs.files[2];
        assert_eq!((page.size, page.mimetype.as_str()), (3, "text/html"));
        assert_eq!(page.sha256, "33f2799467177287a29260780a107ac98ea63dd6165f67fcc0d74767d0a82090");
        assert_eq!(fs::metadata(at("sub/page.html")).unwrap().permissions().mode() & 0o7777, 0o644);
        assert!(!fs::symlink_metadata(at("leak.txt")).unwrap().is_symlink());
        assert!(!fs::read_to_string(at("leak.txt")).unwrap().contains("secret"));
        assert_eq!(outputs.notes.len(), 1);
    }
}
