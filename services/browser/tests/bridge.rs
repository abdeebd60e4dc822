//! The DevTools port for hooks in front of a real Chromium that is driven over its pipe.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sonde_browser::engine::chromium::HookBrowser;
use sonde_browser::engine::chromium::launch::ChromiumOptions;
use sonde_browser::hooks::chrome::WaitUntil;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const SOON: Duration = Duration::from_secs(20);
const HELLO: &str = "data:text/html,<title>hello</title>";

async fn browser() -> HookBrowser {
    let no_sandbox = rustix::process::geteuid().is_root();
    HookBrowser::launch(ChromiumOptions { no_sandbox, ..ChromiumOptions::default() }).await.unwrap()
}

/// A client as hooks have one.
struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    events: Vec<Value>,
}

impl Client {
    async fn connect(url: &str) -> Self {
        Self { socket: connect_async(url).await.unwrap().0, events: Vec::new() }
    }

    async fn read(&mut self) -> Value {
        let message = timeout(SOON, self.socket.next()).await.unwrap().unwrap().unwrap();
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    /// Sends a call and reads up to its answer; what comes before is kept.
    async fn call(&mut self, id: u64, session: Option<&str>, method: &str, params: Value) -> Value {
        let mut call = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            call["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        loop {
            let message = self.read().await;
            if message["id"] == id {
                assert_eq!(message.get("sessionId").and_then(Value::as_str), session, "{message}");
                return message;
            }
            assert!(message.get("method").is_some(), "an answer that nobody asked for: {message}");
            self.events.push(message);
        }
    }

    async fn attach(&mut self, target: &str) -> String {
        let params = json!({"targetId": target, "flatten": true});
        let answer = self.call(900, None, "Target.attachToTarget", params).await;
        let session = answer["result"]["sessionId"].as_str().unwrap().to_owned();
        // As clients rely on: the event comes first.
        let told = self.events.iter().any(|e| e["params"]["sessionId"] == *session);
        assert!(told, "{:?}", self.events);
        session
    }

    async fn title(&mut self, session: &str) -> Value {
        let params = json!({"expression": "document.title", "returnByValue": true});
        let answer = self.call(901, Some(session), "Runtime.evaluate", params).await;
        answer["result"]["result"]["value"].clone()
    }
}

/// 2.5: hooks use the page that they are lent, and cannot take it or the browser away.
#[tokio::test]
async fn a_guest_uses_the_page_and_cannot_end_it() {
    let browser = browser().await;
    let tab = browser.tab().await.unwrap();
    let lent = tab.lent();
    let mut guest = Client::connect(&lent.cdp_url).await;
    let version = guest.call(1, None, "Browser.getVersion", json!({})).await;
    assert!(version["result"]["product"].as_str().unwrap().contains("Chrome/"), "{version}");
    let session = guest.attach(&lent.target_id).await;
    let deadline = Instant::now() + SOON;
    let landed = tab.navigate(HELLO, WaitUntil::NetworkIdle2, deadline).await.unwrap();
    assert_eq!(landed.final_url, HELLO);
    assert_eq!(guest.title(&session).await, "hello");
    let refused = [
        ("Browser.close", json!({})),
        ("Browser.crash", json!({})),
        ("Extensions.loadUnpacked", json!({"path": "/"})),
        ("Target.closeTarget", json!({"targetId": lent.target_id})),
    ];
    for (n, (method, params)) in (2u64..).zip(refused) {
        let answer = guest.call(n, None, method, params).await;
        assert!(answer["error"]["message"].as_str().unwrap().contains("host's"), "{method}: {answer}");
    }
    // A page of its own it may close.
    let own = guest.call(10, None, "Target.createTarget", json!({"url": "about:blank"})).await;
    let own = own["result"]["targetId"].clone();
    let closed = guest.call(11, None, "Target.closeTarget", json!({"targetId": own})).await;
    assert_eq!(closed["result"]["success"], true, "{closed}");
    assert_eq!(guest.title(&session).await, "hello");
    let nobody = guest.call(12, Some("0123"), "Runtime.enable", json!({})).await;
    assert_eq!(nobody["error"]["code"], -32001, "{nobody}");
    browser.close(SOON).await;
    let end = timeout(SOON, async { while let Some(Ok(_)) = guest.socket.next().await {} });
    end.await.expect("the end of the browser ends its guests");
}

/// 2.5: guests hear neither each other nor the host, though their numbers are the same; one that goes leaves the others.
#[tokio::test]
async fn guests_do_not_disturb_each_other() {
    let browser = browser().await;
    let (tab, other) = (browser.tab().await.unwrap(), browser.tab().await.unwrap());
    let (mut first, mut second) =
        (Client::connect(&tab.lent().cdp_url).await, Client::connect(&tab.lent().cdp_url).await);
    let one = first.attach(&tab.lent().target_id).await;
    let two = second.attach(&tab.lent().target_id).await;
    assert_ne!(one, two);
    for (guest, session) in [(&mut first, &one), (&mut second, &two)] {
        let enabled = guest.call(1, Some(session), "Page.enable", json!({})).await;
        assert!(enabled.get("result").is_some(), "{enabled}");
    }
    let auto = json!({"autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true});
    first.call(2, None, "Target.setAutoAttach", auto).await;
    first.call(3, None, "Target.setDiscoverTargets", json!({"discover": true})).await;
    assert!(first.events.iter().any(|e| e["method"] == "Target.targetCreated"), "{:?}", first.events);
    second.call(4, Some(&two), "Page.disable", json!({})).await;
    second.events.clear();
    let deadline = Instant::now() + SOON;
    tab.navigate(HELLO, WaitUntil::Load, deadline).await.unwrap();
    assert_eq!(first.title(&one).await, "hello");
    assert!(first.events.iter().any(|e| e["method"] == "Page.loadEventFired"), "{:?}", first.events);
    assert_eq!(second.title(&two).await, "hello");
    assert!(second.events.is_empty(), "{:?}", second.events);
    // It had the browser pause new pages; its end lets them go.
    drop(first);
    other.navigate(HELLO, WaitUntil::Load, Instant::now() + SOON).await.unwrap();
    let third = browser.tab().await.unwrap();
    third.navigate(HELLO, WaitUntil::Load, Instant::now() + SOON).await.unwrap();
    assert_eq!(second.title(&two).await, "hello");
    browser.close(SOON).await;
}

/// 2.5, S8: only who was told the path comes in, and no page does.
#[tokio::test]
async fn strangers_are_refused() {
    let browser = browser().await;
    let tab = browser.tab().await.unwrap();
    let url = tab.lent().cdp_url;
    let (start, secret) = url.rsplit_once('/').unwrap();
    assert_eq!(secret.len(), 64);
    let status = async |request| match connect_async(request).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    };
    for path in [
        format!("{start}/"),
        format!("{start}/{}", &secret[1..]),
        start.replace("/devtools/browser", "/json/version"),
    ] {
        assert_eq!(status(path.as_str().into_client_request().unwrap()).await, 404, "{path}");
    }
    let mut page = url.as_str().into_client_request().unwrap();
    page.headers_mut().insert("origin", "https://a.test".parse().unwrap());
    assert_eq!(status(page).await, 403);
    let mut named = url.as_str().into_client_request().unwrap();
    named.headers_mut().insert("host", "rebound.test".parse().unwrap());
    assert_eq!(status(named).await, 421);
    browser.close(SOON).await;
}
