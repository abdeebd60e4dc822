//! P5 and P6: what gRPC, fsynced acks and the seal cost, against plain batch inserts with the same durability.
//!
//! `cargo bench -p sonde-storage`. Runs of both sides alternate; medians of five are printed.
#[path = "../tests/harness/mod.rs"]
mod harness;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::*;
use prost::Message;
use rusqlite::types::{ToSqlOutput, ValueRef};
use sonde_proto::record::v1::{JavascriptCall, Producer, Record, RecordList, record};
use sonde_proto::schema::{self, Row, Value};
use sonde_proto::storage::v1::{IngestRequest, StreamEnd};
use sonde_proto::visit::v1::Outcome;

const RUNS: usize = 5;
const ATTEMPTS: i64 = 8;
const BATCHES: i64 = 40;
const PER_BATCH: i64 = 256;
const ROWS: i64 = ATTEMPTS * BATCHES * PER_BATCH;

fn call(visit_id: i64, ordinal: i64) -> JavascriptCall {
    JavascriptCall {
        page_scoped_event_ordinal: ordinal,
        tab_id: 1,
        script_url: Some(format!("https://cdn.tracker.test/{visit_id}/fp.js?v=3.4.1")),
        script_line: Some("1".into()),
        script_col: Some("18422".into()),
        func_name: Some("collect".into()),
        document_url: Some("https://www.site.test/article/2026/11/22/a-long-enough-path".into()),
        top_level_url: Some("https://www.site.test/article/2026/11/22/a-long-enough-path".into()),
        symbol: "window.navigator.userAgent".into(),
        operation: "get".into(),
        value: Some(
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140".into(),
        ),
        ..Default::default()
    }
}

fn request(visit_id: i64, fence: i64, index: i64) -> IngestRequest {
    let first = index * PER_BATCH;
    let records = (first..first + PER_BATCH)
        .map(|o| Record {
            captured_at_us: 1_700_000_000_000_000 + o,
            row: Some(record::Row::Javascript(call(visit_id, o))),
        })
        .collect();
    IngestRequest {
        visit_id,
        fence,
        stream: 2,
        producer: Producer::Extension.into(),
        extension_session_uuid: "0198c0de-0000-7000-8000-00000000000a".into(),
        first_ordinal: first,
        count: PER_BATCH as u32,
        payload: RecordList { records, ..RecordList::default() }.encode_to_vec().into(),
    }
}

