//! The client against a scripted browser on an in-memory pipe.

use std::sync::Arc;
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::browser::GetVersionParams;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(5);

/// The browser's side of the pipe.
struct Script {
    input: BufReader<ReadHalf<DuplexStream>>,
    output: WriteHalf<DuplexStream>,
}

impl Script {
    fn start(options: ConnectionOptions) -> (Self, Connection) {
        let (ours, theirs) = duplex(1024 * 1024);
        let (input, output) = split(ours);
        let connection = Connection::start(input, output, options);
        let (input, output) = split(theirs);
        (Self { input: BufReader::new(input), output }, connection)
    }

    async fn command(&mut self) -> Value {
        let mut bytes = Vec::new();
        timeout(SOON, self.input.read_until(0, &mut bytes)).await.unwrap().unwrap();
        assert_eq!(bytes.pop(), Some(0));
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn say(&mut self, message: Value) {
        self.raw(message.to_string().as_bytes()).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.output.write_all(bytes).await.unwrap();
        self.output.write_all(b"\0").await.unwrap();
    }

    async fn attach(&mut self, parent: Option<&str>, session: &str, target: &str, kind: &str, url: &str) {
        let info = json!({"targetId": target, "type": kind, "url": url, "title": "", "attached": true,
            "canAccessOpener": false, "browserContextId": "C1", "somethingNew": [1]});
        let params = json!({"sessionId": session, "targetInfo": info, "waitingForDebugger": true});
        let mut event = json!({"method": "Target.attachedToTarget", "params": params});
        if let Some(parent) = parent {
            event["sessionId"] = json!(parent);
        }
        self.say(event).await;
    }
}

fn event_of(item: Option<Item>) -> Arc<Event> {
    match item {
        Some(Item::Event(event)) => event,
        other => panic!("expected an event, got {other:?}"),
    }
}

async fn next(subscription: &mut Subscription) -> Option<Item> {
    timeout(SOON, subscription.recv()).await.expect("an item in time")
}

#[tokio::test]
async fn garbage_is_counted_and_the_client_lives_on() {
    let (mut browser, connection) = Script::start(ConnectionOptions::default());
    let mut events = connection.subscribe(Filter::all());
    for garbage in [&b"not json"[..], b"\xff\xfe", b"", b"[1]", b"{\"id\":\"seven\"}", b"{}"] {
        browser.raw(garbage).await;
    }
    browser.say(json!({"method": "Brand.newEvent", "params": {"unknown": true}, "extra": 1})).await;
    let event = event_of(next(&mut events).await);
    assert_eq!((&*event.method, event.params.get()), ("Brand.newEvent", r#"{"unknown":true}"#));
    assert_eq!(connection.stats().undecodable, 6);
    let calling = tokio::spawn({
        let connection = connection.clone();
        async move { connection.call_raw(None, "Any.thing", json!({"a": 1}), SOON).await }
    });
    let sent = browser.command().await;
    assert_eq!((&sent["method"], &sent["params"]), (&json!("Any.thing"), &json!({"a": 1})));
    browser.say(json!({"id": sent["id"], "result": {"ok": 1}})).await;
    assert_eq!(calling.await.unwrap().unwrap().get(), r#"{"ok":1}"#);
}

#[tokio::test]
async fn a_call_times_out_and_its_late_answer_harms_nobody() {
    let (mut browser, connection) = Script::start(ConnectionOptions::default());
    let mut events = connection.subscribe(Filter::all());
    let error = connection.call(None, GetVersionParams::default(), Duration::from_millis(20)).await;
    let error = error.unwrap_err();
    assert!(matches!(&error, CallError::Timeout { .. }) && !error.is_fatal(), "{error}");
    let sent = browser.command().await;
    assert_eq!(connection.stats().pending, 0);
    browser.say(json!({"id": sent["id"], "result": {}})).await;
    browser.say(json!({"method": "A.after", "params": {}})).await;
    event_of(next(&mut events).await);
    assert_eq!(connection.stats().unclaimed, 1);
}

#[tokio::test]
async fn refusals_wrong_shapes_and_oversize_are_told_apart() {
    let options = ConnectionOptions { max_message_bytes: 1000, ..Default::default() };
    let (mut browser, connection) = Script::start(options);
    let answers = [
        json!({"error": {"code": -32602, "message": "Invalid parameters"}}),
        json!({"result": {"product": 7}}),
        json!({"result": {"product": "x".repeat(2000)}}),
    ];
    let mut errors = Vec::new();
    for mut answer in answers {
        let call = connection.call(None, GetVersionParams::default(), SOON);
        let reply = async {
            let id = browser.command().await["id"].clone();
            browser.raw(format!("{{\"id\":{id},{}", &answer.take().to_string()[1..]).as_bytes()).await;
        };
        errors.push(tokio::join!(call, reply).0.unwrap_err());
    }
    assert!(matches!(&errors[0], CallError::Protocol { code: -32602, .. }));
    assert!(matches!(&errors[1], CallError::Decode { .. }));
    assert!(
        matches!(&errors[2], CallError::Decode { error, .. } if error.contains("limit")),
        "{:?}",
        errors[2]
    );
    assert_eq!(connection.stats().oversized, 1);
}

#[tokio::test]
async fn the_end_of_the_pipe_ends_calls_and_subscriptions_at_once() {
    let (mut browser, connection) = Script::start(ConnectionOptions::default());
    let mut events = connection.subscribe(Filter::all());
    let hour = Duration::from_secs(3600);
    let call = connection.send_no_wait(None, RawCommand::new("Never.answers", json!({}))).unwrap();
    browser.command().await;
    browser.say(json!({"method": "Last.words", "params": {}})).await;
    drop(browser);
    let error = timeout(SOON, call.result(hour)).await.unwrap().unwrap_err();
    assert!(error.is_fatal(), "{error}");
    assert_eq!(&*event_of(next(&mut events).await).method, "Last.words");
    assert!(next(&mut events).await.is_none());
    assert!(next(&mut connection.subscribe(Filter::all())).await.is_none());
    assert!(connection.call_raw(None, "Too.late", json!({}), hour).await.unwrap_err().is_fatal());
    assert_eq!(*connection.closed().await, CloseReason::Eof);
}

fn hooked(connection: &Connection) -> AutoAttach {
    // Any call fills the option; the browser's answer to it is not needed here.
    let auto = AutoAttach::new(|info| {
        vec![
            RawCommand::new("Network.enable", json!({})),
            RawCommand::new("Set.up", json!({"kind": info.kind})),
        ]
    });
    connection.set_auto_attach(auto.clone());
    auto
}

#[tokio::test]
async fn a_new_session_is_set_up_in_order_without_waiting() {
    let (mut browser, connection) = Script::start(ConnectionOptions::default());
    hooked(&connection);
    let mut events = connection.subscribe(Filter::contexts(["C1".into()]));
    browser.attach(None, "S1", "T1", "page", "about:blank").await;
    let mut ids = Vec::new();
    for method in ["Network.enable", "Set.up", "Target.setAutoAttach", "Runtime.runIfWaitingForDebugger"] {
        let command = browser.command().await;
        assert_eq!((&command["method"], &command["sessionId"]), (&json!(method), &json!("S1")));
        ids.push(command["id"].clone());
    }
    let attached = event_of(next(&mut events).await);
    assert_eq!(attached.session.as_ref().unwrap().target_id, "T1".into());
    let target = TargetId::from("T1");
    let not_yet = connection.wait_ready(&target, Duration::from_millis(20)).await;
    assert!(matches!(not_yet, Err(CallError::Timeout { .. })));
    let error = json!({"code": -32601, "message": "'Set.up' wasn't found"});
    browser.say(json!({"id": ids[1], "sessionId": "S1", "error": error})).await;
    for id in [&ids[0], &ids[2], &ids[3]] {
        browser.say(json!({"id": id, "sessionId": "S1", "result": {}})).await;
    }
    let (info, failures) = connection.wait_ready(&target, SOON).await.unwrap();
    assert_eq!((&*info.kind, failures.len(), &*failures[0].method), ("page", 1, "Set.up"));
    assert!(matches!(next(&mut events).await, Some(Item::HookFailed(f)) if f.code == -32601));
}

#[tokio::test]
async fn children_inherit_and_vanish_with_their_parent() {
    let (mut browser, connection) = Script::start(ConnectionOptions::default());
    let mut events = connection.subscribe(Filter::contexts(["C1".into()]).methods(["Network.", "Target."]));
    browser.attach(None, "S1", "T1", "page", "http://a.test/").await;
    browser.attach(Some("S1"), "S2", "T2", "iframe", "http://b.test/").await;
    browser.attach(Some("S2"), "S3", "T3", "worker", "http://b.test/w.js").await;
    for _ in 0..3 {
        assert_eq!(&*event_of(next(&mut events).await).method, "Target.attachedToTarget");
    }
    assert_eq!(connection.session(&"S3".into()).unwrap().parent, Some("S2".into()));
    assert_eq!(connection.sessions().len(), 3);
    let session = SessionId::from("S3");
    let call = connection.send_no_wait(Some(&session), RawCommand::new("Never.answers", json!({}))).unwrap();
    browser.say(json!({"method": "Network.x", "sessionId": "S3", "params": {}})).await;
    browser.say(json!({"method": "Page.unwanted", "sessionId": "S3", "params": {}})).await;
    browser.say(json!({"method": "Target.detachedFromTarget", "params": {"sessionId": "S1"}})).await;
    assert_eq!(event_of(next(&mut events).await).session.as_ref().unwrap().id, session);
    assert_eq!(event_of(next(&mut events).await).session.as_ref().unwrap().id, "S1".into());
    let error = call.result(SOON).await.unwrap_err();
    assert!(error.is_session_gone() && !error.is_fatal(), "{error}");
    assert!(connection.sessions().is_empty());
}

#[tokio::test]
async fn a_worker_attached_twice_is_heard_once_and_the_second_session_takes_over() {
    let (mut browser, connection) = Script::start(ConnectionOptions::default());
    hooked(&connection);
    let mut events = connection.subscribe(Filter::all().methods(["Network."]));
    browser.attach(None, "S1", "T1", "service_worker", "http://a.test/sw.js").await;
    for _ in 0..4 {
        assert_eq!(browser.command().await["sessionId"], "S1");
    }
    browser.attach(Some("P"), "S2", "T1", "service_worker", "http://a.test/sw.js").await;
    let resume = browser.command().await;
    assert_eq!(
        (&resume["sessionId"], &resume["method"]),
        (&json!("S2"), &json!("Runtime.runIfWaitingForDebugger"))
    );
    browser.say(json!({"method": "Network.doubled", "sessionId": "S2", "params": {}})).await;
    browser.say(json!({"method": "Network.once", "sessionId": "S1", "params": {}})).await;
    assert_eq!(&*event_of(next(&mut events).await).method, "Network.once");
    browser.say(json!({"method": "Target.detachedFromTarget", "params": {"sessionId": "S1"}})).await;
    let set_up = browser.command().await;
    assert_eq!((&set_up["sessionId"], &set_up["method"]), (&json!("S2"), &json!("Network.enable")));
    browser.say(json!({"method": "Network.now", "sessionId": "S2", "params": {}})).await;
    assert_eq!(&*event_of(next(&mut events).await).method, "Network.now");
    assert_eq!(connection.stats().strays, 1);
}

#[tokio::test]
async fn extensions_are_let_run_and_left_alone() {
    let (mut browser, connection) = Script::start(ConnectionOptions::default());
    hooked(&connection);
    browser.attach(None, "S1", "T1", "service_worker", "chrome-extension://abc/sw.js").await;
    assert_eq!(browser.command().await["method"], "Runtime.runIfWaitingForDebugger");
    // The next command is that of the next target: nothing else was sent to the extension's.
    browser.attach(None, "S2", "T2", "page", "http://a.test/").await;
    assert_eq!(browser.command().await["sessionId"], "S2");
    assert_eq!(connection.sessions().len(), 1);
}

/// R9
#[tokio::test]
async fn a_flood_is_bounded_and_its_loss_is_an_explicit_item_in_place() {
    const FLOOD: u64 = 100_000;
    let (mut browser, connection) = Script::start(ConnectionOptions::default());
    let limits = Limits { events: 1000, bytes: 64 * 1024 * 1024 };
    let mut small = connection.subscribe_within(Filter::all(), limits);
    let tight = Limits { events: usize::MAX, bytes: 10_000 };
    let bytes_bound = connection.subscribe_within(Filter::all(), tight);
    let mut whole = connection.subscribe(Filter::all());
    let mut flood = Vec::new();
    for n in 0..FLOOD {
        flood.extend_from_slice(format!("{{\"method\":\"F.f\",\"params\":{{\"n\":{n}}}}}\0").as_bytes());
    }
    browser.output.write_all(&flood).await.unwrap();
    for n in 0..FLOOD {
        let event = event_of(next(&mut whole).await);
        assert_eq!(event.ordinal, n + 1);
    }
    assert_eq!(whole.lost(), 0);
    assert_eq!((small.len(), small.lost()), (1000, FLOOD - 1000));
    assert!(bytes_bound.len() < 100 && bytes_bound.lost() > FLOOD - 100);
    for _ in 0..500 {
        event_of(next(&mut small).await);
    }
    browser.say(json!({"method": "F.after", "params": {}})).await;
    event_of(next(&mut whole).await);
    for _ in 0..500 {
        assert_eq!(&*event_of(next(&mut small).await).method, "F.f");
    }
    let Some(Item::Lost { events, bytes }) = next(&mut small).await else { panic!("the gap in its place") };
    assert_eq!(events, FLOOD - 1000);
    assert!(bytes > events);
    assert_eq!(&*event_of(next(&mut small).await).method, "F.after");
}
