//! Archivists' hooks (A23-A44, A51-A80): real, unmodified plugins of `abx-plugins`, run by `sonde hooks` without the internet.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use sonde_site::{Site, SiteOptions};
use sonde_tests::plugins::{RUN, package, run, run_in};
use sonde_tests::world::World;

fn url_of(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// A71-A74, A29: the parsers of lists say what pages they found.
#[tokio::test]
async fn lists_of_pages_become_snapshots() {
    let html = "<a href='http://found.test/html'>x</a>";
    let rss = "<?xml version='1.0'?><rss version='2.0'><channel><title>t</title><item><title>i</title>\
               <link>http://found.test/rss</link></item></channel></rss>";
    let netscape = "<!DOCTYPE NETSCAPE-Bookmark-file-1>\n<DL><p>\n<DT><A HREF=\"http://found.test/netscape\" \
                    ADD_DATE=\"1600000000\" TAGS=\"a,b\">t</A>\n</DL>";
    let jsonl = "{\"url\": \"http://found.test/jsonl\", \"title\": \"t\"}\n";
    let lists = [
        ("html", "list.html", html),
        ("txt", "list.txt", "see http://found.test/txt for it"),
        ("rss", "list.xml", rss),
        ("netscape", "list.html", netscape),
        ("jsonl", "list.jsonl", jsonl),
    ];
    for (kind, file, text) in lists {
        let world = World::new();
        let path = world.write(file, text);
        let plugin = format!("parse_{kind}_urls");
        let ran = run(&world, &url_of(&path), &plugin, &[]).await;
        assert_eq!((ran.code, ran.status(&plugin)), (0, "succeeded"), "{kind}: {ran:#?}");
        let wanted = format!("http://found.test/{kind}");
        assert!(ran.found(&plugin).contains(&wanted.as_str()), "{kind}: {ran:#?}");
        world.assert_nothing_left(Duration::from_secs(5)).await;
    }
}

/// A23, S8: the list shows hooks in order and missing programs; unknown plugins and directories are refused.
#[tokio::test]
async fn the_list_says_what_is_there() {
    let world = World::new();
    let (bin, dir) = package();
    let (bin, dir) = (bin.display().to_string(), dir.display().to_string());
    let mut sonde =
        world.sonde(["hooks", "list", "--dir", &dir, "--path", &bin, "--with", "WGET_ENABLED=false"]);
    assert_eq!(sonde.code(RUN).await, 0, "{}", sonde.stderr());
    let said = sonde.stdout();
    for words in [
        "on_Snapshot__06_wget.finite.bg.py",
        "WGET_ENABLED is false",
        "ytdlp",
        "on_CrawlSetup__91_chrome_wait.js",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let mut sonde = world.sonde(["hooks", "run", "http://a.test/", "--dir", &dir, "--plugins", "/bin/sh"]);
    assert_eq!(sonde.code(RUN).await, 4);
    assert!(sonde.stderr().contains("no plugin is named /bin/sh"), "{}", sonde.stderr());
    let mut sonde = world.sonde(["hooks", "list"]);
    assert_eq!(sonde.code(RUN).await, 4);
    assert!(sonde.stderr().contains("--dir DIR"), "{}", sonde.stderr());
}

/// A36, A51, A52: what downloads in the background has its time, and those that read its files find them.
#[tokio::test]
async fn downloads_have_their_time() {
    let world = World::new();
    let site = Site::start(SiteOptions::default()).await.unwrap();
    // The resolver of C does not know names below localhost.
    let url = site.url("127.0.0.1", "/p/javascript?v=hooks");
    let ran = run(&world, &url, "wget,favicon,htmltotext,parse_html_urls,hashes", &["--json"]).await;
    assert_eq!(ran.status("wget"), "succeeded", "{ran:#?}");
    assert_eq!(ran.status("htmltotext"), "succeeded", "{ran:#?}");
    assert_eq!(ran.status("hashes"), "succeeded", "{ran:#?}");
    let text = std::fs::read_to_string(world.data().join("htmltotext/htmltotext.txt")).unwrap();
    assert!(text.contains("javascript"), "{text}");
    // The hashes are those of files that wget had brought before.
    let hashes = std::fs::read_to_string(world.data().join("hashes/hashes.json")).unwrap();
    assert!(hashes.contains("wget/") && hashes.contains("htmltotext/"), "{hashes}");
    // The site has no icon.
    assert_eq!(ran.result("favicon", "")["plugin"], "favicon", "{ran:#?}");
    assert!(!ran.said.contains("\"signal\":15"), "none is asked to end: {}", ran.said);
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// A36, A75: git clones a repository from disk.
#[tokio::test]
async fn a_repository_is_cloned() {
    let world = World::new();
    let source = world.path().join("source.git");
    let script = format!(
        "git init -q {0} && git -C {0} -c user.name=a -c user.email=a@a.test commit -q --allow-empty -m first",
        source.display()
    );
    let mut made = world.start(Path::new("/bin/sh"), ["-c", &script]);
    assert_eq!(made.code(RUN).await, 0, "{}", made.stderr());
    let ran = run(&world, &url_of(&source), "git", &["--with", "GIT_DOMAINS="]).await;
    assert_eq!(ran.status("git"), "succeeded", "{ran:#?}");
    let cloned = std::fs::read_dir(world.data().join("git")).unwrap().filter_map(Result::ok);
    assert!(cloned.into_iter().any(|e| e.path().is_dir()), "{ran:#?}");
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// A hook of a plugin of this test.
fn plugin(world: &World, file: &str, script: &str) -> std::path::PathBuf {
    let dir = world.path().join("plugins");
    std::fs::create_dir_all(dir.join("mine")).unwrap();
    std::fs::write(dir.join("mine").join(file), script).unwrap();
    dir
}

/// A41-A43, A45: pages that hooks find are run, no deeper, no more and no larger than asked, by workers beside each other.
#[tokio::test]
async fn pages_that_hooks_find_are_run_within_limits() {
    let world = World::new();
    let find = r#"head -c 1000 /dev/zero > body.bin
for n in 1 2 3; do echo "{\"type\":\"Snapshot\",\"url\":\"${1#--url=}$n/\"}"; done
echo '{"type":"ArchiveResult","status":"succeeded","output_str":"found"}'"#;
    plugin(
        &world,
        "on_CrawlSetup__10_server.daemon.bg.sh",
        "trap 'exit 0' TERM; touch \"$CRAWL_DIR/up\"; echo up; while :; do sleep 60 & wait $!; done",
    );
    let dir =
        plugin(&world, "on_Snapshot__10_find.sh", &format!("[ -e \"$CRAWL_DIR/up\" ] || exit 4\n{find}"));
    let limits = ["--depth", "2", "--max-urls", "8", "--max-size", "5500B", "--workers", "3"];
    let ran = run_in(&world, &dir, "http://a.test/", &limits).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    let pages: Vec<_> =
        std::fs::read_dir(world.data().join("snapshots")).unwrap().filter_map(Result::ok).collect();
    assert_eq!(pages.len(), 8, "{}", ran.said);
    let kept = pages.iter().filter(|page| page.path().join("mine/body.bin").exists()).count();
    assert_eq!(kept, 5, "{}", ran.said);
    assert!(
        ran.said.contains("9 hooks started, 0 killed") && ran.said.contains("8 pages, 5000 bytes"),
        "{}",
        ran.said
    );
    assert!(ran.said.contains("beyond the number of pages") || ran.said.contains("too deep"), "{}", ran.said);
    assert_eq!(ran.result("mine", "server")["status"], "noresults", "it is ended with the crawl, and obeys");
    let depths: Vec<_> = ran
        .index
        .iter()
        .filter(|l| l["type"] == "Snapshot")
        .map(|l| l["snapshot_depth"].as_u64().unwrap())
        .collect();
    assert!(depths.contains(&1) && depths.iter().all(|d| *d <= 2), "{depths:?}");
    world.assert_nothing_left(Duration::from_secs(5)).await;
}

/// A44, A46: words on standard input and Ctrl-C are obeyed; a retry runs only what failed or was skipped.
#[tokio::test]
async fn a_run_is_interrupted_and_taken_up_again() {
    let world = World::new();
    plugin(
        &world,
        "on_Snapshot__10_done.sh",
        r#"echo x >> ran; echo '{"type":"ArchiveResult","status":"succeeded"}'"#,
    );
    let dir =
        plugin(&world, "on_Snapshot__20_stuck.sh", "[ -e again ] && exit 0; touch again; echo up; sleep 300");
    let out = world.data();
    let [dir_text, out_text] = [&dir, &out].map(|p| p.display().to_string());
    let mut sonde =
        world.sonde(["hooks", "run", "http://a.test/", "--dir", &dir_text, "--out", &out_text, "--json"]);
    sonde_tests::world::until("the second hook", RUN, || {
        sonde.stdout().contains("\"line\":\"up\"").then_some(())
    })
    .await;
    sonde.signal_group(Signal::INT);
    assert_eq!(sonde.code(RUN).await, 11, "{}", sonde.stderr());
    let ran = run_in(&world, &dir, "http://a.test/", &["--retry"]).await;
    assert_eq!(
        (ran.code, ran.result("mine", "stuck")["status"].as_str()),
        (0, Some("noresults")),
        "{ran:#?}"
    );
    assert_eq!(
        std::fs::read_to_string(out.join("mine/ran")).unwrap(),
        "x\n",
        "what succeeded is not run again"
    );
    let ran = run_in(&world, &dir, "http://a.test/", &["--retry"]).await;
    assert!(ran.code == 4 && ran.said.contains("nothing failed"), "{ran:#?}");
    world.assert_nothing_left(Duration::from_secs(5)).await;
}
