//! A session to one slot: requests without waiting, responses as they come.
use std::time::Duration;

use futures_util::StreamExt;
use sonde_proto::browser::v1::{
    Open, Opened, SessionRequest, SessionResponse, browser_service_client::BrowserServiceClient,
    session_request, session_response,
};
use sonde_runtime::serve::limits;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};

/// Requests that wait for the transport; a peer that lets more pile up is taken for dead.
const REQUESTS: usize = 64;
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) struct Session {
    requests: mpsc::Sender<SessionRequest>,
    responses: Streaming<SessionResponse>,
    /// Ends our half in order, which drains the slot. Without it the stream just breaks off.
    end: CancellationToken,
}

impl Session {
    /// Takes the slot.
    pub async fn open(channel: Channel, slot: u32, browser_id: u32) -> Result<(Self, Opened), String> {
        let (requests, queue) = mpsc::channel(REQUESTS);
        let end = CancellationToken::new();
        let tail = futures_util::stream::pending().take_until(end.clone().cancelled_owned());
        let mut client = BrowserServiceClient::new(channel)
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES);
        let opening = async {
            let open = session_request::Message::Open(Open { slot, browser_id });
            requests.try_send(SessionRequest { message: Some(open) }).map_err(|_| "the queue is closed")?;
            let call = client.session(ReceiverStream::new(queue).chain(tail)).await;
            let mut responses =
                call.map_err(|s| format!("Session: {:?}: {}", s.code(), s.message()))?.into_inner();
            match responses.message().await {
                Ok(Some(SessionResponse { message: Some(session_response::Message::Opened(opened)) })) => {
                    Ok((responses, opened))
                }
                Ok(Some(SessionResponse {
                    message: Some(session_response::Message::Rejected(rejected)),
                })) => Err(format!("Open of slot {slot}: {}", rejected.failure.unwrap_or_default().message)),
                Ok(_) => Err(format!("Open of slot {slot} was not answered by Opened")),
                Err(s) => Err(format!("Open of slot {slot}: {:?}: {}", s.code(), s.message())),
            }
        };
        let opened = tokio::time::timeout(DEADLINE, opening).await;
        let (responses, opened) =
            opened.unwrap_or_else(|_| Err(format!("Open of slot {slot}: no answer within {DEADLINE:?}")))?;
        Ok((Self { requests, responses, end }, opened))
    }

    /// Never waits, so that leases are extended whatever the peer does.
    pub fn send(&self, message: session_request::Message) -> Result<(), String> {
        self.requests
            .try_send(SessionRequest { message: Some(message) })
            .map_err(|_| format!("{REQUESTS} requests wait and it takes none"))
    }

    /// The next response.
    pub async fn next(&mut self) -> Result<session_response::Message, String> {
        loop {
            match self.responses.message().await {
                Ok(Some(SessionResponse { message: Some(message) })) => return Ok(message),
                // One of a later version.
                Ok(Some(SessionResponse { message: None })) => {}
                Ok(None) => return Err("it ended the session".into()),
                Err(status) => return Err(format!("{:?}: {}", status.code(), status.message())),
            }
        }
    }

    /// Drains the slot and waits for the end of the session, at most `deadline`.
    pub async fn close(mut self, deadline: Duration) {
        // One that cannot be sent finds the session broken, which the wait sees.
        let _ = self.send(session_request::Message::Close(sonde_proto::browser::v1::Close {}));
        drop(self.requests);
        self.end.cancel();
        let ended = async { while let Ok(Some(_)) = self.responses.message().await {} };
        if tokio::time::timeout(deadline, ended).await.is_err() {
            tracing::warn!("a slot did not close in time; its service closes it");
        }
    }
}
