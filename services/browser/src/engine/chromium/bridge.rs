//! A DevTools port for hooks, in front of the pipe: a WebSocket on the loopback address, at a path that nobody can guess.
//!
//! Each connection is a guest of the browser (see [`Guest`]): it sees a browser session of its own, and cannot end the
//! browser or the page that it was host.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::task::AbortOnDropHandle;

use super::cdp::{Connection, Guest};
use crate::relay::{one_header, same_secret};

/// Guests at once.
const GUESTS: usize = 64;
/// Bytes of one message of a guest.
const MESSAGE: usize = 64 << 20;
/// For a guest to say where it wants to.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A DevTools port; dropping it closes it, and ends its guests.
#[derive(Debug)]
pub struct Bridge {
    url: String,
    _serving: AbortOnDropHandle<()>,
}

impl Bridge {
    /// Opens the port. Guests may not close the targets and contexts of `guarded`, by id.
    pub async fn open(connection: Connection, guarded: Vec<String>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = format!("127.0.0.1:{}", listener.local_addr()?.port());
        // 244 random bits: the port answers to nobody who was not told.
        let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let url = format!("ws://{address}/devtools/browser/{secret}");
        let host = Arc::new(Host { connection, guarded: guarded.into(), address, secret });
        Ok(Self { url, _serving: AbortOnDropHandle::new(tokio::spawn(serve(listener, host))) })
    }

    /// As `cdp_url.txt` has it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

struct Host {
    connection: Connection,
    guarded: Arc<[String]>,
    address: String,
    secret: String,
}

async fn serve(listener: TcpListener, host: Arc<Host>) {
    let room = Arc::new(Semaphore::new(GUESTS));
    // Dropped with this task, and all guests with it.
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Ok(permit) = room.clone().try_acquire_owned() else {
                        tracing::warn!("more than {GUESTS} hooks at once want the browser");
                        continue;
                    };
                    let host = host.clone();
                    guests.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = entertain(stream, &host).await {
                            tracing::debug!(%error, "a hook's connection to the browser ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a hook's connection to the browser could not be accepted");
                    tokio::task::yield_now().await;
                }
            },
            Some(_) = guests.join_next(), if !guests.is_empty() => {}
        }
    }
}

async fn entertain(stream: TcpStream, host: &Host) -> anyhow::Result<()> {
    let mut socket = timeout(HANDSHAKE, handshake(stream, host)).await??;
    let mut guest = Guest::open(&host.connection, host.guarded.clone()).await?;
    loop {
        tokio::select! {
            heard = socket.next() => match heard {
                Some(Ok(Message::Text(text))) => guest.say(&text).await?,
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            },
            said = guest.next() => match said {
                Some(message) => socket.send(Message::text(message)).await?,
                None => return Ok(socket.close(None).await?),
            },
        }
    }
}

async fn handshake(stream: TcpStream, host: &Host) -> Result<WebSocketStream<TcpStream>, Error> {
    stream.set_nodelay(true)?;
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE);
    config.max_frame_size = Some(MESSAGE);
    #[allow(clippy::result_large_err)] // the signature is tungstenite's
    let check = |request: &Request, response: Response| match refusal(request, host) {
        None => Ok(response),
        Some(status) => {
            let mut refused = ErrorResponse::new(None);
            *refused.status_mut() = status;
            Err(refused)
        }
    };
    tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config)).await
}

fn refusal(request: &Request, host: &Host) -> Option<StatusCode> {
    let headers = request.headers();
    if one_header(headers, header::HOST) != Some(&host.address) {
        return Some(StatusCode::MISDIRECTED_REQUEST);
    }
    // Only pages have one, and no page is a guest.
    if headers.contains_key(header::ORIGIN) {
        return Some(StatusCode::FORBIDDEN);
    }
    let given = request.uri().path().strip_prefix("/devtools/browser/").unwrap_or_default();
    (!same_secret(given, &host.secret)).then_some(StatusCode::NOT_FOUND)
}
