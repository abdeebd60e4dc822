use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sonde_browser::engine::{
    Browser, BrowserFacts, CommandReport, Ending, Engine, Fate, LaunchFailure, LaunchSpec, Visit, VisitSetup,
};
use sonde_browser::fault;
use sonde_browser::uplink::AttemptUplink;
use sonde_proto::StreamId;
use sonde_proto::record::v1::{Truncation, record::Row};
use sonde_proto::visit::v1::{Command, CommandStatus, Failure};
use tokio::sync::watch;
use tokio::time::Instant;

/// What the engine's browsers do. Visits follow the host name of their site: `ok`, `hang`, `many` (10,000
/// records), `crash` (the browser dies), `nowhere` (the name does not resolve).
#[derive(Default)]
pub struct Script {
    pub launches: AtomicU32,
    /// Launches that fail, from the first.
    pub failures: AtomicU32,
    pub closed: AtomicU32,
    pub disposed: AtomicU32,
    pub recorded: AtomicU32,
    changed: watch::Sender<u64>,
}

impl Script {
    /// Tells of launches and closes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn changed(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

pub struct ScriptedEngine(pub Arc<Script>);

impl Engine for ScriptedEngine {
    fn launch(self: Arc<Self>, _: LaunchSpec) -> BoxFuture<'static, Result<Arc<dyn Browser>, LaunchFailure>> {
        let pid = self.0.launches.fetch_add(1, Ordering::SeqCst) + 1;
        let script = self.0.clone();
        script.changed();
        Box::pin(async move {
            if pid <= script.failures.load(Ordering::SeqCst) {
                return Err(LaunchFailure { message: "out of luck".into() });
            }
            let facts = BrowserFacts { pid, provenance: "{}".into(), ..BrowserFacts::default() };
            let died = watch::Sender::new(None);
            Ok(Arc::new(ScriptedBrowser { script, facts, died }) as Arc<dyn Browser>)
        })
    }
}

struct ScriptedBrowser {
    script: Arc<Script>,
    facts: BrowserFacts,
    died: watch::Sender<Option<String>>,
}

impl Browser for ScriptedBrowser {
    fn facts(&self) -> &BrowserFacts {
        &self.facts
    }

    fn died(&self) -> BoxFuture<'static, String> {
        let mut died = self.died.subscribe();
        Box::pin(async move {
            match died.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => "dropped".to_owned(),
            }
        })
    }

    fn open_visit(self: Arc<Self>, setup: VisitSetup) -> BoxFuture<'static, Result<Box<dyn Visit>, Failure>> {
        Box::pin(async move {
            let host = setup.site_url.split('.').next().unwrap_or_default().replace("http://", "");
            Ok(Box::new(ScriptedVisit { browser: self, uplink: setup.uplink, host }) as Box<dyn Visit>)
        })
    }

    fn close(self: Arc<Self>, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.script.closed.fetch_add(1, Ordering::SeqCst);
            self.script.changed();
        })
    }
}

struct ScriptedVisit {
    browser: Arc<ScriptedBrowser>,
    uplink: AttemptUplink,
    host: String,
}

impl ScriptedVisit {
    async fn follow(&mut self) -> CommandReport {
        match self.host.as_str() {
            "hang" => std::future::pending().await,
            "crash" => {
                self.browser.died.send_replace(Some("signal 9".into()));
                std::future::pending().await
            }
            "nowhere" => CommandReport::failed(
                CommandStatus::Neterror,
                "NAME_NOT_RESOLVED",
                fault::network("net::ERR_NAME_NOT_RESOLVED"),
            ),
            "many" => {
                for at in 0..10_000 {
                    let row =
                        Row::Truncation(Truncation { table_name: "x".repeat(100), ..Truncation::default() });
                    if let Err(error) = self.uplink.record(StreamId::DEVTOOLS, at, row).await {
                        return CommandReport::failed(CommandStatus::Error, "storage", error.failure());
                    }
                    self.browser.script.recorded.fetch_add(1, Ordering::SeqCst);
                }
                CommandReport::ok()
            }
            _ => CommandReport::ok(),
        }
    }
}

impl Visit for ScriptedVisit {
    fn instruments_ready_at_us(&self) -> Option<i64> {
        Some(1)
    }

    fn navigation_start_at_us(&self) -> Option<i64> {
        Some(2)
    }

    fn run<'a>(&'a mut self, _: u32, _: &'a Command, _: Instant) -> BoxFuture<'a, CommandReport> {
        Box::pin(self.follow())
    }

    fn finish(&mut self, _: Instant) -> BoxFuture<'_, Ending> {
        Box::pin(async { Ending { devtools: Some(String::new()), ..Ending::default() } })
    }

    fn dispose(self: Box<Self>, _: Instant) -> BoxFuture<'static, Fate> {
        Box::pin(async move {
            self.browser.script.disposed.fetch_add(1, Ordering::SeqCst);
            Fate::Keep
        })
    }
}
