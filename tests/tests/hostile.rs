//! Pages that mean harm, one after the other in one slot, on both browsers: each ends in time and with the right outcome,
//! the service stays small, and the next visit is clean.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use sonde_proto::visit::v1::command::Step;
use sonde_proto::visit::v1::{
    AttemptResult, BrowserKind, BrowserSpec, Command, GetCommand, Instruments, Outcome,
};
use sonde_tests::process::Process;
use sonde_tests::session::{Browsers, Slot, all_instruments};
use sonde_tests::trap::{Answer, Trap};
use sonde_tests::world::World;

/// Of the service, whatever pages do (R9).
const SERVICE_BYTES: u64 = 600 << 20;
/// What a command may take beyond its timeout.
const OVER: i64 = 2000;

/// A page, the seconds it is given, and how its visit may end.
struct Hostile {
    name: &'static str,
    body: &'static str,
    seconds: i64,
    ends: &'static [Outcome],
}

const fn hostile(name: &'static str, seconds: i64, ends: &'static [Outcome], body: &'static str) -> Hostile {
    Hostile { name, body, seconds, ends }
}

/// Each runs beside `/held`, which never answers, where its visit has to end by its timeout.
const PAGES: &[Hostile] = &[
    hostile("loop", 3, &[Outcome::Timeout], "<script>for (;;) {}</script>"),
    hostile("dialogs", 3, &[Outcome::Timeout], "<script>for (;;) { alert(1); confirm(2); prompt(3); }</script>"),
    hostile(
        "beforeunload",
        10,
        &[Outcome::Ok],
        "<script>addEventListener('beforeunload', e => { e.preventDefault(); e.returnValue = 'stay'; });</script>",
    ),
    hostile("print", 10, &[Outcome::Ok], "<script>addEventListener('load', () => print());</script>"),
    hostile("auth", 10, &[Outcome::Ok], "<img src=/auth><iframe src=/auth></iframe>"),
    hostile(
        "chooser",
        10,
        &[Outcome::Ok],
        "<input type=file id=f><script>f.click(); try { f.showPicker(); } catch {}</script>",
    ),
    hostile(
        "popups",
        10,
        &[Outcome::Ok, Outcome::Timeout],
        "<script>for (let i = 0; i < 1000; i++) open('/plain?popup=' + i, '_blank');</script>",
    ),
    hostile(
        "iframes",
        8,
        &[Outcome::Ok, Outcome::Timeout],
        "<script>for (let i = 0; i < 500; i++) { const f = document.createElement('iframe'); f.src = '/plain?frame=' + i;
         document.documentElement.append(f); }</script>",
    ),
    hostile(
        "growth",
        3,
        &[Outcome::Timeout],
        "<img src=/held><script>setInterval(() => { for (let i = 0; i < 2000; i++)
         document.documentElement.append(document.createElement('p')); }, 20);</script>",
    ),
    hostile("gigabyte", 5, &[Outcome::Timeout], "<img src=/held><script>fetch('/gigabyte').then(r => r.text());</script>"),
    hostile("bomb", 5, &[Outcome::Timeout], "<img src=/held><script>fetch('/bomb').then(r => r.text());</script>"),
    hostile("slow", 3, &[Outcome::Timeout], "<script src=/slow></script>"),
    hostile("events", 3, &[Outcome::Timeout], "<img src=/held><script>new EventSource('/events');</script>"),
    hostile(
        "flood",
        5,
        &[Outcome::Timeout],
        "<img src=/held><script>const s = new WebSocket('ws://' + location.host + '/sockets');
         s.onmessage = (e) => s.send(e.data + e.data);</script>",
    ),
    hostile(
        "shader",
        8,
        &[Outcome::Ok, Outcome::Timeout],
        "<canvas id=c></canvas><script>const g = c.getContext('webgl'); if (g) {
         const p = g.createProgram(); for (const [t, s] of [[g.VERTEX_SHADER, 'attribute vec2 a; void main() { gl_Position = vec4(a, 0, 1); }'],
         [g.FRAGMENT_SHADER, 'precision highp float; void main() { float x = 0.0; for (int i = 0; i < 100000000; i++) x = fract(x + 0.37); gl_FragColor = vec4(x); }']]) {
         const h = g.createShader(t); g.shaderSource(h, s); g.compileShader(h); g.attachShader(p, h); } g.linkProgram(p); g.useProgram(p);
         g.bindBuffer(g.ARRAY_BUFFER, g.createBuffer()); g.bufferData(g.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), g.STATIC_DRAW);
         g.enableVertexAttribArray(0); g.vertexAttribPointer(0, 2, g.FLOAT, false, 0, 0);
         for (let i = 0; i < 100; i++) g.drawArrays(g.TRIANGLES, 0, 3); g.readPixels(0, 0, 1, 1, g.RGBA, g.UNSIGNED_BYTE, new Uint8Array(4)); }</script>",
    ),
    hostile(
        "calls",
        3,
        &[Outcome::Timeout],
        "<script>for (;;) { navigator.userAgent; screen.width; document.cookie; }</script>",
    ),
    hostile(
        "downloads",
        10,
        &[Outcome::Ok, Outcome::Timeout],
        "<script>for (let i = 0; i < 200; i++) { const a = document.createElement('a'); a.href = '/file?' + i;
         a.download = 'x' + i; document.documentElement.append(a); a.click(); }</script>",
    ),
    hostile(
        "workers",
        5,
        &[Outcome::Timeout],
        "<img src=/held><script>const body = 'onmessage = e => { for (;;) {} }'; for (let i = 0; i < 60; i++)
         new Worker(URL.createObjectURL(new Blob([body]))).postMessage(1);</script>",
    ),
    hostile(
        "wasm",
        10,
        &[Outcome::Ok, Outcome::Timeout],
        "<script>const all = []; try { for (let i = 0; i < 4; i++) { const m = new WebAssembly.Memory({ initial: 65536 });
         new Uint8Array(m.buffer).fill(1, 0, 64 << 20); all.push(m); } } catch {}</script>",
    ),
];

