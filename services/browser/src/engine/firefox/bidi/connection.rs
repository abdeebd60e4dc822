//! The WebSocket, its two tasks, and the calls that wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tokio_util::task::AbortOnDropHandle;

use super::error::BidiError;
use super::events::{Event, Events, Subscribers};

/// A picture of the largest size, as base64, is well below it.
const MESSAGE_BYTES: usize = 1 << 30;
/// Calls that may wait for their answers.
const PENDING: usize = 256;
/// Calls that may wait to be written.
const QUEUED: usize = 64;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Answer = Result<Value, (String, String)>;

/// What the tasks and the callers share.
struct Shared {
    /// `None` after the end.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
    subscribers: Subscribers,
    closed: watch::Sender<Option<String>>,
}

impl Shared {
    /// The first reason counts.
    fn close(&self, why: &str) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert_with(|| why.to_owned());
            first
        });
        // Dropped senders tell the callers.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.subscribers.close();
    }

    fn why(&self) -> BidiError {
        BidiError::Closed(self.closed.borrow().clone().unwrap_or_default())
    }

    fn take(&self, id: u64) -> Option<oneshot::Sender<Answer>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.remove(&id)
    }

    fn on_text(&self, text: &str) {
        let message: Value = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%error, "a message of the browser is no JSON");
                return;
            }
        };
        self.on_message(message);
    }

    fn on_message(&self, mut message: Value) {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(caller) = message["id"].as_u64().and_then(|id| self.take(id)) {
            let answer = match message["type"].as_str() {
                Some("success") => Ok(message["result"].take()),
                _ => Err((word(&message["error"]), word(&message["message"]))),
            };
            // A caller whose deadline has passed does not want it any more.
            let _ = caller.send(answer);
        } else if let Some(method) = message["method"].as_str() {
            self.subscribers.tell(&Event { method: method.to_owned(), params: message["params"].take() });
        }
    }
}

struct Inner {
    shared: Arc<Shared>,
    out: mpsc::Sender<Message>,
    ids: AtomicU64,
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// A connection. Clones share it; it ends when the last one is dropped.
#[derive(Clone)]
pub struct Bidi(Arc<Inner>);

/// Connects to the `webSocketUrl` of a session.
///
/// # Errors
/// When there is no connection by the deadline.
pub async fn connect(url: &str, deadline: Duration) -> Result<Bidi, BidiError> {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES);
    config.max_frame_size = Some(MESSAGE_BYTES);
    let connecting = connect_async_with_config(url, Some(config), true);
    let connected = timeout(deadline, connecting).await;
    let (socket, _) = connected
        .map_err(|_| BidiError::Timeout { method: "the connection", after: deadline })?
        .map_err(|e| BidiError::Closed(format!("no connection to {url}: {e}")))?;
    Ok(Bidi::start(socket))
}

impl Bidi {
    fn start(socket: Socket) -> Self {
        let (sink, stream) = socket.split();
        let (out, queue) = mpsc::channel(QUEUED);
        let shared = Arc::new(Shared {
            pending: Mutex::new(Some(HashMap::new())),
            subscribers: Subscribers::default(),
            closed: watch::Sender::new(None),
        });
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(read(stream, shared.clone()))),
            AbortOnDropHandle::new(tokio::spawn(write(sink, queue, shared.clone()))),
        ];
        Self(Arc::new(Inner { shared, out, ids: AtomicU64::new(1), _tasks: tasks }))
    }

    /// Calls the browser.
    ///
    /// # Errors
    /// When it refuses, does not answer in time, or is gone.
    pub async fn call(
        &self,
        method: &'static str,
        params: Value,
        deadline: Duration,
    ) -> Result<Value, BidiError> {
        let shared = &self.0.shared;
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        let (caller, answer) = oneshot::channel();
        {
            let mut pending = shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let pending = pending.as_mut().ok_or_else(|| shared.why())?;
            if pending.len() >= PENDING {
                return Err(BidiError::Full(PENDING));
            }
            pending.insert(id, caller);
        }
        // Whatever becomes of this future, nobody waits for an answer after it.
        let _forget = Forget { shared, id };
        let text = json!({"id": id, "method": method, "params": params}).to_string();
        let asked = async {
            self.0.out.send(Message::text(text)).await.map_err(|_| shared.why())?;
            answer.await.map_err(|_| shared.why())
        };
        let answer = timeout(deadline, asked).await;
        let answer = answer.map_err(|_| BidiError::Timeout { method, after: deadline })??;
        answer.map_err(|(code, message)| BidiError::Refused { method, code, message })
    }

    /// As [`Bidi::call`], with the answer read.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        deadline: Duration,
    ) -> Result<T, BidiError> {
        let answer = self.call(method, params, deadline).await?;
        serde_json::from_value(answer).map_err(|e| BidiError::Answer { method, error: e.to_string() })
    }

    /// Evaluates in a world of its own in a page's context, which the page cannot see or reach; gives the text that comes
    /// out, `None` for another value.
    pub async fn isolated(
        &self,
        context: &str,
        expression: &str,
        deadline: Duration,
    ) -> Result<Option<String>, BidiError> {
        let target = json!({"context": context, "sandbox": "sonde"});
        let params = json!({"expression": expression, "target": target, "awaitPromise": false});
        let answer = self.call("script.evaluate", params, deadline).await?;
        Ok(answer["result"]["value"].as_str().map(str::to_owned))
    }

    /// The events that `wants` says yes to, from now on. The browser sends those that `session.subscribe` asked for.
    pub fn events(&self, wants: impl Fn(&Event) -> bool + Send + 'static) -> Events {
        self.0.shared.subscribers.add(Box::new(wants))
    }

    /// Why the connection has ended; `None` while it is open.
    pub fn close_reason(&self) -> Option<String> {
        self.0.shared.closed.borrow().clone()
    }

    /// Resolves when the connection has ended. Does not hold it open.
    pub fn closed(&self) -> impl Future<Output = String> + Send + 'static {
        let mut closed = self.0.shared.closed.subscribe();
        async move {
            let why = closed.wait_for(Option::is_some).await;
            why.map_or_else(|_| "it was dropped".to_owned(), |why| why.clone().unwrap_or_default())
        }
    }
}

struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.take(self.id);
    }
}

async fn read(mut stream: SplitStream<Socket>, shared: Arc<Shared>) {
    let why = loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => shared.on_text(&text),
            Some(Ok(Message::Close(_))) | None => break "it closed the connection".to_owned(),
            Some(Ok(_)) => {}
            Some(Err(error)) => break error.to_string(),
        }
    };
    shared.close(&why);
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut queue: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = sink.send(message).await {
            return shared.close(&error.to_string());
        }
    }
}
