//! Bodies of responses on their way from the extension: put together, hashed, and handed on whole.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use sonde_proto::browser::v1::{RelayBodyAck, RelayBodyPart, RelayBodyStored};
use sonde_proto::digest::hex;

/// All that is put together or waits to be stored, in bytes.
const HELD: usize = 256 << 20;
/// Bodies under way at once.
const OPEN: usize = 4096;
/// Answers remembered, for last parts that come again after a reconnect.
const ANSWERS: usize = 8192;

/// A whole body, as the extension saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionBody {
    /// Attempt.
    pub visit_id: i64,
    /// Number of the background's life in this browser process, from 0.
    pub session_no: u32,
    /// Number of the body within the session.
    pub body: u64,
    /// In lower-case hex.
    pub sha256: String,
    pub content: Bytes,
}

/// What is to be done about a part.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    Ack(RelayBodyAck),
    Whole(ExtensionBody),
    Answer(RelayBodyStored),
    Nothing,
}

#[derive(Default)]
struct Growing {
    content: BytesMut,
    hash: Sha256,
}

type Key = (u32, u64);

/// The bodies of one browser process.
#[derive(Default)]
pub(super) struct Bodies {
    growing: HashMap<Key, Growing>,
    /// Handed on, and not yet answered: their lengths.
    waiting: HashMap<Key, usize>,
    answers: HashMap<Key, RelayBodyStored>,
    order: VecDeque<Key>,
    held: usize,
}

fn refused(body: u64, error: String, overflow: bool) -> RelayBodyStored {
    RelayBodyStored { body, error, overflow, ..RelayBodyStored::default() }
}

impl Bodies {
    pub fn take(&mut self, session_no: u32, part: RelayBodyPart) -> Taken {
        let key = (session_no, part.body);
        if let Some(answer) = self.answers.get(&key) {
            return Taken::Answer(answer.clone());
        }
        if self.waiting.contains_key(&key) {
            return Taken::Nothing;
        }
        if part.dropped {
            self.forget(key);
            return Taken::Nothing;
        }
        if !self.growing.contains_key(&key) && self.growing.len() >= OPEN {
            return self.refuse(key, format!("more than {OPEN} bodies are under way"), true);
        }
        if self.held + part.bytes.len() > HELD {
            self.forget(key);
            return self.refuse(key, format!("more than {HELD} bytes of bodies wait to be stored"), true);
        }
        let growing = self.growing.entry(key).or_default();
        let (offset, here) = (part.offset, growing.content.len() as u64);
        if offset > here {
            self.forget(key);
            let error = format!("a part at {offset} came where {here} was due");
            return self.refuse(key, error, false);
        }
        // One that had come before, after a reconnect.
        if offset == here {
            growing.content.extend_from_slice(&part.bytes);
            growing.hash.update(&part.bytes);
            self.held += part.bytes.len();
        }
        let through_bytes = growing.content.len() as u64;
        if !part.last {
            return Taken::Ack(RelayBodyAck { body: part.body, through_bytes });
        }
        let Growing { content, hash } = self.growing.remove(&key).unwrap_or_default();
        self.waiting.insert(key, content.len());
        Taken::Whole(ExtensionBody {
            visit_id: part.visit_id,
            session_no,
            body: part.body,
            sha256: hex(&hash.finalize()),
            content: content.freeze(),
        })
    }

    /// A session began: what others left half cannot come any more.
    pub fn begin(&mut self, session_no: u32) {
        let others: Vec<Key> = self.growing.keys().filter(|key| key.0 != session_no).copied().collect();
        for key in others {
            self.forget(key);
        }
    }

    fn refuse(&mut self, key: Key, error: String, overflow: bool) -> Taken {
        let answer = refused(key.1, error, overflow);
        self.remember(key, answer.clone());
        Taken::Answer(answer)
    }

    fn forget(&mut self, key: Key) {
        let gone = self.growing.remove(&key).map_or(0, |growing| growing.content.len());
        self.held -= gone;
    }

