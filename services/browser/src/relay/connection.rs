//! One connection of the extension, from hello to the end.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use sonde_proto::browser::v1::{RelayBatch, RelayDown, RelayHello, RelayLog, RelayUp, relay_up};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::state::{Place, SESSIONS};
use super::{ExtensionBatch, ExtensionSession, Shared, accept};

type Socket = WebSocketStream<TcpStream>;

/// Why a connection was ended from this side.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the extension sent what is no RelayUp: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error("the extension sent {0}")]
    Unexpected(&'static str),
    #[error("the extension's background restarted more than {SESSIONS} times in one browser process")]
    TooManySessions,
    #[error("the connection to the extension broke: {0}")]
    Socket(#[from] tokio_tungstenite::tungstenite::Error),
}

pub(super) async fn serve(
    stream: TcpStream,
    shared: Arc<Shared>,
    cancel: CancellationToken,
    permit: OwnedSemaphorePermit,
) {
    let opening = async {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut socket = accept::handshake(stream, &shared).await?;
        let hello = hello(&mut socket).await.map_err(|fault| fault.to_string())?;
        Ok::<_, String>((socket, hello))
    };
    let opened = tokio::select! {
        () = cancel.cancelled() => return,
        opened = tokio::time::timeout(shared.options.limits.hello, opening) => opened,
    };
    let (socket, hello) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(reason)) => return refused(&shared, &reason),
        Err(_) => return refused(&shared, "it took too long to say hello"),
    };
    drop(permit);
    let fault = converse(socket, hello, &shared, &cancel).await.err();
    if shared.state.lock().disconnect(&cancel) {
        shared.connected.send_replace(None);
    }
    if let Some(fault) = fault {
        tracing::warn!(%fault, "a connection of the extension ended");
    }
}

fn refused(shared: &Shared, reason: &str) {
    shared.state.lock().stats.refused += 1;
    tracing::debug!(reason, "the relay refused a connection");
}

async fn hello(socket: &mut Socket) -> Result<RelayHello, Fault> {
    match next(socket).await? {
        Some(relay_up::Message::Hello(hello)) if !hello.session_uuid.is_empty() => Ok(hello),
        Some(_) => Err(Fault::Unexpected("something else before its hello")),
        None => Err(Fault::Unexpected("nothing")),
    }
}

/// The next message; None at the end of the connection.
async fn next(
    socket: &mut (impl StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
) -> Result<Option<relay_up::Message>, Fault> {
    while let Some(message) = socket.next().await {
        match message? {
            Message::Binary(bytes) => {
                let up = RelayUp::decode(bytes)?;
                return up.message.map(Some).ok_or(Fault::Unexpected("an empty message"));
            }
            Message::Close(_) => return Ok(None),
            Message::Text(_) => return Err(Fault::Unexpected("text")),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Ok(None)
}

async fn converse(
    socket: Socket,
    hello: RelayHello,
    shared: &Shared,
    cancel: &CancellationToken,
) -> Result<(), Fault> {
    let (mut up, mut reading) = socket.split();
    let (sender, mut queue) = mpsc::channel::<RelayDown>(shared.options.limits.down_queue);
    let uuid = hello.session_uuid;
    let connected = shared.state.lock().connect(&uuid, sender, cancel.clone());
    let session_no = connected.ok_or(Fault::TooManySessions)?;
    let session = ExtensionSession {
        uuid: uuid.clone(),
        version: hello.extension_version,
        public_suffix_list: hello.public_suffix_list,
        session_no,
    };
    shared.connected.send_replace(Some(session));
    shared.changed();
    let write = async {
        while let Some(message) = queue.recv().await {
            up.send(Message::Binary(message.encode_to_vec().into())).await?;
        }
        Ok::<(), Fault>(())
    };
    let read = async {
        while let Some(message) = next(&mut reading).await? {
            receive(message, session_no, &uuid, shared).await?;
        }
        Ok::<(), Fault>(())
    };
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        ended = write => ended,
        ended = read => ended,
    }
}

async fn receive(
    message: relay_up::Message,
    session_no: u32,
    uuid: &str,
    shared: &Shared,
) -> Result<(), Fault> {
    match message {
        relay_up::Message::Hello(_) => return Err(Fault::Unexpected("hello twice")),
        relay_up::Message::Batch(batch) => forward(batch, session_no, uuid, shared).await?,
        relay_up::Message::BodyPart(part) => {
            let whole = shared.state.lock().body_part(session_no, part);
            if let Some(body) = whole
                && let Err(unsent) = shared.bodies.send(body).await
            {
                let error = "nobody stores bodies here".to_owned();
                shared.state.lock().body_stored(&unsent.0, Err(error));
            }
        }
        relay_up::Message::Ready(ready) => {
            shared.state.lock().ready(ready);
            shared.changed();
        }
        relay_up::Message::Flushed(answer) => {
            shared.state.lock().answer(session_no, answer);
            shared.changed();
        }
        relay_up::Message::Log(RelayLog { level, message }) => match level.as_str() {
            "error" => tracing::error!(extension = message),
            "warn" => tracing::warn!(extension = message),
            _ => tracing::debug!(extension = message),
        },
    }
    Ok(())
}

/// Passes a batch on, in one step with the stream's count: a connection cut between the two would lose or double it.
async fn forward(batch: RelayBatch, session_no: u32, uuid: &str, shared: &Shared) -> Result<(), Fault> {
    if batch.count == 0 || batch.first_ordinal < 0 {
        return Err(Fault::Unexpected("a batch without records"));
    }
    let Ok(permit) = shared.batches.reserve().await else {
        return Err(Fault::Unexpected("a batch after the reader of batches was gone"));
    };
    if shared.state.lock().place(session_no, &batch) == Place::Duplicate {
        return Ok(());
    }
    permit.send(ExtensionBatch {
        visit_id: batch.visit_id,
        session_no,
        session_uuid: uuid.to_owned(),
        first_ordinal: batch.first_ordinal,
        count: batch.count,
        payload: batch.payload,
    });
    Ok(())
}