/// All attempts, a few at a time as the browsers of one machine are, acked and sealed.
async fn ours(dir: &Path) -> Duration {
    let service = Service::start(dir).await;
    let work: Vec<_> = (1..=ATTEMPTS)
        .map(|id| (visit(id, id, 1), (0..BATCHES).map(|i| request(id, 10, i)).collect::<Vec<_>>()))
        .collect();
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (v, batches) in work {
        let mut client = service.client();
        tasks.spawn(async move {
            client.open(&v).await.expect("opens");
            let mut stream = client.stream().await.expect("a stream");
            let requests = stream.requests.clone();
            tokio::spawn(async move {
                for batch in batches {
                    requests.send(batch).await.expect("sent");
                }
            });
            for _ in 0..BATCHES {
                assert_eq!(stream.next().await.expect("an ack").refused, None);
            }
            let end = StreamEnd {
                stream: 2,
                producer: Producer::Extension.into(),
                extension_session_uuid: "0198c0de-0000-7000-8000-00000000000a".into(),
                last_ordinal: BATCHES * PER_BATCH - 1,
                ..Default::default()
            };
            assert!(client.seal(&v, vec![end], Outcome::Ok).await.expect("seals").complete);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("an attempt");
    }
    let took = started.elapsed();
    service.stop().await;
    assert_eq!(number(dir, "SELECT count(*) FROM javascript"), ROWS);
    took
}

/// Plain inserts into the same table with the same indexes; `per_commit` rows in each durable transaction.
fn bare(dir: &Path, per_commit: i64) -> Duration {
    let mut db = database(dir);
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32768;")
        .expect("set");
    let table = schema::table("javascript").expect("a table");
    let names: Vec<_> = table.columns().iter().map(|c| format!("\"{}\"", c.name)).collect();
    let marks = vec!["?"; names.len()].join(", ");
    let sql = format!("INSERT INTO javascript ({}) VALUES ({marks})", names.join(", "));
    let rows: Vec<_> = (0..ROWS).map(|n| (n / (ROWS / ATTEMPTS) + 1, n % (ROWS / ATTEMPTS))).collect();
    let rows: Vec<_> = rows.into_iter().map(|(id, o)| (id, o, call(id, o))).collect();
    let started = Instant::now();
    for chunk in rows.chunks(per_commit as usize) {
        let transaction = db.transaction().expect("begins");
        {
            let mut statement = transaction.prepare_cached(&sql).expect("sql");
            for (id, ordinal, row) in chunk {
                let mut at = 0;
                let mut put = |value: Value<'_>| {
                    at += 1;
                    let value = match value {
                        Value::Null => ValueRef::Null,
                        Value::Integer(i) => ValueRef::Integer(i),
                        Value::Real(r) => ValueRef::Real(r),
                        Value::Text(t) => ValueRef::Text(t.as_bytes()),
                        Value::Bytes(b) => ValueRef::Blob(b),
                    };
                    statement.raw_bind_parameter(at, ToSqlOutput::Borrowed(value)).expect("bound");
                };
                for value in [*id, 7, *ordinal] {
                    put(Value::Integer(value));
                }
                put(Value::Text("0198c0de-0000-7000-8000-00000000000a"));
                row.values(&mut put);
                put(Value::Text("2023-11-14T22:13:20.000Z"));
                for value in [1, 2, *ordinal] {
                    put(Value::Integer(value));
                }
                put(Value::Text("extension"));
                put(Value::Integer(1_700_000_000_000_000 + ordinal));
                statement.raw_execute().expect("inserted");
            }
        }
        transaction.commit().expect("commits");
    }
    started.elapsed()
}

/// Times of acks when batches come at half the rate that `full` allowed.
async fn acks(dir: &Path, full: Duration) -> Vec<Duration> {
    let service = Service::start(dir).await;
    let mut client = service.client();
    let v = visit(1, 1, 1);
    client.open(&v).await.expect("opens");
    let mut stream = client.stream().await.expect("a stream");
    let mut every = tokio::time::interval(full * 2 / (ATTEMPTS * BATCHES) as u32);
    let mut times = Vec::new();
    for index in 0..1000 {
        let batch = request(1, 10, index);
        every.tick().await;
        let sent = Instant::now();
        stream.requests.send(batch).await.expect("sent");
        stream.next().await.expect("an ack");
        times.push(sent.elapsed());
    }
    drop(stream);
    service.stop().await;
    times
}

fn syncs(dir: &Path) -> Vec<Duration> {
    let mut file = File::create(dir.join("sync")).expect("a file");
    let block = vec![1u8; 64 << 10];
    (0..1000)
        .map(|_| {
            file.write_all(&block).expect("written");
            let started = Instant::now();
            file.sync_data().expect("synced");
            started.elapsed()
        })
        .collect()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A directory with the service's own schema and no rows.
async fn empty() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temp dir");
    Service::start(dir.path()).await.stop().await;
    dir
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (mut service, mut by_batch, mut by_group) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        service.push(ours(empty().await.path()).await);
        by_batch.push(bare(empty().await.path(), PER_BATCH));
        by_group.push(bare(empty().await.path(), 16 * PER_BATCH));
    }
    let full = median(service);
    let rate = |took: Duration| ROWS as f64 / took.as_secs_f64();
    println!(
        "P5 rows/s, {ROWS} rows in batches of {PER_BATCH}, acked over gRPC and sealed: {:.0}",
        rate(full)
    );
    for (what, times) in [("each batch", by_batch), ("16 batches", by_group)] {
        let took = median(times);
        let ratio = rate(full) / rate(took);
        println!(
            "P5 rows/s, bare rusqlite, a commit for {what}: {:.0}; ratio {ratio:.2} (target 0.6)",
            rate(took)
        );
    }
    let (dir, sync_dir) = (empty().await, tempfile::tempdir().expect("temp dir"));
    let (mut ack, mut sync) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        sync.push(p99(syncs(sync_dir.path())));
        let fresh = empty().await;
        ack.push(p99(acks(fresh.path(), full).await));
    }
    drop(dir);
    let (ack, sync) = (median(ack), median(sync));
    let ratio = ack.as_secs_f64() / sync.as_secs_f64();
    println!("P6 p99: ack {ack:?}, fdatasync of 64 KiB {sync:?}; ratio {ratio:.2} (target 3)");
}
