//! A Firefox of the test's own, a storage in memory, and a small site.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::Path;

use sonde_browser::engine::Scripts;
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec};

use super::pages::{Asked, End, Pages, Reply, html, no_answer, reply};
use super::rig;

pub struct Rig {
    pub site: Pages,
    rig: rig::Rig,
}

impl Deref for Rig {
    type Target = rig::Rig;

    fn deref(&self) -> &rig::Rig {
        &self.rig
    }
}

impl Rig {
    pub async fn start(extension: Option<Scripts>) -> Self {
        Self::with(extension, BrowserSpec::default()).await
    }

    pub async fn with(extension: Option<Scripts>, spec: BrowserSpec) -> Self {
        let spec = BrowserSpec { kind: BrowserKind::Firefox.into(), ..spec };
        let mut rig = rig::Rig::launch(spec, extension).await;
        rig.max_body_bytes = 1 << 20;
        Self { site: Pages::start(answer).await, rig }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://site-0.localhost:{}{path}", self.site.port)
    }

    /// Ends the browser and proves that nothing of it is left.
    pub async fn stop(self) {
        self.browser.clone().close(std::time::Duration::from_secs(5)).await;
        assert_nothing_left(self.run_dir.path()).await;
    }
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

#[allow(clippy::unnecessary_wraps)]
fn answer(asked: &Asked, _: u16) -> Option<Reply> {
    let plain = |status| html("").status(status);
    Some(match asked.path.split('?').next().unwrap_or_default() {
        "/hang" => no_answer(End::Silent),
        "/204" => reply("", "").status("204 No Content"),
        "/404" => html("<p>no").status("404 Not Found"),
        "/empty-404" => reply("text/html", "").status("404 Not Found"),
        "/loop" => plain("302 Found").header("Location", "/loop"),
        "/auth" => plain("401 Unauthorized").header("WWW-Authenticate", "Basic realm=x"),
        "/download" => {
            reply("application/octet-stream", "bytes").header("Content-Disposition", "attachment; filename=a")
        }
        "/cookies" => html(
            "<script>localStorage.k=1;document.cookie='j=3';
                fetch('/state?'+encodeURIComponent(document.cookie+' '+localStorage.length))</script>",
        )
        .header("Set-Cookie", "h=1; HttpOnly; Max-Age=1000")
        .header("Set-Cookie", "s=2; SameSite=Lax"),
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
        path => html(&format!("<p>{path}")),
    })
}
