//! Serves the documents of a visit that wait, and makes rows of what they record.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use sonde_proto::StreamId;
use sonde_proto::record::v1::record::Row;
use sonde_runtime::clock::wall_us;
use tokio::task::{JoinError, JoinSet};

use super::pause::{Connected, Pause, PauseError, Paused};
use super::{StealthHook, is_document};
use crate::engine::chromium::calls::{CallRows, Callers, Tab, batch, truncation};
use crate::engine::chromium::cdp::{
    Connection, ContextId, Event, Item, SessionId, SessionInfo, Subscription, TargetId,
};
use crate::engine::chromium::http::Frames;
use crate::engine::chromium::recorder::{Handler, Recorder, Suspect};
use crate::uplink::{AttemptUplink, UplinkError};

/// Events that the recorder wants.
pub(in crate::engine::chromium) const METHODS: &[&str] = &[
    "Debugger.paused",
    "Debugger.scriptParsed",
    "Page.frameAttached",
    "Page.frameNavigated",
    "Page.navigatedWithinDocument",
    "Runtime.bindingCalled",
    "Target.attachedToTarget",
    "Target.detachedFromTarget",
];

/// Realms of one session that are told apart; beyond that the oldest are forgotten.
const REALMS: usize = 50_000;
/// Until a frame has navigated it shows its first, empty document.
const BLANK: &str = "about:blank";
/// Functions that no breakpoint could be put on, named.
const REFUSED: usize = 100;

/// What a visit's documents are recorded with.
pub(in crate::engine::chromium) struct StealthRecorder {
    pub connection: Connection,
    pub hook: StealthHook,
    pub uplink: AttemptUplink,
    /// The visit's page.
    pub main: TargetId,
}

