//! What is in the data directory: schema, lock, blobs, recovery.
mod harness;

use std::fs;

use harness::*;
use sha2::{Digest, Sha256};
use sonde_proto::digest::hex;
use sonde_proto::schema::TABLES;
use sonde_proto::storage::v1::{GetBlobRequest, HasBlobsRequest, ListTablesRequest, PutBlobRequest};
use sonde_proto::visit::v1::Outcome;
use sonde_storage::{Config, SCHEMA_VERSION, Storage};
use tonic::{Code, Status};

/// M02: the tables of `crawl.sqlite` are those of the contract, column by column.
#[tokio::test]
async fn the_schema_is_the_contract() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let db = database(dir.path());
    for table in TABLES {
        let mut statement = db
            .prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1) ORDER BY cid")
            .expect("sql");
        let found: Vec<(String, String, bool, i64)> = statement
            .query_map([table.name], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
            .expect("rows")
            .map(|row| row.expect("row"))
            .collect();
        let mut wanted: Vec<(String, String, bool, i64)> = Vec::new();
        if table.stamped {
            wanted.push(("id".into(), "INTEGER".into(), false, 1));
        }
        for column in table.columns() {
            let key = if table.stamped { None } else { table.key.iter().position(|k| *k == column.name) };
            let place = key.map_or(0, |at| at as i64 + 1);
            wanted.push((column.name.into(), column.kind.sqlite().into(), !column.nullable, place));
        }
        assert_eq!(found, wanted, "{}", table.name);
    }
    assert_eq!(number(dir.path(), "PRAGMA user_version"), SCHEMA_VERSION);
    let listed =
        service.client().records.list_tables(ListTablesRequest {}).await.expect("lists").into_inner();
    assert_eq!(listed.tables.len(), TABLES.len());
    assert!(listed.tables.windows(2).all(|w| w[0].name < w[1].name));
    service.stop().await;
}

/// M06: a second crawl is appended; a newer version's directory is refused, and says so.
#[tokio::test]
async fn a_directory_is_opened_again_unless_a_newer_version_wrote_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    for n in 1..=2 {
        let service = Service::start(dir.path()).await;
        let mut client = service.client();
        let v = visit(80 + n, n, 1);
        client.open(&v).await.expect("opens");
        client.send(batch(&v, 1, 0, 9)).await;
        client.seal(&v, vec![end(1, 9)], Outcome::Ok).await.expect("seals");
        service.stop().await;
        assert_eq!(number(dir.path(), "SELECT count(*) FROM http_failures"), n * 10);
    }
    assert!(!dir.path().join("crawl.sqlite-wal").exists(), "the file can be copied alone");
    database(dir.path()).execute_batch("PRAGMA user_version = 999").expect("set");
    let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
    let error = Storage::open(config).err().expect("refused").to_string();
    assert!(error.contains("newer version") && error.contains("crawl.sqlite"), "{error}");
}

#[tokio::test]
async fn a_second_service_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    let service = Service::start(dir.path()).await;
    let config = || Config { data_dir: dir.path().to_owned(), ..Config::default() };
    let error = Storage::open(config()).err().expect("refused").to_string();
    assert!(error.contains("another storage-service has this data directory open"), "{error}");
    service.stop().await;
    Storage::open(config()).expect("opens").close().await;
}

/// R6, R12: a crash between a higher fence and the seal of what it closed is healed at the start.
#[tokio::test]
async fn a_restart_finishes_what_a_crash_left() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (first, second) = (visit(91, 1, 1), visit(92, 1, 2));
    let service = Service::start(dir.path()).await;
    let mut client = service.client();
    client.open(&first).await.expect("opens");
    client.send(batch(&first, 1, 0, 9)).await;
    service.stop().await;
    // As if the service had died after it took the higher fence.
    let log = rusqlite::Connection::open(dir.path().join("ingest.sqlite")).expect("opens");
    let row = prost::Message::encode_to_vec(&second);
    log.execute("INSERT INTO attempts (visit_id, visit) VALUES (92, ?1)", [row]).expect("inserted");
    drop(log);
    let service = Service::start(dir.path()).await;
    assert_eq!(
        number(dir.path(), "SELECT count(*) FROM visit_seals WHERE visit_id = 91 AND NOT complete"),
        1
    );
    assert_eq!(number(dir.path(), "SELECT count(*) FROM site_visits WHERE visit_id = 92"), 1);
    let mut client = service.client();
    assert!(client.send(batch(&first, 1, 10, 19)).await.refused.is_some());
    assert_eq!(client.send(batch(&second, 1, 0, 9)).await.through_ordinal, 9);
    service.stop().await;

    // As if it had died between a seal and the removal from the log.
    let log = rusqlite::Connection::open(dir.path().join("ingest.sqlite")).expect("opens");
    log.execute(
        "INSERT INTO attempts (visit_id, visit) VALUES (91, ?1)",
        [prost::Message::encode_to_vec(&first)],
    )
    .expect("inserted");
    let service = Service::start(dir.path()).await;
    let left: i64 = log.query_row("SELECT count(*) FROM attempts", [], |r| r.get(0)).expect("count");
    assert_eq!(left, 1, "only the open attempt is in the log");
    service.stop().await;
}

