//! What commands store of a page, on a real Chromium and a real Firefox: pictures, PDF, MHTML, sources of frames.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};
use serde_json::{Value, json};
use sonde_proto::visit::v1::BrowserKind;
use sonde_site::THIRD;
use sonde_tests::rig::Rig;

/// Pages of a PDF, and width and height of the first in points; with what is packed in its streams unpacked.
fn pages(pdf: &[u8]) -> (usize, f64, f64) {
    assert!(pdf.starts_with(b"%PDF-1."), "it begins as a PDF");
    let end = String::from_utf8_lossy(&pdf[pdf.len() - 32..]).into_owned();
    assert!(end.contains("%%EOF"), "it ends as a PDF: {end:?}");
    let mut text = String::from_utf8_lossy(pdf).into_owned();
    for (at, _) in pdf.windows(7).enumerate().filter(|(_, w)| *w == b"stream\n" || *w == b"stream\r") {
        let begin = at + if pdf[at + 6] == b'\r' { 8 } else { 7 };
        let mut unpacked = Vec::new();
        // A picture or a font is no text; what of it unpacks is searched, too.
        if ZlibDecoder::new(&pdf[begin..]).read_to_end(&mut unpacked).is_ok() {
            text.push_str(&String::from_utf8_lossy(&unpacked));
        }
    }
    let squeezed = text.replace("/Type /Page", "/Type/Page");
    let pages = squeezed
        .match_indices("/Type/Page")
        .filter(|(at, name)| !squeezed[at + name.len()..].starts_with(|c: char| c.is_alphanumeric()));
    let count = pages.count();
    let media = squeezed.split_once("/MediaBox").unwrap().1.split_once(']').unwrap().0;
    let numbers: Vec<f64> =
        media.trim().trim_start_matches('[').split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [left, lower, right, upper] = numbers.as_slice() else { panic!("{media}") };
    (count, right - left, upper - lower)
}

fn about(found: f64, points: f64) -> bool {
    (found - points).abs() < 1.5
}

async fn pdf(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let tall = r#"{"evaluate": {"expression": "for (const n of [1, 2, 3]) document.body.insertAdjacentHTML('beforeend', `<h1 style=\"break-before: page\">part ${n}</h1>`)"}}"#;
    let tall: Value = serde_json::from_str(tall).unwrap();
    let none = json!({"top_mm": 0, "right_mm": 0, "bottom_mm": 0, "left_mm": 0});
    let result = rig
        .visit(
            "p1",
            json!([
                tall,
                {"pdf": {}},
                {"pdf": {"paper": "PAPER_FORMAT_A4", "landscape": true, "page_ranges": "1-2", "suffix": "a4"}},
                {"pdf": {"paper_size": {"width_mm": 100, "height_mm": 50}, "margins": none, "page_ranges": "3"}},
                {"pdf": {"page_ranges": "900"}},
            ]),
        )
        .await;
    let read = |command: usize| {
        let (artifact, content) = rig.artifact(&result, command);
        assert_eq!((artifact.kind.as_str(), artifact.media_type.as_str()), ("pdf", "application/pdf"));
        assert_eq!(artifact.url, rig.page("p1"), "{kind:?}");
        (artifact.name, pages(&content))
    };
    let (name, (whole, width, height)) = read(2);
    assert!(name.ends_with(".pdf"), "{name}");
    assert!(whole >= 4, "{kind:?}: {whole} pages");
    assert!(about(width, 612.0) && about(height, 792.0), "{kind:?}: letter is {width} x {height}");
    let (name, (count, width, height)) = read(3);
    assert!(name.ends_with("-a4.pdf"), "{name}");
    assert_eq!(count, 2, "{kind:?}");
    assert!(about(width, 841.9) && about(height, 595.3), "{kind:?}: turned A4 is {width} x {height}");
    let (_, (count, width, height)) = read(4);
    assert_eq!(count, 1, "{kind:?}");
    assert!(about(width, 283.5) && about(height, 141.7), "{kind:?}: 100 x 50 mm is {width} x {height}");
    match kind {
        // An empty page is what it makes of that.
        BrowserKind::Firefox => assert_eq!(read(5).1.0, 1),
        _ => assert_eq!(result.commands[5].error, "no_such_page", "{:#?}", result.commands[5]),
    }
    rig.stop().await;
}

