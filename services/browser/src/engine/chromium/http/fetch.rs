//! Fetches bodies from the browser and hands them to the blob store. A thin shell: what to fetch and what it
//! means is the tracker's.

use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sonde_proto::digest::hex;

use super::{BodyRequest, BodyResult, Decode, HttpConfig, PostDataRequest, SaveContent};
use crate::engine::chromium::cdp::{Connection, RawCommand, RawJson, SessionId};

/// Calls the browser; each call has a deadline of the implementation's own.
pub trait CdpCaller: Send + Sync {
    type Answer: Decode + Send;

    /// `params` is a JSON object. The error says why there is no answer.
    fn call_raw(
        &self,
        session: &SessionId,
        method: &str,
        params: Value,
    ) -> impl Future<Output = Result<Self::Answer, String>> + Send;
}

/// A connection with the deadline of its calls.
#[derive(Debug, Clone)]
pub struct Caller {
    pub connection: Connection,
    pub deadline: std::time::Duration,
}

impl CdpCaller for Caller {
    type Answer = RawJson;

    async fn call_raw(&self, session: &SessionId, method: &str, params: Value) -> Result<RawJson, String> {
        let answer = self.connection.call_raw(Some(session), method, params, self.deadline).await;
        answer.map_err(|e| e.to_string())
    }
}

/// Where bodies go.
pub trait BlobSink: Send + Sync {
    /// Stores `bytes` under their SHA-256 (lower-case hex); returns when they are safe.
    fn put(&self, sha256: &str, bytes: Bytes) -> impl Future<Output = Result<(), String>> + Send;
}

/// Answers the tracker's requests for bodies.
#[derive(Debug, Clone)]
pub struct BodyFetcher<C, S> {
    pub caller: C,
    pub sink: S,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BodyAnswer {
    body: String,
    #[serde(default)]
    base64_encoded: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostDataAnswer {
    post_data: String,
    #[serde(default)]
    base64_encoded: bool,
}

fn decoded(text: String, base64: bool) -> Result<Vec<u8>, String> {
    if base64 {
        return BASE64.decode(text).map_err(|e| format!("the browser's base64 is broken: {e}"));
    }
    Ok(text.into_bytes())
}

impl<C: CdpCaller, S: BlobSink> BodyFetcher<C, S> {
    /// For [`super::Action::FetchBody`]; the answer goes to [`super::HttpTracker::on_body`].
    pub async fn fetch(&self, request: &BodyRequest) -> BodyResult {
        match self.try_fetch(request).await {
            Ok(result) => result,
            Err(why) => BodyResult::Failed { why },
        }
    }

    async fn try_fetch(&self, request: &BodyRequest) -> Result<BodyResult, String> {
        let params = json!({"requestId": request.cdp_request_id});
        let answer = self.caller.call_raw(&request.session, "Network.getResponseBody", params).await?;
        let answer: BodyAnswer =
            answer.decode().map_err(|e| format!("cannot read the answer of getResponseBody: {e}"))?;
        let was_text = !answer.base64_encoded;
        let body = decoded(answer.body, answer.base64_encoded)?;
        let bytes = body.len() as u64;
        if bytes > request.max_bytes {
            return Ok(BodyResult::Capped { bytes });
        }
        // Text may have been decoded from another charset: then these are not the bytes that were served.
        if let Some(expected) = request.expected_bytes.filter(|e| was_text && *e != bytes) {
            return Err(format!("the browser gave {bytes} bytes of text, but {expected} bytes had arrived"));
        }
        let sha256 = hex(&Sha256::digest(&body));
        self.sink.put(&sha256, body.into()).await.map_err(|e| format!("cannot store the body: {e}"))?;
        Ok(BodyResult::Stored { sha256, bytes })
    }

    /// For [`super::Action::StoreEmptyBody`].
    pub async fn store_empty(&self) -> Result<(), String> {
        self.sink.put(super::rows::EMPTY_SHA256, Bytes::new()).await
    }

    /// For [`super::Action::FetchPostData`]; the answer goes to [`super::HttpTracker::on_post_data`].
    pub async fn fetch_post_data(&self, request: &PostDataRequest) -> Option<Vec<u8>> {
        let params = json!({"requestId": request.cdp_request_id});
        let answer = self.caller.call_raw(&request.session, "Network.getRequestPostData", params).await;
        let answer = answer.and_then(|a| a.decode::<PostDataAnswer>().map_err(|e| e.to_string()));
        match answer.and_then(|a| decoded(a.post_data, a.base64_encoded)) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                tracing::debug!(request = request.request_id, error, "no body of this request to be had");
                None
            }
        }
    }
}

/// The commands by which a session of this kind (`SessionInfo::kind`) begins to tell of its requests.
pub fn setup_commands(kind: &str, config: &HttpConfig) -> Vec<RawCommand> {
    // Bodies of requests beyond the size of a resource are not kept either.
    let longest = config.max_body_bytes.clamp(LONGEST_POST, TOTAL_BUFFER);
    let buffers = json!({"maxTotalBufferSize": TOTAL_BUFFER, "maxResourceBufferSize": longest});
    let mut enable = buffers.clone();
    enable["maxPostDataSize"] = config.post_body_cap.saturating_add(1).into();
    // Durable messages are kept outside the renderer: as the very bytes, and longer than their document. The
    // renderer's own buffer gives text transcoded to UTF-8 without its BOM. What no network brought (answers
    // made by service workers) is in the renderer's buffer only: for that the visit has second sessions.
    // They cost each request some time, wanted or not.
    let durable = config.save_content != SaveContent::None;
    enable["enableDurableMessages"] = durable.into();
    let mut commands = vec![RawCommand::new("Network.enable", enable)];
    if matches!(kind, "page" | "iframe") {
        if durable {
            commands.push(RawCommand::new("Network.configureDurableMessages", buffers));
        }
        commands.push(RawCommand::new("Page.enable", json!({})));
    }
    commands
}

/// Bytes of a request's body up to which it is to be had, cap or not.
const LONGEST_POST: u64 = 64 * 1024 * 1024;
/// Bytes of bodies that the browser keeps for us, per session.
const TOTAL_BUFFER: u64 = 256 * 1024 * 1024;
