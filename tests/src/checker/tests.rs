//! A sound store, and one planted fault a test.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use sonde_proto::schema::{self, ColumnKind};

use super::*;

const PAGE: &str = "http://doc-1.localhost:8000/a.html";
const STYLE: &str = "http://doc-1.localhost:8000/s.css";

/// Two visits of one crawl: the first needed a second attempt, the second one went well at once.
struct Store {
    db: Connection,
    blobs: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let db = Connection::open_in_memory().unwrap();
        for table in schema::TABLES {
            // No keys: the faults planted are those that a broken storage-service would let through.
            let columns: Vec<_> = table.columns().iter().map(|c| format!("\"{}\"", c.name)).collect();
            db.execute_batch(&format!("CREATE TABLE {} ({})", table.name, columns.join(", "))).unwrap();
        }
        Self { db, blobs: tempfile::tempdir().unwrap() }
    }

    fn sound() -> Self {
        let store = Self::new();
        store.attempt(11, 1, 1, false);
        store.row("incomplete_visits", &[("visit_id", 11.into()), ("reason", text("gap"))]);
        store.attempt(12, 1, 2, true);
        store.attempt(21, 2, 1, true);
        for (visit, attempt, visit_no, attempts) in [(12, 2, 1, 2), (21, 1, 2, 1)] {
            let stamp = |stream: i64, ordinal: i64, event: i64| {
                let at: i64 = 1000 + event;
                vec![
                    ("visit_id", Value::from(visit)),
                    ("browser_id", Value::from(7)),
                    ("attempt", Value::from(attempt)),
                    ("stream", stream.into()),
                    ("ordinal", ordinal.into()),
                    ("event_ordinal", event.into()),
                    ("captured_at", at.into()),
                    ("producer", text(if stream == 0 { "service" } else { "devtools" })),
                ]
            };
            for (event, url) in [PAGE, STYLE].iter().enumerate() {
                let event = event as i64;
                let facts = |more: &[(&'static str, Value)]| {
                    let mut row =
                        vec![("url", text(url)), ("request_id", event.into()), ("hop_index", 0.into())];
                    row.extend_from_slice(more);
                    row
                };
                let mut request = stamp(1, 2 * event, 2 * event);
                request.extend(facts(&[("method", text("GET"))]));
                store.row("http_requests", &request);
                let mut response = stamp(1, 2 * event + 1, 2 * event + 1);
                response.extend(facts(&[("is_cached", 0.into()), ("from_service_worker", 0.into())]));
                store.row("http_responses", &response);
            }
            store.row("crawl_history", &stamp(0, 0, 4));
            store.row(
                "visit_outcomes",
                &[
                    ("crawl_id", text("c")),
                    ("visit_no", visit_no.into()),
                    ("outcome", text("ok")),
                    ("visit_id", visit.into()),
                    ("attempts", attempts.into()),
                ],
            );
        }
        store
    }

    fn attempt(&self, visit: i64, visit_no: i64, attempt: i64, whole: bool) {
        let mut row = vec![
            ("visit_id", Value::from(visit)),
            ("crawl_id", text("c")),
            ("visit_no", visit_no.into()),
            ("attempt", attempt.into()),
            ("fence", attempt.into()),
        ];
        let mut seal = row.clone();
        row.extend([("browser_id", 7.into()), ("site_url", text(PAGE))]);
        self.row("site_visits", &row);
        let (streams, counts, outcome) = if whole {
            (
                r#"[{"stream":0,"last_ordinal":0,"stored":1,"missing":[]},{"stream":1,"last_ordinal":3,"stored":4,"missing":[]}]"#,
                r#"{"http_requests":2,"http_responses":2,"crawl_history":1}"#,
                "ok",
            )
        } else {
            (r#"[{"stream":1,"last_ordinal":4,"stored":0,"missing":[[0,4]]}]"#, "{}", "crashed")
        };
        seal.extend([
            ("complete", i64::from(whole).into()),
            ("outcome", text(outcome)),
            ("streams", text(streams)),
            ("row_counts", text(counts)),
            ("instruments_ready_at", 10.into()),
            ("navigation_start_at", 20.into()),
        ]);
        self.row("visit_seals", &seal);
    }

    /// Inserts a row; columns that are not named hold a zero of their kind, or NULL where they may.
    fn row(&self, table: &str, given: &[(&str, Value)]) {
        let columns = schema::table(table).unwrap().columns();
        for (name, _) in given {
            assert!(columns.iter().any(|c| c.name == *name), "{table} has no {name}");
        }
        let values = columns.iter().map(|column| {
            given.iter().find(|(name, _)| *name == column.name).map(|(_, value)| value.clone()).unwrap_or(
                match column.kind {
                    _ if column.nullable => Value::Null,
                    ColumnKind::Text => text(""),
                    ColumnKind::Real => 0.0.into(),
                    _ => 0.into(),
                },
            )
        });
        let marks = vec!["?"; columns.len()].join(",");
        self.db.execute(&format!("INSERT INTO {table} VALUES ({marks})"), params_from_iter(values)).unwrap();
    }

    /// Changes the store; says that it changed something.
    fn plant(&self, sql: &str) -> &Self {
        assert!(self.db.execute(sql, []).unwrap() > 0, "nothing was planted: {sql}");
        self
    }

    fn check(&self, expectation: &Expectation) -> Report {
        check_open(&self.db, self.blobs.path(), expectation).unwrap()
    }

    /// The one rule that is violated.
    fn rules(&self) -> Vec<&'static str> {
        let mut rules: Vec<_> = self.check(&expectation()).violations.iter().map(|v| v.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn hit(url: &str) -> LoggedRequest {
    LoggedRequest { method: "GET".to_owned(), url: url.to_owned() }
}

fn expectation() -> Expectation {
    Expectation::all_ok(2).with_log(vec![hit(PAGE), hit(STYLE), hit(PAGE), hit(STYLE)])
}

fn planted(sql: &str) -> Vec<&'static str> {
    let store = Store::sound();
    store.plant(sql);
    store.rules()
}

#[test]
fn a_sound_store_is_sound() {
    let report = Store::sound().check(&expectation());
    report.assert_clean();
    let figures = ["visits", "outcomes", "attempts", "outcome.ok", "rows.http_requests", "site.hits"];
    assert_eq!(figures.map(|name| report.figure(name)), [2, 2, 3, 2, 4, 4]);
}

/// R1
#[test]
fn outcomes_that_are_missing_double_or_foreign_are_found() {
    assert_eq!(planted("DELETE FROM visit_outcomes WHERE visit_no = 2"), ["R1"]);
    assert_eq!(planted("INSERT INTO visit_outcomes SELECT * FROM visit_outcomes WHERE visit_no = 2"), ["R1"]);
    assert_eq!(planted("UPDATE visit_outcomes SET visit_id = 21 WHERE visit_no = 1"), ["R1"]);
    assert_eq!(planted("UPDATE visit_outcomes SET outcome = 'crashed' WHERE visit_no = 1"), ["R1"]);
    assert_eq!(planted("UPDATE visit_outcomes SET attempts = 1 WHERE visit_no = 1"), ["R1"]);
    let store = Store::sound();
    assert!(store.check(&Expectation { visits: Some(3), ..expectation() }).violates("R1"));
    store.plant("DELETE FROM visit_outcomes WHERE visit_no = 2");
    store.check(&Expectation { unfinished: true, ..expectation() }).assert_clean();
}

/// R3, M07
#[test]
fn rows_that_are_double_or_out_of_order_are_found() {
    assert!(
        planted("INSERT INTO http_requests SELECT * FROM http_requests WHERE visit_id = 21").contains(&"R3")
    );
    // Across tables, too: the ordinals of a stream are one sequence.
    assert!(
        planted("UPDATE http_responses SET ordinal = 0 WHERE visit_id = 21 AND ordinal = 1").contains(&"R3")
    );
    assert_eq!(planted("UPDATE crawl_history SET event_ordinal = 5 WHERE visit_id = 21"), ["M07"]);
    assert_eq!(planted("UPDATE crawl_history SET captured_at = 1 WHERE visit_id = 21"), ["M07"]);
    assert_eq!(
        planted(
            "UPDATE http_requests SET event_ordinal = 2 - event_ordinal, captured_at = 1000 WHERE visit_id = 21"
        ),
        ["M07"]
    );
}

/// R4
#[test]
fn gaps_that_a_seal_does_not_mark_are_found() {
    assert_eq!(planted("DELETE FROM crawl_history WHERE visit_id = 21"), ["R4"]);
    assert!(planted("DELETE FROM http_responses WHERE visit_id = 21 AND ordinal = 1").contains(&"R4"));
    assert_eq!(planted("UPDATE visit_seals SET streams = '[]' WHERE visit_id = 21"), ["R4"]);
    assert_eq!(planted("UPDATE visit_seals SET streams = replace(streams, '[[0,4]]', '[]')"), ["R4"]);
    assert_eq!(planted("UPDATE visit_seals SET row_counts = '{}' WHERE visit_id = 21"), ["R4"]);
    assert_eq!(planted("UPDATE visit_seals SET complete = 0 WHERE visit_id = 21"), ["R4"]);
    assert_eq!(planted("UPDATE visit_seals SET complete = 1 WHERE visit_id = 11"), ["R4"]);
    assert_eq!(planted("DELETE FROM visit_seals WHERE visit_id = 11"), ["R4"]);
    assert_eq!(planted("DELETE FROM incomplete_visits"), ["R4"]);
    assert_eq!(planted("UPDATE visit_seals SET outcome = 'timeout' WHERE visit_id = 21"), ["R4"]);
}

/// R5, R6
#[test]
fn rows_of_other_visits_are_found() {
    assert!(planted("UPDATE crawl_history SET visit_id = 99 WHERE visit_id = 21").contains(&"R5"));
    assert_eq!(planted("UPDATE http_requests SET browser_id = 8 WHERE visit_id = 21"), ["R5"]);
    assert_eq!(planted("UPDATE visit_seals SET instruments_ready_at = 20 WHERE visit_id = 21"), ["R5"]);
    assert_eq!(
        planted("UPDATE http_requests SET top_level_url = 'http://doc-2.localhost:8000/b.html'"),
        ["R5"]
    );
    let store = Store::sound();
    store.plant("UPDATE site_visits SET site_url = 'http://site-0.localhost:8000/p/cookies?v=mine'");
    store.plant(
        "UPDATE http_responses SET url = 'http://site-0.localhost:8000/r/x?n=1&v=mine' WHERE visit_id = 21",
    );
    assert!(store.rules().is_empty());
    store.plant(
        "UPDATE http_responses SET url = 'http://site-0.localhost:8000/r/x?n=1&v=yours' WHERE visit_id = 21",
    );
    assert_eq!(store.rules(), ["R5"]);
    assert_eq!(planted("UPDATE site_visits SET fence = 3 WHERE visit_id = 11"), ["R6"]);
}

/// R7
#[test]
fn rows_of_attempts_without_a_seal_are_found() {
    assert!(planted("DELETE FROM visit_seals WHERE visit_id = 21").contains(&"R7"));
}

/// R8
#[test]
fn blobs_that_dangle_or_lie_are_found() {
    let store = Store::sound();
    let hash = sonde_site::sha256_hex(b"body");
    store.plant(&format!("UPDATE http_responses SET content_hash = '{hash}' WHERE ordinal = 1"));
    assert_eq!(store.rules(), ["R8"]);
    let directory = store.blobs.path().join(&hash[..2]);
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join(&hash), b"body").unwrap();
    assert!(store.rules().is_empty());
    std::fs::write(directory.join(&hash), b"other").unwrap();
    assert_eq!(store.rules(), ["R8"]);
}

/// M05
#[test]
fn rows_of_no_visit_are_counted() {
    let store = Store::sound();
    store.row("unattributed", &[("visit_id", (-1).into()), ("table_name", text("javascript"))]);
    assert_eq!(store.rules(), ["M05"]);
    assert_eq!(store.check(&Expectation::default()).figure("unattributed"), 1);
}

/// M05, I14
#[test]
fn answers_after_the_end_of_a_visit_are_those_of_its_unfinished_requests_only() {
    let late = |visit_id: i64, url: &str| {
        let store = Store::sound();
        store.row(
            "http_failures",
            &[("visit_id", 21.into()), ("url", text(PAGE)), ("error", text("unfinished"))],
        );
        let payload = format!(r#"{{"visit_id":{visit_id},"params":{{"response":{{"url":"{url}"}}}}}}"#);
        let of_none = [
            ("visit_id", (-1).into()),
            ("table_name", text("http_responses")),
            ("reason", text("visit_ended")),
            ("payload", text(&payload)),
        ];
        store.row("unattributed", &of_none);
        store.rules()
    };
    assert!(!late(21, PAGE).contains(&"M05"), "{:?}", late(21, PAGE));
    assert!(late(21, STYLE).contains(&"M05"));
    // What an attempt that broke had recorded is not known; there is no attempt 99.
    assert!(!late(11, STYLE).contains(&"M05"), "{:?}", late(11, STYLE));
    assert!(late(99, PAGE).contains(&"M05"));
}

/// I10
#[test]
fn requests_of_one_side_only_are_found() {
    let store = Store::sound();
    let with = |log: Vec<LoggedRequest>| store.check(&Expectation::all_ok(2).with_log(log));
    let all = [hit(PAGE), hit(STYLE), hit(PAGE), hit(STYLE)];
    let other = hit("http://doc-3.localhost:8000/other.html");
    let report = with([&all[..], &[other]].concat());
    assert_eq!((report.violates("I10"), report.figure("site.hits_not_recorded")), (true, 1));
    let report = with(all[..3].to_vec());
    assert_eq!((report.violates("I10"), report.figure("site.recorded_not_hit")), (true, 1));
    // An attempt of this host broke: what it asked for was not stored with it.
    let report = with([&all[..], &[hit(PAGE)]].concat());
    assert_eq!((report.violates("I10"), report.figure("site.hits_of_broken_attempts")), (false, 1));
    // What a cache answered need not have reached the site.
    store.plant("UPDATE http_responses SET is_cached = 1 WHERE visit_id = 21 AND ordinal = 3");
    with(all[..3].to_vec()).assert_clean();
    with(all.to_vec()).assert_clean();
}

#[test]
fn an_access_log_is_read_and_its_bad_lines_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    std::fs::write(&path, format!("{{\"method\":\"GET\",\"url\":\"{PAGE}\",\"status\":200}}\n\n")).unwrap();
    assert_eq!(read_log(&path).unwrap(), [hit(PAGE)]);
    std::fs::write(&path, "{\"method\":\"GET\"}\n").unwrap();
    assert!(read_log(&path).unwrap_err().to_string().starts_with("line 1 of the access log"));
}
