//! A data directory on a file system that fills up.
mod harness;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::*;
use sonde_proto::record::v1::{Record, record};
use sonde_proto::storage::v1::PutBlobRequest;
use sonde_proto::visit::v1::Outcome;
use tonic::Code;

/// A small file system; unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    /// `None`, loudly, where this process may not mount.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("temp dir");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "sonde-test"])
            .arg(dir.path())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!(
                "SKIPPED 1: mount of a tmpfs was refused (root is needed): disk-full behaviour is NOT tested"
            );
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space that is left, and gives the file that holds it.
    fn fill(&self) -> std::path::PathBuf {
        let ballast = self.path().join("ballast");
        let mut file = fs::File::create(&ballast).expect("a file");
        let block = vec![0u8; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        ballast
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} is still mounted", self.path().display());
    }
}

fn big(visit_id: i64, ordinal: i64) -> Record {
    let mut big = record(visit_id, 1, ordinal);
    if let Some(record::Row::HttpFailure(row)) = &mut big.row {
        row.url = "x".repeat(100_000);
    }
    big
}

/// R15: no ack while the disk is full, an error that says so for calls, and it goes on by itself.
#[tokio::test]
async fn a_full_disk_stops_acks_and_loses_nothing() {
    let Some(small) = Small::mount() else { return };
    let service = Service::start(&small.path().join("data")).await;
    let mut client = service.client();
    let v = visit(71, 1, 1);
    client.open(&v).await.expect("opens");
    let mut stream = client.stream().await.expect("a stream");
    stream.requests.send(batch_of(&v, 1, 0, vec![big(71, 0)])).await.expect("sent");
    assert_eq!(stream.next().await.expect("an ack").through_ordinal, 0);

    let ballast = small.fill();
    for ordinal in 1..=30 {
        stream.requests.send(batch_of(&v, 1, ordinal, vec![big(71, ordinal)])).await.expect("sent");
    }
    eventually("a stall", || service.storage.counts().stalls > 0).await;
    let error = client.open(&visit(72, 2, 1)).await.expect_err("refused");
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("no space left") || error.message().contains("full"), "{error}");
    let blob = PutBlobRequest { sha256: String::new(), chunk: vec![1; 1 << 20].into() };
    let error = client.blobs.put_blob(tokio_stream::iter([blob])).await.expect_err("refused");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    // Acks of what was written before the disk was full may come; the last cannot have.
    let mut acked = 0;
    while let Ok(answer) = tokio::time::timeout(Duration::from_millis(200), stream.answers.message()).await {
        acked = answer.expect("no error").expect("still open").through_ordinal;
    }
    assert!(acked < 30, "acked without space");

    fs::remove_file(&ballast).expect("space again");
    while acked < 30 {
        acked = stream.next().await.expect("an ack").through_ordinal;
    }
    client.open(&visit(72, 2, 1)).await.expect("opens again");
    let seal = client.seal(&v, vec![end(1, 30)], Outcome::Ok).await.expect("seals");
    assert!(seal.complete, "{seal:?}");
    assert_eq!(seal.rows["http_failures"], 31);
    drop(stream);
    service.stop().await;
}

/// A seal that finds no space fails as a whole, and works when called again.
#[tokio::test]
async fn a_seal_without_space_changes_nothing() {
    let Some(small) = Small::mount() else { return };
    let data_dir = small.path().join("data");
    let service = Service::start(&data_dir).await;
    let mut client = service.client();
    let v = visit(73, 1, 1);
    client.open(&v).await.expect("opens");
    let records = (0..30).map(|o| big(73, o)).collect();
    assert_eq!(client.send(batch_of(&v, 1, 0, records)).await.through_ordinal, 29);
    let ballast = small.fill();
    let error = client.seal(&v, vec![end(1, 29)], Outcome::Ok).await.expect_err("refused");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    fs::remove_file(&ballast).expect("space again");
    let seal = client.seal(&v, vec![end(1, 29)], Outcome::Ok).await.expect("seals");
    assert!(seal.complete);
    assert_eq!(number(&data_dir, "SELECT count(*) FROM http_failures"), 30);
    service.stop().await;
}
