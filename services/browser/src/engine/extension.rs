//! Our extension in one browser process: its copy, its relay, and the way of its records to the uplink.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use serde_json::json;
use sonde_proto::browser::v1::{RelayMissingTarget, RelayStart};
use sonde_proto::js_settings::JsSettings;
use sonde_proto::record::v1::{Record, RecordList, Unattributed, record};
use sonde_proto::schema::Row;
use sonde_proto::visit::v1::{Failure, RetryAdvice};
use sonde_proto::{FieldErrors, StreamId, VisitId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Scripts;
use crate::attempt::fault;
use crate::relay::{
    Capture, ExtensionBatch, ExtensionBody, ExtensionConfig, ExtensionFacts, PrepareError, Relay, RelayError,
    RelayLimits, RelayOptions, SessionEnd, prepare_extension,
};
use crate::uplink::{AttemptUplink, StreamClaim, Uplink, UplinkError};

/// Batches between the relay and the uplink; then the extension waits.
const BATCHES: usize = 64;
/// Bodies between the relay and storage; then the extension waits.
const BODIES: usize = 16;
/// Bodies on their way to storage at once.
const STORING: usize = 8;
/// For one body.
const STORE: Duration = Duration::from_secs(30);
/// From the loading of the extension to its background's first word.
const CONNECT: Duration = Duration::from_secs(20);

/// Why the extension is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExtensionError {
    #[error("the relay for the extension cannot listen: {0}")]
    Relay(std::io::Error),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error("the JavaScript settings are wrong: {0}")]
    Settings(#[from] FieldErrors),
    #[error("the browser did not load the extension: {0}")]
    Load(String),
    #[error("the extension's background did not connect within {CONNECT:?}")]
    Silent,
}

/// A directory that goes with its value.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = ?self.0, %error, "a copy of the extension could not be removed");
        }
    }
}

type Routes = Arc<Mutex<HashMap<i64, AttemptUplink>>>;

/// The extension of one browser process.
pub(super) struct Extension {
    relay: Relay,
    routes: Routes,
    pub facts: ExtensionFacts,
    pub id: String,
    /// The library and version of the list by which it tells sites apart.
    pub public_suffix_list: String,
    /// What the tokens of visits end with.
    first_page: String,
    _copy: Copy,
    _tasks: [AbortOnDropHandle<()>; 3],
}

/// The extension's files and relay, ready for a browser to load them.
pub(super) struct Prepared {
    relay: Relay,
    facts: ExtensionFacts,
    first_page: String,
    copy: Copy,
    batches: mpsc::Receiver<ExtensionBatch>,
    bodies: mpsc::Receiver<ExtensionBody>,
}

/// A random word of letters and digits with 190 bits.
fn secret() -> String {
    use rand::Rng;
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(32).map(char::from).collect()
}

impl Prepared {
    /// `requests`: the extension may watch and change them. `testing` gives pages `window.instrumentJS`.
    pub async fn new(
        source: &Path,
        run_dir: &Path,
        scripts: &Scripts,
        capture: Capture,
        requests: bool,
        testing: bool,
    ) -> Result<Self, ExtensionError> {
        let token = secret();
        let (sender, batches) = mpsc::channel(BATCHES);
        let (body_sender, bodies) = mpsc::channel(BODIES);
        let options = RelayOptions { token: token.clone(), limits: RelayLimits::default() };
        let relay =
            Relay::bind_with_bodies(options, sender, body_sender).await.map_err(ExtensionError::Relay)?;
        let config = ExtensionConfig {
            port: relay.port(),
            token,
            secret: secret(),
            capture,
            javascript: scripts.javascript,
            cookies: scripts.cookies,
            navigations: scripts.navigations,
            network: scripts.network,
            javascript_settings: JsSettings::parse(&scripts.javascript_settings)?,
            javascript_limit: scripts.javascript_limit,
            requests,
            testing,
        };
        let first_page = config.first_page();
        let copy = Copy(run_dir.join(format!("extension_{}", uuid::Uuid::new_v4())));
        let (from, to) = (source.to_owned(), copy.0.clone());
        let prepared = tokio::task::spawn_blocking(move || prepare_extension(&from, &to, &config)).await;
        let facts = prepared.map_err(|e| ExtensionError::Relay(std::io::Error::other(e)))??;
        Ok(Self { relay, facts, first_page, copy, batches, bodies })
    }

