//! The site of the HTTP tests, on one port of the loopback interface, with a log of what reached it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const GZIPPED: &str = "H4sIAAAAAAACA+3GMREAMAgEMCsV1xfQ41iqHhVsyZR6nfzcUyIiIiIiIiIiIiIiIvsZKxZqG5wYAAA=";
const ICON: &str = "<!doctype html><link rel=icon href='data:,'>";

/// What a request of the browser was, as the server saw it: method, URL, body.
type Hit = (String, String, Vec<u8>);

#[derive(Default)]
pub struct Log(Mutex<Vec<Hit>>);

impl Log {
    pub fn hits(&self) -> BTreeMap<(String, String), usize> {
        let mut hits = BTreeMap::new();
        for (method, url, _) in self.0.lock().unwrap().iter() {
            *hits.entry((method.clone(), url.clone())).or_default() += 1;
        }
        hits
    }

    pub fn body(&self, path: &str) -> Vec<u8> {
        self.0.lock().unwrap().iter().find(|(_, url, _)| url.ends_with(path)).unwrap().2.clone()
    }
}

pub fn twin(last: u8) -> Vec<u8> {
    let mut body = vec![b'A'; 2 * 1024 * 1024];
    *body.last_mut().unwrap() = last;
    body
}

/// Status, headers, body.
fn answer(method: &str, path: &str, port: u16) -> (&'static str, String, Vec<u8>) {
    let html = |body: &str| {
        let body = format!("{ICON}{}", body.replace("{port}", &port.to_string()));
        ("200 OK", "Content-Type: text/html\r\n".to_owned(), body.into_bytes())
    };
    let script = |body: &str| ("200 OK", "Content-Type: text/javascript\r\n".to_owned(), body.into());
    if method == "OPTIONS" {
        let allow = "Access-Control-Allow-Headers: x-a\r\nAccess-Control-Allow-Methods: PUT\r\n";
        return ("204 No Content", allow.to_owned(), Vec::new());
    }
    match path {
        "/page" => html(PAGE),
        "/policy" => html(POLICY),
        "/frame" => html("<script>fetch('/in-frame')</script>"),
        "/formed" | "/popup" => html(&format!("<script>fetch('/after{path}')</script>")),
        "/r1" => (
            "302 Found",
            "Location: /r2\r\nSet-Cookie: hop=1; HttpOnly\r\nSet-Cookie: b=2\r\n".into(),
            vec![],
        ),
        "/r2" => ("307 Temporary Redirect", "Location: /final.js\r\n".into(), Vec::new()),
        "/worker.js" => script("importScripts('/imported.js');fetch('/in-worker',{method:'POST',body:'w'})"),
        "/shared.js" => script("onconnect=()=>{};fetch('/in-shared')"),
        "/sw.js" => script(
            "oninstall=e=>e.waitUntil(fetch('/in-sw'));onactivate=e=>e.waitUntil(clients.claim());
             onfetch=e=>{if(e.request.url.endsWith('/made-up'))e.respondWith(new Response('made'));
                         if(e.request.url.endsWith('/passed-on'))e.respondWith(fetch(e.request))}",
        ),
        "/latin.js" => {
            ("200 OK", "Content-Type: text/javascript; charset=iso-8859-1\r\n".into(), b"x='\xe9\xff'".into())
        }
        "/bom.js" => {
            ("200 OK", "Content-Type: text/javascript\r\n".into(), b"\xef\xbb\xbfx='\xc3\xa9'".into())
        }
        "/gzip" => {
            let body = base64::engine::general_purpose::STANDARD.decode(GZIPPED).unwrap();
            ("200 OK", "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n".into(), body)
        }
        "/twin-a" => ("200 OK", "Content-Type: application/octet-stream\r\n".into(), twin(b'a')),
        "/twin-b" => ("200 OK", "Content-Type: application/octet-stream\r\n".into(), twin(b'b')),
        "/204" => ("204 No Content", String::new(), Vec::new()),
        "/empty" => ("200 OK", "Content-Type: text/plain\r\n".into(), Vec::new()),
        "/events" => {
            ("200 OK", "Content-Type: text/event-stream\r\n".into(), b"data: one\n\ndata: two\n\n".into())
        }
        "/missing" => ("404 Not Found", "Content-Type: text/plain\r\n".into(), b"no".into()),
        _ if path.ends_with(".js") => script("1"),
        _ => ("200 OK", "Content-Type: text/plain\r\n".into(), path.into()),
    }
}

const POLICY: &str = r#"<meta http-equiv=content-security-policy content="img-src 'none'; connect-src 'self'">
<img src="/image.png"><script>fetch('http://b.localhost:{port}/elsewhere').catch(() => fetch('/done'))</script>"#;

