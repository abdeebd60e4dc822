//! The scripts instrument on a real Chromium: whatever way code comes, it is there.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sonde_proto::record::v1::Script;
use sonde_proto::visit::v1::Instruments;
use sonde_site::sha256_hex;
use support::Rows;
use support::pages::{Asked, Pages, Reply, reply};
use support::rig::Rig;

/// A module with one function that does nothing.
const WASM: &str = "AGFzbQEAAAABBAFgAAADAgEABwUBAWYAAAoEAQIACw==";

const PAGE: &str = r#"<!doctype html><meta charset=utf-8><body onload="window.loaded=1">
<script>var inline=1;</script>
<script src="/external.js"></script>
<script src="/redirected.js"></script>
<script src="/bom.js"></script>
<script src="/latin.js"></script>
<script type=module>import '/static.js'; import('/dynamic.js'); window.module=1</script>
<script type=module src="/module.js"></script>
<div id=d onclick="window.clicked=1">x</div>
<img src="/missing.png" onerror="window.failed=1">
<script>
eval('var direct=1'); eval('var named=1\n//# sourceURL=name.js');
const alias=eval; alias('var aliased=1');
new Function('a','return a+1')(1); (async()=>{}).constructor('return 6')();
setTimeout('window.timer=1',0);
d.click();
const text=document.createElement('script'); text.textContent='window.inserted=1'; document.body.append(text);
const add=url=>{const s=document.createElement('script'); s.src=url; document.body.append(s)};
add('/added.js'); add('data:text/javascript,window.fromdata=1');
add(URL.createObjectURL(new Blob(['window.fromblob=1'])));
document.write('<script>window.written=1<\/script>');
location.href='javascript:void(window.byurl=1)';
fetch('/code.json').then(r=>r.text()).then(code=>eval(code));
debugger;
const ends=[];
const worker=(make)=>ends.push(new Promise(end=>{const w=make(); (w.port||w).onmessage=end; w.port&&w.port.start()}));
worker(()=>new Worker('/worker.js'));
worker(()=>new Worker(URL.createObjectURL(new Blob(['postMessage("blobworker")']))));
worker(()=>new Worker('/moduleworker.js',{type:'module'}));
worker(()=>new SharedWorker('/shared.js'));
const bytes=Uint8Array.from(atob('{wasm}'),c=>c.charCodeAt(0));
ends.push(WebAssembly.instantiate(bytes));
ends.push(navigator.serviceWorker.register('/sw.js').then(()=>navigator.serviceWorker.ready));
ends.push(new Promise(end=>addEventListener('load',end)));
const frame=document.createElement('iframe'); frame.srcdoc='<script>window.srcdoc=1<'+'/script>';
ends.push(new Promise(end=>frame.onload=end)); document.body.append(frame);
ends.push(new OfflineAudioContext(1,1,44100).audioWorklet.addModule('/worklet.js'));
</script>
<iframe src="http://a.localhost:{port}/frame"></iframe>
<script>Promise.all(ends).then(()=>setTimeout(()=>fetch('/done'),200))</script>"#;

fn answer(asked: &Asked, _: u16) -> Option<Reply> {
    let script = |text: &str| Some(reply("text/javascript", text));
    match asked.path.as_str() {
        "/page" => Some(reply("text/html", PAGE.replace("{wasm}", WASM))),
        "/frame" => Some(reply("text/html", "<script>eval('var inframe=1')</script>")),
        "/redirected.js" => Some(reply("", "").status("302 Found").header("Location", "/final.js")),
        "/final.js" => script("window.final=1"),
        "/bom.js" => script("\u{feff}window.bom='é'"),
        "/latin.js" => Some(reply("text/javascript; charset=iso-8859-1", b"window.latin='\xe9'".to_vec())),
        "/static.js" => script("export const a='static'"),
        "/dynamic.js" => script("export const b='dynamic'"),
        "/module.js" => script("window.external_module=1"),
        "/external.js" => script("window.external=1"),
        "/added.js" => script("window.added=1"),
        "/code.json" => Some(reply("application/json", "window.fromjson=1")),
        "/worker.js" => script("importScripts('/imported.js'); eval('self.inworker=1'); postMessage(1)"),
        "/imported.js" => script("self.imported=1"),
        "/moduleworker.js" => script("import '/workerdep.js'; postMessage(1)"),
        "/workerdep.js" => script("export const c='workerdep'"),
        "/shared.js" => script("onconnect=e=>e.ports[0].postMessage(1)"),
        "/sw.js" => script("eval('self.insw=1')"),
        "/worklet.js" => script("registerProcessor('p',class extends AudioWorkletProcessor{process(){}})"),
        "/done" => Some(reply("text/plain", "done")),
        _ => None,
    }
}

