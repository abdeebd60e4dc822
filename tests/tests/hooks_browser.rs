//! Hooks of the browser (A51-A80): real, unmodified plugins of `abx-plugins` on a Chromium of ours, without the internet.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sonde_site::{DocOptions, DocSite, Site, SiteOptions};
use sonde_tests::plugins::{Ran, run};
use sonde_tests::world::World;

const PAGE: &str = r#"<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Hooks meet a page</title>
<meta name="description" content="A page for hooks"><link rel="stylesheet" href="style.css"></head>
<body><h1>Archived heading</h1><p>Text that is long enough to be kept by those who read text.</p>
<a href="/other.html">other</a> <a href="http://elsewhere.test/x">elsewhere</a>
<script>console.log("said by the page"); document.body.append("added by script")</script>
<div style="height:4000px"></div></body></html>"#;

/// A site of this world's own pages.
async fn serve(world: &World, pages: &[(&str, &str)]) -> DocSite {
    let dir = world.path().join("pages");
    std::fs::create_dir_all(&dir).unwrap();
    for (name, text) in pages {
        std::fs::write(dir.join(name), text).unwrap();
    }
    DocSite::start(DocOptions::new(dir)).await.unwrap()
}

fn read(world: &World, file: &str) -> String {
    let path = world.data().join(file);
    String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"))).into_owned()
}

fn succeeded(ran: &Ran, plugins: &[&str]) {
    for plugin in plugins {
        assert_eq!(ran.status(plugin), "succeeded", "{plugin}: {}", ran.said);
    }
}

async fn browse(world: &World, url: &str, plugins: &str) -> Ran {
    // Listeners get some time after the load, as they are ended where nothing else is left to do.
    let ran = run(world, url, plugins, &["--browser", "--with", "CHROME_DELAY_AFTER_LOAD=3"]).await;
    assert_eq!(ran.result("chrome", "navigate")["status"], "succeeded", "{ran:#?}");
    ran
}

/// 2.5, A52-A58, A62-A70: hooks that look at a page, listen to its network and drive it.
#[tokio::test]
async fn hooks_of_the_browser_run_unmodified() {
    let world = World::new();
    let site =
        serve(&world, &[("index.html", PAGE), ("other.html", "<p>"), ("style.css", "b{color:red}")]).await;
    let url = site.urls().iter().find(|u| u.ends_with("/index.html")).unwrap().clone();
    let plugins = "title,seo,dom,accessibility,screenshot,pdf,consolelog,headers,redirects,responses,chrome_mhtml,\
                   infiniscroll,chrome_screencast,parse_dom_outlinks,dns,htmltotext,hashes";
    let ran = browse(&world, &url, plugins).await;
    assert_eq!(ran.code, 0, "{}", ran.said);
    succeeded(&ran, &plugins.split(',').collect::<Vec<_>>());
    assert_eq!(read(&world, "title/title.txt"), "Hooks meet a page");
    assert!(read(&world, "seo/seo.json").contains("A page for hooks"));
    assert!(read(&world, "dom/output.html").contains("added by script"));
    assert!(read(&world, "accessibility/accessibility.json").contains("Archived heading"));
    assert!(read(&world, "screenshot/screenshot.png").contains("PNG"));
    assert!(read(&world, "pdf/output.pdf").starts_with("%PDF"));
    assert!(read(&world, "chrome_mhtml/snapshot.mhtml").contains("Archived"));
    assert!(read(&world, "consolelog/console.jsonl").contains("said by the page"));
    assert!(read(&world, "headers/headers.json").contains("content-type"));
    assert!(read(&world, "redirects/redirects.jsonl").contains("\"initial\""));
    assert!(read(&world, "htmltotext/htmltotext.txt").contains("Archived heading"));
    assert!(
        ran.result("infiniscroll", "")["output_str"].as_str().unwrap().starts_with("scrolled "),
        "{}",
        ran.said
    );
    // This one leaves its pages in files only.
    assert!(
        read(&world, "parse_dom_outlinks/urls.jsonl").contains("http://elsewhere.test/x"),
        "{}",
        ran.said
    );
    assert!(read(&world, "responses/index.jsonl").contains("style.css"));
    let files = ran.result("screenshot", "")["output_files"].as_array().unwrap().clone();
    assert_eq!((files.len(), files[0]["mimetype"].as_str()), (1, Some("image/png")));
    // The session is over: nothing tells hooks of a browser any more.
    let left: Vec<_> = std::fs::read_dir(world.data().join("chrome")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// A59: dialogs of the page are closed, so that it goes on.
#[tokio::test]
async fn dialogs_are_closed() {
    let world = World::new();
    let page = "<title>asks</title><script>addEventListener('load', () => setTimeout(() => { alert('hello'); \
                document.title = 'answered' }, 100))</script>";
    let site = serve(&world, &[("index.html", page)]).await;
    let ran = browse(&world, &site.urls()[0], "modalcloser,title").await;
    assert_eq!((ran.code, ran.status("modalcloser")), (0, "succeeded"), "{}", ran.said);
    assert_eq!(ran.result("modalcloser", "")["output_str"], "1 modals closed");
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// A60, A61: redirects, and files that are no pages.
#[tokio::test]
async fn redirects_and_files_are_seen() {
    let site = Site::start(SiteOptions::default()).await.unwrap();
    let world = World::new();
    let to = site.url("127.0.0.1", "/r/redirect?to=/r/drawing.svg%3Fv=hooks");
    let ran = browse(&world, &to, "redirects,staticfile,headers,responses").await;
    // The one for redirects says its result ten seconds after the load, and knows no SIGTERM: what it wrote is kept.
    succeeded(&ran, &["headers", "responses"]);
    let redirects = read(&world, "redirects/redirects.jsonl");
    assert!(
        redirects.lines().any(|l| serde_json::from_str::<Value>(l).is_ok_and(|l| l["status"] == 302)),
        "{redirects}"
    );
    assert_eq!(ran.status("staticfile"), "succeeded", "{ran:#?}");
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// 2.5: a page that does not load is told to the hooks, which do not wait for it in vain.
#[tokio::test]
async fn a_page_that_does_not_load_is_told() {
    let world = World::new();
    let began = tokio::time::Instant::now();
    let ran = run(&world, "http://127.0.0.1:9/", "title,dom", &["--browser"]).await;
    assert_eq!(ran.code, 9, "{}", ran.said);
    let navigation = ran.result("chrome", "navigate");
    assert!(navigation["output_str"].as_str().unwrap().contains("net::ERR_"), "{navigation}");
    assert_eq!((ran.status("title"), ran.status("dom")), ("failed", "failed"), "{}", ran.said);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(!Path::new(&world.data().join("chrome/cdp_url.txt")).exists());
    world.assert_nothing_left(Duration::from_secs(5)).await;
}
