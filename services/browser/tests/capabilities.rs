//! What Chromium's capabilities say, against what a visit leaves: every field group that is said to be observed is
//! there, and none that is said not to be.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use sonde_browser::engine::Scripts;
use sonde_proto::record::v1::{
    HttpRequest, HttpResponse, JavascriptCall, JavascriptCookie, Navigation, Script,
};
use sonde_proto::visit::v1::{CommandStatus, Instruments};
use support::Rows;
use support::pages::{Asked, Pages, Reply, reply, sockets};
use support::rig::Rig;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A server with TLS; its certificate is its own.
struct Tls {
    port: u16,
    _server: Child,
    _dir: tempfile::TempDir,
}

impl Tls {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |args: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(args).current_dir(dir.path()).kill_on_drop(true).stdin(Stdio::null());
            command
        };
        let request =
            "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost";
        let made = openssl(&request.split(' ').collect::<Vec<_>>()).output().await;
        let made = made.expect("openssl is installed (./x setup installs it)");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let answer =
            "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nAccess-Control-Allow-Origin: *\r\n\r\nsafe";
        std::fs::write(dir.path().join("safe"), answer).unwrap();
        let serve = "s_server -accept 127.0.0.1:0 -key key.pem -cert cert.pem -HTTP";
        let mut server = openssl(&serve.split(' ').collect::<Vec<_>>())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let listening = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(port) = line.strip_prefix("ACCEPT ").and_then(|l| l.rsplit(':').next()) {
                    return port.trim().parse().unwrap();
                }
            }
            panic!("openssl s_server does not listen")
        };
        let port = timeout(support::SOON, listening).await.unwrap();
        // What it says later is of no interest, but must not fill its pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { port, _server: server, _dir: dir }
    }
}

const PAGE: &str = r#"<meta charset=utf-8>
<iframe src="http://a.localhost:{port}/framed"></iframe>
<script src="/first-hop.js"></script>
<script>
const get=(u,i)=>fetch(u,i).then(r=>r.text()).catch(()=>0);
document.cookie='by=script'; navigator.sendBeacon('/beacon','b');
navigator.userAgent; screen.width;
const socket=new Promise(end=>{const s=new WebSocket('ws://localhost:{ws}/'); s.onopen=()=>s.send('x'); s.onmessage=end; s.onerror=end});
const source=new Promise(end=>{const s=new EventSource('/events'); s.onmessage=()=>{s.close();end()}});
const worker=new Promise(end=>{new Worker('/worker.js').onmessage=end});
const local=new Promise(end=>{new Worker(URL.createObjectURL(new Blob(['navigator.userAgent; postMessage(1)']))).onmessage=end});
const wasm=WebAssembly.instantiate(Uint8Array.from(atob('AGFzbQEAAAABBAFgAAADAgEABwUBAWYAAAoEAQIACw=='),c=>c.charCodeAt(0)));
const worklet=new OfflineAudioContext(1,1,44100).audioWorklet.addModule('/worklet.js');
const sw=navigator.serviceWorker.register('/sw.js').then(()=>navigator.serviceWorker.ready)
 .then(()=>navigator.serviceWorker.controller||new Promise(end=>navigator.serviceWorker.oncontrollerchange=end))
 .then(()=>get('/made')).then(()=>navigator.serviceWorker.getRegistration()).then(r=>r.update());
eval('var evaluated=1');
(async()=>{ await get('/cached'); await get('/cached');
  await get('http://b.localhost:{port}/put',{method:'PUT',body:'p',headers:{'x-a':'1'}});
  await get('http://c.localhost:{port}/third',{credentials:'include'});
  await get('http://gone.test/'); await get('https://localhost:{tls}/safe');
  await Promise.all([socket,source,worker,local,wasm,worklet,sw]); await get('/done') })();
</script>"#;

/// A page that sends something when it is left.
fn leaving(to: &str) -> Reply {
    reply("text/html", format!("<script>onpagehide=()=>navigator.sendBeacon('{to}','u')</script>"))
}

