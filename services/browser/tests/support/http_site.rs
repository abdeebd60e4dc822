//! The site of the HTTP tests, on one port of the loopback interface, with a log of what reached it.

use base64::Engine as _;
use tokio::net::TcpListener;

use super::pages::{Asked, End, Pages, Reply, html, no_answer, reply, sockets};

const GZIPPED: &str = "H4sIAAAAAAACA+3GMREAMAgEMCsV1xfQ41iqHhVsyZR6nfzcUyIiIiIiIiIiIiIiIvsZKxZqG5wYAAA=";

pub fn twin(last: u8) -> Vec<u8> {
    let mut body = vec![b'A'; 2 * 1024 * 1024];
    *body.last_mut().unwrap() = last;
    body
}

fn answer(asked: &Asked, ws: u16, refused: u16) -> Reply {
    let script = |body: &str| reply("text/javascript", body);
    let text = |body: &str| reply("text/plain", body);
    let to = |status, place| reply("", "").status(status).header("Location", place);
    let empty = || reply("", "").status("204 No Content");
    if asked.method == "OPTIONS" {
        let allowed = empty().header("Access-Control-Allow-Headers", "x-a");
        return allowed.header("Access-Control-Allow-Methods", "PUT");
    }
    match asked.path.as_str() {
        "/page" => html(&PAGE.replace("{ws}", &ws.to_string()).replace("{refused}", &refused.to_string())),
        "/policy" => html(POLICY),
        "/frame" => html("<script>fetch('/in-frame')</script>"),
        path @ ("/formed" | "/popup") => html(&format!("<script>fetch('/after{path}')</script>")),
        "/r1" => to("302 Found", "/r2").header("Set-Cookie", "hop=1; HttpOnly").header("Set-Cookie", "b=2"),
        "/r2" => to("307 Temporary Redirect", "/final.js"),
        "/worker.js" => script("importScripts('/imported.js');fetch('/in-worker',{method:'POST',body:'w'})"),
        "/shared.js" => script("onconnect=()=>{};fetch('/in-shared')"),
        "/sw.js" => script(
            "oninstall=e=>e.waitUntil(fetch('/in-sw'));onactivate=e=>e.waitUntil(clients.claim());
             onfetch=e=>{if(e.request.url.endsWith('/made-up'))e.respondWith(new Response('made'));
                         if(e.request.url.endsWith('/passed-on'))e.respondWith(fetch(e.request))}",
        ),
        "/latin.js" => reply("text/javascript; charset=iso-8859-1", b"x='\xe9\xff'"),
        "/bom.js" => reply("text/javascript", b"\xef\xbb\xbfx='\xc3\xa9'"),
        "/gzip" => {
            let body = base64::engine::general_purpose::STANDARD.decode(GZIPPED).unwrap();
            reply("text/plain", body).header("Content-Encoding", "gzip")
        }
        "/twin-a" => reply("application/octet-stream", twin(b'a')),
        "/twin-b" => reply("application/octet-stream", twin(b'b')),
        "/204" => empty(),
        "/empty" => text(""),
        "/events" => reply("text/event-stream", "data: one\n\ndata: two\n\n"),
        "/missing" => text("no").status("404 Not Found"),
        "/reset" => no_answer(End::HangUp),
        path if path.ends_with(".js") => script("1"),
        path => text(path),
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

/// Servers of HTTP and of WebSockets on free ports of loopback.
pub struct Site {
    pub pages: Pages,
    pub ws: u16,
}

impl Site {
    pub async fn start() -> Self {
        let ws = sockets().await;
        // Nobody listens there any more.
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let pages = Pages::start(move |asked: &Asked, _| Some(answer(asked, ws, refused))).await;
        Self { pages, ws }
    }

    pub fn url(&self, path: &str) -> String {
        self.pages.url(path)
    }

    pub fn body(&self, path: &str) -> Vec<u8> {
        self.pages.log().into_iter().find(|asked| asked.path.ends_with(path)).unwrap().body
    }
}
