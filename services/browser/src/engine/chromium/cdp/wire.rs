//! Bytes to messages and back: framing, the envelope, commands.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use chromiumoxide::Command;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::SessionId;

/// A command whose types are settled: what hooks give and the wire takes.
#[derive(Debug, Clone)]
pub struct RawCommand {
    pub method: Cow<'static, str>,
    pub params: Box<RawValue>,
}

impl RawCommand {
    /// From a method name and a JSON object.
    pub fn new(method: impl Into<Cow<'static, str>>, params: serde_json::Value) -> Self {
        let params = serde_json::value::to_raw_value(&params).expect("a JSON value is serialisable");
        Self { method: method.into(), params }
    }

    /// From a typed command.
    pub fn typed<C: Command>(command: &C) -> serde_json::Result<Self> {
        Ok(Self { method: command.identifier(), params: serde_json::value::to_raw_value(command)? })
    }
}

#[derive(Serialize)]
struct Outgoing<'a> {
    id: u64,
    #[serde(rename = "sessionId", skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    method: &'a str,
    params: &'a RawValue,
}

/// One command as it goes down the pipe, with its terminating NUL.
pub(super) fn encode(id: u64, session: Option<&SessionId>, command: &RawCommand) -> Bytes {
    let message = Outgoing {
        id,
        session: session.map(SessionId::as_str),
        method: &command.method,
        params: &command.params,
    };
    let mut bytes = serde_json::to_vec(&message).expect("strings and raw JSON are serialisable");
    bytes.push(0);
    bytes.into()
}

/// What every message is looked at for; the rest stays text.
#[derive(Debug, Deserialize)]
pub(super) struct Envelope<'a> {
    pub id: Option<u64>,
    #[serde(borrow)]
    pub method: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "sessionId")]
    pub session: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub params: Option<&'a RawValue>,
    #[serde(borrow)]
    pub result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProtocolError {
    #[serde(default)]
    pub code: i64,
    #[serde(default)]
    pub message: String,
}

/// A piece of the byte stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Message(Bytes),
    /// A message beyond the size limit, skipped; `id` when its head tells which call it answers.
    Oversized {
        bytes: usize,
        id: Option<u64>,
    },
}

/// Cuts the stream at NULs, holding at most `limit` bytes of an unfinished message.
pub(super) struct Framer {
    buffer: BytesMut,
    /// Up to here there is no NUL in the buffer.
    searched: usize,
    /// Bytes of the oversized message that were thrown away so far.
    skipping: Option<(usize, Option<u64>)>,
    limit: usize,
}

impl Framer {
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(64 * 1024), searched: 0, skipping: None, limit }
    }

    /// Where to read into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(64 * 1024);
        &mut self.buffer
    }

    pub fn next(&mut self) -> Option<Frame> {
        let Some(end) = self.buffer[self.searched..].iter().position(|b| *b == 0) else {
            self.searched = self.buffer.len();
            if self.searched > self.limit || self.skipping.is_some() {
                let (gone, id) = self.skipping.take().unwrap_or_else(|| (0, leading_id(&self.buffer)));
                self.skipping = Some((gone + self.buffer.len(), id));
                self.buffer.clear();
                self.searched = 0;
            }
            return None;
        };
        let message = self.buffer.split_to(self.searched + end);
        // The NUL itself.
        drop(self.buffer.split_to(1));
        self.searched = 0;
        Some(match self.skipping.take() {
            Some((gone, id)) => Frame::Oversized { bytes: gone + message.len(), id },
            None if message.len() > self.limit => {
                Frame::Oversized { bytes: message.len(), id: leading_id(&message) }
            }
            None => Frame::Message(message.freeze()),
        })
    }
}

/// Chromium writes the id first.
fn leading_id(head: &[u8]) -> Option<u64> {
    let digits = head.strip_prefix(b"{\"id\":")?;
    let end = digits.iter().position(|b| !b.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(framer: &mut Framer, input: &[u8]) -> Vec<Frame> {
        framer.buffer().extend_from_slice(input);
        std::iter::from_fn(|| framer.next()).collect()
    }

    #[test]
    fn messages_are_cut_at_nuls_however_they_arrive() {
        let mut framer = Framer::new(100);
        assert!(frames(&mut framer, b"{\"a\"").is_empty());
        let got = frames(&mut framer, b":1}\0{}\0{\"b");
        assert_eq!(got, [Frame::Message("{\"a\":1}".into()), Frame::Message("{}".into())]);
        assert_eq!(frames(&mut framer, b"\":2}\0"), [Frame::Message("{\"b\":2}".into())]);
    }

    #[test]
    fn an_oversized_message_is_skipped_in_bounded_memory_and_names_its_call() {
        let mut framer = Framer::new(64);
        assert!(
            frames(&mut framer, &[b"{\"id\":7,\"result\":\"".as_slice(), &[b'x'; 80]].concat()).is_empty()
        );
        assert!(frames(&mut framer, &[b'x'; 1000]).is_empty());
        assert!(framer.buffer.is_empty());
        let got = frames(&mut framer, b"\"}\0{}\0");
        assert_eq!(got, [Frame::Oversized { bytes: 1100, id: Some(7) }, Frame::Message("{}".into())]);
    }
}
