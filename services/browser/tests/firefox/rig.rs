//! A Firefox of the test's own, a storage in memory, and a small site.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sonde_browser::Config;
use sonde_browser::engine::firefox::Firefox;
use sonde_browser::engine::{
    Browser, CommandReport, Ending, Engine, LaunchSpec, Progress, Scripts, Visit, VisitSetup,
};
use sonde_browser::uplink::{AttemptUplink, Bounds, SealParts, Uplink};
use sonde_proto::record::v1::SiteVisit;
use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec, Command, GetCommand, Instruments, SealSummary};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::MemoryStorage;

/// For what takes seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct Rig {
    pub browser: Arc<dyn Browser>,
    pub storage: MemoryStorage,
    pub uplink: Uplink,
    pub site: Site,
    pub run_dir: tempfile::TempDir,
}

impl Rig {
    pub async fn start(extension: Option<Scripts>) -> Self {
        Self::with(extension, BrowserSpec::default()).await
    }

    pub async fn with(extension: Option<Scripts>, spec: BrowserSpec) -> Self {
        let storage = MemoryStorage::start().await;
        let uplink = Uplink::start(storage.channel(), Bounds::default(), CancellationToken::new());
        let run_dir = tempfile::tempdir().unwrap();
        let config = Config {
            run_dir: Some(run_dir.path().to_owned()),
            launch_timeout: PATIENCE,
            ..Config::default()
        };
        let engine = Arc::new(Firefox::new(&config, uplink.clone()).unwrap());
        let spec = BrowserSpec { kind: BrowserKind::Firefox.into(), ..spec };
        let browser = engine.launch(LaunchSpec::new(&spec, extension)).await.unwrap();
        Self { browser, storage, uplink, site: Site::start().await, run_dir }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://site-0.localhost:{}{path}", self.site.port)
    }

    pub async fn open(&self, visit_id: i64, instruments: &Instruments) -> Opened {
        let uplink = self.uplink.attempt(visit_id, 1);
        let row = SiteVisit { visit_id, fence: 1, ..SiteVisit::default() };
        uplink.open(row, soon()).await.unwrap();
        let setup = VisitSetup {
            uplink: uplink.clone(),
            instruments: instruments.clone(),
            site_url: self.url("/"),
            max_body_bytes: 1 << 20,
            deadline: soon(),
            progress: Progress::new().0,
        };
        Opened { visit: self.browser.clone().open_visit(setup).await.unwrap(), uplink, commands: 0 }
    }

    /// Ends the browser and proves that nothing of it is left.
    pub async fn stop(self) {
        self.browser.clone().close(Duration::from_secs(5)).await;
        assert_nothing_left(self.run_dir.path()).await;
    }
}

/// A visit with its way to storage.
pub struct Opened {
    pub visit: Box<dyn Visit>,
    pub uplink: AttemptUplink,
    commands: u32,
}

impl Opened {
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
        self.run(Step::Get(GetCommand { url: url.to_owned(), ..GetCommand::default() })).await
    }

    /// The end of the instruments, and the seal of storage.
    pub async fn seal(&mut self) -> (Ending, SealSummary) {
        let ending = self.visit.finish(soon()).await;
        self.uplink.flushed(soon()).await.unwrap();
        let parts = SealParts {
            devtools: ending.devtools.clone(),
            sessions: ending.sessions.clone(),
            ..SealParts::default()
        };
        let seal = self.uplink.seal(parts, soon()).await.unwrap();
        (ending, seal)
    }
}

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

pub fn everything() -> Instruments {
    Instruments { http: true, cookies: true, javascript: true, navigations: true, ..Instruments::default() }
}

/// Living processes that have this directory in their environment: all of a browser's.
pub fn processes_of(run_dir: &Path) -> BTreeSet<(u32, String)> {
    let wanted = format!("TMPDIR={}", run_dir.display());
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let ours = pids.filter(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|b| *b == 0).any(|entry| entry == wanted.as_bytes())
    });
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    ours.map(|pid| (pid, name(pid).trim().to_owned())).collect()
}

pub async fn assert_nothing_left(run_dir: &Path) {
    let left = processes_of(run_dir);
    assert!(left.is_empty(), "processes are left: {left:?}");
    let files: Vec<_> = std::fs::read_dir(run_dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    let files: Vec<_> = files.iter().filter(|f| !f.to_string_lossy().starts_with("extension_")).collect();
    assert!(files.is_empty(), "files are left: {files:?}");
}

pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct Hit {
    pub path: String,
    head: String,
}

impl Hit {
    pub fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned())
    }
}

