//! What a user does beside clicking, on a real Chromium and a real Firefox: waiting a given time for a page, choosing
//! files, and looking at a page.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use sonde_proto::visit::v1::{BrowserKind, CommandStatus};
use sonde_tests::rig::Rig;

fn at(selector: &str) -> Value {
    json!({"selector": selector})
}

async fn times(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let hang = rig.site.url(&rig.site.hosts()[0], "/p/hang?v=t1");
    let wait = |time: &str| json!({"wait_for": {"load": "LOAD_POLICY_TIME", "load_time": time}});
    let commands = json!([
        {"get": {"load_policy": "LOAD_POLICY_TIME", "load_time": "1.5s"}},
        wait("3s"),
        wait("1s"),
        {"timeout": "1s", "wait_for": {"load": "LOAD_POLICY_LOAD"}},
        {"evaluate": {"expression": "document.readyState"}},
    ]);
    let result = rig.visit_at(&hang, commands).await;
    let [get, rest, passed, load, state] = result.commands.as_slice() else { panic!("{result:#?}") };
    for command in [get, rest, passed, state] {
        assert_eq!(command.status(), CommandStatus::Ok, "{kind:?}: {command:#?}");
    }
    assert_eq!(get.final_url, hang, "{kind:?}");
    assert!(get.duration_ms >= 1500, "{kind:?}: {get:#?}");
    // The 3 s began with the commit: at least 1.5 s of them were over.
    assert!((1..1600).contains(&rest.duration_ms), "{kind:?}: {rest:#?}");
    assert!(passed.duration_ms < 800, "{kind:?}: {passed:#?}");
    assert_eq!(load.status(), CommandStatus::Timeout, "{kind:?}: the page never loads: {load:#?}");
    assert_ne!(state.value_json, "\"complete\"", "{kind:?}");

    // The other link of the page is a download; this seed takes the one that is not.
    let browse = json!([{"browse": {"num_links": 1, "seed": 0, "load_policy": "LOAD_POLICY_TIME", "load_time": "0.7s"}}]);
    let page = rig.page("t2");
    let result = rig.visit_at(&page, browse).await;
    rig.assert_ok(&result);
    assert!(result.commands[0].duration_ms >= 1400, "{kind:?}: two pages: {result:#?}");
    assert_ne!(result.commands[0].final_url, page, "{kind:?}: it followed a link");
    rig.stop().await;
}

/// M24: a load goes on a given time after the commit, whatever has loaded.
#[tokio::test]
async fn chromium_goes_on_a_time_after_the_commit() {
    times(BrowserKind::Chromium).await;
}

/// M24
#[tokio::test]
async fn firefox_goes_on_a_time_after_the_commit() {
    times(BrowserKind::Firefox).await;
}

/// A form with an input element for files, whose events are noted.
fn form(token: &str) -> Value {
    let html = format!(
        "<form id='form' method='post' enctype='multipart/form-data' action='/r/echo?v={token}'>\
         <input type='file' name='files' id='files' multiple style='display: none'>\
         <input type='file' id='single'><input type='file' id='off' disabled>\
         <button id='send'>send</button></form>"
    );
    let expression = format!(
        "() => {{ document.body.insertAdjacentHTML('afterbegin', {html:?}); window.seen = []; \
         for (const type of ['input', 'change']) \
         document.getElementById('files').addEventListener(type, (e) => seen.push(type)); \
         document.getElementById('inner').contentDocument.body.insertAdjacentHTML('afterbegin', \
         \"<input type='file' id='framed'>\"); }}"
    );
    json!({"evaluate": {"world": "EVALUATION_WORLD_MAIN", "expression": expression}})
}

fn upload(selector: &str, files: Value) -> Value {
    json!({"timeout": "5s", "upload": {"target": at(selector), "files": files}})
}

