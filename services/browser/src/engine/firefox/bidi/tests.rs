//! The client against a scripted browser on a real socket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::{Bidi, BidiError, Item, connect};

const SOON: Duration = Duration::from_secs(20);

type Peer = WebSocketStream<TcpStream>;

async fn pair() -> (Bidi, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/session/x", listener.local_addr().unwrap());
    let accepting =
        async { tokio_tungstenite::accept_async(listener.accept().await.unwrap().0).await.unwrap() };
    let (bidi, peer) = tokio::join!(connect(&url, SOON), accepting);
    (bidi.unwrap(), peer)
}

async fn asked(peer: &mut Peer) -> Value {
    let message = peer.next().await.unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

async fn say(peer: &mut Peer, message: Value) {
    peer.send(Message::text(message.to_string())).await.unwrap();
}

#[tokio::test]
async fn answers_find_their_callers_in_any_order() {
    let (bidi, mut peer) = pair().await;
    let serve = async {
        let (first, second) = (asked(&mut peer).await, asked(&mut peer).await);
        for question in [second, first] {
            let result = json!({"echo": question["params"]});
            say(&mut peer, json!({"type": "success", "id": question["id"], "result": result})).await;
        }
    };
    let call = |n| bidi.call("x.y", json!({"n": n}), SOON);
    let (one, two, ()) = tokio::join!(call(1), call(2), serve);
    assert_eq!(one.unwrap()["echo"]["n"], 1);
    assert_eq!(two.unwrap()["echo"]["n"], 2);
}

#[tokio::test]
async fn refusals_carry_the_browsers_words() {
    let (bidi, mut peer) = pair().await;
    let serve = async {
        let id = asked(&mut peer).await["id"].clone();
        say(&mut peer, json!({"type": "error", "id": id, "error": "no such frame", "message": "gone"})).await;
    };
    let (refused, ()) = tokio::join!(bidi.call("x.y", json!({}), SOON), serve);
    let error = refused.unwrap_err();
    assert!(error.is_gone() && !error.is_fatal(), "{error}");
}

/// R9: a call that is not answered ends at its deadline, and is forgotten.
#[tokio::test]
async fn deadlines_hold_and_late_answers_are_dropped() {
    let (bidi, mut peer) = pair().await;
    let short = Duration::from_millis(30);
    let late = bidi.call("x.y", json!({}), short).await;
    assert_eq!(late, Err(BidiError::Timeout { method: "x.y", after: short }));
    let id = asked(&mut peer).await["id"].clone();
    say(&mut peer, json!({"type": "success", "id": id, "result": 1})).await;
    let serve = async {
        let id = asked(&mut peer).await["id"].clone();
        say(&mut peer, json!({"type": "success", "id": id, "result": 2})).await;
    };
    let (next, ()) = tokio::join!(bidi.call("x.y", json!({}), SOON), serve);
    assert_eq!(next, Ok(json!(2)));
}

/// A browser that dies ends every call and every subscription at once.
#[tokio::test]
async fn the_end_of_the_connection_ends_everything() {
    let (bidi, mut peer) = pair().await;
    let mut events = bidi.events(|_| true);
    let dying = async {
        asked(&mut peer).await;
        drop(peer);
    };
    let (pending, ()) = tokio::join!(bidi.call("x.y", json!({}), Duration::from_secs(3600)), dying);
    assert!(pending.unwrap_err().is_fatal());
    assert!(events.recv().await.is_none());
    assert!(bidi.call("x.y", json!({}), SOON).await.unwrap_err().is_fatal());
    assert!(!bidi.closed().await.is_empty() && bidi.close_reason().is_some());
    assert!(bidi.events(|_| true).recv().await.is_none(), "one that comes too late ends, too");
}

#[tokio::test]
async fn events_go_to_those_who_want_them_and_losses_are_counted() {
    let (bidi, mut peer) = pair().await;
    let mut loads = bidi.events(|event| event.method == "a.load");
    let mut all = bidi.events(|_| true);
    say(&mut peer, json!({"type": "event", "method": "a.other", "params": {}})).await;
    for n in 0..5000 {
        say(&mut peer, json!({"type": "event", "method": "a.load", "params": {"n": n.to_string()}})).await;
    }
    say(&mut peer, json!({"type": "event", "method": "a.end", "params": {}})).await;
    drop(peer);
    bidi.closed().await;
    let Some(Item::Lost(lost)) = all.recv().await else { panic!("nothing was lost") };
    let mut kept = 0;
    while let Some(item) = all.recv().await {
        kept += u64::from(matches!(item, Item::Event(_)));
    }
    assert_eq!(lost + kept, 5002);
    assert!(matches!(loads.recv().await, Some(Item::Lost(_))));
    let Some(Item::Event(first)) = loads.recv().await else { panic!("no event") };
    assert_eq!(first.text("n"), "0");
}
