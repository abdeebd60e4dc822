//! A web server for pages that mean harm: answers are written byte by byte as a test says, also such as never end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Longest head of a request.
const HEAD: u64 = 64 << 10;
/// After this an answer that goes on for ever is cut.
const FOR_EVER: Duration = Duration::from_secs(60);

/// What a path answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Status line's rest (`200 OK`), more header lines, body.
    Whole { status: &'static str, headers: String, body: String },
    /// The head, then these bytes again and again; `pause` between them.
    Endless { headers: &'static str, chunk: Vec<u8>, pause: Duration, times: u64 },
    /// A WebSocket over which this text comes again and again; what comes from the page is read and dropped.
    Flood { text: String, times: u64 },
    /// Nothing, until a page has reported with this key; then an empty image.
    AfterReport(&'static str),
}

impl Answer {
    pub fn html(body: impl Into<String>) -> Self {
        let headers = "Content-Type: text/html; charset=utf-8\r\n".to_owned();
        Self::Whole { status: "200 OK", headers, body: body.into() }
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Path and query.
    pub target: String,
    /// Header lines, as they came.
    pub head: String,
}

#[derive(Default)]
struct Seen {
    asked: Vec<Asked>,
    /// What pages said of themselves, by key: the query of `/report?key=...`.
    reports: BTreeMap<String, String>,
    /// Bytes of bodies that browsers have taken, by path.
    taken: BTreeMap<String, u64>,
}

/// The server; it ends when it is dropped.
pub struct Trap {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Pages = dyn Fn(&str) -> Answer + Send + Sync;

struct Serving {
    pages: Box<Pages>,
    seen: Arc<Mutex<Seen>>,
    changed: watch::Sender<()>,
}

impl Serving {
    fn note_taken(&self, target: &str, bytes: u64) {
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let mut seen = self.seen.lock().expect("no code panics while it holds this");
        *seen.taken.entry(path).or_default() += bytes;
    }
}

impl Trap {
    /// `pages` says what is answered to a path (with its query).
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(pages: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of the loopback is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let changed = watch::Sender::new(());
        let serving = Arc::new(Serving { pages: Box::new(pages), seen: seen.clone(), changed });
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                connections.spawn(async move {
                    // A browser that goes away is no news.
                    let _ = tokio::time::timeout(FOR_EVER, serve(stream, &serving)).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, seen, task }
    }

    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Requests of targets that begin so.
    pub fn asked(&self, beginning: &str) -> Vec<Asked> {
        let seen = self.seen.lock().expect("no code panics while it holds this");
        seen.asked.iter().filter(|asked| asked.target.starts_with(beginning)).cloned().collect()
    }

    /// Bytes of the endless body of a path that browsers have taken.
    pub fn taken(&self, path: &str) -> u64 {
        let seen = self.seen.lock().expect("no code panics while it holds this");
        seen.taken.get(path).copied().unwrap_or_default()
    }

    /// What a page reported with a key; it is forgotten.
    pub fn take_report(&self, key: &str) -> Option<String> {
        self.seen.lock().expect("no code panics while it holds this").reports.remove(key)
    }
}

/// The server's half of the opening handshake (RFC 6455, 4.2.2).
fn handshake(head: &str) -> String {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().as_bytes())
    });
    let accept = derive_accept_key(key.unwrap_or_default());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// One unmasked text frame (RFC 6455, 5.2) of at most 64 KiB.
fn text_frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a frame of this server is short");
    let mut frame = vec![0x81, 126];
    frame.extend(length.to_be_bytes());
    frame.extend(text.as_bytes());
    frame
}

async fn serve(mut stream: TcpStream, serving: &Serving) -> std::io::Result<()> {
    let mut head = Vec::new();
    {
        let mut limited = (&mut stream).take(HEAD);
        while !head.ends_with(b"\r\n\r\n") {
            head.push(limited.read_u8().await?);
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
    {
        let mut seen = serving.seen.lock().expect("no code panics while it holds this");
        if seen.asked.len() < 100_000 {
            seen.asked.push(Asked { target: target.clone(), head: head.clone() });
        }
        if let Some(report) = target.strip_prefix("/report?") {
            let (key, said) = report.split_once('=').unwrap_or((report, ""));
            seen.reports.insert(key.to_owned(), said.to_owned());
        }
    }
    serving.changed.send_replace(());
    let answer = match target.starts_with("/report?") {
        true => Answer::Whole { status: "204 No Content", headers: String::new(), body: String::new() },
        false => (serving.pages)(&target),
    };
    match answer {
        Answer::Whole { status, headers, body } => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
        }
        Answer::Endless { headers, chunk, pause, times } => {
            let head = format!("HTTP/1.1 200 OK\r\n{headers}Connection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            for _ in 0..times {
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    let written = stream.write(rest).await?;
                    serving.note_taken(&target, written as u64);
                    rest = &rest[written..];
                }
                // Also where nothing is waited for: others are served meanwhile.
                tokio::time::sleep(pause).await;
            }
        }
        Answer::Flood { text, times } => {
            let (mut reading, mut writing) = stream.split();
            let flood = async {
                writing.write_all(handshake(&head).as_bytes()).await?;
                let frame = text_frame(&text);
                for _ in 0..times {
                    writing.write_all(&frame).await?;
                    serving.note_taken(&target, frame.len() as u64);
                }
                Ok(())
            };
            let mut sink = tokio::io::sink();
            let drain = tokio::io::copy(&mut reading, &mut sink);
            tokio::select! {
                flooded = flood => return flooded,
                drained = drain => return drained.map(drop),
            }
        }
        Answer::AfterReport(key) => {
            let mut changed = serving.changed.subscribe();
            let told = |seen: &Mutex<Seen>| {
                seen.lock().expect("no code panics while it holds this").reports.contains_key(key)
            };
            while !told(&serving.seen) {
                if changed.changed().await.is_err() {
                    return Ok(());
                }
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await?;
        }
    }
    stream.shutdown().await
}