/// M21: the page is printed on the paper that was asked for.
#[tokio::test]
async fn chromium_prints() {
    pdf(BrowserKind::Chromium).await;
}

/// M21
#[tokio::test]
async fn firefox_prints() {
    pdf(BrowserKind::Firefox).await;
}

/// Width and height of a PNG.
fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (side(16), side(20))
}

async fn pictures(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let boxed = json!({"evaluate": {"expression": "(() => { document.getElementById('far').style.cssText = 'box-sizing: border-box; width: 123px; height: 45px; padding: 0; border: 0'; })()"}});
    let in_frame = json!({"selector": "#in-frame", "frame": "#inner"});
    let place = json!({"evaluate": {"expression": "(() => { const { width, height } = document.getElementById('inner').contentDocument.getElementById('in-frame').getBoundingClientRect(); return [width, height]; })()"}});
    let result = rig
        .visit(
            "s1",
            json!([
                boxed,
                place,
                {"screenshot": {"element": {"selector": "#far"}, "suffix": "far"}},
                {"screenshot": {"clip": {"x": 10, "y": 3000, "width": 64, "height": 32}}},
                {"screenshot": {"clip": {"x": 0, "y": 900000, "width": 64, "height": 32}}},
                {"screenshot": {"element": in_frame}},
                {"timeout": "1s", "screenshot": {"element": {"selector": "#hidden"}}},
            ]),
        )
        .await;
    let shot = |command: usize| {
        let (artifact, content) = rig.artifact(&result, command);
        assert_eq!(artifact.kind, "screenshot", "{kind:?}");
        (artifact.name, size(&content))
    };
    let (name, far) = shot(3);
    assert!(name.ends_with("-far.png"), "{name}");
    assert_eq!(far, (123, 45), "{kind:?}");
    assert_eq!(shot(4).1, (64, 32), "{kind:?}");
    assert_eq!(result.commands[5].error, "empty_picture", "{kind:?}");
    let sides: Vec<f64> = serde_json::from_str(&result.commands[2].value_json).unwrap();
    let (width, height) = shot(6).1;
    assert!(
        (f64::from(width) - sides[0]).abs() <= 1.0 && (f64::from(height) - sides[1]).abs() <= 1.0,
        "{kind:?}: {width} x {height} of {sides:?}"
    );
    assert_eq!(result.commands[7].error, "not_visible", "{kind:?}");
    rig.stop().await;
}

/// M20, M21: an element and a rectangle are pictured in their own size, wherever they are.
#[tokio::test]
async fn chromium_pictures_parts() {
    pictures(BrowserKind::Chromium).await;
}

/// M20, M21
#[tokio::test]
async fn firefox_pictures_parts() {
    pictures(BrowserKind::Firefox).await;
}

