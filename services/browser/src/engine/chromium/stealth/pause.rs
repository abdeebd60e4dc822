//! How the recorder of a document is connected while the document waits.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use crate::engine::chromium::cdp::{CallError, Connection, RawCommand, RawJson, SessionId};

/// For all calls of one pause.
const PATIENCE: Duration = Duration::from_secs(10);
const GROUP: &str = "sonde";
/// What the engine says of a function that has a breakpoint of this session.
const EXISTS: &str = "already exists";
/// Tries to find a native that nobody else uses at the moment.
const SPARES: u64 = 8;

/// Where a session stopped.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Paused {
    pub call_frames: Vec<CallFrame>,
    #[serde(default)]
    pub hit_breakpoints: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct CallFrame {
    pub location: Location,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Location {
    pub script_id: String,
}

#[derive(Deserialize)]
struct Evaluated {
    result: Remote,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Remote {
    object_id: Option<String>,
    value: Value,
}

#[derive(Deserialize)]
struct Properties {
    result: Vec<Property>,
}

#[derive(Deserialize)]
struct Property {
    name: String,
    value: Option<Remote>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Breakpoint {
    breakpoint_id: String,
}

/// A document that is recorded from now on.
#[derive(Debug)]
pub(super) struct Connected {
    /// Functions that have a breakpoint of its session.
    pub armed: HashSet<String>,
    /// Functions that none could be put on, each with why.
    pub refused: Vec<String>,
    /// Scripts ran in it before.
    pub late: bool,
}

/// Why a document is not recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum PauseError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("an answer of the debugger is not as expected: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("its recorder has no functions")]
    Empty,
    #[error("too many documents wait at once")]
    Busy,
}

impl PauseError {
    /// The document went.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Call(CallError::Protocol { message, .. }) => message.contains("Cannot find context"),
            Self::Call(error) => error.is_session_gone(),
            _ => false,
        }
    }
}

/// A document that waits.
pub(super) struct Pause<'a> {
    connection: &'a Connection,
    session: &'a SessionId,
    /// The engine's number of its realm.
    context: i64,
    hook: &'a Shared,
    until: Instant,
}

impl<'a> Pause<'a> {
    pub fn new(connection: &'a Connection, session: &'a SessionId, context: i64, hook: &'a Shared) -> Self {
        Self { connection, session, context, hook, until: Instant::now() + PATIENCE }
    }

    /// Has the document go on, whatever came of the rest.
    pub fn resume(connection: &Connection, session: &SessionId) {
        if let Err(error) =
            connection.send_no_wait(Some(session), RawCommand::new("Debugger.resume", json!({})))
        {
            tracing::warn!(%error, "a document that waits for us could not be told to go on");
        }
    }

    async fn call(&self, method: &'static str, params: Value) -> Result<RawJson, CallError> {
        let left = self.until.saturating_duration_since(Instant::now());
        self.connection.call_raw(Some(self.session), method, params, left).await
    }

    async fn evaluate(&self, expression: &str) -> Result<Remote, PauseError> {
        self.hook.secrets.add(expression);
        let params = json!({
            "contextId": self.context, "expression": expression, "objectGroup": GROUP, "silent": true,
        });
        Ok(self.call("Runtime.evaluate", params).await?.decode::<Evaluated>()?.result)
    }

    /// Connects the document's recorder as that of the session with this number. `armed`: functions that have a
    /// breakpoint of this session.
    pub async fn serve(&self, number: u32, armed: HashSet<String>) -> Result<Connected, PauseError> {
        let name = &self.hook.name;
        let functions = self.evaluate(&format!("{name}.functions()")).await?.object_id;
        let functions = self.functions(&functions.ok_or(PauseError::Empty)?).await?;
        // In this one realm alone, from which the recorder takes it away.
        let params = json!({"name": self.hook.binding, "executionContextId": self.context});
        self.call("Runtime.addBinding", params).await?;
        let (armed, refused) = self.arm(number, functions, armed).await?;
        self.look_again().await?;
        let late = self.evaluate(&format!("{name}.connect({number},{:?})", self.hook.binding)).await?;
        self.call("Runtime.releaseObjectGroup", json!({"objectGroup": GROUP})).await?;
        Ok(Connected { armed, refused, late: late.value == json!(true) })
    }

    /// The functions by name, as the debugger knows them.
    async fn functions(&self, object: &str) -> Result<BTreeMap<String, String>, PauseError> {
        let params = json!({"objectId": object, "ownProperties": true});
        let found: Properties = self.call("Runtime.getProperties", params).await?.decode()?;
        let known = |property: Property| Some((property.name, property.value?.object_id?));
        Ok(found.result.into_iter().filter_map(known).collect())
    }

    /// Puts breakpoints on the functions that have none. Returns those that have one, and why others have not.
    async fn arm(
        &self,
        number: u32,
        functions: BTreeMap<String, String>,
        mut armed: HashSet<String>,
    ) -> Result<(HashSet<String>, Vec<String>), PauseError> {
        let mut refused = Vec::new();
        let mut setting = Vec::new();
        for (key, object) in functions {
            if armed.contains(&key) {
                continue;
            }
            let condition = self.condition(number, &key);
            self.hook.secrets.add(&condition);
            let params = json!({"objectId": object, "condition": condition});
            let command = RawCommand::new("Debugger.setBreakpointOnFunctionCall", params);
            setting.push((key, self.connection.send_no_wait(Some(self.session), command)?));
        }
        for (key, call) in setting {
            match call.result(self.until.saturating_duration_since(Instant::now())).await {
                Ok(_) => drop(armed.insert(key)),
                // Another name of a function that has one.
                Err(CallError::Protocol { message, .. }) if message.contains(EXISTS) => {
                    armed.insert(key);
                }
                Err(CallError::Protocol { message, .. }) => refused.push(format!("{key}: {message}")),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((armed, refused))
    }

    /// The engine looks for functions of new realms whenever it is given a breakpoint for a native: here for one that
    /// hardly anybody calls. Documents that wait at the same time take different ones.
    async fn look_again(&self) -> Result<(), PauseError> {
        for turn in 0..SPARES {
            let spare = format!("{}.spare({})", self.hook.name, self.context.unsigned_abs() + turn);
            let object = self.evaluate(&spare).await?.object_id.ok_or(PauseError::Empty)?;
            let params = json!({"objectId": object, "condition": "false"});
            match self.call("Debugger.setBreakpointOnFunctionCall", params).await {
                Ok(set) => {
                    let Breakpoint { breakpoint_id } = set.decode()?;
                    self.call("Debugger.removeBreakpoint", json!({"breakpointId": breakpoint_id})).await?;
                    return Ok(());
                }
                Err(CallError::Protocol { message, .. }) if message.contains(EXISTS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(PauseError::Busy)
    }

    /// Where there is no recorder the engine stops, so that we know.
    fn condition(&self, number: u32, key: &str) -> String {
        let name = &self.hook.name;
        format!("typeof {name}==='undefined'||{name}.hit({number},{},this,arguments)", json!(key))
    }
}