const PAGE: &str = r#"<script src="/r1"></script><script src="/latin.js"></script><script src="/bom.js"></script>
<link rel=stylesheet href="/style.css"><img src="/image.png"><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">
<iframe src="http://a.localhost:{port}/frame"></iframe>
<iframe name=target></iframe>
<form id=f method=post enctype=multipart/form-data action="/formed" target=target><input name=q value="a b"></form>
<script>
const all = [];
const get = (url, init) => all.push(fetch(url, init).then(r => r.text()).catch(() => 0));
get('/gzip'); get('/twin-a'); get('/twin-b'); get('/204'); get('/empty'); get('/missing');
get('/headed', {method: 'HEAD'});
get('/urlencoded', {method: 'POST', body: new URLSearchParams({a: '1', b: '\u00e9'})});
get('/binary', {method: 'POST', body: new Uint8Array([0, 255, 1])});
get('/long', {method: 'POST', body: 'L'.repeat(200000)});
get('http://b.localhost:{port}/cors', {method: 'PUT', headers: {'x-a': '1'}});
get('http://localhost:{refused}/refused'); get('/reset');
navigator.sendBeacon('/beacon', 'bb');
f.submit();
new Worker('/worker.js'); new SharedWorker('/shared.js');
window.open('http://a.localhost:{port}/popup');
all.push(new Promise(done => { const s = new EventSource('/events');
  let n = 0; s.onmessage = () => { if (++n == 2) { s.close(); done(); } } }));
all.push(new Promise(done => { const s = new WebSocket('ws://localhost:{ws}/socket');
  s.onopen = () => s.send('hello'); s.onmessage = () => s.close(); s.onclose = done; }));
all.push(navigator.serviceWorker.register('/sw.js').then(() => navigator.serviceWorker.ready)
  .then(() => navigator.serviceWorker.controller ||
    new Promise(done => navigator.serviceWorker.oncontrollerchange = done))
  .then(() => Promise.all([fetch('/made-up').then(r => r.text()), fetch('/passed-on').then(r => r.text())])));
Promise.all(all).then(() => fetch('/done'));
</script>"#;

async fn serve(mut stream: TcpStream, port: u16, extra: Arc<[(&'static str, u16)]>, log: Arc<Log>) {
    let mut got = Vec::new();
    let head_end = loop {
        let mut chunk = [0; 64 * 1024];
        match stream.read(&mut chunk).await {
            Ok(count) if count > 0 => got.extend_from_slice(&chunk[..count]),
            _ => return,
        }
        if let Some(at) = got.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&got[..head_end]).into_owned();
    let header = |name: &str| {
        let line = head.lines().find_map(|l| l.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        line.map(|(_, v)| v.trim().to_owned())
    };
    let length: usize = header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = got.split_off(head_end);
    let read = body.len();
    body.resize(length.max(read), 0);
    if stream.read_exact(&mut body[read..]).await.is_err() {
        return;
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let url = format!("http://{}{path}", header("host").unwrap());
    log.0.lock().unwrap().push((method.clone(), url, body));
    if path == "/reset" {
        return;
    }
    let (status, headers, body) = answer(&method, &path, port);
    let mut body = body;
    if path == "/page" {
        let text =
            extra.iter().fold(String::from_utf8(body).unwrap(), |t, (n, p)| t.replace(n, &p.to_string()));
        body = text.into_bytes();
    }
    let length =
        if status.starts_with("204") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}{length}Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n"
    );
    // A browser that went away does not want it.
    let _ = stream.write_all(head.as_bytes()).await;
    if method != "HEAD" {
        let _ = stream.write_all(&body).await;
    }
}

async fn serve_socket(stream: TcpStream) {
    use futures_util::{SinkExt, StreamExt};
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() {
            socket.send(vec![0u8, 1, 2].into()).await.unwrap();
        }
    }
}

/// A server on free ports of loopback, with its log.
pub struct Site {
    pub port: u16,
    pub ws: u16,
    pub log: Arc<Log>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Site {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sockets = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Nobody listens there any more.
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let (port, ws) = (listener.local_addr().unwrap().port(), sockets.local_addr().unwrap().port());
        let log = Arc::new(Log::default());
        let extra: Arc<[_]> = Arc::new([("{ws}", ws), ("{refused}", refused)]);
        let seen = log.clone();
        let http = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, port, extra.clone(), seen.clone()));
            }
        });
        let ws_task = tokio::spawn(async move {
            while let Ok((stream, _)) = sockets.accept().await {
                tokio::spawn(serve_socket(stream));
            }
        });
        Self { port, ws, log, tasks: vec![http, ws_task] }
    }
}