fn has(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

async fn files(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    // A blob that storage has: a picture.
    let shot = rig.visit("u1", json!([{"screenshot": {}}])).await;
    let (artifact, picture) = rig.artifact(&shot, 1);
    assert_eq!(artifact.media_type, "image/png");
    let picture_sha256 = shot.commands[1].artifacts[0].sha256.clone();
    // "Grüße" and a zero byte, as base64.
    let content = b"Gr\xc3\xbc\xc3\x9fe\0";
    let note = json!({"name": "note.txt", "content": "R3LDvMOfZQA="});
    let framed = json!({"selector": "#framed", "frame": "#inner"});
    let commands = json!([
        form("u2"),
        upload("#files", json!([note, {"name": "shot.png", "blob": picture_sha256}, note])),
        {"evaluate": {"world": "EVALUATION_WORLD_MAIN", "expression": "seen"}},
        upload("#text", json!([note])),
        upload("#single", json!([note, note])),
        upload("#single", json!([{"name": "x", "blob": "0".repeat(64)}])),
        {"timeout": "1s", "upload": {"target": at("#off"), "files": [note]}},
        upload("#single", json!([note])),
        upload("#single", json!([])),
        {"upload": {"target": framed, "files": [note]}},
        {"click": {"target": at("#send")}},
        {"wait_for": {"url": "**/r/echo*"}},
        {"wait_for": {"load": "LOAD_POLICY_LOAD"}},
    ]);
    let result = rig.visit("u2", commands).await;
    let mut ended: Vec<&str> = result.commands.iter().map(|c| c.error.as_str()).collect();
    if kind == BrowserKind::Firefox {
        // Its input.setFiles knows the page's own elements only.
        assert_eq!(std::mem::take(&mut ended[10]), "unsupported", "{result:#?}");
    }
    let refused = ["not_a_file_input", "not_multiple", "blob_not_fetched", "not_enabled"];
    assert_eq!(ended[..4], [""; 4], "{kind:?}: {result:#?}");
    assert_eq!(ended[4..8], refused, "{kind:?}: {result:#?}");
    assert_eq!(ended[8..], [""; 6], "{kind:?}: {result:#?}");
    let value =
        |command: usize| -> Value { serde_json::from_str(&result.commands[command].value_json).unwrap() };
    let text = json!({"name": "note.txt", "type": "text/plain", "size": content.len()});
    let image = json!({"name": "shot.png", "type": "image/png", "size": picture.len()});
    assert_eq!(value(2), json!([text, image, text]), "{kind:?}");
    assert_eq!(value(3), json!(["input", "change"]), "{kind:?}");
    assert_eq!(value(8), json!([text]), "{kind:?}");
    assert_eq!(value(9), json!([]), "{kind:?}: emptied");
    if kind == BrowserKind::Chromium {
        assert_eq!(value(10), json!([text]), "in a frame");
    }

    let hits = rig.hits("u2", "/r/echo");
    let [hit] = hits.as_slice() else { panic!("{kind:?}: {hits:#?}") };
    let body = &hit.request_body.bytes;
    assert!(hit.request_body.complete && hit.method == "POST", "{kind:?}");
    let part = |name: &str, media_type: &str, content: &[u8]| {
        let head = format!("filename=\"{name}\"\r\nContent-Type: {media_type}\r\n\r\n");
        [head.as_bytes(), content, b"\r\n--"].concat()
    };
    assert!(has(body, &part("note.txt", "text/plain", content)), "{kind:?}");
    assert!(has(body, &part("shot.png", "image/png", &picture)), "{kind:?}");
    rig.stop().await;
}

/// M21: the site receives the files that an upload chose, by name and bytes; what cannot be is refused in words.
#[tokio::test]
async fn chromium_uploads() {
    files(BrowserKind::Chromium).await;
}

/// M21
#[tokio::test]
async fn firefox_uploads() {
    files(BrowserKind::Firefox).await;
}

async fn looks(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let listen = "() => { window.seen = {moves: 0, scrolls: 0, trusted: true}; \
                  addEventListener('mousemove', (e) => { seen.moves += 1; seen.trusted &&= e.isTrusted; }); }";
    let listen = json!({"evaluate": {"world": "EVALUATION_WORLD_MAIN", "expression": listen}});
    let read = json!({"evaluate": {"world": "EVALUATION_WORLD_MAIN", "expression": "[seen.moves, seen.trusted, scrollY]"}});
    let drawn = rig.visit("b1", json!([listen, {"bot_mitigation": {}}, read])).await;
    rig.assert_ok(&drawn);
    let value = |json: &str| -> Value { serde_json::from_str(json).unwrap() };
    let did = value(&drawn.commands[2].value_json);
    let seen = value(&drawn.commands[3].value_json);
    assert_eq!(did["moves"].as_array().unwrap().len(), 10, "{kind:?}: {did}");
    // Two moves in a row may come in one event.
    assert!(seen[0].as_u64().unwrap() >= 5, "{kind:?}: {seen} of {did}");
    assert_eq!(seen[1], true, "{kind:?}");
    let down: f64 = did["scrolls"].as_array().unwrap().iter().map(|d| d.as_f64().unwrap()).sum();
    let scrolled = seen[2].as_f64().unwrap();
    // The page is more than 2000 pixels high below the viewport.
    assert!((scrolled - down.min(2000.0)).abs() < 2.0 || scrolled > 2000.0, "{kind:?}: {seen} of {did}");
    assert!(drawn.commands[2].duration_ms >= did["wait_ms"].as_i64().unwrap(), "{kind:?}: {did}");

    let arguments = value(&rig.history(drawn.visit_id, 2, "arguments").unwrap());
    let seed = arguments["bot_mitigation"]["seed"].clone();
    assert!(seed.is_string() || seed.is_u64(), "{kind:?}: the seed is stored: {arguments}");
    let again = rig.visit("b2", json!([{"bot_mitigation": {"seed": seed}}])).await;
    rig.assert_ok(&again);
    assert_eq!(value(&again.commands[1].value_json), did, "{kind:?}: the seed makes it again");
    rig.stop().await;
}

/// M21: moves, scrolls and rests as of a user, by a seed that is stored and makes the same again.
#[tokio::test]
async fn chromium_looks_at_a_page() {
    looks(BrowserKind::Chromium).await;
}

/// M21
#[tokio::test]
async fn firefox_looks_at_a_page() {
    looks(BrowserKind::Firefox).await;
}

/// Asks for what a user is asked about; each answer is noted when it comes, and all together are a promise.
const ASK: &str = "() => {
  const denied = (error) => (error.code === 1 || error.name === 'NotAllowedError' ? 'denied' : error.name ?? error.code);
  window.answers = {};
  const note = (name, answer) => answer.then(() => 'granted', denied).then((word) => { answers[name] = word; });
  const notification = Notification.requestPermission().then((word) => {
    if (word !== 'granted') throw { code: word === 'denied' ? 1 : word };
  });
  window.all = Promise.all([
    note('geolocation', new Promise((granted, refused) => navigator.geolocation.getCurrentPosition(granted, refused))),
    note('notification', notification),
    note('camera', navigator.mediaDevices.getUserMedia({ video: true })),
  ]);
  return isSecureContext;
}";