fn answer(target: &str) -> Answer {
    let path = target.split('?').next().unwrap_or_default();
    let whole =
        |status, headers: &str| Answer::Whole { status, headers: headers.to_owned(), body: String::new() };
    let endless = |headers, chunk, pause, times| Answer::Endless { headers, chunk, pause, times };
    if let Some(page) =
        PAGES.iter().find(|page| path.strip_prefix('/') == Some(page.name) && !target.contains('?'))
    {
        // Their own answers have the same names, but for `of`.
        return Answer::html(format!(
            "<!doctype html><title>{}</title>{}",
            page.name,
            page.body
                .replace("'/gigabyte'", "'/gigabyte?of'")
                .replace("'/bomb'", "'/bomb?of'")
                .replace("src=/slow", "src=/slow?of")
                .replace("'/events'", "'/events?of'")
        ));
    }
    const MANY: u64 = 100_000;
    match path {
        "/held" => Answer::AfterReport("never"),
        "/auth" => whole("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n"),
        "/gigabyte" => endless("Content-Type: text/plain\r\n", vec![b'x'; 1 << 20], Duration::ZERO, 1024),
        "/bomb" => {
            let headers = "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n";
            endless(headers, zeros(1 << 30), Duration::ZERO, 1)
        }
        "/slow" => endless("Content-Type: text/javascript\r\n", vec![b' '], Duration::from_millis(300), MANY),
        "/events" => {
            let event = b"data: 0123456789012345678901234567890123456789\n\n".repeat(20);
            endless("Content-Type: text/event-stream\r\n", event, Duration::from_millis(1), MANY)
        }
        "/sockets" => Answer::Flood { text: "0123456789abcdef".repeat(1 << 10), times: MANY },
        "/redirect" => {
            let next = target.split('=').nth(1).and_then(|n| n.parse::<u32>().ok()).unwrap_or(0) + 1;
            whole("302 Found", &format!("Location: /redirect?n={next}\r\n"))
        }
        "/file" => {
            whole("200 OK", "Content-Type: application/octet-stream\r\nContent-Disposition: attachment\r\n")
        }
        _ => Answer::html("<!doctype html><title>plain</title><p>nothing"),
    }
}

