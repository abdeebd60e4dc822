//! The network instruments on a real Chromium, through whole visits: what the HTTP tests' one page does not show.
#![allow(clippy::unwrap_used)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sonde_browser::engine::Scripts;
use sonde_proto::visit::v1::{CommandStatus, Instruments};
use support::pages::{Asked, Pages, Reply, reply};
use support::rig::Rig;

fn html(body: &str) -> Option<Reply> {
    Some(reply("text/html", format!("<!doctype html><meta charset=utf-8>{body}")))
}

fn http() -> Instruments {
    Instruments { http: true, ..Instruments::default() }
}

fn saving() -> Instruments {
    Instruments { save_content: vec!["all".to_owned()], ..http() }
}

/// M25, M10: nobody is there to answer a challenge; the page gets the 401 as if it was cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn challenges_for_a_password_hang_nothing_and_are_recorded() {
    let rig = Rig::start().await;
    let pages = Pages::start(|asked: &Asked, _| match asked.path.as_str() {
        "/page" => html(
            "<img src=/basic.png><iframe src=/digest></iframe>
             <script>onload=()=>fetch('/basic-fetch')
               .then(r=>r.text().then(()=>fetch('/status/'+r.status))).then(()=>fetch('/done'))</script>",
        ),
        "/digest" => Some(
            reply("text/plain", "no")
                .status("401 Unauthorized")
                .header("WWW-Authenticate", "Digest realm=\"r\", nonce=\"n\", qop=\"auth\""),
        ),
        path if path.starts_with("/basic") => Some(
            reply("text/plain", "no")
                .status("401 Unauthorized")
                .header("WWW-Authenticate", "Basic realm=\"r\""),
        ),
        _ => None,
    })
    .await;
    let rows = rig.visit(&pages, &saving()).await;
    assert_eq!(pages.hits("/status/401").len(), 1);
    for path in ["/basic.png", "/digest", "/basic-fetch"] {
        let response = rows.response(path);
        assert_eq!(response.response_status, Some(401));
        // Of an image that is none the page lets go.
        assert!(response.body_outcome == "complete" || path == "/basic.png", "{response:?}");
        assert!(response.headers.to_ascii_lowercase().contains("www-authenticate"), "{response:?}");
        assert_eq!(pages.hits(path).len(), 1);
    }
    let mut running = rig.open(&http()).await;
    let report = running.get(&pages.url("/basic")).await;
    assert_eq!((report.status, report.http_status), (CommandStatus::Ok, 401), "{report:?}");
    rig.finish(&mut running).await;
    running.end().await;
    rig.close().await;
}

/// M15: what the network stack tells, and nothing that it does not.
#[tokio::test(flavor = "multi_thread")]
async fn names_have_the_address_that_served_them_or_their_error() {
    let rig = Rig::with(None, &["--host-resolver-rules=MAP gone.test ~NOTFOUND"]).await;
    let pages = Pages::start(|asked: &Asked, port| match asked.path.as_str() {
        "/page" => html(
            "<script>const get=u=>fetch(u).then(r=>r.text()).catch(()=>0);
             const socket=new Promise(end=>{new WebSocket('ws://gone.test/s').onerror=end});
             Promise.all([get('http://gone.test/'), get('/hop'), get('http://127.0.0.1:{port}/address'), get('/kept'),
               socket]).then(()=>get('/kept')).then(()=>fetch('/done'))</script>",
        ),
        "/hop" => Some(
            reply("", "").status("302 Found").header("Location", &format!("http://a.localhost:{port}/end")),
        ),
        "/end" | "/address" => Some(reply("text/plain", "x")),
        "/kept" => Some(reply("text/plain", "x").header("Cache-Control", "max-age=1000")),
        _ => None,
    })
    .await;
    let rows = rig.visit(&pages, &Instruments { dns: true, ..http() }).await;
    let of = |end: &str| -> Vec<_> {
        let dns = rows.dns().into_iter().filter(|d| d.redirect_url.as_ref().unwrap().ends_with(end));
        dns.collect()
    };
    for (end, host) in [("/page", "localhost"), ("/hop", "localhost"), ("/end", "a.localhost")] {
        let [row] = of(end)[..] else { panic!("{end}: {:?}", rows.dns()) };
        let address = row.used_address.as_deref();
        assert_eq!((row.hostname.as_deref(), address, &row.error), (Some(host), Some("127.0.0.1"), &None));
        assert_eq!((&row.addresses, &row.canonical_name, row.is_trr), (&None, &None, None));
        assert_eq!(row.source.as_deref(), Some("network_stack"));
    }
    assert_eq!(of("/hop")[0].request_id, of("/end")[0].request_id);
    for end in ["http://gone.test/", "ws://gone.test/s"] {
        let [row] = of(end)[..] else { panic!("{end}: {:?}", rows.dns()) };
        assert_eq!((row.error.as_deref(), &row.used_address), (Some("net::ERR_NAME_NOT_RESOLVED"), &None));
    }
    assert!(of("/address").is_empty(), "an address is not a name");
    assert_eq!((of("/kept").len(), pages.hits("/kept").len()), (1, 1), "a cache asks nobody");
    rig.close().await;
}