async fn frames(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let third = rig.site.url(
        THIRD,
        "/r/make?v=d1&type=text/html&text=<title>third</title><iframe%20srcdoc='<p>below'></iframe>",
    );
    let script = format!(
        "new Promise((done) => {{ const f = document.createElement('iframe'); f.onload = () => done(1); f.src = {third:?}; document.body.append(f); }})"
    );
    let result = rig
        .visit(
            "d1",
            json!([
                {"evaluate": {"expression": script}},
                {"dump_page_source": {"recursive": true, "suffix": "all"}},
                {"dump_page_source": {"recursive": true, "max_depth": 1}},
            ]),
        )
        .await;
    rig.assert_ok(&result);
    let unpacked = |command: usize| {
        let (artifact, content) = rig.artifact(&result, command);
        assert_eq!(
            (artifact.kind.as_str(), artifact.media_type.as_str()),
            ("frame_sources", "application/gzip")
        );
        let mut text = String::new();
        GzDecoder::new(content.as_slice()).read_to_string(&mut text).unwrap();
        (artifact.name, serde_json::from_str::<Value>(&text).unwrap())
    };
    let (name, page) = unpacked(2);
    assert!(name.ends_with("-all.json.gz"), "{name}");
    assert_eq!(page["doc_url"], rig.page("d1"), "{kind:?}");
    assert!(page["source"].as_str().unwrap().starts_with("<!DOCTYPE html"), "{kind:?}");
    let held = |frame: &Value| frame["iframes"].as_object().unwrap().values().cloned().collect::<Vec<_>>();
    let inner = held(&page);
    assert_eq!(inner.len(), 2, "{kind:?}: {page}");
    let of = |text: &str| {
        let found = inner.iter().find(|f| f["source"].as_str().is_some_and(|s| s.contains(text)));
        found.unwrap_or_else(|| panic!("{kind:?}: no frame with {text}: {inner:#?}")).clone()
    };
    assert_eq!(of("in frame")["doc_url"], "about:srcdoc", "{kind:?}");
    let foreign = of("<title>third</title>");
    assert!(foreign["doc_url"].as_str().unwrap().contains(THIRD), "{kind:?}");
    let below = held(&foreign);
    assert!(
        below.len() == 1 && below[0]["source"].as_str().unwrap().contains("<p>below"),
        "{kind:?}: {below:?}"
    );

    let (_, cut) = unpacked(3);
    assert!(held(&cut).iter().all(|frame| held(frame).is_empty()), "{kind:?}: {cut}");
    let sql =
        "SELECT dropped_rows, limit_value FROM truncations WHERE visit_id = ?1 AND reason = 'frame_depth'";
    let told: (i64, i64) =
        rig.db().query_row(sql, [result.visit_id], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(told, (1, 1), "{kind:?}: what was left out is told");
    rig.stop().await;
}

/// M20: sources of all frames, of other origins, too, in OpenWPM's shape.
#[tokio::test]
async fn chromium_dumps_frames() {
    frames(BrowserKind::Chromium).await;
}

/// M20
#[tokio::test]
async fn firefox_dumps_frames() {
    frames(BrowserKind::Firefox).await;
}

/// M21: MHTML holds the page and what it shows; a browser that cannot make it says so.
#[tokio::test]
async fn mhtml_is_of_chromium() {
    let mut rig = Rig::start(BrowserKind::Chromium).await;
    let picture = json!({"evaluate": {"expression": "new Promise((done) => { const i = new Image(); i.onload = () => done(1); i.src = '/r/pixel.png?v=w1'; document.body.append(i); })"}});
    let result = rig.visit("w1", json!([picture, {"mhtml": {}}])).await;
    rig.assert_ok(&result);
    let (artifact, content) = rig.artifact(&result, 2);
    assert_eq!((artifact.kind.as_str(), artifact.media_type.as_str()), ("mhtml", "multipart/related"));
    let text = String::from_utf8(content).unwrap();
    for wanted in
        ["MIME-Version: 1.0", "Content-Type: multipart/related", "Content-Type: image/png", "/r/pixel.png"]
    {
        assert!(text.contains(wanted), "{wanted}: {}", &text[..500]);
    }
    assert!(text.contains(&format!("Snapshot-Content-Location: {}", rig.page("w1"))), "{}", &text[..500]);
    rig.stop().await;

    let mut rig = Rig::start(BrowserKind::Firefox).await;
    let result = rig.visit("w2", json!([{"mhtml": {}}])).await;
    assert_eq!(result.commands[1].error, "unsupported");
    assert!(rig.history(result.visit_id, 1, "traceback").unwrap().contains("Chromium"));
    rig.stop().await;
}