async fn permissions(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let main =
        |expression: &str| json!({"evaluate": {"world": "EVALUATION_WORLD_MAIN", "expression": expression}});
    let answers = match kind {
        BrowserKind::Firefox => "answers",
        _ => "all.then(() => answers)",
    };
    let commands = json!([main(ASK), {"click": {"target": at("#plain")}}, main(answers)]);
    let result = rig.visit("q1", commands).await;
    rig.assert_ok(&result);
    let value =
        |command: usize| -> Value { serde_json::from_str(&result.commands[command].value_json).unwrap() };
    // The fixture site's hosts are trustworthy, so that these are questions for a user and not refusals.
    assert_eq!(value(1), true, "{kind:?}: otherwise nobody is asked");
    let answers = value(3);
    assert!(answers.as_object().unwrap().values().all(|answer| answer != "granted"), "{kind:?}: {answers}");
    if kind == BrowserKind::Chromium {
        assert_eq!((&answers["geolocation"], &answers["notification"]), (&json!("denied"), &json!("denied")));
        // A machine without a camera has nothing to ask about.
        assert!(answers["camera"] == "denied" || answers["camera"] == "NotFoundError", "{answers}");
    }
    // The next page is not in the shadow of the questions.
    let next = rig.visit("q2", json!([{"click": {"target": at("#plain")}}])).await;
    rig.assert_ok(&next);
    rig.stop().await;
}

/// M25: questions for permissions hang nothing, and are answered by no.
#[tokio::test]
async fn chromium_denies_permissions() {
    permissions(BrowserKind::Chromium).await;
}

/// M25: they are left unanswered, as by a user who looks past them, and hang nothing.
#[tokio::test]
async fn firefox_grants_no_permissions() {
    permissions(BrowserKind::Firefox).await;
}