/// A gzip stream of so many zeros: matches of 258 bytes at distance 1, with the fixed codes of RFC 1951.
fn zeros(bytes: u64) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut word, mut filled) = (0u64, 0u32);
    let mut put = |bits: u64, count: u32| {
        word |= bits << filled;
        filled += count;
        while filled >= 8 {
            out.push(word as u8);
            word >>= 8;
            filled -= 8;
        }
    };
    // The last block, fixed codes; the literal 0 is 0011_0000, written from its first bit.
    put(0b011, 3);
    put(0b0000_1100, 8);
    for _ in 0..bytes / 258 {
        // Length 258 is symbol 285, 1100_0101; the distance 1 is 0_0000.
        put(0b1010_0011, 8);
        put(0, 5);
    }
    out
}

async fn visit(slot: &mut Slot, urls: &[String], seconds: i64, instruments: Instruments) -> AttemptResult {
    let command = |url: &String| Command {
        timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
        step: Some(Step::Get(GetCommand { url: url.clone(), ..GetCommand::default() })),
        ..Command::default()
    };
    slot.begin_commands(&urls[0], instruments, urls.iter().map(command).collect()).await;
    slot.ended().await
}

async fn all_pages(kind: BrowserKind) {
    let (world, site) = (World::new(), Trap::start(answer).await);
    let browsers = Browsers::start_with(&world, 1, &[("PRESTART", "off")]).await;
    let mut slot = browsers.slot(0).await;
    slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
    let everything = || Instruments { save_content: vec!["all".to_owned()], ..all_instruments() };
    let mut wrong = Vec::new();
    let redirect = hostile("redirect?n=0", 10, &[Outcome::Neterror], "");
    for page in PAGES.iter().chain([&redirect]) {
        let began = std::time::Instant::now();
        // What is left by a page that does not want to be left shows in the second one.
        let leaves = page.name == "beforeunload";
        let urls: Vec<String> = [site.url(&format!("/{}", page.name))]
            .into_iter()
            .chain(leaves.then(|| site.url("/plain")))
            .collect();
        let result = visit(&mut slot, &urls, page.seconds, everything()).await;
        let took = result.commands.iter().map(|c| c.duration_ms).max().unwrap_or_default();
        let whole = began.elapsed();
        let service = Process::read(browsers.service.pid()).unwrap().resident(true).unwrap();
        let next = visit(&mut slot, &[site.url("/plain")], 30, everything()).await;
        println!(
            "{kind:?} {}: {:?} after {took} ms (visit {} ms), service {} MiB; next {:?}",
            page.name,
            result.outcome(),
            whole.as_millis(),
            service >> 20,
            next.outcome()
        );
        let mut say = |what: String| wrong.push(format!("{}: {what}", page.name));
        if !page.ends.contains(&result.outcome()) {
            say(format!("ended {:?}: {:?}", result.outcome(), result.failure));
        }
        if took > page.seconds * 1000 + OVER {
            say(format!("took {took} ms of {} s", page.seconds));
        }
        if service > SERVICE_BYTES {
            say(format!("the service takes {} MiB", service >> 20));
        }
        if next.outcome() != Outcome::Ok {
            say(format!("the next visit ended {:?}: {:?}", next.outcome(), next.failure));
        }
    }
    println!("{kind:?}: {:?}", slot.events);
    // The pages did what they threaten.
    for (path, least) in [
        ("/gigabyte", 64 << 20),
        ("/bomb", 64 << 10),
        ("/slow", 3),
        ("/events", 100 << 10),
        ("/sockets", 1 << 20),
    ] {
        let taken = site.taken(path);
        assert!(taken >= least, "{kind:?} took {taken} bytes of {path}");
    }
    drop(slot);
    browsers.stop(&world).await;
    assert!(wrong.is_empty(), "{kind:?}:\n{}", wrong.join("\n"));
}

/// R9, R10, M34
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_pages_cost_chromium_their_visits_and_no_more() {
    all_pages(BrowserKind::Chromium).await;
}

/// R9, R10, M34
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_pages_cost_firefox_their_visits_and_no_more() {
    all_pages(BrowserKind::Firefox).await;
}