/// A server on a free port of loopback, with its log.
pub struct Site {
    pub port: u16,
    hits: Arc<Mutex<Vec<Hit>>>,
    news: watch::Receiver<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (hits, (told, news)) = (Arc::<Mutex<Vec<Hit>>>::default(), watch::channel(()));
        let (log, told) = (hits.clone(), Arc::new(told));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, log.clone(), told.clone()));
            }
        });
        Self { port, hits, news, task }
    }

    pub fn hits(&self, path: &str) -> Vec<Hit> {
        self.hits.lock().unwrap().iter().filter(|hit| hit.path == path).cloned().collect()
    }

    /// Waits until something has asked for a path.
    pub async fn asked(&self, path: &str) -> Hit {
        let mut news = self.news.clone();
        let waiting = async {
            loop {
                news.borrow_and_update();
                if let Some(hit) = self.hits(path).pop() {
                    return hit;
                }
                news.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("nobody asked for {path}"))
    }
}

const HTML: &str = "Content-Type: text/html; charset=utf-8\r\n";

/// Status, headers, body; `None`: no answer, ever.
fn answer(path: &str) -> Option<(&'static str, String, String)> {
    let html = |body: &str| {
        let body = format!("<!doctype html><title>t</title><link rel=icon href='data:,'>{body}");
        Some(("200 OK", HTML.to_owned(), body))
    };
    match path.split('?').next().unwrap_or_default() {
        "/hang" => None,
        "/204" => Some(("204 No Content", String::new(), String::new())),
        "/404" => Some(("404 Not Found", HTML.to_owned(), "<p>no".to_owned())),
        "/empty-404" => Some(("404 Not Found", HTML.to_owned(), String::new())),
        "/loop" => Some(("302 Found", "Location: /loop\r\n".to_owned(), String::new())),
        "/auth" => {
            Some(("401 Unauthorized", format!("{HTML}WWW-Authenticate: Basic realm=x\r\n"), "no".into()))
        }
        "/download" => {
            let headers =
                "Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=a\r\n";
            Some(("200 OK", headers.to_owned(), "bytes".to_owned()))
        }
        "/cookies" => {
            let set = "Set-Cookie: h=1; HttpOnly; Max-Age=1000\r\nSet-Cookie: s=2; SameSite=Lax\r\n";
            let script = "<script>localStorage.k=1;document.cookie='j=3';
                fetch('/state?'+encodeURIComponent(document.cookie+' '+localStorage.length))</script>";
            html(script).map(|(status, headers, body)| (status, headers + set, body))
        }
        "/state-of" => html(
            "<script>fetch('/seen?'+encodeURIComponent(document.cookie+' '+localStorage.length))</script>",
        ),
        "/tall" => html("<body style='margin:0'><div style='height:3000px;background:teal'></div>"),
        "/links" => html("<a href=/one>one</a> <a href=/two>two</a> <a href=http://other.invalid/>other</a>"),
        "/slow" => html("<img src=/late>"),
        "/dialogs" => html(
            "<script>addEventListener('beforeunload', e => { e.preventDefault(); e.returnValue = 'stay'; });
             alert('a'); fetch('/answered?' + confirm('b') + prompt('c', 'd')); print();</script>",
        ),
        "/popups" => html("<script>for (let i = 0; i < 40; i++) window.open('/popup')</script>"),
        "/endless" => {
            html("<script>addEventListener('load', () => setTimeout(() => { for (;;); }, 50))</script>")
        }
        "/calls" => html(
            "<script>for (let i = 0; i < 100; i++) navigator.userAgent;
             document.cookie = 'w=1'; history.pushState(1, '', '/pushed'); screen.colorDepth;</script>",
        ),
        _ => html(&format!("<p>{path}")),
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Vec<Hit>>>, told: Arc<watch::Sender<()>>) {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        let mut chunk = [0; 16 * 1024];
        match stream.read(&mut chunk).await {
            Ok(count) if count > 0 => got.extend_from_slice(&chunk[..count]),
            _ => return,
        }
        // The beginning of TLS, which is not spoken here.
        if got[0] == 0x16 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&got).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap().push(Hit { path: path.clone(), head });
    told.send_replace(());
    let Some((status, headers, body)) = answer(&path) else {
        // Until the browser goes.
        let _ = stream.read(&mut [0]).await;
        return;
    };
    let length =
        if status.starts_with("204") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let answer = format!("HTTP/1.1 {status}\r\n{headers}{length}Connection: close\r\n\r\n{body}");
    // A browser that went away does not want it.
    let _ = stream.write_all(answer.as_bytes()).await;
}