fn answer(asked: &Asked, _: u16, tls: u16, ws: u16) -> Option<Reply> {
    let html = |body: &str| Some(reply("text/html", format!("<!doctype html>{body}")));
    let script = |text: &str| Some(reply("text/javascript", text));
    if asked.method == "OPTIONS" {
        let allowed = reply("", "").header("Access-Control-Allow-Headers", "x-a");
        return Some(allowed.header("Access-Control-Allow-Methods", "PUT"));
    }
    match asked.path.as_str() {
        "/before" => Some(leaving("/across").header("Set-Cookie", "strict=1; SameSite=Strict")),
        "/early" => Some(leaving("/within")),
        "/page" => html(&PAGE.replace("{tls}", &tls.to_string()).replace("{ws}", &ws.to_string())),
        "/framed" => {
            Some(reply("text/html", "f").header("Set-Cookie", "part=1; Secure; SameSite=None; Partitioned"))
        }
        "/first-hop.js" => Some(reply("", "").status("302 Found").header("Location", "/second-hop.js")),
        "/second-hop.js" => script("1"),
        "/events" => Some(reply("text/event-stream", "data: one\n\n")),
        "/worker.js" => script("navigator.userAgent; postMessage(1)"),
        "/worklet.js" => script("registerProcessor('p',class extends AudioWorkletProcessor{process(){}})"),
        "/sw.js" => script(
            "oninstall=()=>skipWaiting();onactivate=e=>e.waitUntil(clients.claim());
             onfetch=e=>{if(e.request.url.endsWith('/made'))e.respondWith(new Response('made'))}",
        ),
        "/cached" => Some(reply("text/plain", "x").header("Cache-Control", "max-age=1000")),
        "/third" => Some(
            reply("text/plain", "x")
                .header("Set-Cookie", "lax=1; SameSite=Lax")
                .header("Set-Cookie", "plain=1"),
        ),
        _ => Some(reply("text/plain", "ok")),
    }
}

/// Whether the rows hold the field group.
type Seen = fn(&Rows) -> bool;

fn requests(rows: &Rows, seen: fn(&HttpRequest) -> bool) -> bool {
    rows.requests().into_iter().any(seen)
}

fn responses(rows: &Rows, seen: fn(&HttpResponse) -> bool) -> bool {
    rows.responses().into_iter().any(seen)
}

fn scripts(rows: &Rows, seen: fn(&Script) -> bool) -> bool {
    rows.scripts().into_iter().any(seen)
}

fn cookies(rows: &Rows, seen: fn(&JavascriptCookie) -> bool) -> bool {
    rows.cookies().into_iter().any(seen)
}

fn navigations(rows: &Rows, seen: fn(&Navigation) -> bool) -> bool {
    rows.navigations().into_iter().any(seen)
}

const GROUPS: &[(&str, Seen)] = &[
    ("http.requests", |r| requests(r, |_| true)),
    ("http.responses", |r| responses(r, |_| true)),
    ("http.redirects", |r| !r.redirects().is_empty()),
    ("http.failures", |r| !r.failures().is_empty()),
    ("http.preflights", |r| requests(r, |r| r.method == "OPTIONS")),
    ("http.cache_hits", |r| responses(r, |r| r.is_cached)),
    ("http.headers_on_the_wire", |r| requests(r, |r| r.headers_final) && responses(r, |r| r.headers_final)),
    ("http.request_header_order", |r| {
        let names = |r: &HttpRequest| -> Vec<String> {
            let headers: Vec<(String, String)> = serde_json::from_str(&r.headers).unwrap();
            headers.into_iter().map(|(name, _)| name).collect()
        };
        // But for handshakes of WebSockets, whose headers come as they are.
        let http = |r: &&HttpRequest| r.headers_final && r.url.starts_with("http");
        r.requests().into_iter().filter(http).any(|r| !names(r).is_sorted())
    }),
    ("http.bodies", |r| responses(r, |r| r.body_outcome == "complete" && r.content_hash.is_some())),
    ("http.post_bodies", |r| requests(r, |r| r.post_body_raw.is_some())),
    ("http.service_worker_bodies", |r| {
        responses(r, |r| r.from_service_worker && r.body_outcome == "complete")
    }),
    ("http.tls", |r| responses(r, |r| r.tls.as_ref().is_some_and(|t| t.contains("TLS 1.3")))),
    ("http.timings", |r| responses(r, |r| r.timing.is_some())),
    ("http.initiators", |r| requests(r, |r| r.initiator.is_some())),
    ("http.callstacks", |r| !r.callstacks().is_empty()),
    ("http.async_callstacks", |r| r.callstacks().iter().any(|c| c.call_stack.contains(";await"))),
    ("http.pings", |r| requests(r, |r| r.resource_type == "beacon")),
    ("http.unload_requests", |r| requests(r, |r| r.url.ends_with("/within"))),
    ("http.service_worker_update_checks", |r| {
        r.requests().iter().filter(|r| r.url.ends_with("/sw.js")).count() > 1
    }),
    ("http.unload_requests_across_sites", |r| requests(r, |r| r.url.ends_with("/across"))),
    ("http.remote_addresses", |r| responses(r, |r| r.remote_ip.as_deref() == Some("127.0.0.1"))),
    ("http.websocket_frames", |r| r.frames().iter().any(|f| f.opcode == Some(1))),
    ("http.event_source_messages", |r| r.frames().iter().any(|f| f.opcode.is_none())),
    ("http.blocked_cookies", |r| requests(r, |r| r.blocked_cookies.is_some())),
    ("cookies.http", |r| cookies(r, |c| c.source == "http" && c.blocked_reasons.is_none())),
    ("cookies.http_blocked", |r| cookies(r, |c| c.blocked_reasons.is_some())),
    ("cookies.partitioned", |r| cookies(r, |c| c.partition_key.is_some())),
    ("cookies.snapshots", |r| cookies(r, |c| c.record_type == "manual-export")),
    ("cookies.script", |r| cookies(r, |c| c.source == "script")),
    ("scripts", |r| scripts(r, |_| true)),
    ("scripts.sources", |r| scripts(r, |s| s.source_outcome.as_deref() == Some("complete"))),
    ("scripts.stacks", |r| scripts(r, |s| s.call_stack.is_some())),
    ("scripts.workers", |r| scripts(r, |s| s.context_type.as_deref() == Some("worker"))),
    ("scripts.worklets", |r| scripts(r, |s| s.context_type.as_deref() == Some("worklet"))),
    ("scripts.wasm", |r| scripts(r, |s| s.how == "wasm")),
    ("dns.used_addresses", |r| r.dns().iter().any(|d| d.used_address.is_some())),
    ("dns.errors", |r| r.dns().iter().any(|d| d.error.is_some())),
    ("dns.addresses", |r| r.dns().iter().any(|d| d.addresses.is_some())),
    ("dns.canonical_names", |r| r.dns().iter().any(|d| d.canonical_name.is_some())),
    ("dns.is_trr", |r| r.dns().iter().any(|d| d.is_trr.is_some())),
    ("javascript.calls", |r| !r.javascript().is_empty()),
    ("javascript.workers", |r| {
        let by_worker =
            |c: &JavascriptCall| c.script_url.as_deref().is_some_and(|u| u.ends_with("/worker.js"));
        r.javascript().into_iter().any(by_worker)
    }),
    ("javascript.local_workers", |r| {
        r.javascript().iter().any(|c| c.script_url.as_deref().is_some_and(|u| u.starts_with("blob:")))
    }),
    ("navigations", |r| navigations(r, |_| true)),
    ("navigations.window_sizes", |r| navigations(r, |n| n.window_width.is_some())),
    ("cookies.changes", |r| cookies(r, |c| c.source == "change")),
];

