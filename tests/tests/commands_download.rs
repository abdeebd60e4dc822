//! Files that the browser saves (M21, M25), on a real Chromium and a real Firefox.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sonde_proto::visit::v1::{BrowserKind, CommandResult, CommandStatus};
use sonde_site::sha256_hex;
use sonde_tests::rig::{Artifact, Rig};

fn download(from: Value) -> Value {
    let mut all = json!({"download": from, "continue_on_error": true, "timeout": "20s"});
    if all["download"]["click"]["selector"] == "#nothing" {
        all["timeout"] = json!("3s");
    }
    all
}

/// Links that save, and one that does not.
fn links(token: &str) -> Value {
    let html = format!(
        "<a id='save' href='/r/download?v={token}-click'>save</a> <a id='nothing' href='#here'>stay</a> \
         <a id='blob' download='made up.txt'>blob</a>"
    );
    let expression = format!(
        "() => {{ document.body.insertAdjacentHTML('afterbegin', {html:?}); \
         document.getElementById('blob').href = URL.createObjectURL(new Blob(['made by the page'])); }}"
    );
    json!({"evaluate": {"world": "EVALUATION_WORLD_MAIN", "expression": expression}})
}

/// Files of downloads that are left. Chromium may make a directory again that was removed; it goes with the service.
fn downloads_below(dir: &Path, inside: bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            let named = path.file_name().unwrap().to_string_lossy().starts_with("download_");
            match path.is_dir() {
                true => downloads_below(&path, inside || named),
                false => {
                    if inside {
                        vec![path]
                    } else {
                        Vec::new()
                    }
                }
            }
        })
        .collect()
}

async fn downloads(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let host = rig.site.hosts()[0].clone();
    let [file, other, cut, page] = [
        rig.site.url(&host, "/r/download?v=d-url"),
        rig.site.url(&host, "/r/download?v=d-refused"),
        rig.site.url(&host, "/r/truncated?v=d-cut"),
        rig.page("d-page"),
    ];
    let commands = json!([
        {"get": {}},
        links("d"),
        download(json!({"click": {"selector": "#save"}})),
        download(json!({"click": {"selector": "#blob"}})),
        download(json!({"url": file})),
        download(json!({"url": file, "max_bytes": 3})),
        download(json!({"url": page})),
        {"wait_for": {"load": "LOAD_POLICY_LOAD"}},
        links("e"),
        download(json!({"click": {"selector": "#nothing"}})),
        {"get": {"url": other}, "continue_on_error": true},
        {"get": {"url": page}},
        download(json!({"url": cut})),
    ]);
    let start = rig.page("d");
    let result = rig.visit_at(&start, commands).await;
    let commands = &result.commands;
    assert_eq!(commands.len(), 13, "{kind:?}: {result:#?}");
    let saved = |index: usize| -> (Value, Artifact, Vec<u8>) {
        let command = &result.commands[index];
        assert_eq!(command.status(), CommandStatus::Ok, "{kind:?}: {command:#?}");
        let (artifact, content) = rig.artifact(&result, index);
        assert_eq!(artifact.kind, "download");
        let value: Value = serde_json::from_str(&command.value_json).unwrap();
        let truth = (json!(content.len()), json!(sha256_hex(&content)));
        assert_eq!((&value["bytes"], &value["sha256"]), (&truth.0, &truth.1));
        (value, artifact, content)
    };
    let (value, _, clicked) = saved(2);
    assert!(value["url"].as_str().unwrap().ends_with("/r/download?v=d-click"), "{kind:?}: {value}");
    let (value, artifact, made) = saved(3);
    assert_eq!((value["name"].as_str().unwrap(), made.as_slice()), ("made up.txt", &b"made by the page"[..]));
    assert!(artifact.name.ends_with("-3-made up.txt"), "{artifact:?}");
    assert_eq!(artifact.media_type, "text/plain");
    let (value, _, named) = saved(4);
    assert_eq!(value["url"], json!(file), "{kind:?}");
    assert_eq!(named, clicked, "{kind:?}: the route gives the same bytes always");
    let failed = |command: &CommandResult, status, word: &str| {
        assert_eq!((command.status(), command.error.as_str()), (status, word), "{kind:?}: {command:#?}");
        assert!(command.artifacts.is_empty());
    };
    failed(&commands[5], CommandStatus::Error, "too_long");
    failed(&commands[6], CommandStatus::Error, "not_a_download");
    failed(&commands[9], CommandStatus::Timeout, "timeout");
    assert_eq!(
        commands[10].status(),
        CommandStatus::Neterror,
        "{kind:?}: refused again: {:#?}",
        commands[10]
    );
    assert_eq!(commands[11].status(), CommandStatus::Ok, "{kind:?}: {:#?}", commands[11]);
    failed(&commands[12], CommandStatus::Error, "download_failed");
    let left = downloads_below(&rig.world.path().join("tmp"), false);
    assert!(left.is_empty(), "{kind:?}: {left:?}");
    rig.stop().await;
}

/// M21, M25: what a click or a URL has Chromium save is stored; what is too long, no file, or never comes is told; elsewhere
/// downloads stay refused, and nothing of them is left.
#[tokio::test]
async fn chromium_downloads_what_it_is_told() {
    downloads(BrowserKind::Chromium).await;
}

/// M21, M25
#[tokio::test]
async fn firefox_downloads_what_it_is_told() {
    downloads(BrowserKind::Firefox).await;
}