    /// Has a browser load it, and waits until its background has connected. `loading` is given the directory and the
    /// time it may take; it returns the id that the browser gave it, or its origin. `expected` is that id or origin, where
    /// it is known before: the background may connect before `loading` returns.
    pub async fn load<F>(
        self,
        uplink: Uplink,
        expected: Option<&str>,
        loading: impl FnOnce(PathBuf, Duration) -> F,
    ) -> Result<Extension, ExtensionError>
    where
        F: Future<Output = Result<String, String>>,
    {
        let Self { relay, facts, first_page, copy, batches, bodies } = self;
        if let Some(id) = expected.or(facts.chromium_id.as_deref()) {
            relay.set_extension_id(id);
        }
        let id = loading(copy.0.clone(), CONNECT).await.map_err(ExtensionError::Load)?;
        relay.set_extension_id(&id);
        let mut connected = relay.connected();
        let there = timeout(CONNECT, connected.wait_for(Option::is_some)).await;
        let session = there.ok().and_then(|there| there.ok()?.clone()).ok_or(ExtensionError::Silent)?;
        let routes = Routes::default();
        let forward = tokio::spawn(forward(batches, routes.clone(), uplink.clone()));
        let acks = tokio::spawn(unattributed_acks(relay.clone(), uplink));
        let store = tokio::spawn(store(bodies, relay.clone(), routes.clone()));
        let tasks = [forward, acks, store].map(AbortOnDropHandle::new);
        let public_suffix_list = session.public_suffix_list;
        Ok(Extension { relay, routes, facts, id, public_suffix_list, first_page, _copy: copy, _tasks: tasks })
    }
}

impl Extension {
    /// A new token, and the URL of the first page that it marks.
    pub fn first_page(&self) -> (String, String) {
        let token = format!("{}-{}", uuid::Uuid::new_v4().simple(), self.first_page);
        let url = format!("about:blank#visit={token}");
        (token, url)
    }

    /// The extension hears of a visit until the result is dropped. The token of `start` marks its first page.
    pub fn attend(&self, start: RelayStart, uplink: AttemptUplink) -> Attendance {
        let visit_id = uplink.visit_id();
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).insert(visit_id, uplink.clone());
        self.relay.start_visit(start);
        let acks = AbortOnDropHandle::new(tokio::spawn(acks(self.relay.clone(), uplink.clone())));
        Attendance { relay: self.relay.clone(), routes: self.routes.clone(), uplink, _acks: acks }
    }
}

/// A visit that the extension records.
pub(super) struct Attendance {
    relay: Relay,
    routes: Routes,
    uplink: AttemptUplink,
    _acks: AbortOnDropHandle<()>,
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.unroute();
        self.relay.end_visit(self.uplink.visit_id());
    }
}

impl Attendance {
    fn unroute(&self) {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.uplink.visit_id());
    }

    /// The tab and window of the visit's page, once the recorders of its frame have answered.
    pub async fn ready(&self, deadline: Instant) -> Result<(i64, i64), RelayError> {
        let ready = self.relay.wait_ready(self.uplink.visit_id(), deadline).await?;
        Ok((ready.tab_id, ready.window_id))
    }

    /// Brings everything the extension has into the uplink. `bare_documents`: see [`Relay::flush`].
    pub async fn flush(
        &self,
        frames: Duration,
        bare_documents: Vec<String>,
        deadline: Instant,
    ) -> Result<Flushed, String> {
        let ends = self.relay.flush(self.uplink.visit_id(), frames, bare_documents, deadline).await;
        let ends = ends.map_err(|e| e.to_string())?;
        let missing_targets = ends.iter().flat_map(|end| end.missing_targets.clone()).collect();
        let claims: Vec<StreamClaim> = ends.into_iter().map(claim).collect();
        for claim in &claims {
            let stream = StreamId(claim.stream);
            self.uplink.received(stream, claim.last_ordinal, deadline).await.map_err(|e| e.to_string())?;
        }
        // What the page does from now on is after the end of the visit.
        self.unroute();
        Ok(Flushed { claims, missing_targets })
    }
}

/// What the extension says at the end of a visit.
pub(super) struct Flushed {
    pub claims: Vec<StreamClaim>,
    missing_targets: Vec<RelayMissingTarget>,
}

impl Flushed {
    /// A visit whose settings name objects that its page has not fails with all of them.
    pub fn failure(&self) -> Option<Failure> {
        if self.missing_targets.is_empty() {
            return None;
        }
        let names: Vec<_> = self.missing_targets.iter().map(|target| target.object.as_str()).collect();
        let mut message = format!("JS instrumentation failed: the page has no {}", names.join(", no "));
        if self.missing_targets.iter().any(|target| target.insecure) {
            message += "; its address is not secure, and some APIs are there on https only";
        }
        let failure = fault::instrument("js_targets", message);
        Some(Failure { retry: RetryAdvice::Never.into(), ..failure })
    }
}

