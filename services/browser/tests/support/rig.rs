//! One real browser of either kind with a storage in memory, and visits on it: the engine alone, without sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sonde_browser::Config;
use sonde_browser::engine::{
    Browser, CommandReport, Ending, Engine, Fate, Installed, LaunchSpec, Progress, Scripts, Visit, VisitSetup,
};
use sonde_browser::uplink::{AttemptUplink, Bounds, SealParts, Uplink};
use sonde_proto::VisitId;
use sonde_proto::record::v1::SiteVisit;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    BrowseCommand, BrowserKind, BrowserSpec, Command, CommandStatus, GetCommand, Instruments, LoadPolicy,
    SealSummary,
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::pages::Pages;
use super::{MemoryStorage, PATIENCE, Rows, soon};

pub struct Rig {
    pub browser: Arc<dyn Browser>,
    pub storage: MemoryStorage,
    pub uplink: Uplink,
    pub max_body_bytes: u64,
    pub run_dir: tempfile::TempDir,
    next: AtomicI64,
}

/// What the extension and the engines' own means record together.
pub fn everything() -> Instruments {
    Instruments { http: true, cookies: true, javascript: true, navigations: true, ..Instruments::default() }
}

pub fn get(url: &str, load_policy: LoadPolicy) -> Step {
    Step::Get(GetCommand { url: url.to_owned(), load_policy: load_policy.into(), ..GetCommand::default() })
}

/// A visit with its way to storage.
pub struct Running {
    pub visit: Box<dyn Visit>,
    pub uplink: AttemptUplink,
    pub visit_id: i64,
    commands: u32,
}

impl Running {
    pub async fn run(&mut self, step: Step) -> CommandReport {
        self.run_within(step, PATIENCE).await
    }

    pub async fn run_within(&mut self, step: Step, time: Duration) -> CommandReport {
        let command = Command { step: Some(step), ..Command::default() };
        let index = self.commands;
        self.commands += 1;
        let report = timeout(PATIENCE * 2, self.visit.run(index, &command, Instant::now() + time)).await;
        report.unwrap_or_else(|_| panic!("{command:?} did not end"))
    }

    pub async fn get(&mut self, url: &str) -> CommandReport {
        self.run(get(url, LoadPolicy::Load)).await
    }

    /// Looks at the links of a page and follows one.
    pub async fn browse(&mut self, url: &str) -> CommandReport {
        let browse = BrowseCommand { url: url.to_owned(), num_links: Some(1), ..BrowseCommand::default() };
        self.run(Step::Browse(browse)).await
    }

    /// The end of the instruments, and the seal of storage.
    pub async fn seal(&mut self) -> (Ending, SealSummary) {
        let ending = timeout(PATIENCE * 2, self.visit.finish(soon())).await.expect("the visit did not end");
        self.uplink.flushed(soon()).await.unwrap();
        let Ending { devtools, sessions, incomplete_reason, .. } = ending.clone();
        let parts = SealParts { devtools, sessions, incomplete_reason, ..SealParts::default() };
        let seal = self.uplink.seal(parts, soon()).await.unwrap();
        (ending, seal)
    }

    /// The same, of a visit whose data are whole.
    pub async fn seal_whole(&mut self) -> Ending {
        let (ending, seal) = self.seal().await;
        assert_eq!(ending.devtools.as_deref().unwrap_or_default(), "", "{ending:?}");
        assert_eq!(ending.incomplete_reason, "", "{ending:?}");
        assert!(seal.complete, "{seal:?} {ending:?}");
        ending
    }

    /// The end of its isolation; its browser stays.
    pub async fn end(self) {
        assert_eq!(self.visit.dispose(soon()).await, Fate::Keep);
    }
}

impl Rig {
    /// A Chromium without the extension.
    pub async fn start() -> Self {
        Self::with(None, &[]).await
    }

    /// A Chromium.
    pub async fn with(extension: Option<Scripts>, flags: &[&str]) -> Self {
        let extra_flags = flags.iter().map(|f| (*f).to_owned()).collect();
        Self::launch(BrowserSpec { extra_flags, ..BrowserSpec::default() }, extension).await
    }

    pub async fn launch(spec: BrowserSpec, extension: Option<Scripts>) -> Self {
        Self::configured(spec, extension, |_| {}).await
    }

    pub async fn configured(
        spec: BrowserSpec,
        extension: Option<Scripts>,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let storage = MemoryStorage::start().await;
        let uplink = Uplink::start(storage.channel(), Bounds::default(), CancellationToken::new());
        let run_dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            no_sandbox: rustix::process::geteuid().is_root(),
            run_dir: Some(run_dir.path().to_owned()),
            launch_timeout: PATIENCE,
            ..Config::default()
        };
        configure(&mut config);
        let engine = Arc::new(Installed::new(&config, &uplink).unwrap());
        let browser = engine.launch(LaunchSpec::new(&spec, extension)).await.unwrap();
        Self { browser, storage, uplink, max_body_bytes: 64 << 20, run_dir, next: AtomicI64::new(1) }
    }

    /// Visits are numbered from 1.
    pub async fn open(&self, instruments: &Instruments) -> Running {
        let visit_id = self.next.fetch_add(1, Ordering::Relaxed);
        let uplink = self.uplink.attempt(visit_id, 1);
        uplink.open(SiteVisit { visit_id, fence: 1, ..SiteVisit::default() }, soon()).await.unwrap();
        let setup = VisitSetup {
            uplink: uplink.clone(),
            instruments: instruments.clone(),
            site_url: "http://localhost/".to_owned(),
            max_body_bytes: self.max_body_bytes,
            deadline: soon(),
            progress: Progress::new().0,
        };
        let visit = self.browser.clone().open_visit(setup).await.unwrap();
        Running { visit, uplink, visit_id, commands: 0 }
    }

    /// Ends a visit whose data are whole, without its isolation's end: gives its rows.
    pub async fn finish(&self, running: &mut Running) -> Rows {
        running.seal_whole().await;
        self.rows(running.visit_id)
    }

    /// Visits `/page` until the site was asked for `/done`.
    pub async fn visit(&self, pages: &Pages, instruments: &Instruments) -> Rows {
        let mut running = self.open(instruments).await;
        let report = running.get(&pages.url("/page")).await;
        assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
        pages.asked("/done").await;
        let rows = self.finish(&mut running).await;
        running.end().await;
        rows
    }

    /// Rows that storage has of a visit, or of none.
    pub fn rows(&self, visit_id: i64) -> Rows {
        self.storage.rows(visit_id)
    }

    /// Rows of no visit, once everything of them is stored.
    pub async fn strays(&self) -> Rows {
        self.uplink.flush_unattributed(soon()).await.unwrap();
        self.rows(VisitId::NONE)
    }

    pub async fn close(self) {
        self.browser.clone().close(Duration::from_secs(5)).await;
    }
}
