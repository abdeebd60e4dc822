//! The session directory by which hooks find a Chromium that is ours, and the plugin `chrome` done by us.
//!
//! Hooks wait for `chrome/navigation.json`, then attach to the browser of `chrome/cdp_url.txt` and its page of
//! `chrome/target_id.txt`. So those files come one after the other, whole, and `navigation.json` last.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use sonde_runtime::clock::wall_us;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::plan::Planned;
use super::runner::Provider;

/// The plugin whose hooks are done by us, and its directory.
const PLUGIN: &str = "chrome";
/// The gate that most hooks wait at: it goes first and comes last.
const NAVIGATION: &str = "navigation.json";
/// All files of a session, in the order of their coming.
const MARKERS: [&str; 7] =
    ["cdp_url.txt", "target_id.txt", "chrome.pid", "url.txt", "extensions.json", "browser.json", NAVIGATION];
/// Listeners of the network say by files that they are ready; the plugin `chrome` waits for them, too.
const LISTENERS: [(&str, &str); 3] =
    [("headers", "headers.json"), ("staticfile", "prenav.json"), ("redirects", "prenav.json")];
/// How long they are waited for.
const LISTENING: Duration = Duration::from_secs(15);
/// Hooks tell by files, and a file is only there or not.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The page that hooks may use.
#[derive(Debug, Clone)]
pub struct Lent {
    /// WebSocket of the browser's DevTools.
    pub cdp_url: String,
    /// Of the page.
    pub target_id: String,
    /// Of the browser's main process.
    pub pid: u32,
}

/// When a page counts as loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitUntil {
    DomContentLoaded,
    #[default]
    Load,
    /// No request for 500 ms.
    NetworkIdle0,
    /// At most two requests for 500 ms.
    NetworkIdle2,
}

impl WaitUntil {
    fn parse(word: &str) -> Option<Self> {
        let all = [Self::DomContentLoaded, Self::Load, Self::NetworkIdle0, Self::NetworkIdle2];
        all.into_iter().find(|w| w.to_string() == word.to_ascii_lowercase())
    }
}

impl fmt::Display for WaitUntil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DomContentLoaded => "domcontentloaded",
            Self::Load => "load",
            Self::NetworkIdle0 => "networkidle0",
            Self::NetworkIdle2 => "networkidle2",
        })
    }
}

/// Where a navigation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landed {
    pub final_url: String,
    /// HTTP status; 0 when none came.
    pub status: u16,
}

/// A wish to load a page, for whoever drives it.
#[derive(Debug)]
pub struct Navigation {
    pub url: String,
    pub until: WaitUntil,
    pub deadline: Instant,
    /// Where it ended, or a sentence of why not.
    pub answer: oneshot::Sender<Result<Landed, String>>,
}

/// A session directory, and the plugin `chrome` in place of its files.
#[derive(Debug, Clone)]
pub struct Session {
    snap_dir: PathBuf,
    url: String,
    lent: Lent,
    /// The page is there already, and stays.
    landed: Option<Landed>,
    navigations: mpsc::Sender<Navigation>,
}

impl Session {
    /// Clears what an earlier session left and writes all files but `navigation.json`, also for the crawl where that has
    /// a directory of its own. Navigations are asked for by the channel.
    pub fn open(
        (crawl_dir, snap_dir): (&Path, &Path),
        url: &str,
        lent: Lent,
        navigations: mpsc::Sender<Navigation>,
    ) -> io::Result<Self> {
        let dir = snap_dir.join(PLUGIN);
        let texts = [
            lent.cdp_url.clone(),
            lent.target_id.clone(),
            lent.pid.to_string(),
            url.to_owned(),
            "[]".to_owned(),
            json!({"ready": true, "extensions": []}).to_string(),
        ];
        for dir in [&dir, &crawl_dir.join(PLUGIN)] {
            std::fs::create_dir_all(dir)?;
            clear(dir)?;
            for (name, text) in MARKERS.iter().zip(&texts) {
                let of_page = matches!(*name, "target_id.txt" | "url.txt");
                if !of_page || dir.starts_with(snap_dir) {
                    write(dir, name, text)?;
                }
            }
        }
        Ok(Self { snap_dir: snap_dir.to_owned(), url: url.to_owned(), lent, landed: None, navigations })
    }

    /// The page is loaded already: no hook loads it again.
    pub fn stay(&mut self, landed: Landed) {
        self.landed = Some(landed);
    }

    /// Tells hooks of a page that is loaded already, where none of them would.
    pub fn loaded(&self, landed: &Landed) -> io::Result<()> {
        self.tell(&navigated(&self.url, WaitUntil::Load, Duration::ZERO, Ok(landed)))
    }

