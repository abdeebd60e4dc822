//! The real binary, killed at random points.
mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sonde_proto::record::v1::SiteVisit;
use sonde_proto::visit::v1::Outcome;
use sonde_runtime::endpoint::{Endpoint, Inproc, connect};
use tonic::{Code, Status};

/// The binary on a Unix socket; killed when dropped.
struct Process {
    child: Child,
    client: Client,
}

impl Process {
    async fn start(data_dir: &Path, socket: &Path) -> Self {
        let endpoint = Endpoint::Unix(socket.to_owned());
        let child = Command::new(env!("CARGO_BIN_EXE_sonde-storage"))
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen", &endpoint.to_string(), "--set", "telemetry.level=warn"])
            .stdin(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let client = Client::new(connect(&endpoint, &Inproc::new()).expect("an endpoint"));
        let mut process = Self { child, client };
        let up = async {
            while process
                .client
                .records
                .list_tables(sonde_proto::storage::v1::ListTablesRequest {})
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, up).await.expect("it serves in time");
        process
    }

    fn kill(&mut self) {
        self.child.kill().expect("SIGKILL is sent");
        self.child.wait().expect("it is gone");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// What a client holds of one attempt.
struct Attempt {
    visit: SiteVisit,
    /// Per stream: the last ordinal there will be, and the highest that was acked.
    streams: BTreeMap<u32, (i64, i64)>,
    sealed: bool,
}

/// Sends what is not acked, in batches of new borders, and seals; `Err` when the service died on the way.
async fn drive(client: &mut Client, attempts: &mut [Attempt], rng: &mut StdRng) -> Result<(), Status> {
    for attempt in attempts.iter_mut().filter(|a| !a.sealed) {
        match client.open(&attempt.visit).await {
            // It was sealed, and the service died before it said so: the second call gets the first seal.
            Err(status) if status.code() == Code::FailedPrecondition => {
                let seal = client.seal(&attempt.visit, Vec::new(), Outcome::Ok).await?;
                assert!(seal.complete, "{seal:?}");
                attempt.sealed = true;
                continue;
            }
            opened => opened?,
        }
        let mut stream = client.stream().await?;
        let mut batches = Vec::new();
        for (id, (last, acked)) in &attempt.streams {
            // Some of what was acked already comes again.
            let mut first = (acked + 1 - rng.random_range(0..5)).max(0);
            while first <= *last {
                let end = (first + rng.random_range(0..40)).min(*last);
                batches.push(batch(&attempt.visit, *id, first, end));
                first = end + 1;
            }
        }
        let sent = batches.len();
        let requests = stream.requests;
        tokio::spawn(async move {
            for batch in batches {
                if requests.send(batch).await.is_err() {
                    return;
                }
            }
        });
        for _ in 0..sent {
            let answer = tokio::time::timeout(DEADLINE, stream.answers.message()).await.expect("in time")?;
            let answer = answer.ok_or_else(|| Status::unavailable("the stream ended"))?;
            assert_eq!(answer.refused, None);
            let acked = &mut attempt.streams.get_mut(&answer.stream).expect("ours").1;
            *acked = (*acked).max(answer.through_ordinal);
        }
        let ends = attempt.streams.iter().map(|(id, (last, _))| end(*id, *last)).collect();
        let seal = client.seal(&attempt.visit, ends, Outcome::Ok).await?;
        assert!(seal.complete, "{seal:?}");
        attempt.sealed = true;
    }
    Ok(())
}

/// All that an independent reader can check in the stored data.
fn check(data_dir: &Path, attempts: &[Attempt]) {
    let whole: i64 =
        attempts.iter().filter(|a| a.sealed).flat_map(|a| a.streams.values()).map(|s| s.0 + 1).sum();
    let sealed = "SELECT count(*) FROM http_failures f WHERE visit_id IN (SELECT visit_id FROM visit_seals)";
    let rows = number(data_dir, "SELECT count(*) FROM http_failures");
    assert_eq!(number(data_dir, sealed), rows, "rows of unsealed attempts are visible");
    assert!(rows >= whole, "{rows} rows, {whole} of sealed attempts");
    let twice = "SELECT count(*) FROM (SELECT 1 FROM http_failures GROUP BY visit_id, stream, ordinal HAVING count(*) > 1)";
    assert_eq!(number(data_dir, twice), 0, "rows are there twice");
    let foreign = "SELECT count(*) FROM http_failures WHERE url != 'http://' || visit_id || '/' || stream || '/' || ordinal";
    assert_eq!(number(data_dir, foreign), 0, "rows are in the wrong place");
    let incomplete = "SELECT count(*) FROM visit_seals WHERE NOT complete";
    assert_eq!(number(data_dir, incomplete), 0, "an attempt lost rows");
    for attempt in attempts.iter().filter(|a| a.sealed) {
        for (stream, (last, _)) in &attempt.streams {
            let sql = format!(
                "SELECT count(*) FROM http_failures WHERE visit_id = {} AND stream = {stream} AND ordinal BETWEEN 0 AND {last}",
                attempt.visit.visit_id
            );
            assert_eq!(
                number(data_dir, &sql),
                last + 1,
                "attempt {} stream {stream}",
                attempt.visit.visit_id
            );
        }
    }
}

/// R2, R3, R4, R7, R12: 40 kills at random points; no acked record is lost, none is there twice, seals are whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acked_is_lost_and_nothing_is_twice_over_kills() {
    let seed = std::env::var("SONDE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("SONDE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("temp dir");
    let (data_dir, socket): (PathBuf, PathBuf) = (dir.path().join("data"), dir.path().join("s.sock"));
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut interrupted = 0;
    for kill in 0..40 {
        for _ in 0..4 {
            let n = attempts.len() as i64 + 1;
            let streams = (0..3).map(|id| (id, (rng.random_range(-1..800), -1))).collect();
            attempts.push(Attempt { visit: visit(1000 + n, n, 1), streams, sealed: false });
        }
        let mut process = Process::start(&data_dir, &socket).await;
        let mut client = process.client.clone();
        let wait = Duration::from_micros(rng.random_range(500..40_000));
        let (driven, ()) = tokio::join!(drive(&mut client, &mut attempts, &mut rng), async {
            tokio::time::sleep(wait).await;
            process.kill();
        });
        if let Err(status) = driven {
            assert!(
                matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled),
                "{status}"
            );
            interrupted += 1;
        }
        check(&data_dir, &attempts);
        let sealed = attempts.iter().filter(|a| a.sealed).count();
        println!("kill {kill} after {wait:?}: {sealed} of {} sealed", attempts.len());
    }
    assert!(interrupted > 20, "only {interrupted} kills hit something");
    let mut process = Process::start(&data_dir, &socket).await;
    let mut client = process.client.clone();
    drive(&mut client, &mut attempts, &mut rng).await.expect("the rest goes through");
    check(&data_dir, &attempts);
    assert_eq!(number(&data_dir, "SELECT count(*) FROM visit_seals"), attempts.len() as i64);
    process.kill();
    let log = rusqlite::Connection::open(data_dir.join("ingest.sqlite")).expect("opens");
    let left: i64 = log
        .query_row(
            "SELECT count(*) FROM batches WHERE visit_id NOT IN (SELECT visit_id FROM attempts)",
            [],
            |r| r.get(0),
        )
        .expect("count");
    assert_eq!(left, 0, "batches without an attempt");
}

/// R14: SIGTERM ends it cleanly: exit code 0, no socket, the log copied back and empty.
#[tokio::test]
async fn sigterm_drains() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (data_dir, socket) = (dir.path().join("data"), dir.path().join("s.sock"));
    let mut process = Process::start(&data_dir, &socket).await;
    let v = visit(61, 1, 1);
    process.client.open(&v).await.expect("opens");
    let mut stream = process.client.stream().await.expect("a stream");
    stream.requests.send(batch(&v, 1, 0, 99)).await.expect("sent");
    assert_eq!(stream.next().await.expect("an ack").through_ordinal, 99);
    let pid = rustix::process::Pid::from_child(&process.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM is sent");
    assert!(stream.next().await.is_none(), "the stream ends without an error");
    drop(stream);
    let status = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Some(status) = process.child.try_wait().expect("waits") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(status.await.expect("in time").success());
    assert!(!socket.exists());
    assert!(!data_dir.join("ingest.sqlite-wal").exists());
    // What was acked is still there for the next process.
    let mut process = Process::start(&data_dir, &socket).await;
    let seal = process.client.seal(&v, vec![end(1, 99)], Outcome::Ok).await.expect("seals");
    assert!(seal.complete);
}

#[test]
fn a_bad_configuration_ends_with_4_and_says_where() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_sonde-storage")).args(arguments).output().expect("it runs")
    };
    let bad = run(&["--set", "storage.qeue_bytes=1MiB"]);
    assert_eq!(bad.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("queue_bytes"), "{bad:?}");
    assert_eq!(run(&["--set", "storage.queue_bytes=1MiB"]).status.code(), Some(4));
    assert_eq!(
        run(&["--listen", "http://0.0.0.0:1", "--data-dir", "/nowhere", "--print-config"]).status.code(),
        Some(0)
    );
    let printed = run(&["--print-config", "--data-dir", "/x"]);
    assert!(String::from_utf8_lossy(&printed.stdout).contains("data_dir = \"/x\""), "{printed:?}");
}