impl StealthRecorder {
    pub fn start(self, events: Subscription, context: ContextId) -> Callers {
        let connection = self.connection.clone();
        let documents = Documents {
            recorder: self,
            frames: Frames::default(),
            sessions: HashMap::new(),
            serving: JoinSet::new(),
            tab_id: -1,
            unknown: 0,
            refused: HashSet::new(),
            suspect: Suspect::default(),
        };
        Callers::start(Recorder::new("the documents", events, documents), (connection, context), is_document)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScriptParsed {
    script_id: String,
    execution_context_id: i64,
    #[serde(default)]
    hash: String,
    #[serde(default)]
    execution_context_aux_data: AuxData,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AuxData {
    frame_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingCalled {
    name: String,
    payload: String,
    execution_context_id: i64,
}

/// A realm that our script runs in.
struct Realm {
    frame: String,
    rows: CallRows,
    /// It is connected, or being connected.
    served: bool,
}

/// The debugger of one process, for the documents of one target.
struct Session {
    number: u32,
    /// Our script, once for each realm: the realm's number.
    scripts: HashMap<String, i64>,
    realms: HashMap<i64, Realm>,
    /// Functions with a breakpoint.
    armed: HashSet<String>,
    /// Main documents so far: with each the breakpoints of the one before go.
    documents: u64,
}

/// Which realm of which session, under which of its main documents.
struct Place {
    session: SessionId,
    context: i64,
    document: u64,
}

struct Documents {
    recorder: StealthRecorder,
    frames: Frames,
    sessions: HashMap<SessionId, Session>,
    serving: JoinSet<(Place, Result<Connected, PauseError>)>,
    tab_id: i64,
    /// Calls in realms that our script is not in.
    unknown: i64,
    refused: HashSet<String>,
    suspect: Suspect,
}

impl Handler for Documents {
    type Order = Tab;
    type Done = Result<(Place, Result<Connected, PauseError>), JoinError>;

    fn suspect(&mut self) -> &mut Suspect {
        &mut self.suspect
    }

    fn on_order(&mut self, Tab(tab_id): Tab) {
        self.tab_id = tab_id;
    }

    async fn on_item(&mut self, item: Item) -> Result<(), UplinkError> {
        match item {
            Item::Event(event) => return self.on_event(&event).await,
            Item::Lost { events, .. } => {
                self.suspect.because(&format!("{events} events of documents were lost"));
            }
            Item::HookFailed(_) => {}
        }
        Ok(())
    }

    async fn done(&mut self) -> Option<Self::Done> {
        self.serving.join_next().await
    }

    async fn on_done(&mut self, done: Self::Done) -> Result<(), UplinkError> {
        let (at, served) = match done {
            Ok(done) => done,
            Err(error) => {
                self.suspect.because(&format!("a document's task failed: {error}"));
                return Ok(());
            }
        };
        let Connected { armed, refused, late } = match served {
            Ok(connected) => connected,
            Err(error) if error.is_over() => return Ok(()),
            Err(error) => {
                self.suspect.because(&format!("a document is not recorded: {error}"));
                return Ok(());
            }
        };
        let room = REFUSED.saturating_sub(self.refused.len());
        self.refused.extend(refused.into_iter().take(room));
        let Some(session) = self.sessions.get_mut(&at.session) else { return Ok(()) };
        if session.documents == at.document {
            session.armed.extend(armed);
        }
        let Some(realm) = session.realms.get(&at.context).filter(|_| late) else { return Ok(()) };
        // I3: what other documents called in it meanwhile may not be there.
        let place = self.frames.place(&at.session, Some(&realm.frame));
        let url = place.frame_url.unwrap_or_else(|| BLANK.to_owned());
        let row = truncation("bypass_possible", None, 0, 0, 0, url);
        self.recorder.uplink.record(StreamId::DEVTOOLS, wall_us(), row).await
    }

    async fn finish(&mut self) -> Result<(), UplinkError> {
        let mut rows: Vec<Row> = std::mem::take(&mut self.refused)
            .into_iter()
            .map(|what| truncation("not_instrumented", None, 0, 0, 0, what))
            .collect();
        if self.unknown > 0 {
            rows.push(truncation("realm_not_instrumented", None, self.unknown, 0, 0, String::new()));
        }
        for row in rows {
            self.recorder.uplink.record(StreamId::DEVTOOLS, wall_us(), row).await?;
        }
        Ok(())
    }
}

impl Documents {
    async fn on_event(&mut self, event: &Event) -> Result<(), UplinkError> {
        let Some(info) = event.session.clone().filter(|s| is_document(&s.kind)) else { return Ok(()) };
        self.frames.note_session(&info);
        let read = match &*event.method {
            "Debugger.paused" => event.params.decode().map(|paused| self.on_paused(&info, paused)),
            "Debugger.scriptParsed" => event.params.decode().map(|script| self.on_script(&info, script)),
            "Runtime.bindingCalled" => match event.params.decode::<BindingCalled>() {
                Ok(called) if called.name == self.recorder.hook.0.binding => {
                    return self.on_batch(&info, &called).await;
                }
                read => read.map(drop),
            },
            "Target.detachedFromTarget" => {
                self.sessions.remove(&info.id);
                self.frames.forget_session(&info.id);
                Ok(())
            }
            method => match method.strip_prefix("Page.") {
                Some(name) => self.frames.on_page(&info.id, name, &event.params),
                None => Ok(()),
            },
        };
        if let Err(error) = read {
            self.suspect.because(&format!("{} cannot be read: {error}", event.method));
        }
        Ok(())
    }

    fn session(&mut self, id: &SessionId) -> &mut Session {
        let hook = &self.recorder.hook;
        self.sessions.entry(id.clone()).or_insert_with(|| Session {
            number: hook.number(),
            scripts: HashMap::new(),
            realms: HashMap::new(),
            armed: HashSet::new(),
            documents: 0,
        })
    }

    fn on_script(&mut self, info: &Arc<SessionInfo>, script: ScriptParsed) {
        if script.hash != self.recorder.hook.0.hash {
            return;
        }
        let limit = self.recorder.hook.0.limit;
        let session = self.session(&info.id);
        let frame = script.execution_context_aux_data.frame_id;
        if frame == info.target_id.as_str() {
            session.armed.clear();
            session.documents += 1;
        }
        if session.realms.len() >= REALMS {
            session.realms.clear();
            session.scripts.clear();
        }
        session.scripts.insert(script.script_id, script.execution_context_id);
        let rows = CallRows::new(String::new(), None, -1, limit);
        let of_popup = info.opener_id.is_some() && frame == info.target_id.as_str();
        let realm = Realm { frame, rows, served: false };
        session.realms.insert(script.execution_context_id, realm);
        if of_popup {
            // The first one of a popup does not wait.
            self.serve(info, script.execution_context_id);
        }
    }

    fn on_paused(&mut self, info: &Arc<SessionInfo>, paused: Paused) {
        let session = self.session(&info.id);
        let top = paused.call_frames.first().map(|frame| &frame.location.script_id);
        let Some(context) = top.and_then(|script| session.scripts.get(script)).copied() else {
            // A `debugger` statement of the page's, or a function in a realm that our script is not in.
            Pause::resume(&self.recorder.connection, &info.id);
            self.unknown += i64::from(!paused.hit_breakpoints.is_empty());
            return;
        };
        self.serve(info, context);
    }

    /// Connects the recorder of a realm, unless that is done or under way.
    fn serve(&mut self, info: &Arc<SessionInfo>, context: i64) {
        let (connection, hook) = (self.recorder.connection.clone(), self.recorder.hook.clone());
        let session = self.session(&info.id);
        let Some(realm) = session.realms.get_mut(&context).filter(|realm| !realm.served) else { return };
        realm.served = true;
        let (number, armed) = (session.number, session.armed.clone());
        let at = Place { session: info.id.clone(), context, document: session.documents };
        self.serving.spawn(async move {
            let pause = Pause::new(&connection, &at.session, at.context, &hook.0);
            let served = pause.serve(number, armed).await;
            Pause::resume(&connection, &at.session);
            (at, served)
        });
    }

    async fn on_batch(&mut self, info: &Arc<SessionInfo>, called: &BindingCalled) -> Result<(), UplinkError> {
        let calls = match batch::decode(&called.payload) {
            Ok(calls) => calls,
            Err(error) => {
                self.suspect.because(&format!("a batch of a document is broken: {error}"));
                return Ok(());
            }
        };
        let session = self.sessions.get_mut(&info.id);
        let Some(realm) = session.and_then(|s| s.realms.get_mut(&called.execution_context_id)) else {
            self.suspect.because("a batch came of a document that is not known");
            return Ok(());
        };
        let place = self.frames.place(&info.id, Some(&realm.frame));
        let of_main = place.page.as_ref() == Some(&self.recorder.main);
        let rows = &mut realm.rows;
        rows.url = place.frame_url.unwrap_or_else(|| BLANK.to_owned());
        rows.top_level_url = place.top_url;
        rows.frame_id = place.frame_id;
        rows.tab_id = if of_main { self.tab_id } else { -1 };
        let rows: Vec<(i64, Row)> = calls.into_iter().flat_map(|call| rows.rows(call)).collect();
        for (at_us, row) in rows {
            self.recorder.uplink.record(StreamId::DEVTOOLS, at_us, row).await?;
        }
        Ok(())
    }
}