const POSTS: &str = "<script>
const bytes=new Uint8Array([0,255,254,1,128,10,13]);
const form=new FormData(); form.append('t','v'); form.append('f',new File([bytes],'x.bin',{type:'a/b'}));
const post=(to,body)=>fetch(to,{method:'POST',body});
const xhr=new XMLHttpRequest(); xhr.open('POST','/xhr'); xhr.send(new Blob(['text \u{e9}']));
navigator.sendBeacon('/beacon',new Blob([bytes],{type:'application/octet-stream'}));
Promise.all([post('/blob',new Blob([bytes])), post('/form',form), post('/text','h\u{e9}'), post('/buffer',bytes),
  post('/nested',new Blob([new Blob(['a']),bytes])), post('/params',new URLSearchParams({a:'\u{e9} &'})),
  post('/large','\u{e9}'.repeat(300000)), post('/empty','')])
.then(()=>fetch('/done'))</script>";

/// M10: bodies of every encoding, as they left.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_requests_are_those_that_left() {
    let rig = Rig::start().await;
    let pages = Pages::start(|asked: &Asked, _| match asked.path.as_str() {
        "/page" => html(POSTS),
        _ => Some(reply("text/plain", "ok")),
    })
    .await;
    let rows = rig.visit(&pages, &http()).await;
    for path in ["/blob", "/form", "/text", "/buffer", "/nested", "/params", "/large", "/xhr", "/beacon"] {
        let row = rows.request(path);
        let raw: Vec<(Option<String>, String)> =
            serde_json::from_str(row.post_body_raw.as_ref().unwrap_or_else(|| panic!("{row:?}"))).unwrap();
        let sent: Vec<u8> = raw.iter().flat_map(|(_, part)| BASE64.decode(part).unwrap()).collect();
        let truth = pages.log().into_iter().find(|a| a.path == path).unwrap().body;
        assert!(sent == truth, "{path}: {} bytes, {} on the wire", sent.len(), truth.len());
        assert_eq!(row.post_body_bytes, Some(truth.len() as i64));
    }
    assert_eq!(rows.request("/form").post_body.as_deref(), Some(r#"{"f":["x.bin"],"t":["v"]}"#));
    assert_eq!(rows.request("/params").post_body.as_deref(), Some(r#"{"a":["é &"]}"#));
    assert!(rows.truncations().is_empty(), "{:?}", rows.truncations());
    rig.close().await;
}

const CLIENT: &str = "<script>
navigator.serviceWorker.register('/sw.js').then(()=>navigator.serviceWorker.ready)
.then(()=>navigator.serviceWorker.controller||new Promise(end=>navigator.serviceWorker.oncontrollerchange=end))
.then(()=>Promise.all(['/made','/bytes','/passed','/stored'].map(u=>fetch(u).then(r=>r.arrayBuffer()))))
.then(()=>fetch('/done'))</script>";

const WORKER: &str = "
oninstall=e=>{skipWaiting(); e.waitUntil(caches.open('c').then(c=>c.put('/stored',new Response('stored'))))};
onactivate=e=>e.waitUntil(clients.claim());
const made={'/made':()=>new Response('made \u{e9}'),
  '/bytes':()=>new Response(new Uint8Array([0,255,128]),{headers:{'content-type':'application/octet-stream'}}),
  '/passed':e=>fetch(e.request), '/stored':()=>caches.match('/stored')};
onfetch=e=>{const make=made[new URL(e.request.url).pathname]; if(make)e.respondWith(make(e))};";

/// M10, M11, I17: bodies that service workers made.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_service_workers_have_their_bodies() {
    let rig = Rig::start().await;
    let pages = Pages::start(|asked: &Asked, _| match asked.path.as_str() {
        "/page" => html(CLIENT),
        "/sw.js" => Some(reply("text/javascript", WORKER)),
        "/passed" => Some(reply("text/plain", "passed on")),
        _ => None,
    })
    .await;
    let rows = rig.visit(&pages, &saving()).await;
    let bodies: [(&str, &[u8]); 4] = [
        ("/made", "made é".as_bytes()),
        ("/bytes", &[0, 255, 128]),
        ("/passed", b"passed on"),
        ("/stored", b"stored"),
    ];
    for (path, body) in bodies {
        let by_worker =
            |r: &&&sonde_proto::record::v1::HttpResponse| r.url.ends_with(path) && r.from_service_worker;
        let responses = rows.responses();
        let response = responses.iter().find(by_worker).unwrap_or_else(|| panic!("{path}: {responses:?}"));
        assert_eq!(response.body_outcome, "complete", "{response:?}");
        assert_eq!(rig.storage.kept().blobs[response.content_hash.as_ref().unwrap()], body, "{path}");
    }
    assert_eq!(rows.responses().iter().filter(|r| r.url.ends_with("/passed")).count(), 2);
    assert_eq!(pages.hits("/passed").len(), 1);
    rig.close().await;
}

/// M16: who asked, over promises and timers, too.
#[tokio::test(flavor = "multi_thread")]
async fn stacks_have_their_asynchronous_parents() {
    let rig = Rig::start().await;
    let pages = Pages::start(|asked: &Asked, _| match asked.path.as_str() {
        "/page" => html(
            "<script>async function outer(){ await 0; await new Promise(r=>setTimeout(r,1)); inner() }
             function inner(){ fetch('/deep').then(function after(){ return fetch('/done') }) }
             outer()</script>",
        ),
        _ => Some(reply("text/plain", "ok")),
    })
    .await;
    let rows = rig.visit(&pages, &http()).await;
    let stack = |path: &str| {
        let id = rows.request(path).request_id;
        rows.callstacks().into_iter().find(|c| c.request_id == id).unwrap().call_stack.clone()
    };
    let deep = stack("/deep");
    // Of each part the innermost frame: the engine tells more only where the page could notice.
    assert!(deep.starts_with("inner@") && deep.lines().count() >= 2, "{deep}");
    assert!(deep.lines().any(|l| l.ends_with(";await")), "{deep}");
    let done = stack("/done");
    assert!(done.starts_with("after@") && done.contains(";Promise.then"), "{done}");
    rig.close().await;
}

/// M12: cookies that were kept back on either way, with why.
#[tokio::test(flavor = "multi_thread")]
async fn cookies_that_were_kept_back_have_their_reasons() {
    let rig = Rig::with(Some(Scripts { cookies: true, ..Scripts::default() }), &[]).await;
    let pages = Pages::start(|asked: &Asked, _| match asked.path.as_str() {
        "/first" => Some(reply("text/html", "first").header("Set-Cookie", "strict=1; SameSite=Strict")),
        "/page" => html(
            "<script>fetch('http://a.localhost:{port}/third',{credentials:'include',mode:'no-cors'})
             .then(()=>fetch('/done'))</script>",
        ),
        "/third" => Some(reply("text/plain", "x").header("Set-Cookie", "lax=1; SameSite=Lax")),
        _ => None,
    })
    .await;
    let mut running = rig.open(&Instruments { cookies: true, ..http() }).await;
    let first = format!("http://a.localhost:{}/first", pages.port);
    assert_eq!(running.get(&first).await.status, CommandStatus::Ok);
    assert_eq!(running.get(&pages.url("/page")).await.status, CommandStatus::Ok);
    pages.asked("/done").await;
    let rows = rig.finish(&mut running).await;
    let blocked = rows.request("/third").blocked_cookies.clone().unwrap();
    let blocked: serde_json::Value = serde_json::from_str(&blocked).unwrap();
    assert_eq!(blocked[0]["name"], "strict");
    assert!(blocked[0]["reasons"][0].as_str().unwrap().contains("SameSiteStrict"), "{blocked}");
    let cookies: Vec<_> = rows
        .0
        .iter()
        .filter_map(|row| match row {
            sonde_proto::record::v1::record::Row::JavascriptCookie(c) if c.source == "http" => {
                Some((c.name.as_str(), c.blocked_reasons.as_deref()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(cookies.iter().map(|c| c.0).collect::<Vec<_>>(), ["strict", "lax"]);
    assert!(cookies[0].1.is_none() && cookies[1].1.unwrap().contains("SameSiteLax"), "{cookies:?}");
    running.end().await;
    rig.close().await;
}

/// M10: requests that nobody waits for.
#[tokio::test(flavor = "multi_thread")]
async fn prefetches_pings_and_what_outlives_its_page_are_recorded() {
    let rig = Rig::start().await;
    let pages = Pages::start(|asked: &Asked, _| match asked.path.as_str() {
        "/page" => html(
            "<link rel=prefetch href=/prefetched><link rel=preload as=fetch crossorigin href=/preloaded>
             <a id=a ping=/pinged href=/next>x</a>
             <script>onpagehide=()=>{fetch('/kept-alive',{keepalive:true,method:'POST',body:'k'});
               navigator.sendBeacon('/at-the-end','b')};
             onload=()=>setTimeout(()=>a.click(),100)</script>",
        ),
        "/next" => html("<script>onload=()=>setTimeout(()=>fetch('/done'),300)</script>"),
        _ => Some(reply("text/plain", "ok")),
    })
    .await;
    let rows = rig.visit(&pages, &http()).await;
    let types = [
        ("/prefetched", "other"),
        ("/preloaded", "other"),
        ("/pinged", "ping"),
        ("/kept-alive", "xmlhttprequest"),
        ("/at-the-end", "beacon"),
        ("/next", "main_frame"),
    ];
    for (path, kind) in types {
        assert_eq!(pages.hits(path).len(), 1, "{path}");
        let found: Vec<_> = rows.requests().into_iter().filter(|r| r.url.ends_with(path)).collect();
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert_eq!(found[0].resource_type, kind, "{path}");
        assert_eq!(rows.response(path).response_status, Some(200), "{path}");
    }
    rig.close().await;
}

/// M10: which cache answered, and what only asked whether it still may.
#[tokio::test(flavor = "multi_thread")]
async fn answers_out_of_caches_say_which() {
    let rig = Rig::start().await;
    let pages = Pages::start(|asked: &Asked, _| {
        let kept = |text: &str| Some(reply("text/javascript", text).header("Cache-Control", "max-age=1000"));
        match asked.path.as_str() {
            "/page" => html(
                "<script src=/memory.js></script><script src=/disk.js></script><script src=/etag.js></script>
                 <script>const s=document.createElement('script'); s.src='/memory.js?'.slice(0,-1);
                   document.head.append(s); s.onload=()=>location='/next'</script>",
            ),
            "/next" => html(
                "<script>const get=u=>fetch(u).then(r=>r.text());
                 get('/disk.js').then(()=>get('/etag.js')).then(()=>fetch('/done'))</script>",
            ),
            "/memory.js" | "/disk.js" => kept("1"),
            "/etag.js" => {
                let tagged = reply("text/javascript", "2").header("ETag", "\"e\"");
                let tagged = tagged.header("Cache-Control", "no-cache");
                Some(match asked.header("if-none-match") {
                    Some(_) => Reply { body: Vec::new(), ..tagged.status("304 Not Modified") },
                    None => tagged,
                })
            }
            _ => None,
        }
    })
    .await;
    let rows = rig.visit(&pages, &saving()).await;
    let of = |path: &str| -> Vec<_> {
        let found = rows.responses().into_iter().filter(|r| r.url.ends_with(path));
        found.map(|r| (r.cache_source.as_deref(), r.response_status, r.body_outcome.as_str())).collect()
    };
    assert_eq!(of("/disk.js"), [(None, Some(200), "complete"), (Some("disk"), Some(200), "complete")]);
    assert_eq!(of("/etag.js"), [(None, Some(200), "complete"), (Some("disk"), Some(304), "complete")]);
    let memory = of("/memory.js");
    assert_eq!(memory[0], (None, Some(200), "complete"));
    assert!(memory[1..].iter().all(|r| r.0 == Some("memory")), "{memory:?}");
    assert_eq!(
        (pages.hits("/memory.js").len(), pages.hits("/disk.js").len(), pages.hits("/etag.js").len()),
        (1, 1, 2)
    );
    rig.close().await;
}
