//! Attempts over real gRPC: batches, acks, fences, seals.
mod harness;

use harness::*;
use sonde_proto::record::v1::{Process, Producer, VisitOutcome, record};
use sonde_proto::storage::v1::{
    CountRowsRequest, LedgerRow, SealAttemptRequest, WriteLedgerRequest, ledger_row,
};
use sonde_proto::visit::v1::{FailureKind, Outcome, RetryAdvice};
use tonic::Code;

/// R4, R7, M07: what is acked appears at the seal, whole, in one order.
#[tokio::test]
async fn an_attempt_is_invisible_until_its_seal_and_whole_after() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    let v = visit(11, 1, 1);
    client.open(&v).await.expect("opens");
    client.open(&v).await.expect("opens again");
    let mut stream = client.stream().await.expect("a stream");
    for (s, first, last) in [(0, 0, 4), (1, 0, 99), (1, 100, 199), (0, 5, 9)] {
        stream.requests.send(batch(&v, s, first, last)).await.expect("sent");
        let ack = stream.next().await.expect("an ack");
        assert_eq!((ack.visit_id, ack.stream, ack.through_ordinal, ack.refused), (11, s, last, None));
    }
    assert_eq!(number(dir.path(), "SELECT count(*) FROM http_failures"), 0);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM site_visits"), 1);
    let seal = client.seal(&v, vec![end(0, 9), end(1, 199), end(2, -1)], Outcome::Ok).await.expect("seals");
    assert_eq!((seal.complete, seal.reason.as_str(), seal.rows["http_failures"]), (true, "", 210));
    assert_eq!(number(dir.path(), "SELECT count(*) FROM http_failures"), 210);
    assert_eq!(number(dir.path(), "SELECT count(DISTINCT event_ordinal) FROM http_failures"), 210);
    assert_eq!(number(dir.path(), "SELECT max(event_ordinal) FROM http_failures"), 209);
    let out_of_order = "SELECT count(*) FROM http_failures a JOIN http_failures b ON a.event_ordinal < b.event_ordinal \
                        AND (a.captured_at > b.captured_at OR a.stream = b.stream AND a.ordinal > b.ordinal)";
    assert_eq!(number(dir.path(), out_of_order), 0);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM incomplete_visits"), 0);

    // Immutable: the same seal again, and no more rows.
    assert_eq!(client.seal(&v, vec![], Outcome::Error).await.expect("again"), seal);
    let refused = client.send(batch(&v, 1, 200, 201)).await.refused.expect("refused");
    assert_eq!((refused.kind(), refused.retry()), (FailureKind::Storage, RetryAdvice::Never));
    assert!(refused.message.contains("sealed"), "{}", refused.message);
    assert_eq!(client.open(&v).await.expect_err("refused").code(), Code::FailedPrecondition);
    let counts = client.records.count_rows(CountRowsRequest { visit_id: 11, ..Default::default() }).await;
    let counts = counts.expect("counts").into_inner().rows;
    assert_eq!((counts["http_failures"], counts["visit_seals"], counts["task"]), (210, 1, 0));
    assert_eq!(counts.len(), sonde_proto::schema::TABLES.len());
    service.stop().await;
}

/// R3, I16: repeats with the same and with other borders.
#[tokio::test]
async fn repeats_are_acked_and_stored_once() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    let v = visit(12, 1, 1);
    client.open(&v).await.expect("opens");
    for (first, last, through) in [(0, 9, 9), (0, 9, 9), (5, 14, 14), (20, 29, 14), (12, 24, 29), (3, 27, 29)]
    {
        assert_eq!(client.send(batch(&v, 1, first, last)).await.through_ordinal, through, "{first}..={last}");
    }
    assert_eq!(service.storage.counts().repeated, 2);
    let seal = client.seal(&v, vec![end(1, 29)], Outcome::Ok).await.expect("seals");
    assert!(seal.complete, "{seal:?}");
    assert_eq!(number(dir.path(), "SELECT count(*) FROM http_failures"), 30);
    let wrong =
        "SELECT count(*) FROM http_failures WHERE url != 'http://12/1/' || ordinal OR request_id != ordinal";
    assert_eq!(number(dir.path(), wrong), 0);
    service.stop().await;
}