    fn remember(&mut self, key: Key, answer: RelayBodyStored) {
        self.answers.insert(key, answer);
        self.order.push_back(key);
        if self.order.len() > ANSWERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }

    /// A body is stored, or will not be: what the extension is to be told.
    pub fn stored(&mut self, body: &ExtensionBody, stored: Result<(), String>) -> RelayBodyStored {
        let key = (body.session_no, body.body);
        self.held -= self.waiting.remove(&key).unwrap_or(0);
        let answer = match stored {
            Ok(()) => RelayBodyStored {
                body: body.body,
                sha256: body.sha256.clone(),
                bytes: body.content.len() as u64,
                ..RelayBodyStored::default()
            },
            Err(error) => refused(body.body, error, false),
        };
        self.remember(key, answer.clone());
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(body: u64, offset: u64, bytes: &'static [u8]) -> RelayBodyPart {
        RelayBodyPart { body, offset, bytes: Bytes::from_static(bytes), visit_id: -1, ..Default::default() }
    }

    fn last(body: u64, offset: u64) -> RelayBodyPart {
        RelayBodyPart { last: true, visit_id: 7, ..part(body, offset, b"") }
    }

    fn ack(body: u64, through_bytes: u64) -> Taken {
        Taken::Ack(RelayBodyAck { body, through_bytes })
    }

    /// M11, I16
    #[test]
    fn parts_make_up_a_body_though_they_come_again() {
        let mut bodies = Bodies::default();
        assert_eq!(bodies.take(0, part(1, 0, b"ab")), ack(1, 2));
        assert_eq!(bodies.take(0, part(2, 0, b"other")), ack(2, 5));
        assert_eq!(bodies.take(0, part(1, 0, b"ab")), ack(1, 2));
        assert_eq!(bodies.take(0, part(1, 2, b"c")), ack(1, 3));
        let Taken::Whole(body) = bodies.take(0, last(1, 3)) else { panic!("not whole") };
        assert_eq!((body.visit_id, &body.content[..]), (7, &b"abc"[..]));
        assert!(body.sha256.starts_with("ba7816bf"), "{}", body.sha256);
        assert_eq!(bodies.take(0, last(1, 3)), Taken::Nothing);
        let answer = bodies.stored(&body, Ok(()));
        assert_eq!((answer.bytes, answer.error.as_str()), (3, ""));
        assert_eq!(bodies.take(0, last(1, 3)), Taken::Answer(answer));
        assert_eq!(bodies.held, 5);
        assert_eq!(bodies.take(0, RelayBodyPart { dropped: true, ..part(2, 5, b"") }), Taken::Nothing);
        assert_eq!((bodies.held, bodies.growing.len()), (0, 0));
        assert_eq!(bodies.take(0, part(3, 0, b"half")), ack(3, 4));
        bodies.begin(0);
        assert_eq!(bodies.held, 4);
        bodies.begin(1);
        assert_eq!((bodies.held, bodies.growing.len()), (0, 0));
    }

    /// M11
    #[test]
    fn an_empty_body_is_a_body_and_a_hole_is_none() {
        let mut bodies = Bodies::default();
        let Taken::Whole(body) = bodies.take(3, last(0, 0)) else { panic!("not whole") };
        assert!(body.content.is_empty() && body.sha256.starts_with("e3b0c442"));
        let Taken::Answer(answer) = bodies.take(3, part(1, 9, b"x")) else { panic!("taken") };
        assert!(answer.error.contains("9") && !answer.overflow, "{answer:?}");
    }

    /// M18, R15
    #[test]
    fn what_waits_is_bounded() {
        let mut bodies = Bodies { held: HELD - 1, ..Bodies::default() };
        let Taken::Answer(answer) = bodies.take(0, part(1, 0, b"ab")) else { panic!("taken") };
        assert!(answer.overflow, "{answer:?}");
    }
}
