//! The output of a process on disk: a file, and the one before it. More is never kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

/// Where the two files lie in all that was ever written, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Extent {
    /// Beginning of the older file.
    earlier: u64,
    /// Beginning of the present file.
    base: u64,
    end: u64,
}

/// The place of a file's bytes in the whole output, shared by its writer and its readers.
#[derive(Debug, Clone, Default)]
pub(super) struct Position(Arc<Mutex<Extent>>);

impl Position {
    fn get(&self) -> Extent {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Extent)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The older file of an output.
pub fn earlier(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

/// Writes an output. Each of the two files has at most `limit` bytes.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    file: File,
    limit: u64,
    position: Position,
}

impl OutputFile {
    pub async fn create(path: &Path, limit: u64, position: Position) -> io::Result<Self> {
        let file = Self::fresh(path).await?;
        Ok(Self { path: path.to_owned(), file, limit, position })
    }

    async fn fresh(path: &Path) -> io::Result<File> {
        OpenOptions::new().create_new(true).append(true).mode(0o600).open(path).await
    }

    /// Appends; when it returns, readers see the bytes.
    pub async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Extent { base, end, .. } = self.position.get();
            let room = self.limit.saturating_sub(end - base);
            if room == 0 {
                tokio::fs::rename(&self.path, earlier(&self.path)).await?;
                self.file = Self::fresh(&self.path).await?;
                self.position.change(|extent| {
                    (extent.earlier, extent.base) = (extent.base, extent.end);
                });
                continue;
            }
            let taken = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            self.file.write_all(&bytes[..taken]).await?;
            self.file.flush().await?;
            self.position.change(|extent| extent.end += taken as u64);
            bytes = &bytes[taken..];
        }
        Ok(())
    }
}

/// A piece of an output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Piece {
    /// Place of its first byte in all that was ever written, as far as that is known.
    pub at: u64,
    pub bytes: Vec<u8>,
}

/// Reads an output, while it is written or later.
#[derive(Debug, Clone)]
pub struct OutputReader {
    path: PathBuf,
    position: Option<Position>,
}

impl OutputReader {
    /// An output that is not written any more, or by somebody who does not rotate it.
    pub fn closed(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), position: None }
    }

    pub(super) fn live(path: impl Into<PathBuf>, position: Position) -> Self {
        Self { path: path.into(), position: Some(position) }
    }

    async fn extent(&self) -> io::Result<Extent> {
        if let Some(position) = &self.position {
            return Ok(position.get());
        }
        let (older, newer) = (size(&earlier(&self.path)).await?, size(&self.path).await?);
        Ok(Extent { earlier: 0, base: older, end: older + newer })
    }

    /// The place after the last byte.
    ///
    /// # Errors
    /// When the files cannot be looked at.
    pub async fn end(&self) -> io::Result<u64> {
        Ok(self.extent().await?.end)
    }

    /// At most `most` bytes from the place `from` on; from the first one that is kept if that is gone. Nothing at the end.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub async fn read(&self, from: u64, most: usize) -> io::Result<Piece> {
        // Turning the files over between two steps gives bytes of the wrong place: then it is read again.
        for _ in 0..8 {
            let extent = self.extent().await?;
            let at = from.max(extent.earlier);
            let (path, begin, end) = if at >= extent.base {
                (self.path.clone(), extent.base, extent.end)
            } else {
                (earlier(&self.path), extent.earlier, extent.base)
            };
            let wanted = end.saturating_sub(at).min(most as u64);
            if wanted == 0 {
                return Ok(Piece { at, bytes: Vec::new() });
            }
            let read = read_at(&path, at - begin, wanted).await;
            let now = self.extent().await?;
            if (now.earlier, now.base) != (extent.earlier, extent.base) {
                continue;
            }
            return read.map(|bytes| Piece { at, bytes });
        }
        Err(io::Error::other(format!("{} is written faster than it can be read", self.path.display())))
    }
}

async fn size(path: &Path) -> io::Result<u64> {
    match tokio::fs::metadata(path).await {
        Ok(meta) => Ok(meta.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

async fn read_at(path: &Path, offset: u64, wanted: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path).await?;
    file.seek(io::SeekFrom::Start(offset)).await?;
    let mut bytes = Vec::new();
    file.take(wanted).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R9, A04: what is kept is bounded, whatever is written; readers know where they are.
    #[tokio::test]
    async fn two_files_are_kept_and_read_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.stdout.log");
        let position = Position::default();
        let mut output = OutputFile::create(&path, 100, position.clone()).await.unwrap();
        let reader = OutputReader::live(&path, position);
        let text: Vec<u8> = (0..=255).cycle().take(1037).collect();
        let mut seen = Vec::new();
        for chunk in text.chunks(70) {
            output.write(chunk).await.unwrap();
            let piece = reader.read(seen.len() as u64, 1000).await.unwrap();
            assert_eq!(piece.at, seen.len() as u64, "nothing is missed by a reader that keeps up");
            seen.extend(piece.bytes);
            while let Some(more) = Some(reader.read(seen.len() as u64, 1000).await.unwrap().bytes)
                && !more.is_empty()
            {
                seen.extend(more);
            }
        }
        assert_eq!(seen, text);
        let kept: u64 =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(kept <= 200, "{kept}");
        let late = reader.read(0, 50).await.unwrap();
        assert_eq!(
            (late.at, &late.bytes[..]),
            (900, &text[900..950]),
            "a late reader is told what it missed"
        );
        assert_eq!(reader.end().await.unwrap(), 1037);
        let after = OutputReader::closed(&path);
        assert_eq!(after.end().await.unwrap(), 137);
        let (first, second) = (after.read(0, 500).await.unwrap(), after.read(100, 500).await.unwrap());
        assert_eq!([first.bytes, second.bytes].concat(), &text[900..]);
        let none = OutputReader::closed(dir.path().join("none")).read(0, 5).await.unwrap();
        assert_eq!(none, Piece::default());
    }
}
