//! A Firefox with the extension, driven by WebDriver BiDi without a geckodriver, and what arrived of its visits.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sonde_browser::relay::{ExtensionBatch, ExtensionBody, ExtensionConfig, Relay};
use sonde_proto::browser::v1::{RelayNetwork, RelayStart};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::super::Rows;
use super::{assert_whole, config, flush, prepare, relay_options, rows_of};

pub const SOON: Duration = Duration::from_secs(60);
const ORIGIN: &str = "moz-extension://5f0e1d2c-3b4a-4958-8776-655443322110";

/// Of the profile; the uuid is the extension's.
const PREFS: &str = r#"
user_pref("extensions.webextensions.uuids", "{\"extension@sonde.invalid\":\"5f0e1d2c-3b4a-4958-8776-655443322110\"}");
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("app.update.disabledForTesting", true);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("dom.disable_open_during_load", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("dom.ipc.processCount", 2);
user_pref("remote.active-protocols", 1);
"#;

/// The bodies that were stored, by hash.
pub type Blobs = Arc<Mutex<HashMap<String, Bytes>>>;

/// What a visit records.
pub fn everything() -> RelayNetwork {
    RelayNetwork {
        http: true,
        dns: true,
        cookies: true,
        save_content: vec!["all".to_owned()],
        max_body_bytes: 64 << 20,
    }
}

pub struct Rig {
    pub relay: Relay,
    pub blobs: Blobs,
    batches: mpsc::Receiver<ExtensionBatch>,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    calls: u64,
    firefox: Child,
    arrived: HashMap<i64, Rows>,
    _files: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let group = self.firefox.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            // Already gone: as well.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

fn take(relay: &Relay, arrived: &mut HashMap<i64, Rows>, batch: &ExtensionBatch) {
    arrived.entry(batch.visit_id).or_default().0.extend(rows_of(batch));
    relay.ack(batch.visit_id, batch.session_no, batch.first_ordinal + i64::from(batch.count) - 1);
}

/// Stores what comes, as the uplink would.
async fn store(mut bodies: mpsc::Receiver<ExtensionBody>, relay: Relay, blobs: Blobs) {
    while let Some(body) = bodies.recv().await {
        blobs.lock().unwrap().insert(body.sha256.clone(), body.content.clone());
        relay.body_stored(&body, Ok(()));
    }
}

async fn start_firefox(profile: &std::path::Path) -> (Child, String) {
    let mut firefox = tokio::process::Command::new("firefox-esr")
        .args(["--headless", "--no-remote", "--remote-debugging-port", "0", "--profile"])
        .arg(profile)
        .env("MOZ_REMOTE_SETTINGS_DEVTOOLS", "1")
        .env("HOME", profile)
        .process_group(0)
        .kill_on_drop(true)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Firefox is needed: apt-get install firefox-esr");
    let mut lines = BufReader::new(firefox.stderr.take().unwrap()).lines();
    let listening = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("Firefox ended");
            if let Some((_, address)) = line.split_once("WebDriver BiDi listening on ") {
                return address.to_owned();
            }
        }
    };
    let address = timeout(SOON, listening).await.expect("Firefox says where it listens");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (firefox, address)
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(None).await
    }

    /// `through`: a hop to the relay that the extension is told of, and what tells the hop of the relay.
    pub async fn with(through: Option<(u16, &watch::Sender<(u16, bool)>)>) -> Self {
        let (sender, batches) = mpsc::channel(10_000);
        let (body_sender, bodies) = mpsc::channel(16);
        let relay = Relay::bind_with_bodies(relay_options(), sender, body_sender).await.unwrap();
        relay.set_extension_id(ORIGIN);
        if let Some((_, hop)) = through {
            hop.send_replace((relay.port(), true));
        }
        let blobs = Blobs::default();
        tokio::spawn(store(bodies, relay.clone(), blobs.clone()));
        let files = tempfile::tempdir().unwrap();
        let port = through.map_or(relay.port(), |(port, _)| port);
        let config = ExtensionConfig { cookies: true, network: true, requests: true, ..config(port) };
        let copy = files.path().join("extension");
        prepare(&copy, &config);
        let profile = files.path().join("profile");
        std::fs::create_dir(&profile).unwrap();
        std::fs::write(profile.join("user.js"), PREFS).unwrap();
        let (firefox, address) = start_firefox(&profile).await;
        let (socket, _) = connect_async(format!("{address}/session")).await.unwrap();
        let arrived = HashMap::new();
        let mut rig = Self { relay, blobs, batches, socket, calls: 0, firefox, arrived, _files: files };
        rig.call("session.new", json!({"capabilities": {}})).await;
        rig.call("webExtension.install", json!({"extensionData": {"type": "path", "path": copy}})).await;
        let mut connected = rig.relay.connected();
        let session = timeout(SOON, connected.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
        assert!(session.unwrap().public_suffix_list.starts_with("tldts 7."));
        rig
    }

    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let call = json!({"id": self.calls, "method": method, "params": params});
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        let answer = async {
            loop {
                let message = self.socket.next().await.expect("Firefox ended").unwrap();
                let answer: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
                if answer["id"] == json!(self.calls) {
                    return answer;
                }
            }
        };
        let answer = timeout(SOON, answer).await.unwrap_or_else(|_| panic!("{method} was not answered"));
        assert_eq!(answer["type"], "success", "{method}: {answer}");
        answer["result"].clone()
    }

    /// A visit's first page, in a container of its own: its browsing context and the container.
    pub async fn open(&mut self, visit_id: i64, network: RelayNetwork) -> (String, String) {
        let token = format!("visit-{visit_id}");
        self.relay.start_visit(RelayStart {
            visit_id,
            token: token.clone(),
            cookies: network.cookies,
            network: Some(network),
            ..RelayStart::default()
        });
        let made = self.call("browser.createUserContext", json!({})).await;
        let container = made["userContext"].as_str().unwrap().to_owned();
        let tab = json!({"type": "tab", "userContext": container});
        let made = self.call("browsingContext.create", tab).await;
        let page = made["context"].as_str().unwrap().to_owned();
        self.goto(&page, &format!("about:blank#visit={token}")).await;
        let ready = self.relay.wait_ready(visit_id, Instant::now() + SOON).await.unwrap();
        assert!(ready.tab_id > 0, "{ready:?}");
        (page, container)
    }

    pub async fn goto(&mut self, page: &str, url: &str) {
        let to = json!({"context": page, "url": url, "wait": "complete"});
        self.call("browsingContext.navigate", to).await;
    }

    /// Begins to load a page that need not end to.
    pub async fn start_loading(&mut self, page: &str, url: &str) {
        let to = json!({"context": page, "url": url, "wait": "none"});
        self.call("browsingContext.navigate", to).await;
    }

    /// The value of an expression of the page, once it is settled.
    pub async fn evaluate(&mut self, page: &str, expression: &str) -> Value {
        let target = json!({"context": page});
        let asked = json!({"expression": expression, "target": target, "awaitPromise": true});
        self.call("script.evaluate", asked).await["result"]["value"].clone()
    }

    fn take(&mut self, batch: &ExtensionBatch) {
        take(&self.relay, &mut self.arrived, batch);
    }

    pub fn rows(&mut self, visit_id: i64) -> &Rows {
        self.arrived.entry(visit_id).or_default()
    }

    /// Takes rows until the condition holds.
    pub async fn until(&mut self, visit_id: i64, what: &str, done: impl Fn(&Rows) -> bool) {
        let late = Instant::now() + SOON;
        while !done(self.rows(visit_id)) {
            let batch = tokio::time::timeout_at(late, self.batches.recv()).await;
            let Ok(batch) = batch else { panic!("{what}: {:#?}", self.rows(visit_id)) };
            self.take(&batch.unwrap());
        }
    }

    /// Takes rows until none has come for a while; whether none had come at all.
    pub async fn quiet(&mut self, time: Duration) -> bool {
        let mut none = true;
        while let Ok(batch) = timeout(time, self.batches.recv()).await {
            self.take(&batch.unwrap());
            none = false;
        }
        none
    }

    /// Ends a visit: all rows of it.
    pub async fn finish(&mut self, visit_id: i64) -> Rows {
        let Self { relay, batches, arrived, .. } = self;
        let ends = flush(relay, batches, visit_id, |batch| take(relay, arrived, &batch)).await;
        relay.end_visit(visit_id);
        let rows = arrived.remove(&visit_id).unwrap_or_default();
        assert_whole(&ends, rows.0.len() as i64);
        rows
    }

    pub async fn close(mut self) {
        self.call("browser.close", json!({})).await;
        timeout(SOON, self.firefox.wait()).await.unwrap().unwrap();
    }
}
