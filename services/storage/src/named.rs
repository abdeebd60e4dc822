//! Artifacts of visits under their names, beside the blobs that they are: `screenshots/<visit_id>-<md5(url)>.png` and the
//! like, as OpenWPM has them. They are hard links: they cost no room, and whoever writes into one damages the blob.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sonde_proto::digest::is_sha256;

/// Longest name of a file, in bytes.
const LONGEST: usize = 255;

/// The directory of a kind of artifact; `None`: its name says nothing by itself.
fn directory(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "screenshot" => "screenshots",
        "page_source" | "frame_sources" => "sources",
        "pdf" => "pdfs",
        "mhtml" => "mhtml",
        "download" => "downloads",
        "profile" => "profile_dumps",
        "har" => "hars",
        "video" => "videos",
        _ => return None,
    })
}

/// Whether it names a file of a directory, and nothing else.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// Gives names below a data directory.
#[derive(Debug)]
pub(crate) struct Names {
    data: PathBuf,
}

impl Names {
    pub fn new(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// Gives an artifact its name; one of the same name gives way, as with OpenWPM, and stays as a blob.
    pub fn give(&self, kind: &str, name: &str, hash: &str) -> io::Result<()> {
        let (Some(directory), true) = (directory(kind), is_plain(name) && is_sha256(hash)) else {
            return Ok(());
        };
        let blob = self.data.join("blobs").join(&hash[..2]).join(&hash[2..4]).join(hash);
        let found = match fs::metadata(&blob) {
            // Whoever recorded it did not store it; the check of the references tells of it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        let directory = self.data.join(directory);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let path = directory.join(name);
        // The rename below would leave both names of one file.
        if fs::symlink_metadata(&path)
            .is_ok_and(|there| there.ino() == found.ino() && there.dev() == found.dev())
        {
            return Ok(());
        }
        let new = directory.join(format!(".{hash}"));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Not every file system has links, nor has a file as many as one likes.
        if fs::hard_link(&blob, &new).is_err() {
            fs::copy(&blob, &new)?;
        }
        fs::rename(&new, &path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M20
    #[test]
    fn artifacts_get_their_names_once_and_nowhere_else() {
        let data = tempfile::tempdir().unwrap();
        let blob = |content: &str| {
            let hash = sonde_proto::digest::hex(&<sha2::Sha256 as sha2::Digest>::digest(content.as_bytes()));
            let dir = data.path().join("blobs").join(&hash[..2]).join(&hash[2..4]);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(&hash), content).unwrap();
            hash
        };
        let (one, two) = (blob("one"), blob("two"));
        let names = Names::new(data.path());
        let read = |path: &str| fs::read_to_string(data.path().join(path));
        names.give("screenshot", "7-x.png", &one).unwrap();
        names.give("screenshot", "7-x.png", &one).unwrap();
        assert_eq!(read("screenshots/7-x.png").unwrap(), "one");
        names.give("screenshot", "7-x.png", &two).unwrap();
        assert_eq!(read("screenshots/7-x.png").unwrap(), "two");
        names.give("page_source", "7-x.html", &two).unwrap();
        assert_eq!(read("sources/7-x.html").unwrap(), "two");
        for (kind, name) in
            [("screenshot", "../7"), ("screenshot", ".."), ("screenshot", ""), ("hook_output", "7")]
        {
            names.give(kind, name, &one).unwrap();
        }
        names.give("pdf", "none.pdf", &"0".repeat(64)).unwrap();
        let mut left: Vec<_> = fs::read_dir(data.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["blobs", "screenshots", "sources"]);
        assert_eq!(fs::read_dir(data.path().join("screenshots")).unwrap().count(), 1);
        assert_eq!(read(&format!("blobs/{}/{}/{one}", &one[..2], &one[2..4])).unwrap(), "one");
    }
}
