//! Hooks of crawls (A42, A43): at the start, while it runs, and at its end, on real browsers.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};
use sonde_site::{Site, SiteOptions, page};
use sonde_tests::checker::{Expectation, check};
use sonde_tests::world::{Running, World, until};

const CRAWL: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(30);

/// Hooks of a plugin, by file name.
const HOOKS: [(&str, &str); 5] = [
    (
        "on_CrawlSetup__10_prepare.sh",
        "echo made once >> prepared.txt\necho $$ >> \"$TOLD/prepare\"\n\
         echo '{\"type\":\"ArchiveResult\",\"status\":\"succeeded\",\"output_str\":\"prepared\"}'\n",
    ),
    (
        "on_CrawlSetup__20_server.daemon.bg.sh",
        "trap 'echo stopped >> stopped.txt; exit 0' TERM\necho $$ >> \"$TOLD/server\"\necho ready\n\
         while true; do sleep 0.05; done\n",
    ),
    ("on_CrawlSetup__30_broken.sh", "echo no good >&2\nexit 3\n"),
    (
        "on_Snapshot__10_use.sh",
        "cat \"$CRAWL_DIR/local/prepared.txt\" > seen.txt\nkill -0 $(cat \"$TOLD/server\") || exit 4\n\
         echo '{\"type\":\"ArchiveResult\",\"status\":\"succeeded\",\"output_str\":\"used\"}'\n",
    ),
    (
        "on_CrawlCleanup__90_sum.sh",
        "cat prepared.txt stopped.txt > sum.txt\n\
         echo '{\"type\":\"ArchiveResult\",\"status\":\"succeeded\",\"output_str\":\"summed\"}'\n",
    ),
];

struct Rig {
    world: World,
    site: Site,
    config: PathBuf,
}

impl Rig {
    async fn start() -> Self {
        let (world, site) = (World::new(), Site::start(SiteOptions::default()).await.unwrap());
        let (plugin, told) = (world.path().join("plugins/local"), world.path().join("told"));
        std::fs::create_dir_all(&plugin).unwrap();
        std::fs::create_dir_all(&told).unwrap();
        for (name, body) in HOOKS {
            let body = format!("#!/bin/sh\nTOLD='{}'\n{body}", told.display());
            std::fs::write(plugin.join(name), body).unwrap();
        }
        let dirs = world.path().join("plugins").display().to_string();
        let config = world.write("sonde.toml", &format!("[browser.hooks]\ndirs = [{dirs:?}]\n"));
        Self { world, site, config }
    }

    fn crawl(&self, arguments: &[&str]) -> Running {
        let (data, config) = (self.world.data().display().to_string(), self.config.display().to_string());
        let mut all = vec!["crawl", "--out", &data, "--progress", "plain", "--config", &config];
        all.extend(arguments);
        self.world.sonde(all)
    }

    fn urls(&self, pages: &[&str]) -> Vec<String> {
        pages.iter().map(|name| page(name).unwrap().url(&self.site, name, "")).collect()
    }

    fn told(&self, name: &str) -> Vec<String> {
        let told = std::fs::read_to_string(self.world.path().join("told").join(name)).unwrap_or_default();
        told.lines().map(str::to_owned).collect()
    }

    fn db(&self) -> Connection {
        Connection::open(self.world.data().join("crawl.sqlite")).unwrap()
    }

