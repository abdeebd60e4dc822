//! The records of what a command of ours starts itself.

use std::path::Path;
use std::time::Duration;

use sonde_runtime::process::{Guard, Limits, ProcessKind, ProcessStore, Redactor, StoreOptions};

use crate::embed::processes_of;
use crate::exit::CliError;

/// What an earlier run left is given this long to end by itself.
const LEFT_OVER: Duration = Duration::from_secs(2);

/// Runs a command with all that it starts recorded beside its results, and ended by a guard if it is killed; first ends what
/// an earlier run that was killed has left there.
pub async fn recorded<T>(
    out: &Path,
    owner: &'static str,
    command: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
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
    let guard = Guard::start(&store, Vec::new());
    let _recorded = store.scope().for_the_whole_program();
    let done = command.await;
    if let Some(guard) = guard {
        guard.stop().await;
    }
    done
}