fn all() -> Instruments {
    let save_content = vec!["all".to_owned()];
    Instruments { http: true, scripts: true, save_content, ..Instruments::default() }
}

/// The scripts whose source holds the text: how they came, and in what kind of target.
fn came<'a>(rows: &'a Rows, sources: &BTreeMap<String, String>, text: &str) -> Vec<(&'a str, &'a str)> {
    let holds = |s: &&&Script| {
        s.content_hash.as_ref().and_then(|h| sources.get(h)).is_some_and(|source| source.contains(text))
    };
    let scripts = rows.scripts();
    let found = scripts.iter().filter(holds);
    found.map(|s| (s.how.as_str(), s.context_type.as_deref().unwrap_or_default())).collect()
}

/// I5, M01
#[tokio::test(flavor = "multi_thread")]
async fn executed_code_is_recorded_whatever_way_it_came() {
    let (rig, pages) = (Rig::start().await, Pages::start(answer).await);
    let rows = rig.visit(&pages, &all()).await;
    let sources: BTreeMap<String, String> = {
        let kept = rig.storage.kept();
        let text = |(hash, content): (&String, &Vec<u8>)| {
            (hash.clone(), String::from_utf8_lossy(content).into_owned())
        };
        kept.blobs.iter().map(text).collect()
    };
    for (text, how, kind) in [
        ("var inline=1;", "inline", "page"),
        ("window.loaded=1", "handler", "page"),
        ("window.clicked=1", "handler", "page"),
        ("window.failed=1", "handler", "page"),
        ("window.external=1", "external", "page"),
        ("window.final=1", "external", "page"),
        ("window.module=1", "inline", "page"),
        ("'static'", "import", "page"),
        ("'dynamic'", "import", "page"),
        ("window.external_module=1", "external", "page"),
        ("window.added=1", "external", "page"),
        ("window.fromdata=1", "data", "page"),
        ("window.fromblob=1", "blob", "page"),
        ("window.inserted=1", "inline", "page"),
        ("window.written=1", "inline", "page"),
        ("window.srcdoc=1", "inline", "page"),
        ("window.timer=1", "anonymous", "page"),
        ("void(window.byurl=1)", "anonymous", "page"),
        ("window.fromjson=1", "eval", "page"),
        ("return a+1", "function", "page"),
        ("return 6", "function", "page"),
        ("self.imported=1", "import_scripts", "worker"),
        ("postMessage(\"blobworker\")", "worker", "worker"),
        ("import '/workerdep.js'", "worker", "worker"),
        ("'workerdep'", "import", "worker"),
        ("e.ports[0]", "worker", "shared_worker"),
        ("registerProcessor", "worklet", "worklet"),
    ] {
        // Sources that hold the text of another are that other's makers.
        let came = came(&rows, &sources, text);
        assert!(came.contains(&(how, kind)), "{text}: {came:?}");
    }
    let exact = |text: &str| -> Vec<&Script> {
        let hash = sha256_hex(text.as_bytes());
        rows.scripts().into_iter().filter(|s| s.content_hash.as_deref() == Some(&hash)).collect()
    };
    for (text, kind) in [
        ("var direct=1", "page"),
        ("var aliased=1", "page"),
        ("var inframe=1", "iframe"),
        ("self.inworker=1", "worker"),
        ("self.insw=1", "service_worker"),
    ] {
        let [script] = exact(text)[..] else { panic!("{text}: {:?}", exact(text)) };
        assert_eq!((script.how.as_str(), script.context_type.as_deref()), ("eval", Some(kind)), "{text}");
        assert!(script.call_stack.is_some() && script.parent_url.is_some(), "{script:?}");
    }
    let named = rows.scripts().into_iter().find(|s| s.url == "name.js").unwrap();
    assert_eq!((named.named_by_itself, named.how.as_str()), (Some(true), "eval"));
    let module = BASE64.decode(WASM).unwrap();
    let wasm: Vec<_> = rows.scripts().into_iter().filter(|s| s.how == "wasm").collect();
    assert_eq!(wasm[0].content_hash, Some(sha256_hex(&module)), "{wasm:?}");
    assert_eq!(rig.storage.kept().blobs[&sha256_hex(&module)], module);
    links(&rows);
    rig.close().await;
}