fn hash(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn puts(sha256: &str, content: &[u8]) -> Vec<PutBlobRequest> {
    let mut all = vec![PutBlobRequest { sha256: sha256.into(), chunk: Default::default() }];
    let chunk = |c: &[u8]| PutBlobRequest { sha256: String::new(), chunk: c.to_vec().into() };
    all.extend(content.chunks(1 << 20).map(chunk));
    all
}

async fn get(client: &mut Client, sha256: &str) -> Result<Vec<u8>, Status> {
    let mut stream = client.blobs.get_blob(GetBlobRequest { sha256: sha256.into() }).await?.into_inner();
    let mut content = Vec::new();
    while let Some(piece) = stream.message().await? {
        content.extend_from_slice(&piece.chunk);
    }
    Ok(content)
}

/// I15, R8, S9: by the hash of the whole content, once, verified both ways.
#[tokio::test]
async fn blobs_are_named_by_their_whole_content() {
    let dir = tempfile::tempdir().expect("temp dir");
    let config = Config { data_dir: dir.path().to_owned(), max_blob_bytes: 4 << 20, ..Config::default() };
    let service = Service::start_with(config).await;
    let mut client = service.client();
    let same = vec![7u8; 1 << 20];
    let (a, b) = ([&same[..], b"a"].concat(), [&same[..], b"b"].concat());
    for content in [&a[..], &b[..], b"".as_slice()] {
        let sha = hash(content);
        let put =
            client.blobs.put_blob(tokio_stream::iter(puts(&sha, content))).await.expect("put").into_inner();
        assert_eq!(
            (put.sha256.as_str(), put.bytes, put.existed),
            (sha.as_str(), content.len() as u64, false)
        );
        let again =
            client.blobs.put_blob(tokio_stream::iter(puts("", content))).await.expect("put").into_inner();
        assert_eq!((again.sha256.as_str(), again.existed), (sha.as_str(), true));
        assert_eq!(get(&mut client, &sha).await.expect("got"), content);
    }
    let wrong =
        client.blobs.put_blob(tokio_stream::iter(puts(&hash(b"x"), b"y"))).await.expect_err("refused");
    assert_eq!(wrong.code(), Code::DataLoss);
    let long =
        client.blobs.put_blob(tokio_stream::iter(puts("", &vec![0; 5 << 20]))).await.expect_err("refused");
    assert_eq!(long.code(), Code::InvalidArgument, "{long}");
    let partial = dir.path().join("blobs/partial");
    eventually("no partial file", || fs::read_dir(&partial).expect("there").count() == 0).await;

    let wanted = HasBlobsRequest { sha256: vec![hash(&a), hash(b"y"), hash(&b)] };
    assert_eq!(client.blobs.has_blobs(wanted).await.expect("has").into_inner().present, [true, false, true]);
    for (sha, code) in [
        (hash(b"y").as_str(), Code::NotFound),
        ("../../../etc/passwd", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        assert_eq!(get(&mut client, sha).await.expect_err("refused").code(), code);
    }
    // One corrupt byte on the disk is found.
    let sha = hash(&a);
    let path = dir.path().join("blobs").join(&sha[..2]).join(&sha[2..4]).join(&sha);
    let mut content = fs::read(&path).expect("there");
    content[5] ^= 1;
    fs::write(&path, content).expect("written");
    assert_eq!(get(&mut client, &sha).await.expect_err("damaged").code(), Code::DataLoss);
    service.stop().await;
}
