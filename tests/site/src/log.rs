//! The request log: bounded, in order of arrival, and the only thing the expectations believe.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

/// Bytes of one request body that a [`Hit`] keeps; length and hash always cover the whole body.
pub const BODY_CAP: usize = 1 << 20;

/// Bounds of the log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Hits kept; later ones are counted in `overflow` and not kept.
    pub capacity: usize,
    /// Bytes of request bodies kept over all hits; beyond it bodies keep length and hash only.
    pub body_budget: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { capacity: 200_000, body_budget: 256 << 20 }
    }
}

/// A request body as received.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct RequestBody {
    /// The first `min(len, 1 MiB)` bytes, fewer once the log's body budget is spent.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// True length in bytes.
    pub len: u64,
    /// Hex SHA-256 of the whole body.
    pub sha256: String,
    /// False when the client went away before the body ended.
    pub complete: bool,
}

/// A response body after content decoding (a gzip response is hashed as the client sees it).
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct ResponseBody {
    /// Bytes handed to the connection, decoded.
    pub len: u64,
    /// Hex SHA-256 of those bytes.
    pub sha256: String,
    /// False while the body streams, and for ever when it was cut short by either side.
    pub complete: bool,
}

/// One request that reached the site.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Hit {
    /// Position in order of arrival of the complete head, from 0, without gaps up to `overflow`.
    pub ordinal: u64,
    /// Microseconds since the Unix epoch when the head was read.
    pub time_us: u64,
    /// Host name without port.
    pub host: String,
    pub method: String,
    /// Path and query as received.
    pub path: String,
    /// `http://host:port/path?query`, or `https://`.
    pub url: String,
    /// The `v` parameter of the query, or else of the Referer.
    pub token: Option<String>,
    /// Names and values in the order and case received; bytes beyond ASCII are mapped as Latin-1.
    pub headers: Vec<(String, String)>,
    /// False when order and case could not be taken from the connection (a pipelined request).
    pub headers_exact: bool,
    pub request_body: RequestBody,
    /// Whether the site is still at it: neither its answer nor its connection has ended.
    #[serde(skip)]
    pub open: bool,
    /// `None` until the handler answered; stays `None` when the client left first.
    pub status: Option<u16>,
    /// Names and values of the answer in the order and case sent; empty until its head was on its way. Not in the access
    /// log, which is written before.
    #[serde(skip)]
    pub response_headers: Vec<(String, String)>,
    /// Absolute target of a redirect answered.
    pub location: Option<String>,
    /// Every Set-Cookie answered, in order.
    pub set_cookies: Vec<String>,
    /// Sources of the inline scripts of a page that was answered.
    #[serde(skip)]
    pub inline_scripts: Vec<String>,
    pub response_body: Option<ResponseBody>,
}

impl Hit {
    /// The first value of a request header, by name without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The path without its query.
    pub fn path_only(&self) -> &str {
        self.path.split('?').next().unwrap_or(&self.path)
    }
}

/// Lower-case hex SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a String cannot fail");
        out
    })
}

/// Microseconds since the Unix epoch: the one place of this crate that reads the clock of the wall.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    u64::try_from(since.as_micros()).expect("micros fit 64 bits for 584,000 years")
}

struct Inner {
    hits: Vec<Hit>,
    next: u64,
    overflow: u64,
    bodies: usize,
    sink: Option<File>,
    sink_error: Option<String>,
}

/// Shared by every connection.
pub(crate) struct Log {
    options: LogOptions,
    inner: Mutex<Inner>,
    version: watch::Sender<u64>,
}

impl Log {
    pub fn new(options: LogOptions, sink: Option<File>) -> Self {
        let inner = Inner { hits: Vec::new(), next: 0, overflow: 0, bodies: 0, sink, sink_error: None };
        Self { options, inner: Mutex::new(inner), version: watch::channel(0).0 }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds the log")
    }

    /// Appends a hit and gives it its ordinal.
    pub fn open(&self, mut hit: Hit) -> u64 {
        let mut inner = self.lock();
        let ordinal = inner.next;
        inner.next += 1;
        hit.ordinal = ordinal;
        if inner.hits.len() >= self.options.capacity {
            inner.overflow += 1;
        } else {
            inner.hits.push(hit);
        }
        drop(inner);
        self.touch();
        ordinal
    }

    /// Changes an entry; a hit that overflowed the log has none.
    pub fn update(&self, ordinal: u64, change: impl FnOnce(&mut Hit)) {
        let mut inner = self.lock();
        if let Some(hit) = inner.hits.get_mut(ordinal as usize) {
            change(hit);
        }
        drop(inner);
        self.touch();
    }

    /// Stores a request body within cap and budget.
    pub fn set_body(&self, ordinal: u64, mut body: RequestBody) {
        let mut inner = self.lock();
        if inner.bodies + body.bytes.len() > self.options.body_budget {
            body.bytes = Vec::new();
        }
        let size = body.bytes.len();
        if let Some(hit) = inner.hits.get_mut(ordinal as usize) {
            hit.request_body = body;
            inner.bodies += size;
        }
    }

    /// Writes the entry to the access log file, one flushed line.
    pub fn write_line(&self, ordinal: u64) {
        let mut inner = self.lock();
        let Inner { hits, sink: Some(file), sink_error, .. } = &mut *inner else { return };
        let Some(hit) = hits.get(ordinal as usize) else { return };
        let result = serde_json::to_vec(hit).map_err(std::io::Error::other).and_then(|mut line| {
            line.push(b'\n');
            file.write_all(&line)?;
            file.flush()
        });
        if let Err(error) = result {
            tracing::error!(%error, ordinal, "the access log lost a line");
            sink_error.get_or_insert_with(|| error.to_string());
        }
    }

    pub fn all(&self) -> Vec<Hit> {
        self.lock().hits.clone()
    }

    pub fn matching(&self, keep: impl Fn(&Hit) -> bool) -> Vec<Hit> {
        self.lock().hits.iter().filter(|hit| keep(hit)).cloned().collect()
    }

    pub fn first(&self, wanted: impl Fn(&Hit) -> bool) -> Option<Hit> {
        self.lock().hits.iter().find(|hit| wanted(hit)).cloned()
    }

    pub fn any(&self, keep: impl Fn(&Hit) -> bool) -> bool {
        self.lock().hits.iter().any(keep)
    }

    pub fn overflow(&self) -> u64 {
        self.lock().overflow
    }

    pub fn sink_error(&self) -> Option<String> {
        self.lock().sink_error.clone()
    }

    /// Wakes everybody who waits on a condition of the site.
    pub fn touch(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
