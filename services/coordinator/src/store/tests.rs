use sonde_proto::coordinator::v1::CrawlSpec;

use super::*;

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("coordinator.sqlite"), Hub::default()).expect("a fresh store opens")
}

fn new_crawl(crawl_id: &str) -> NewCrawl {
    NewCrawl {
        crawl_id: crawl_id.into(),
        request_id: None,
        submitted: CrawlSpec::default(),
        spec: CrawlSpec::default(),
        kind: CrawlKind::Campaign,
    }
}

fn lines(n: usize, site: &str) -> Vec<NewVisit> {
    let line = |i| NewVisit {
        line_no: 0,
        url: format!("https://{site}/{i}"),
        site: site.into(),
        site_rank: None,
        commands: Vec::new(),
    };
    (0..n).map(line).collect()
}

/// Jobs that are committed together stand alone: one that fails undoes its own work only.
#[tokio::test]
async fn a_failing_job_undoes_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let jobs = (0..100).map(|i| {
        store.write(move |tx| {
            let key = tx.insert_crawl(&new_crawl(&format!("c{i:03}")), 1)?;
            tx.add_visits(key, &lines(3, "a.org"))?;
            if i % 3 == 0 { Err(StoreError::Damaged("by the test".into())) } else { Ok(()) }
        })
    });
    let done = futures_util::future::join_all(jobs).await;
    assert_eq!(done.iter().filter(|d| d.is_ok()).count(), 66);
    let kept = store.read(active_crawls).await.unwrap();
    assert_eq!(kept.len(), 66);
    assert!(kept.iter().all(|row| row.total == 3 && row.queued == 3 && row.last_sequence == 1));
    store.close().await;
    assert!(matches!(store.read(active_crawls).await, Err(StoreError::Closed)));
}

/// R2, R6: what was answered is there after a reopening, and fences go on from where they were.
#[tokio::test]
async fn a_reopened_store_continues() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let store = open(&dir);
        let fence = store.write(|tx| tx.next_fence()).await.unwrap();
        assert!(fence > last);
        last = fence;
        let slot = store.write(|tx| tx.slot("unix:/b.sock", 1)).await.unwrap();
        assert_eq!(store.write(|tx| tx.slot("unix:/b.sock", 1)).await.unwrap().browser_id, slot.browser_id);
        store.close().await;
    }
}

/// P8: what is due is found by its index, without a look at the rest of the queue.
#[tokio::test]
async fn due_visits_come_from_the_index_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let key = store
        .write(|tx| {
            let key = tx.insert_crawl(&new_crawl("c"), 1)?;
            tx.add_visits(key, &lines(500, "a.org"))?;
            tx.add_visits(key, &lines(5, "b.org"))?;
            Ok(key)
        })
        .await
        .unwrap();
    let (all, open, plan) = store
        .read(move |conn| {
            let all = due_visits(conn, key, 1, &[], 3)?;
            let open = due_visits(conn, key, 1, &["a.org"], 3)?;
            let explain = "EXPLAIN QUERY PLAN SELECT url FROM visits WHERE crawl = ?1 AND state = 1 AND not_before \
                BETWEEN 0 AND 0 ORDER BY not_before, visit_no LIMIT 3";
            let plan: Vec<String> =
                conn.prepare(explain)?.query_map([1], |row| row.get(3))?.collect::<Result<_, _>>()?;
            Ok((all, open, plan.join("; ")))
        })
        .await
        .unwrap();
    assert_eq!(all.iter().map(|row| row.visit_no).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(open.iter().map(|row| row.visit_no).collect::<Vec<_>>(), [501, 502, 503]);
    assert!(plan.contains("visits_queued") && !plan.contains("TEMP B-TREE"), "{plan}");
    store.close().await;
}

/// R1: the store itself refuses a second outcome.
#[tokio::test]
async fn a_visit_takes_one_outcome() {
    use crate::visit::{Stage, Visit};
    use sonde_proto::visit::v1::Outcome;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let end = |outcome| {
        store.write(move |tx| {
            let row = visit(tx.conn(), CrawlKey(1), 1)?.expect("it is there");
            let next = Visit { stage: Stage::Ended(outcome), ..row.machine };
            tx.end_visit(CrawlKey(1), 1, &next, Shown::Queued, None, None)
        })
    };
    let made = store.write(|tx| {
        let key = tx.insert_crawl(&new_crawl("c"), 1)?;
        tx.add_visits(key, &lines(1, "a.org"))
    });
    made.await.unwrap();
    end(Outcome::Ok).await.unwrap();
    assert!(end(Outcome::Error).await.is_err());
    let show = || store.write(|tx| tx.show_outcome(CrawlKey(1), 1));
    assert!(show().await.unwrap());
    assert!(!show().await.unwrap(), "and is counted once");
    let row = store.read(|conn| crawl_key(conn, CrawlKey(1))).await.unwrap().unwrap();
    assert_eq!((row.queued, row.outcomes[0]), (0, 1));
    store.close().await;
}
