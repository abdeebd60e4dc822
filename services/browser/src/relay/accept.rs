//! Who may connect: the one extension, from its own origin, with the token, to the loopback address.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

use super::{Shared, connection};

pub(super) async fn listen(listener: TcpListener, shared: Arc<Shared>, cancel: CancellationToken) {
    let strangers = Arc::new(Semaphore::new(shared.options.limits.strangers));
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or a connection gone before it was taken: neither ends the relay.
                tracing::warn!(%error, "the relay could not accept a connection");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&strangers).try_acquire_owned() else {
            shared.state.lock().stats.refused += 1;
            continue;
        };
        tokio::spawn(connection::serve(stream, Arc::clone(&shared), cancel.child_token(), permit));
    }
}

/// The WebSocket, or the reason it was refused.
pub(super) async fn handshake(
    stream: TcpStream,
    shared: &Shared,
) -> Result<tokio_tungstenite::WebSocketStream<TcpStream>, String> {
    let origin = shared.state.lock().origin.clone();
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(shared.options.limits.message_bytes);
    config.max_frame_size = Some(shared.options.limits.message_bytes);
    #[allow(clippy::result_large_err)] // the signature is tungstenite's
    let check = |request: &Request, response: Response| match refusal(request, shared, origin.as_deref()) {
        None => Ok(response),
        Some(status) => {
            let mut refused = ErrorResponse::new(None);
            *refused.status_mut() = status;
            Err(refused)
        }
    };
    tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config))
        .await
        .map_err(|e| e.to_string())
}

fn refusal(request: &Request, shared: &Shared, origin: Option<&str>) -> Option<StatusCode> {
    let headers = request.headers();
    let Some(origin) = origin else { return Some(StatusCode::SERVICE_UNAVAILABLE) };
    if one_header(headers, header::HOST) != Some(&format!("127.0.0.1:{}", shared.port)) {
        return Some(StatusCode::MISDIRECTED_REQUEST);
    }
    if one_header(headers, header::ORIGIN) != Some(origin) {
        return Some(StatusCode::FORBIDDEN);
    }
    if request.uri().path() != "/relay" {
        return Some(StatusCode::NOT_FOUND);
    }
    let given = request.uri().query().and_then(|query| query.strip_prefix("token=")).unwrap_or_default();
    (!same_secret(given, &shared.options.token)).then_some(StatusCode::UNAUTHORIZED)
}

/// A header that is there exactly once.
pub(crate) fn one_header(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Compares in a time that does not tell how much of the secret was right.
pub(crate) fn same_secret(given: &str, secret: &str) -> bool {
    let differences = given.bytes().zip(secret.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differences) == 0 && given.len() == secret.len()
}
