//! Hooks as a command of visits (S8, A42): real, unmodified plugins beside the page of a real Chromium, and of a Firefox.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use rusqlite::Connection;
use serde_json::{Value, json};
use sonde_proto::visit::v1::{
    AttemptResult, BrowserKind, BrowserSpec, Command, CommandStatus, FailureKind, Instruments,
};
use sonde_site::{Site, SiteOptions};
use sonde_tests::plugins::{modules, package};
use sonde_tests::session::{Browsers, Slot};
use sonde_tests::world::World;

struct Rig {
    world: World,
    site: Site,
    browsers: Browsers,
    slot: Slot,
}

impl Rig {
    async fn start(kind: BrowserKind) -> Self {
        let world = World::new();
        let site = Site::start(SiteOptions::default()).await.unwrap();
        let (bin, dir) = package();
        let [bin, dir, modules] = [bin, dir, modules()].map(|p| p.display().to_string());
        let settings = [
            ("HOOKS__DIRS", dir.as_str()),
            ("HOOKS__PATH", bin.as_str()),
            ("HOOKS__NODE_MODULES", modules.as_str()),
            ("HOOKS__LAUNCH", "interpreter"),
        ];
        let browsers = Browsers::start_with(&world, 1, &settings).await;
        let mut slot = browsers.slot(0).await;
        slot.browser = BrowserSpec { kind: kind.into(), ..BrowserSpec::default() };
        Self { world, site, browsers, slot }
    }

    async fn visit(&mut self, path: &str, commands: Value) -> AttemptResult {
        let commands = commands.as_array().unwrap().iter().map(|command| {
            let mut command = command.clone();
            command["continue_on_error"] = json!(true);
            command["timeout"] = json!("90s");
            sonde_proto::from_json::<Command>("sonde.visit.v1.Command", &command).unwrap()
        });
        let (url, commands) = (self.site.url("127.0.0.1", path), commands.collect());
        let instruments = Instruments { http: true, ..Instruments::default() };
        self.slot.begin_commands(&url, instruments, commands).await;
        let result = self.slot.ended().await;
        assert!(result.seal.as_ref().is_some_and(|s| s.complete), "{result:#?}");
        result
    }

    fn rows(&self, sql: &str, visit_id: i64) -> Vec<(String, String)> {
        let db = Connection::open(self.world.data().join("crawl.sqlite")).unwrap();
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([visit_id], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    async fn stop(self) {
        let Self { world, browsers, slot, .. } = self;
        drop(slot);
        browsers.stop(&world).await;
    }
}

fn value(result: &AttemptResult, index: usize) -> Value {
    let command = &result.commands[index];
    assert_eq!(command.status(), CommandStatus::Ok, "{command:#?} {:?}", result.failure);
    serde_json::from_str(&command.value_json).unwrap()
}

fn hook<'a>(value: &'a Value, plugin: &str, hook: &str) -> &'a Value {
    let of = |h: &&Value| h["plugin"] == plugin && h["hook"].as_str().unwrap().contains(hook);
    value["hooks"].as_array().unwrap().iter().find(of).unwrap_or_else(|| panic!("{plugin}: {value:#}"))
}

/// 2.5, A34, A42, S8: hooks load the visit's page with their listeners there, and see one that is there already; what they
/// leave is stored; what the operator did not allow is refused.
#[tokio::test]
async fn hooks_run_beside_the_page_of_a_visit() {
    let mut rig = Rig::start(BrowserKind::Chromium).await;
    let page = "/p/interaction?v=hooked";
    let url = rig.site.url("127.0.0.1", page);
    let listening = json!({"plugins": ["title", "headers", "screenshot", "dom", "hashes"], "url": url});
    let staying = json!({"plugins": ["title"], "settings": {"TITLE_TIMEOUT": "20"}});
    let commands = json!([
        {"run_hooks": listening},
        {"run_hooks": staying},
        {"evaluate": {"expression": "document.title"}},
        {"run_hooks": {"plugins": ["sh"]}},
        {"run_hooks": {"plugins": ["wget"], "settings": {"WGET_BINARY": "/bin/sh"}}},
    ]);
    let result = rig.visit(page, commands).await;
    let (first, second) = (value(&result, 0), value(&result, 1));
    for plugin in ["title", "headers", "screenshot", "dom", "hashes"] {
        assert_eq!(hook(&first, plugin, "")["status"], "succeeded", "{first:#}");
    }
    assert_eq!(hook(&first, "chrome", "navigate")["output_str"], "page loaded http=200", "{first:#}");
    assert_eq!(result.commands[0].final_url, url);
    let title = value(&result, 2);
    assert_eq!(
        (hook(&first, "title", "")["output_str"].clone(), hook(&second, "title", "")["output_str"].clone()),
        (title.clone(), title)
    );
    assert!(first["records"].as_array().unwrap().iter().any(|r| r["plugin"] == "dom"), "{first:#}");
    // The blobs are those that the hooks left.
    let sql =
        "SELECT name, content_hash FROM artifacts WHERE visit_id = ?1 AND kind = 'hook_output' ORDER BY name";
    let stored = rig.rows(sql, result.visit_id);
    let shot = hook(&first, "screenshot", "")["outputs"][0].clone();
    let same = |(name, hash): &(String, String)| {
        name.ends_with("-0-screenshot-screenshot.png") && shot["sha256"] == hash.as_str()
    };
    assert!(stored.iter().any(same), "{stored:?} {shot}");
    // One page load, for the hooks, and recorded as any other.
    let sql = "SELECT url, method FROM http_requests WHERE visit_id = ?1 AND url LIKE '%/p/interaction%'";
    assert_eq!(rig.rows(sql, result.visit_id).len(), 1);
    let history = rig.rows(
        "SELECT command, command_status FROM crawl_history WHERE visit_id = ?1 ORDER BY command_index",
        result.visit_id,
    );
    assert_eq!(history[0], ("RunHooksCommand".to_owned(), "ok".to_owned()), "{history:?}");
    for refused in [3, 4] {
        let command = &result.commands[refused];
        assert_eq!(
            (command.status(), command.error.as_str()),
            (CommandStatus::Error, "hooks not run"),
            "{command:#?}"
        );
    }
    let failure = result.failure.as_ref();
    assert!(
        failure.is_none_or(|f| f.kind() == FailureKind::Invalid && f.message.contains("permission denied")),
        "{failure:?}"
    );
    // The page and its browser serve on.
    let again = rig.visit(page, json!([{"get": {}}, {"evaluate": {"expression": "1 + 1"}}])).await;
    assert_eq!(value(&again, 1), 2);
    rig.stop().await;
}

/// On Firefox hooks of the browser are left out, with the reason, and the others run.
#[tokio::test]
async fn firefox_runs_hooks_that_need_no_browser() {
    let mut rig = Rig::start(BrowserKind::Firefox).await;
    let url = rig.site.url("127.0.0.1", "/p/javascript?v=hooked");
    let asked = json!({"plugins": ["wget", "htmltotext", "title"], "url": url});
    let result = rig.visit("/p/javascript?v=hooked", json!([{"run_hooks": asked}])).await;
    let told = value(&result, 0);
    for plugin in ["wget", "htmltotext"] {
        assert_eq!(hook(&told, plugin, "")["status"], "succeeded", "{told:#}");
    }
    assert!(told["left_out"]["title"].as_str().unwrap().contains("CHROME_ENABLED"), "{told:#}");
    assert_eq!(result.commands[0].http_status, 0);
    rig.stop().await;
}
