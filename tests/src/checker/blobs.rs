//! R8: what is referenced is there and is what its name says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sha2::{Digest, Sha256};
use sonde_proto::digest::hex;

use super::{CheckError, Report, rows};

/// Tables whose `content_hash` is the hash of code the engine ran, not of a stored blob.
const HASH_ONLY: [&str; 1] = ["scripts"];

pub(super) fn check(db: &Connection, directory: &Path, report: &mut Report) -> Result<(), CheckError> {
    let mut tables = Vec::new();
    rows(
        db,
        "tables with blobs",
        "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'content_hash' \
         WHERE m.type = 'table' ORDER BY 1",
        |row| {
            tables.push(row.get::<_, String>(0)?);
            Ok(())
        },
    )?;
    let stored = stored_blobs(directory)?;
    let mut referenced = BTreeSet::new();
    for table in tables.iter().filter(|t| !HASH_ONLY.contains(&t.as_str())) {
        let sql = format!("SELECT DISTINCT content_hash FROM \"{table}\" WHERE content_hash IS NOT NULL");
        rows(db, "references to blobs", &sql, |row| {
            let hash: String = row.get(0)?;
            if !stored.contains_key(&hash) {
                report.add("R8", format!("{table} refers to blob {hash:?}, which is not there"));
            }
            referenced.insert(hash);
            Ok(())
        })?;
    }
    for (hash, path) in &stored {
        let found = sha256(path)?;
        if found != *hash {
            report.add("R8", format!("blob {} holds content of SHA-256 {found}", path.display()));
        }
    }
    report.fact("blobs", stored.len() as u64);
    report.fact("blobs.orphans", stored.keys().filter(|hash| !referenced.contains(*hash)).count() as u64);
    Ok(())
}

/// The bytes of a stored blob.
///
/// # Errors
/// When the file cannot be read.
pub fn read_blob(path: &Path) -> Result<Vec<u8>, CheckError> {
    std::fs::read(path).map_err(|source| CheckError::Read { path: path.to_owned(), source })
}

/// Hash -> file. A blob's name is its hash, whole or continued from the names of its directories.
pub fn stored_blobs(directory: &Path) -> Result<BTreeMap<String, PathBuf>, CheckError> {
    let mut found = BTreeMap::new();
    let mut open = vec![(directory.to_owned(), String::new())];
    while let Some((path, prefix)) = open.pop() {
        let failed = |source| CheckError::Read { path: path.clone(), source };
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().map_err(failed)?.is_dir() {
                open.push((entry.path(), format!("{prefix}{name}")));
                continue;
            }
            let joined = format!("{prefix}{name}");
            if let Some(hash) = [name, joined].into_iter().find(|n| is_hash(n)) {
                found.insert(hash, entry.path());
            }
        }
    }
    Ok(found)
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn sha256(path: &Path) -> Result<String, CheckError> {
    let failed = |source| CheckError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hex(&hasher.finalize()))
}