/// What the page does not provoke: that takes a server of HTTP/3, a host that is not this machine, or settings of their own.
const NOT_PROVOKED: &[&str] = &[
    "http.webtransport",
    "http.streamed_post_bodies",
    "http.whole_callstacks",
    "javascript.callstacks",
    "javascript.insecure_workers",
];

/// M01: each state is what a real visit shows, and no group is left out.
#[tokio::test(flavor = "multi_thread")]
async fn every_field_group_is_as_it_is_said_to_be() {
    let (tls, ws) = (Tls::start().await, sockets().await);
    let port = tls.port;
    let pages = Pages::start(move |asked: &Asked, own| answer(asked, own, port, ws)).await;
    let scripts = Scripts { javascript: true, cookies: true, navigations: true, ..Scripts::default() };
    let flags = ["--ignore-certificate-errors", "--host-resolver-rules=MAP gone.test ~NOTFOUND"];
    let rig = Rig::with(Some(scripts), &flags).await;
    let instruments = Instruments {
        http: true,
        cookies: true,
        javascript: true,
        navigations: true,
        dns: true,
        scripts: true,
        save_content: vec!["all".to_owned()],
        ..Instruments::default()
    };
    let mut running = rig.open(&instruments).await;
    let before = format!("http://c.localhost:{}/before", pages.port);
    for url in [before, pages.url("/early"), pages.url("/page")] {
        let report = running.get(&url).await;
        assert_eq!(report.status, CommandStatus::Ok, "{report:?}");
    }
    pages.asked("/done").await;
    pages.asked("/across").await;
    pages.asked("/within").await;
    assert_eq!(pages.hits("/sw.js").len(), 2, "once to register it, once to look for news");
    let rows = rig.finish(&mut running).await;
    let said: BTreeMap<&str, &str> =
        rig.browser.facts().capabilities.iter().map(|(g, s)| (g.as_str(), s.as_str())).collect();
    let mut wrong = Vec::new();
    for (group, seen) in GROUPS {
        let seen = seen(&rows);
        if said.get(group).copied() != Some(if seen { "observed" } else { "unsupported" }) {
            wrong.push(format!("{group}: said to be {:?}, seen: {seen}", said.get(group)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let known: BTreeSet<&str> = GROUPS.iter().map(|(g, _)| *g).chain(NOT_PROVOKED.iter().copied()).collect();
    assert_eq!(said.keys().copied().collect::<BTreeSet<_>>(), known);
    running.end().await;
    rig.close().await;
}
