//! The file that process records are kept in: one whole record a line, the last one of an id counts.
//!
//! Nothing is synced on appending: the kernel keeps what was written over our own death, and after a loss of power no
//! process is left that the records could find. A rewrite is synced before it takes the old file's place.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::record::ProcessRecord;

const FILE: &str = "journal.jsonl";
const NEXT: &str = "journal.next";
/// A longer line is none of ours.
const LONGEST_LINE: u64 = 4 << 20;
/// Below this size a journal is left to grow.
const SMALL: u64 = 4 << 20;

/// What was found in a journal.
#[derive(Debug, Default)]
pub struct Found {
    pub records: BTreeMap<String, ProcessRecord>,
    /// Lines that are no records: the last one, when we died while it was written, or damaged ones.
    pub damaged: u64,
}

/// Reads the journal in a directory; without one nothing is found.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read(directory: &Path) -> io::Result<Found> {
    let file = match File::open(directory.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let (mut found, mut line) = (Found::default(), Vec::new());
    loop {
        line.clear();
        if (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        let whole = line.strip_suffix(b"\n");
        match whole.and_then(|line| serde_json::from_slice::<ProcessRecord>(line).ok()) {
            Some(record) if !record.id.is_empty() => drop(found.records.insert(record.id.clone(), record)),
            _ => found.damaged += 1,
        }
    }
}

/// An open journal, appended to by one process at a time.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    file: File,
    bytes: u64,
    /// After the last rewrite.
    compact: u64,
    /// Something could not be written: the next write has to say everything.
    behind: bool,
}

impl Journal {
    /// Begins anew with these records, in the place of what is there.
    pub fn create<'a>(
        directory: &Path,
        records: impl IntoIterator<Item = &'a ProcessRecord>,
    ) -> io::Result<Self> {
        let (file, bytes) = write_all(directory, records)?;
        Ok(Self { directory: directory.to_owned(), file, bytes, compact: bytes, behind: false })
    }

    /// Appends one record.
    pub fn append(&mut self, record: &ProcessRecord) -> io::Result<()> {
        let line = line(record)?;
        match self.file.write_all(&line) {
            Ok(()) => {
                self.bytes += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.behind = true;
                // Half a line must not spoil the next one. If even this fails, the rewrite that follows mends it.
                self.file.set_len(self.bytes)?;
                Err(error)
            }
        }
    }

    /// Whether it is time to rewrite it: it is mostly old lines, or lacks some.
    pub fn wants_rewrite(&self) -> bool {
        self.behind || (self.bytes > SMALL && self.bytes > 2 * self.compact)
    }

    /// Replaces it by these records.
    pub fn rewrite<'a>(&mut self, records: impl IntoIterator<Item = &'a ProcessRecord>) -> io::Result<()> {
        *self = Self::create(&self.directory, records)?;
        Ok(())
    }
}

fn line(record: &ProcessRecord) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

fn write_all<'a>(
    directory: &Path,
    records: impl IntoIterator<Item = &'a ProcessRecord>,
) -> io::Result<(File, u64)> {
    let next = directory.join(NEXT);
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Appending, so that the position needs no care after an error.
    let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&next)?;
    let mut writer = BufWriter::new(file);
    let mut bytes = 0;
    for record in records {
        let line = line(record)?;
        writer.write_all(&line)?;
        bytes += line.len() as u64;
    }
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    std::fs::rename(&next, directory.join(FILE))?;
    File::open(directory)?.sync_all()?;
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, label: &str) -> ProcessRecord {
        ProcessRecord { id: id.to_owned(), label: label.to_owned(), ..ProcessRecord::default() }
    }

    /// R2: what was appended is there after our death; a line that was cut short and a damaged one cost only themselves.
    #[test]
    fn a_torn_or_damaged_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path(), [&record("a", "first")]).unwrap();
        journal.append(&record("b", "second")).unwrap();
        journal.append(&record("a", "changed")).unwrap();
        journal.append(&record("c", "third")).unwrap();
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        for cut in text.len() - 3..text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let found = read(dir.path()).unwrap();
            assert_eq!(found.damaged, 1);
            assert_eq!(found.records.keys().collect::<Vec<_>>(), ["a", "b"]);
            assert_eq!(found.records["a"].label, "changed");
        }
        std::fs::write(&path, text.replacen("{\"id\":\"b\"", "{\"id\":", 1)).unwrap();
        let found = read(dir.path()).unwrap();
        assert_eq!((found.damaged, found.records.len()), (1, 2));
        assert!(read(&dir.path().join("nowhere")).unwrap().records.is_empty());
    }

    /// R9: however much is appended, a rewrite holds each record once.
    #[test]
    fn a_rewrite_bounds_it_and_appending_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path(), []).unwrap();
        let long = record("a", &"x".repeat(100_000));
        let mut appended = 0;
        while !journal.wants_rewrite() {
            journal.append(&long).unwrap();
            appended += 1;
            assert!(appended < 1000, "it grows without end");
        }
        journal.rewrite([&long, &record("b", "")]).unwrap();
        assert!(!journal.wants_rewrite());
        let size = || std::fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert!(size() < 110_000);
        journal.append(&record("c", "")).unwrap();
        assert_eq!(read(dir.path()).unwrap().records.len(), 3);
    }

    /// R15: what cannot be written is written once there is room again.
    #[test]
    fn what_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path(), [&record("a", "")]).unwrap();
        journal.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        assert!(journal.append(&record("b", "")).is_err());
        assert!(journal.wants_rewrite());
        journal.rewrite([&record("a", ""), &record("b", "")]).unwrap();
        assert!(!journal.wants_rewrite());
        assert_eq!(read(dir.path()).unwrap().records.len(), 2);
    }
}
