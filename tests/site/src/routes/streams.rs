//! WebSocket echo and server-sent events.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;

use super::{SharedState, reply};
use crate::site::Shared;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/r/ws", any(socket)).route("/r/events", any(|| async { events() }))
}

async fn socket(State(shared): SharedState, upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["fixture"]).on_upgrade(move |socket| async move {
        tokio::select! {
            () = echo(socket) => {}
            () = shared.cancel.cancelled() => {}
        }
    })
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        // "close 4001 reason": the server closes.
        if let Some(asked) = message.to_text().ok().and_then(|text| text.strip_prefix("close ")) {
            let (code, reason) = asked.split_once(' ').unwrap_or((asked, ""));
            let frame = code.parse().ok().map(|code| CloseFrame { code, reason: reason.into() });
            if socket.send(Message::Close(frame)).await.is_err() {
                return;
            }
            continue;
        }
        let echoed = matches!(message, Message::Text(_) | Message::Binary(_));
        if echoed && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Three messages, then the end; the page closes its EventSource on the third, so that it does not reconnect.
fn events() -> Response {
    let text = "data: one\n\nid: 2\ndata: two\n\nevent: last\ndata: three\n\n";
    reply("text/event-stream", Body::from(text))
}