/// Execution and response are joined by the hash of what came, and by the request where the bytes were others.
fn links(rows: &Rows) {
    for path in ["/external.js", "/static.js", "/worker.js", "/imported.js", "/sw.js", "/code.json", "/frame"]
    {
        let response = rows.response(path);
        let same = |s: &&&Script| s.content_hash == response.content_hash;
        let scripts = rows.scripts();
        match scripts.iter().find(same) {
            Some(script) if path != "/code.json" => {
                assert_eq!(script.request_id, Some(response.request_id), "{path}");
            }
            // The same text, whoever evaluated it.
            Some(script) => assert_eq!((script.how.as_str(), script.request_id), ("eval", None)),
            None => assert_eq!(path, "/frame"),
        }
    }
    for (path, text) in [("/bom.js", "window.bom='é'"), ("/latin.js", "window.latin='é'")] {
        let response = rows.response(path);
        let script = rows.scripts().into_iter().find(|s| s.url.ends_with(path)).unwrap();
        assert_ne!(script.content_hash, response.content_hash);
        assert_eq!(
            (&script.content_hash, script.request_id),
            (&Some(sha256_hex(text.as_bytes())), Some(response.request_id))
        );
    }
    let redirected = rows.scripts().into_iter().find(|s| s.url.ends_with("/redirected.js")).unwrap();
    assert_eq!(redirected.request_id, Some(rows.request("/final.js").request_id));
    let inline = rows.scripts().into_iter().find(|s| s.how == "inline").unwrap();
    assert_eq!((inline.start_line, inline.start_column), (Some(2), Some(9)));
    assert_eq!(inline.request_id, Some(rows.request("/page").request_id));
    assert_eq!((inline.source_outcome.as_deref(), inline.frame_id), (Some("complete"), Some(0)));
}

/// I5: without saved content nothing is read that need not be, and the hashes are the same.
#[tokio::test(flavor = "multi_thread")]
async fn hashes_come_without_the_sources() {
    let (rig, pages) = (Rig::start().await, Pages::start(answer).await);
    let instruments = Instruments { scripts: true, ..Instruments::default() };
    let rows = rig.visit(&pages, &instruments).await;
    let external = rows.scripts().into_iter().find(|s| s.url.ends_with("/external.js")).unwrap();
    assert_eq!(external.content_hash, Some(sha256_hex(b"window.external=1")));
    assert_eq!(external.source_outcome.as_deref(), Some("not_asked"));
    assert!(rows.requests().is_empty() && rig.storage.kept().blobs.is_empty());
    let direct =
        rows.scripts().into_iter().find(|s| s.content_hash == Some(sha256_hex(b"var direct=1"))).unwrap();
    assert_eq!(direct.how, "eval");
    assert!(rows.truncations().is_empty(), "{:?}", rows.truncations());
    rig.close().await;
}
