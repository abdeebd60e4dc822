//! WebSocket echo and server-sent events.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;

use super::{SharedState, reply};
use crate::site::Shared;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/r/ws", any(socket)).route("/r/events", any(|| async { events() }))
}

async fn socket(State(shared): SharedState, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| async move {
        tokio::select! {
            () = echo(socket) => {}
            () = shared.cancel.cancelled() => {}
        }
    })
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
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