/// R4: a gap, a lost stream, an undeclared one and a bad outcome are each marked.
#[tokio::test]
async fn what_is_not_whole_is_marked() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    let cases = [
        (vec![(1, 0, 3), (1, 6, 9)], vec![end(1, 9)], Outcome::Ok, "gap"),
        (vec![(1, 0, 3)], vec![end(1, 3), end(2, 5)], Outcome::Ok, "lost_stream"),
        (vec![(1, 0, 3)], vec![], Outcome::Ok, "undeclared_stream"),
        (vec![(1, 0, 3)], vec![end(1, 3)], Outcome::Crashed, ""),
    ];
    for (i, (batches, ends, outcome, reason)) in cases.into_iter().enumerate() {
        let v = visit(20 + i as i64, 1 + i as i64, 1);
        client.open(&v).await.expect("opens");
        for (s, first, last) in batches {
            client.send(batch(&v, s, first, last)).await;
        }
        let seal = client.seal(&v, ends, outcome).await.expect("seals");
        assert_eq!((seal.complete, seal.reason.as_str()), (reason.is_empty(), reason));
    }
    let reasons: String = database(dir.path())
        .query_row(
            "SELECT group_concat(reason) FROM (SELECT reason FROM incomplete_visits ORDER BY visit_id)",
            [],
            |r| r.get(0),
        )
        .expect("reasons");
    assert_eq!(reasons, "gap,lost_stream,undeclared_stream,crashed");
    let ranges =
        "SELECT count(*) FROM incomplete_visits WHERE ranges = '[{\"missing\":[[4,5]],\"stream\":1}]'";
    assert_eq!(number(dir.path(), ranges), 1);
    service.stop().await;
}

/// R6: a higher fence seals the earlier attempt as it is and closes it for ever; a lower one opens nothing.
#[tokio::test]
async fn a_stale_fence_writes_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    let (first, second) = (visit(31, 1, 1), visit(32, 1, 2));
    client.open(&first).await.expect("opens");
    client.send(batch(&first, 1, 0, 9)).await;
    client.open(&second).await.expect("opens");
    assert_eq!(number(dir.path(), "SELECT complete FROM visit_seals WHERE visit_id = 31"), 0);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM http_failures WHERE visit_id = 31"), 10);
    let superseded =
        "SELECT count(*) FROM incomplete_visits WHERE visit_id = 31 AND reason LIKE 'superseded%'";
    assert_eq!(number(dir.path(), superseded), 1);
    assert!(client.send(batch(&first, 1, 10, 19)).await.refused.is_some());
    let late = client.seal(&first, vec![end(1, 19)], Outcome::Ok).await.expect("its first seal");
    assert!(!late.complete);
    let stale = client.open(&visit(33, 1, 1)).await.expect_err("refused");
    assert_eq!(stale.code(), Code::FailedPrecondition);
    assert!(stale.message().contains("stale"), "{stale}");

    // Another attempt's fence does not do, nor one of before on the open attempt.
    let wrong = client.send(batch(&visit(32, 1, 1), 1, 0, 0)).await.refused.expect("refused");
    assert_eq!(wrong.fingerprint, "storage.wrong_fence");
    let low = client.seal(&visit(32, 1, 1), vec![], Outcome::Ok).await.expect_err("refused");
    assert_eq!(low.code(), Code::FailedPrecondition);

    // The coordinator seals a lost attempt with a higher fence; that fence counts, also after a restart.
    let higher = SealAttemptRequest {
        visit_id: 32,
        fence: 50,
        outcome: Outcome::Error.into(),
        incomplete_reason: "lease_expired".into(),
        ..Default::default()
    };
    let seal = client.ingest.seal_attempt(higher).await.expect("seals").into_inner().seal.expect("a seal");
    assert_eq!(seal.reason, "lease_expired");
    service.stop().await;
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    assert_eq!(client.open(&visit(34, 1, 4)).await.expect_err("refused").code(), Code::FailedPrecondition);
    client.open(&visit(35, 1, 6)).await.expect("opens");
    service.stop().await;
}

#[tokio::test]
async fn wrong_batches_are_refused_one_by_one_and_the_stream_goes_on() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    let v = visit(41, 1, 1);
    client.open(&v).await.expect("opens");
    let mut stream = client.stream().await.expect("a stream");
    let good = batch(&v, 1, 0, 3);
    let wrong = [
        ("visit_id: 0 is not valid", {
            let mut b = good.clone();
            b.visit_id = 0;
            b
        }),
        ("OpenAttempt", {
            let mut b = good.clone();
            b.visit_id = 99;
            b
        }),
        ("fence", {
            let mut b = good.clone();
            b.fence = 0;
            b
        }),
        ("count 0", {
            let mut b = good.clone();
            b.count = 0;
            b
        }),
        ("count 4097", {
            let mut b = good.clone();
            b.count = 4097;
            b
        }),
        ("4 records and count says 3", {
            let mut b = good.clone();
            b.count = 3;
            b
        }),
        ("first_ordinal", {
            let mut b = good.clone();
            b.first_ordinal = -1;
            b
        }),
        ("producer", {
            let mut b = good.clone();
            b.producer = 0;
            b
        }),
        ("decode", {
            let mut b = good.clone();
            b.payload = vec![0xff; 9].into();
            b
        }),
        ("no row", batch_of(&v, 1, 0, vec![Default::default()])),
    ];
    for (words, b) in wrong {
        stream.requests.send(b).await.expect("sent");
        let answer = stream.next().await.expect("an answer");
        let refused = answer.refused.unwrap_or_else(|| panic!("{words}: taken"));
        assert!(refused.message.contains(words), "{words}: {}", refused.message);
    }
    stream.requests.send(good.clone()).await.expect("sent");
    assert_eq!(stream.next().await.expect("an ack").through_ordinal, 3);
    let mut other = good;
    other.producer = Producer::Extension.into();
    stream.requests.send(other).await.expect("sent");
    let refused = stream.next().await.expect("an answer").refused.expect("refused");
    assert_eq!(refused.fingerprint, "storage.stream_taken");
    service.stop().await;
}