    /// Takes all files away: the browser is not the hooks' any more.
    pub fn close(&self, crawl_dir: &Path) -> io::Result<()> {
        clear(&self.snap_dir.join(PLUGIN))?;
        clear(&crawl_dir.join(PLUGIN))
    }

    fn tell(&self, navigation: &Value) -> io::Result<()> {
        write(&self.snap_dir.join(PLUGIN), NAVIGATION, &navigation.to_string())
    }

    /// Whether a hook of the plan loads the page.
    pub fn is_navigation(hook: &Planned) -> bool {
        hook.plugin == PLUGIN && hook.name.name == "chrome_navigate"
    }

    /// Loads the page and writes `navigation.json`: the word of the result, or why it did not load.
    pub async fn navigate(self, wish: Wish, deadline: Instant) -> Result<String, String> {
        let began = Instant::now();
        let landed = match self.listeners(deadline.min(began + LISTENING)).await {
            Ok(()) => self.ask(wish, deadline).await,
            Err(why) => Err(why),
        };
        if landed.is_ok() {
            // Asked for by the operator, for pages that go on after their load event.
            tokio::time::sleep(wish.delay).await;
        }
        let told = self.tell(&navigated(&self.url, wish.until, began.elapsed(), landed.as_ref()));
        told.map_err(|e| format!("{NAVIGATION} cannot be written: {e}"))?;
        let landed = landed?;
        Ok(if landed.status == 0 {
            "page loaded".into()
        } else {
            format!("page loaded http={}", landed.status)
        })
    }