fn claim(end: SessionEnd) -> StreamClaim {
    StreamClaim {
        stream: StreamId::EXTENSION.0 + end.session_no,
        session_uuid: end.session_uuid,
        last_ordinal: end.last_ordinal,
        suspect: end.suspect,
    }
}

/// Tells the extension what storage has.
async fn acks(relay: Relay, uplink: AttemptUplink) {
    let mut news = uplink.news();
    let mut told: HashMap<u32, i64> = HashMap::new();
    loop {
        news.borrow_and_update();
        for (stream, through) in uplink.extension_acks() {
            if through > told.get(&stream).copied().unwrap_or(-1) {
                told.insert(stream, through);
                relay.ack(uplink.visit_id(), stream - StreamId::EXTENSION.0, through);
            }
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

async fn unattributed_acks(relay: Relay, uplink: Uplink) {
    let mut news = uplink.unattributed_news();
    let session = relay.connected();
    loop {
        news.borrow_and_update();
        let now = session.borrow().clone();
        if let Some(now) = now {
            let through = uplink.unattributed_acked(&now.uuid);
            if through >= 0 {
                relay.ack(VisitId::NONE, now.session_no, through);
            }
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

async fn forward(mut batches: mpsc::Receiver<ExtensionBatch>, routes: Routes, uplink: Uplink) {
    while let Some(batch) = batches.recv().await {
        let visit_id = batch.visit_id;
        let route = routes.lock().unwrap_or_else(PoisonError::into_inner).get(&visit_id).cloned();
        let taken = match route {
            Some(attempt) => {
                let stream = StreamId(StreamId::EXTENSION.0 + batch.session_no);
                let uuid = &batch.session_uuid;
                attempt.forward(stream, uuid, batch.first_ordinal, batch.count, batch.payload).await
            }
            None if visit_id == VisitId::NONE => {
                let uuid = &batch.session_uuid;
                uplink.unattributed(uuid, batch.first_ordinal, batch.count, batch.payload).await
            }
            None => late(&uplink, &batch).await,
        };
        if let Err(error) = taken {
            // The attempt ends by it, if there is one.
            tracing::warn!(visit_id, %error, "records of the extension were not taken");
        }
    }
}

/// Stores bodies, a few at a time, and tells the extension what became of them.
async fn store(mut bodies: mpsc::Receiver<ExtensionBody>, relay: Relay, routes: Routes) {
    let mut storing = JoinSet::new();
    loop {
        tokio::select! {
            Some(stored) = storing.join_next() => {
                if let Err(error) = stored {
                    tracing::error!(%error, "the task that stored a body failed");
                }
            }
            body = bodies.recv(), if storing.len() < STORING => {
                let Some(body) = body else { return };
                let route = routes.lock().unwrap_or_else(PoisonError::into_inner).get(&body.visit_id).cloned();
                let relay = relay.clone();
                storing.spawn(async move {
                    let stored = match route {
                        Some(attempt) => {
                            let content = body.content.clone();
                            let put = attempt.put_blob_named(&body.sha256, content, Instant::now() + STORE);
                            put.await.map_err(|e| format!("cannot store the body: {e}"))
                        }
                        None => Err("its visit is over".to_owned()),
                    };
                    relay.body_stored(&body, stored);
                });
            }
        }
    }
}

/// Records that came after the end of their visit: kept, as belonging to none.
async fn late(uplink: &Uplink, batch: &ExtensionBatch) -> Result<(), UplinkError> {
    let list = RecordList::decode(batch.payload.clone()).map_err(|e| e.to_string());
    let entries = match list.and_then(|list| list.entries().map_err(|e| e.to_string())) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, visit_id = batch.visit_id, "a late batch cannot be decoded");
            return Ok(());
        }
    };
    for record in entries.map(Record::from) {
        let at = record.captured_at_us;
        let payload = json!({
            "visit_id": batch.visit_id,
            "record": sonde_proto::to_json("sonde.record.v1.Record", &record),
        });
        let table_name = record.row.as_ref().map_or_else(String::new, |row| Row::table(row).name.to_owned());
        let row = Unattributed { table_name, reason: "visit_ended".to_owned(), payload: payload.to_string() };
        uplink.record_unattributed(at, record::Row::Unattributed(row)).await?;
    }
    Ok(())
}
