//! The records of what a command of ours starts itself.

use std::path::Path;
use std::time::Duration;

use sonde_runtime::process::{Limits, ProcessKind, ProcessStore, Redactor, StoreOptions, WholeProgram};

use crate::embed::processes_of;
use crate::exit::CliError;

/// What an earlier run left is given this long to end by itself.
const LEFT_OVER: Duration = Duration::from_secs(2);

/// Has all that this command starts recorded beside its results, until the guard is dropped; first ends what an earlier run
/// that was killed has left there.
pub async fn record_all(out: &Path, owner: &'static str) -> Result<WholeProgram, CliError> {
    let store = ProcessStore::open(StoreOptions {
        directory: processes_of(out),
        owner,
        kind: ProcessKind::Cli,
        limits: Limits::default(),
        redactor: Redactor::default(),
        context: Default::default(),
    });
    let store = store.map_err(|e| CliError::Input(e.to_string()))?;
    store.repair(LEFT_OVER).await;
    Ok(store.scope().for_the_whole_program())
}
