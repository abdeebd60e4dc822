//! Archivists' hooks (A23-A44, A51-A80): real, unmodified plugins of `abx-plugins`, run by `sonde hooks` without the internet.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sonde_tests::world::World;

const RUN: Duration = Duration::from_secs(120);
/// As `./x setup` installs it.
const VENV: &str = "abx-plugins-1.11.86";

/// The programs and the plugins of the package.
fn package() -> (PathBuf, PathBuf) {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let venv = cache.join("sonde").join(VENV);
    let lib = std::fs::read_dir(venv.join("lib")).unwrap_or_else(|e| panic!("{venv:?}: {e}; run ./x setup"));
    let python =
        lib.filter_map(Result::ok).map(|e| e.path()).find(|p| p.join("site-packages").exists()).unwrap();
    (venv.join("bin"), python.join("site-packages/abx_plugins/plugins"))
}

/// Runs plugins on a page; gives the exit code and the lines of the index.
async fn run(world: &World, url: &str, plugins: &str, more: &[&str]) -> (i32, Vec<Value>, String) {
    let (bin, dir) = package();
    let (bin, dir, out) =
        (bin.display().to_string(), dir.display().to_string(), world.data().display().to_string());
    let mut arguments = vec!["hooks", "run", url, "--dir", &dir, "--path", &bin, "--plugins", plugins];
    arguments.extend([
        "--out",
        &out,
        "--launch",
        "interpreter",
        "--with",
        "FAVICON_PROVIDER=",
        "--with",
        "TIMEOUT=60",
    ]);
    arguments.extend(more);
    let mut sonde = world.sonde(arguments);
    let code = sonde.code(RUN).await;
    let said = format!("{}\n{}", sonde.stdout(), sonde.stderr());
    let index = std::fs::read_to_string(world.data().join("index.jsonl")).unwrap_or_default();
    (code, index.lines().map(|l| serde_json::from_str(l).unwrap()).collect(), said)
}

fn result<'a>(index: &'a [Value], plugin: &str) -> &'a Value {
    index.iter().rfind(|l| l["type"] == "ArchiveResult" && l["plugin"] == plugin).unwrap()
}

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
        let (code, index, said) = run(&world, &url_of(&path), &plugin, &[]).await;
        assert_eq!(
            (code, &result(&index, &plugin)["status"]),
            (0, &"succeeded".into()),
            "{kind}: {said}\n{index:#?}"
        );
        let wanted = format!("http://found.test/{kind}");
        let found = |l: &Value| {
            l["type"] == "Snapshot" && l["url"] == wanted.as_str() && l["plugin"] == plugin.as_str()
        };
        assert!(index.iter().any(found), "{kind}: {index:#?}");
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