    async fn ask(&self, wish: Wish, deadline: Instant) -> Result<Landed, String> {
        if let Some(landed) = &self.landed {
            return Ok(landed.clone());
        }
        let (answer, landed) = oneshot::channel();
        let deadline = deadline.min(Instant::now() + wish.limit);
        let navigation = Navigation { url: self.url.clone(), until: wish.until, deadline, answer };
        let gone = || "the browser is gone".to_owned();
        self.navigations.send(navigation).await.map_err(|_| gone())?;
        landed.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn listeners(&self, deadline: Instant) -> Result<(), String> {
        for (plugin, file) in LISTENERS {
            let dir = self.snap_dir.join(plugin);
            while dir.is_dir() && !is_listening(&dir.join(file)) {
                if Instant::now() >= deadline {
                    return Err(format!("the listener {plugin} was not ready in time"));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }
}

/// A marker that is there and does not say that its hook is still starting.
fn is_listening(marker: &Path) -> bool {
    #[derive(Deserialize)]
    struct Marker {
        #[serde(default)]
        status: Value,
    }
    let Ok(text) = std::fs::read_to_string(marker) else { return false };
    serde_json::from_str::<Marker>(&text).map_or(!marker.ends_with("prenav.json"), |m| m.status != "starting")
}

fn navigated(url: &str, until: WaitUntil, took: Duration, landed: Result<&Landed, &String>) -> Value {
    let elapsed = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let now = jiff::Timestamp::from_microsecond(wall_us()).unwrap_or_default().to_string();
    let mut state = json!({"waitUntil": until.to_string(), "elapsed": elapsed, "url": url, "timestamp": now});
    match landed {
        Ok(landed) => {
            state["finalUrl"] = json!(landed.final_url);
            state["status"] = json!((landed.status > 0).then_some(landed.status));
        }
        Err(error) => state["error"] = json!(error),
    }
    state
}

/// Whole or not at all: hooks read as soon as a file is there.
fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let half = dir.join(format!(".{name}.half"));
    std::fs::write(&half, text)?;
    std::fs::rename(half, dir.join(name))
}

fn clear(dir: &Path) -> io::Result<()> {
    for name in MARKERS.iter().rev() {
        match std::fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// How a page is to be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    pub until: WaitUntil,
    /// For the load.
    pub limit: Duration,
    /// After the load.
    pub delay: Duration,
}

impl Wish {
    /// Until its load event, in so much time.
    pub fn within(limit: Duration) -> Self {
        Self { until: WaitUntil::Load, limit, delay: Duration::ZERO }
    }

    /// As the settings of the plugin say.
    fn of(hook: &Planned) -> Self {
        let text = |key: &str| hook.env.get(key).map(String::as_str).unwrap_or_default();
        let seconds = |key: &str| {
            let seconds = text(key).trim().parse::<f64>().ok().filter(|s| *s > 0.0 && *s < 1e6);
            seconds.map(Duration::from_secs_f64)
        };
        Self {
            until: WaitUntil::parse(text("CHROME_WAIT_FOR")).unwrap_or_default(),
            limit: seconds("CHROME_PAGELOAD_TIMEOUT").unwrap_or(hook.timeout),
            delay: seconds("CHROME_DELAY_AFTER_LOAD").unwrap_or_default(),
        }
    }
}

impl Provider for Session {
    fn claims(&self, hook: &Planned) -> bool {
        hook.plugin == PLUGIN
    }

    fn loads(&self, hook: &Planned) -> bool {
        Self::is_navigation(hook)
    }

    fn run(&self, hook: &Planned, deadline: Instant) -> BoxFuture<'static, Result<String, String>> {
        let said = match hook.name.name.as_str() {
            "chrome_navigate" => {
                // What is left tells hooks why there is no page, before the hook's own time is over.
                let deadline = deadline.checked_sub(Duration::from_secs(1)).unwrap_or(deadline);
                return Box::pin(self.clone().navigate(Wish::of(hook), deadline));
            }
            "chrome_tab" => format!("target={}", self.lent.target_id),
            _ => format!("the browser is Sonde's, process {}", self.lent.pid),
        };
        Box::pin(std::future::ready(Ok(said)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent() -> Lent {
        Lent { cdp_url: "ws://127.0.0.1:1/devtools/browser/x".into(), target_id: "T1".into(), pid: 7 }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir.join(PLUGIN))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// 2.5: stale files go together, the new ones are whole, and the gate stays shut until the page is there.
    #[tokio::test]
    async fn the_directory_opens_its_gate_last() {
        let dir = tempfile::tempdir().unwrap();
        let (crawl, snap) = (dir.path().join("crawl"), dir.path().join("snap"));
        std::fs::create_dir_all(snap.join(PLUGIN)).unwrap();
        std::fs::write(snap.join("chrome/navigation.json"), "{}").unwrap();
        let (asking, mut asked) = mpsc::channel(1);
        let session = Session::open((&crawl, &snap), "http://a/", lent(), asking).unwrap();
        assert_eq!(
            names(&snap),
            ["browser.json", "cdp_url.txt", "chrome.pid", "extensions.json", "target_id.txt", "url.txt"]
        );
        assert_eq!(names(&crawl), ["browser.json", "cdp_url.txt", "chrome.pid", "extensions.json"]);
        assert_eq!(std::fs::read_to_string(snap.join("chrome/chrome.pid")).unwrap(), "7");
        let wish = Wish::within(Duration::from_secs(5));
        let deadline = Instant::now() + Duration::from_secs(10);
        let going = tokio::spawn(session.clone().navigate(wish, deadline));
        let navigation = asked.recv().await.unwrap();
        assert!(!snap.join("chrome/navigation.json").exists());
        navigation.answer.send(Ok(Landed { final_url: "http://a/b".into(), status: 203 })).unwrap();
        assert_eq!(going.await.unwrap().unwrap(), "page loaded http=203");
        let told = std::fs::read_to_string(snap.join("chrome/navigation.json")).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&told["finalUrl"], &told["status"]), (&json!("http://a/b"), &json!(203)));
        assert_eq!((&told["url"], &told["waitUntil"]), (&json!("http://a/"), &json!("load")));
        session.close(&crawl).unwrap();
        assert!(names(&snap).is_empty() && names(&crawl).is_empty());
    }

    /// 2.5: the page is not loaded before those who listen are ready, and an error is told by the same file.
    #[tokio::test]
    async fn listeners_are_waited_for_and_errors_told() {
        let dir = tempfile::tempdir().unwrap();
        let redirects = dir.path().join("redirects");
        std::fs::create_dir_all(&redirects).unwrap();
        std::fs::write(redirects.join("prenav.json"), r#"{"status":"starting"}"#).unwrap();
        let (asking, mut asked) = mpsc::channel(1);
        let session = Session::open((dir.path(), dir.path()), "http://a/", lent(), asking).unwrap();
        let wish = Wish::within(Duration::from_secs(5));
        let soon = Instant::now() + Duration::from_millis(200);
        let late = session.clone().navigate(wish, soon).await.unwrap_err();
        assert!(late.contains("redirects"), "{late}");
        assert!(asked.try_recv().is_err());
        let told = std::fs::read_to_string(dir.path().join("chrome/navigation.json")).unwrap();
        assert!(told.contains("was not ready in time"), "{told}");
        std::fs::write(redirects.join("prenav.json"), r#"{"status":"ready"}"#).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let going = tokio::spawn(session.navigate(wish, deadline));
        asked.recv().await.unwrap().answer.send(Err("net::ERR_FAILED".into())).unwrap();
        assert_eq!(going.await.unwrap().unwrap_err(), "net::ERR_FAILED");
        let told = std::fs::read_to_string(dir.path().join("chrome/navigation.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["error"], "net::ERR_FAILED");
    }
}
