//! A server on a free port of loopback whose answers a test writes itself, with a log of what reached it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use super::soon;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub head: String,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line =
            self.head.lines().find_map(|l| l.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        line.map(|(_, value)| value.trim())
    }

    pub fn url(&self) -> String {
        format!("http://{}{}", self.header("host").unwrap(), self.path)
    }
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As HTTP has it.
    Whole,
    /// The connection stays open after the body, which has no length then.
    Open,
    /// The connection stays open without a word.
    Silent,
    /// The connection is closed without a word.
    HangUp,
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: &'static str,
    /// Lines that end in CRLF.
    pub headers: String,
    pub body: Vec<u8>,
    pub end: End,
    /// Answered only once this says so.
    pub gate: Option<watch::Receiver<bool>>,
}

pub fn reply(kind: &str, body: impl Into<Vec<u8>>) -> Reply {
    let headers = format!("Content-Type: {kind}\r\n");
    Reply { status: "200 OK", headers, body: body.into(), end: End::Whole, gate: None }
}

impl Reply {
    pub fn status(self, status: &'static str) -> Self {
        Self { status, ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn once(self, gate: &watch::Receiver<bool>) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    pub fn unending(self) -> Self {
        Self { end: End::Open, ..self }
    }
}

/// No answer, and the connection stays or is closed.
pub fn no_answer(end: End) -> Reply {
    Reply { end, ..reply("", "") }
}

/// `body` after a doctype, as a page that has no icon.
pub fn html(body: &str) -> Reply {
    reply("text/html; charset=utf-8", format!("<!doctype html><link rel=icon href='data:,'>{body}"))
}

/// So many links to `/one`.
pub fn links(count: usize) -> Reply {
    html(&"<a href=/one>x</a> ".repeat(count))
}

type Answer = dyn Fn(&Asked, u16) -> Option<Reply> + Send + Sync;

/// `{port}` in text bodies is the server's port. What is not answered is 404; `/favicon.ico` is empty. TLS is not
/// spoken.
pub struct Pages {
    pub port: u16,
    log: Arc<Mutex<Vec<Asked>>>,
    news: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pages {
    pub async fn start(answer: impl Fn(&Asked, u16) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, answer): (Arc<Mutex<Vec<Asked>>>, Arc<Answer>) = (Arc::default(), Arc::new(answer));
        let (told, news) = watch::channel(0);
        let (seen, told) = (log.clone(), Arc::new(told));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, told) = (answer.clone(), seen.clone(), told.clone());
                tokio::spawn(async move {
                    // A browser that went away needs no answer.
                    let _ = serve(stream, port, &*answer, &seen, &told).await;
                });
            }
        });
        Self { port, log, news, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port)
    }

    pub fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// Requests of this path.
    pub fn hits(&self, path: &str) -> Vec<Asked> {
        self.log.lock().unwrap().iter().filter(|a| a.path == path).cloned().collect()
    }

    /// How often something was asked for, by method and URL.
    pub fn tally(&self) -> BTreeMap<(String, String), usize> {
        let mut tally = BTreeMap::new();
        for asked in self.log() {
            *tally.entry((asked.method.clone(), asked.url())).or_default() += 1;
        }
        tally
    }

    /// Waits until a path was asked for: the newest request of it.
    pub async fn asked(&self, path: &str) -> Asked {
        let mut news = self.news.clone();
        let end = soon();
        loop {
            news.borrow_and_update();
            if let Some(asked) = self.hits(path).pop() {
                return asked;
            }
            let changed = timeout_at(end, news.changed()).await;
            let seen = || self.log().iter().map(|a| a.path.clone()).collect::<Vec<_>>();
            assert!(changed.is_ok(), "nobody asked for {path}: {:?}", seen());
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    port: u16,
    answer: &Answer,
    log: &Mutex<Vec<Asked>>,
    told: &watch::Sender<usize>,
) -> std::io::Result<()> {
    let mut got = Vec::new();
    let head_end = loop {
        const TLS: u8 = 0x16;
        if stream.read_buf(&mut got).await? == 0 || got[0] == TLS {
            return Ok(());
        }
        if let Some(at) = got.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&got[..head_end]).into_owned();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let mut asked = Asked { method, path, head: head.clone(), body: got.split_off(head_end) };
    let length: usize = asked.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    while asked.body.len() < length && stream.read_buf(&mut asked.body).await? > 0 {}
    let icon = (asked.path == "/favicon.ico").then(|| reply("image/x-icon", ""));
    let none = || reply("text/plain", "none").status("404 Not Found");
    let reply = answer(&asked, port).or(icon).unwrap_or_else(none);
    let no_body = asked.method == "HEAD";
    log.lock().unwrap().push(asked);
    told.send_modify(|n| *n += 1);
    if let Some(mut gate) = reply.gate {
        // A test that ended will not open it any more.
        let _ = gate.wait_for(|open| *open).await;
    }
    match reply.end {
        End::HangUp => return Ok(()),
        End::Silent => return until_it_goes(&mut stream).await,
        End::Whole | End::Open => {}
    }
    let body = match std::str::from_utf8(&reply.body) {
        Ok(text) => text.replace("{port}", &port.to_string()).into_bytes(),
        Err(_) => reply.body,
    };
    let without_length = reply.end == End::Open || reply.status.starts_with("204");
    let length = if without_length { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!(
        "HTTP/1.1 {}\r\n{}{length}Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n",
        reply.status, reply.headers
    );
    stream.write_all(head.as_bytes()).await?;
    if !no_body {
        stream.write_all(&body).await?;
    }
    if reply.end == End::Open {
        stream.flush().await?;
        until_it_goes(&mut stream).await?;
    }
    Ok(())
}

async fn until_it_goes(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// WebSockets on a free port of loopback: each text message is answered with three bytes.
pub async fn sockets() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(vec![0u8, 1, 2].into()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}