    /// Rows of crawl_hooks: hook, status, output_str, end_reason, files with their bytes.
    fn hooks(&self) -> Vec<(String, String, String, Option<String>, Value)> {
        let db = self.db();
        let mut all = db
            .prepare("SELECT hook, status, output_str, end_reason, outputs FROM crawl_hooks ORDER BY hook")
            .unwrap();
        let rows = all.query_map([], |row| {
            let outputs: String = row.get(4)?;
            let outputs = serde_json::from_str(&outputs).expect("JSON");
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, outputs))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn blob(&self, sha256: &str) -> String {
        let path = walk(&self.world.data()).into_iter().find(|p| p.ends_with(sha256));
        std::fs::read_to_string(path.unwrap_or_else(|| panic!("no blob {sha256}"))).unwrap()
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

fn alive(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

/// A42, A43, A25, 2.5: the hooks of the start run once for a crawl on several slots, their daemon lives as long as the crawl,
/// the hooks of pages see what they left, those of the end come last, and every one has its row with its files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_has_its_hooks_from_start_to_end() {
    let rig = Rig::start().await;
    let urls = rig.urls(&["redirects", "posts", "cookies", "frames"]);
    let options = ["--hooks", "local", "--browsers", "2", "--load", "networkidle"];
    let arguments: Vec<&str> = urls.iter().map(String::as_str).chain(options).collect();
    let mut sonde = rig.crawl(&arguments);
    assert_eq!(sonde.code(CRAWL).await, 0, "{}\n{}", sonde.stdout(), sonde.stderr());
    assert!(sonde.stderr().contains("4 hooks of the crawl, 1 failed"), "{}", sonde.stderr());
    assert_eq!((rig.told("prepare").len(), rig.told("server").len()), (1, 1), "once for all slots");
    assert!(!alive(&rig.told("server")[0]));
    let hooks = rig.hooks();
    let told: Vec<_> = hooks.iter().map(|h| (h.0.as_str(), h.1.as_str(), h.3.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("on_CrawlCleanup__90_sum.sh", "succeeded", None),
            ("on_CrawlSetup__10_prepare.sh", "succeeded", None),
            ("on_CrawlSetup__20_server.daemon.bg.sh", "noresults", Some("clean_up")),
            ("on_CrawlSetup__30_broken.sh", "failed", None),
        ]
    );
    assert!(hooks[3].2.contains("no good"), "{hooks:#?}");
    let sum = hooks[0].4.as_array().unwrap().iter().find(|o| o["path"] == "sum.txt").unwrap();
    assert_eq!(sum["stored"], json!(true));
    assert_eq!(rig.blob(sum["sha256"].as_str().unwrap()), "made once\nstopped\n");
    // Each page's hook has seen what the crawl's left.
    let db = rig.db();
    let mut values =
        db.prepare("SELECT value_json FROM crawl_history WHERE command = 'RunHooksCommand'").unwrap();
    let values: Vec<String> = values.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(values.len(), 4);
    for value in values {
        let value: Value = serde_json::from_str(&value).unwrap();
        let [hook] = value["hooks"].as_array().unwrap().as_slice() else { panic!("{value:#}") };
        assert_eq!((&hook["hook"], &hook["output_str"]), (&json!("on_Snapshot__10_use.sh"), &json!("used")));
        let seen = hook["outputs"].as_array().unwrap().iter().find(|o| o["path"] == "seen.txt").unwrap();
        assert_eq!(rig.blob(seen["sha256"].as_str().unwrap()), "made once\n");
    }
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let ended = |of| {
        count(&format!(
            "SELECT COUNT(*) FROM processes WHERE process_type = 'hook' AND status = 'exited' AND context LIKE '%{of}%'"
        ))
    };
    assert_eq!((ended("crawl_id"), ended("visit_id")), (8, 4), "four of the crawl, one of each visit");
    check(&rig.world.data(), &Expectation::all_ok(4)).unwrap().assert_clean();
    rig.world.assert_nothing_left(SOON).await;
}

/// A43, R3: a crawl whose program is killed has its hooks again when it goes on, and ends in order; what was killed is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_crawl_has_its_hooks_again() {
    let rig = Rig::start().await;
    let urls = rig.urls(&["redirects", "posts", "hang"]);
    let options = ["--hooks", "local", "--timeout", "20s", "--retries", "0"];
    let arguments: Vec<&str> = urls.iter().map(String::as_str).chain(options).collect();
    let mut sonde = rig.crawl(&arguments);
    until("the hooks of the start", CRAWL, || (!rig.told("server").is_empty()).then_some(())).await;
    sonde.signal_group(Signal::KILL);
    sonde.end(CRAWL).await;
    let first = rig.told("server")[0].clone();
    until("the end of the killed crawl's hooks", Duration::from_secs(5), || (!alive(&first)).then_some(()))
        .await;
    let mut again = rig.crawl(&arguments);
    let code = again.code(CRAWL).await;
    assert!(again.stderr().contains("hooks of the crawl, 1 failed"), "{code} {}", again.stderr());
    assert_eq!(rig.told("server").len(), 2);
    let ended = rig.hooks();
    assert_eq!(ended.len(), 4, "those of the run that ended: {ended:#?}");
    rig.world.assert_nothing_left(SOON).await;
}

/// S8: where the operator allows no hooks, no visit of such a crawl is made, and each says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_that_are_not_allowed_end_the_visits() {
    let rig = Rig::start().await;
    let urls = rig.urls(&["posts"]);
    let data = rig.world.data().display().to_string();
    let mut sonde =
        rig.world.sonde(["crawl", "--out", &data, "--progress", "plain", "--hooks", "local", &urls[0]]);
    let code = sonde.code(CRAWL).await;
    assert_ne!(code, 0);
    assert!(sonde.stderr().contains("hooks are not allowed here"), "{}", sonde.stderr());
    let outcome: String =
        rig.db().query_row("SELECT outcome FROM visit_outcomes", [], |row| row.get(0)).unwrap();
    assert_eq!(outcome, "error");
    let requests: i64 =
        rig.db().query_row("SELECT COUNT(*) FROM http_requests", [], |row| row.get(0)).unwrap();
    assert_eq!(requests, 0);
}