/// M05: rows of no visit are kept, each once, also of two producers with the same stream and ordinals.
#[tokio::test]
async fn records_of_no_visit_are_stored_as_they_come() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    let none = visit(-1, 0, 0);
    for session in ["a", "b", "a"] {
        let mut b = batch(&none, 2, 0, 9);
        b.extension_session_uuid = session.into();
        b.producer = Producer::Extension.into();
        assert_eq!(client.send(b).await.through_ordinal, 9);
    }
    let rows = || number(dir.path(), "SELECT count(*) FROM http_failures WHERE visit_id = -1");
    eventually("20 rows", || rows() == 20).await;
    service.stop().await;
    assert_eq!(rows(), 20);
    let service = Service::start(dir.path()).await;
    service.stop().await;
    assert_eq!(rows(), 20);
}

/// I9: whatever a page puts into a string comes back byte for byte.
#[tokio::test]
async fn values_round_trip_exactly() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    let v = visit(51, 1, 1);
    client.open(&v).await.expect("opens");
    let values = [
        "'); DROP TABLE http_failures; --".to_owned(),
        "<script>alert(1)</script>".to_owned(),
        "=HYPERLINK(\"http://x\")".to_owned(),
        "\u{1b}[31mred\u{1b}[0m".to_owned(),
        "\"\\ud800 lone surrogate\"".to_owned(),
        "before\0after\0".to_owned(),
        "\u{fffd}\u{feff}\u{202e}😀".to_owned(),
        "x".repeat(2 << 20),
        String::new(),
    ];
    let records = values.iter().enumerate().map(|(i, value)| {
        let mut r = record(51, 1, i as i64);
        if let Some(record::Row::HttpFailure(row)) = &mut r.row {
            row.url = value.clone();
        }
        r
    });
    let ack = client.send(batch_of(&v, 1, 0, records.collect())).await;
    assert_eq!(ack.refused, None);
    client.seal(&v, vec![end(1, values.len() as i64 - 1)], Outcome::Ok).await.expect("seals");
    let db = database(dir.path());
    let mut statement =
        db.prepare("SELECT CAST(url AS BLOB) FROM http_failures ORDER BY ordinal").expect("sql");
    let stored: Vec<Vec<u8>> =
        statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("row")).collect();
    assert_eq!(stored.len(), values.len());
    for (stored, value) in stored.iter().zip(&values) {
        assert!(stored == value.as_bytes(), "{value:.40}");
    }
    service.stop().await;
}

/// R1: the first outcome of a visit stands.
#[tokio::test]
async fn ledger_rows_are_written_once() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    let outcome = |visit_no, word: &str| LedgerRow {
        row: Some(ledger_row::Row::VisitOutcome(VisitOutcome {
            crawl_id: "c".into(),
            visit_no,
            outcome: word.into(),
            ..Default::default()
        })),
    };
    let mut write = async |rows| client.ingest.write_ledger(WriteLedgerRequest { rows }).await;
    let written =
        write(vec![outcome(1, "ok"), outcome(2, "ok"), outcome(1, "error")]).await.expect("written");
    assert_eq!(written.into_inner().written, 2);
    assert_eq!(write(vec![outcome(2, "error")]).await.expect("written").into_inner().written, 0);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM visit_outcomes WHERE outcome = 'ok'"), 2);
    assert_eq!(write(vec![]).await.expect_err("refused").code(), Code::InvalidArgument);
    assert_eq!(write(vec![LedgerRow::default()]).await.expect_err("refused").code(), Code::InvalidArgument);
    service.stop().await;
}

/// A01, A18: a process's row goes with its life and never back, however often and in what order it comes.
#[tokio::test]
async fn the_newest_row_of_a_process_stays() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    let process = |id: &str, status: &str, revision| LedgerRow {
        row: Some(ledger_row::Row::Process(Process {
            process_id: id.into(),
            status: status.into(),
            revision,
            exit_code: (revision == 3).then_some(7),
            ..Default::default()
        })),
    };
    let (runs, ended) = (process("a", "running", 2), process("a", "exited", 3));
    let mut write = async |rows| {
        let answer = client.ingest.write_ledger(WriteLedgerRequest { rows }).await;
        answer.expect("written").into_inner().written
    };
    assert_eq!(write(vec![runs.clone(), process("b", "running", 2)]).await, 2);
    assert_eq!(write(vec![runs.clone()]).await, 0);
    assert_eq!(write(vec![ended.clone(), runs]).await, 1);
    assert_eq!(write(vec![ended]).await, 0);
    let row = "SELECT exit_code FROM processes WHERE process_id = 'a' AND status = 'exited' AND revision = 3";
    assert_eq!(number(dir.path(), row), 7);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM processes"), 2);
    service.stop().await;
}
