//! One real Chromium with a storage in memory, and visits on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sonde_browser::Config;
use sonde_browser::engine::chromium::Chromium;
use sonde_browser::engine::{
    Browser, CommandReport, Ending, Engine, Fate, LaunchSpec, Progress, Scripts, Visit, VisitSetup,
};
use sonde_browser::uplink::{AttemptUplink, Bounds, SealParts, Uplink};
use sonde_proto::VisitId;
use sonde_proto::record::v1::record::Row;
use sonde_proto::record::v1::{
    Callstack, DnsResponse, HttpFailure, HttpRequest, HttpResponse, Script, SiteVisit, Truncation,
    Unattributed, WebsocketFrame,
};
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{BrowserSpec, Command, GetCommand, Instruments, LoadPolicy};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{MemoryStorage, SOON};

pub struct Rig {
    pub browser: Arc<dyn Browser>,
    pub storage: MemoryStorage,
    pub uplink: Uplink,
    next: AtomicI64,
    pub max_body_bytes: u64,
    _run_dir: tempfile::TempDir,
}

/// The rows that a visit left, in the order of their streams.
#[derive(Debug, Default)]
pub struct Rows(pub Vec<Row>);

macro_rules! pick {
    ($($name:ident: $variant:ident($row:ty)),* $(,)?) => {
        impl Rows {
            $(pub fn $name(&self) -> Vec<&$row> {
                self.0.iter().filter_map(|r| if let Row::$variant(r) = r { Some(r) } else { None }).collect()
            })*
        }
    };
}

pick! {
    requests: HttpRequest(HttpRequest),
    responses: HttpResponse(HttpResponse),
    failures: HttpFailure(HttpFailure),
    callstacks: Callstack(Callstack),
    frames: WebsocketFrame(WebsocketFrame),
    dns: DnsResponse(DnsResponse),
    scripts: Script(Script),
    truncations: Truncation(Truncation),
    unattributed: Unattributed(Unattributed),
}

impl Rows {
    pub fn request(&self, end: &str) -> &HttpRequest {
        let found = self.requests().into_iter().find(|r| r.url.ends_with(end));
        found.unwrap_or_else(|| panic!("no request {end}: {self:#?}"))
    }

    pub fn response(&self, end: &str) -> &HttpResponse {
        let found = self.responses().into_iter().find(|r| r.url.ends_with(end));
        found.unwrap_or_else(|| panic!("no response {end}: {self:#?}"))
    }

    /// Truncations by reason: rows dropped.
    pub fn cuts(&self) -> BTreeMap<&str, i64> {
        let mut cuts = BTreeMap::new();
        for row in self.truncations() {
            *cuts.entry(row.reason.as_str()).or_default() += row.dropped_rows;
        }
        cuts
    }
}

pub fn get(url: &str, load_policy: LoadPolicy) -> Command {
    let get = GetCommand { url: url.to_owned(), load_policy: load_policy.into(), ..GetCommand::default() };
    Command { step: Some(Step::Get(get)), ..Command::default() }
}

/// A visit under way.
pub struct Running {
    pub visit: Box<dyn Visit>,
    pub uplink: AttemptUplink,
    pub visit_id: i64,
}

impl Running {
    pub async fn get(&mut self, url: &str, policy: LoadPolicy) -> CommandReport {
        self.visit.run(0, &get(url, policy), Instant::now() + SOON).await
    }
}

impl Rig {
    /// A browser without the extension.
    pub async fn start() -> Self {
        Self::with(None, &[]).await
    }

    pub async fn with(extension: Option<Scripts>, flags: &[&str]) -> Self {
        let storage = MemoryStorage::start().await;
        let uplink = Uplink::start(storage.channel(), Bounds::default(), CancellationToken::new());
        let run_dir = tempfile::tempdir().unwrap();
        let config = Config {
            no_sandbox: rustix::process::geteuid().is_root(),
            run_dir: Some(run_dir.path().to_owned()),
            ..Config::default()
        };
        let engine = Arc::new(Chromium::new(&config, uplink.clone()).unwrap());
        let extra_flags = flags.iter().map(|f| (*f).to_owned()).collect();
        let spec = BrowserSpec { extra_flags, ..BrowserSpec::default() };
        let browser = engine.launch(LaunchSpec::new(&spec, extension)).await.unwrap();
        Self {
            browser,
            storage,
            uplink,
            next: AtomicI64::new(1),
            max_body_bytes: 64 << 20,
            _run_dir: run_dir,
        }
    }

    pub async fn open(&self, instruments: &Instruments) -> Running {
        let visit_id = self.next.fetch_add(1, Ordering::Relaxed);
        let uplink = self.uplink.attempt(visit_id, 1);
        let row = SiteVisit { visit_id, fence: 1, ..SiteVisit::default() };
        uplink.open(row, Instant::now() + SOON).await.unwrap();
        let setup = VisitSetup {
            uplink: uplink.clone(),
            instruments: instruments.clone(),
            site_url: "http://localhost/".to_owned(),
            max_body_bytes: self.max_body_bytes,
            deadline: Instant::now() + SOON,
            progress: Progress::new().0,
        };
        let visit = self.browser.clone().open_visit(setup).await.unwrap();
        Running { visit, uplink, visit_id }
    }

    /// Ends a visit, without its context's end: gives its rows.
    pub async fn finish(&self, running: &mut Running) -> Rows {
        let ending = running.visit.finish(Instant::now() + SOON).await;
        assert_eq!(ending.devtools.as_deref().unwrap_or_default(), "", "{ending:?}");
        running.uplink.flushed(Instant::now() + SOON).await.unwrap();
        let Ending { devtools, sessions, incomplete_reason, .. } = ending;
        let parts = SealParts { devtools, sessions, incomplete_reason, ..SealParts::default() };
        running.uplink.seal(parts, Instant::now() + SOON).await.unwrap();
        self.rows(running.visit_id)
    }

    /// Rows that storage has of a visit, or of none.
    pub fn rows(&self, visit_id: i64) -> Rows {
        Rows(self.storage.rows(visit_id))
    }

    /// Rows of no visit, once everything of them is stored.
    pub async fn strays(&self) -> Rows {
        self.uplink.flush_unattributed(Instant::now() + SOON).await.unwrap();
        self.rows(VisitId::NONE)
    }

    pub async fn end(&self, running: Running) {
        assert_eq!(running.visit.dispose(Instant::now() + SOON).await, Fate::Keep);
    }

    pub async fn close(self) {
        self.browser.clone().close(Duration::from_secs(5)).await;
    }
}
