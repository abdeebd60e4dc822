//! `sonde profile`: kept profiles as archives, and archives as seeds of profiles.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sonde_browser::engine::profiles::{self, Kept};
use sonde_proto::digest::is_sha256;
use sonde_proto::storage::v1::PutBlobRequest;
use sonde_proto::storage::v1::blob_service_client::BlobServiceClient;
use sonde_proto::visit::v1::{BrowserKind, BrowserSpec};
use sonde_runtime::endpoint::{Inproc, connect};
use tokio::io::AsyncReadExt;
use tonic::transport::Channel;

use crate::args::{ProfileAction, ProfileArgs};
use crate::embed;
use crate::exit::CliError;
use crate::flags;

/// Of one message of an upload.
const PIECE: usize = 256 << 10;
/// Pieces of an upload that wait for the connection.
const WAITING: usize = 8;

/// Runs it.
pub async fn run(args: ProfileArgs) -> Result<u8, CliError> {
    match args.action {
        ProfileAction::List { data } => list(&data),
        ProfileAction::Dump { crawl_id, to, data, browser_id } => dump(&crawl_id, browser_id, &data, &to),
        ProfileAction::Seed { file, kind, data, storage } => {
            let kind = flags::of_kind(kind);
            let sha256 = match storage {
                Some(endpoint) => store(&file, kind, &connect(&endpoint.parse()?, &Inproc::new())?).await?,
                None => {
                    let storage = embed::StorageOnly::start(&data).await?;
                    let stored = store(&file, kind, storage.channel()).await;
                    storage.close().await;
                    stored?
                }
            };
            println!("{sha256}");
            Ok(0)
        }
    }
}

fn unreadable(what: &Path) -> impl Fn(std::io::Error) -> CliError + '_ {
    move |error| CliError::Input(format!("{}: {error}", what.display()))
}

fn list(data: &Path) -> Result<u8, CliError> {
    let root = data.join("profiles");
    let kept = profiles::kept(&root).map_err(unreadable(&root))?;
    println!("{:36}  {:>10}  {:8}  state", "crawl", "browser_id", "browser");
    for Kept { crawl_id, browser_id, kind, in_use, .. } in &kept {
        let state = if *in_use { "in use, or its browser crashed" } else { "at rest" };
        println!("{crawl_id:36}  {browser_id:>10}  {kind:8}  {state}");
    }
    Ok(0)
}

fn dump(crawl_id: &str, browser_id: Option<u32>, data: &Path, to: &Path) -> Result<u8, CliError> {
    let root = data.join("profiles");
    let all = profiles::kept(&root).map_err(unreadable(&root))?;
    let of_it: Vec<Kept> = all
        .into_iter()
        .filter(|k| k.crawl_id == crawl_id && browser_id.is_none_or(|wanted| k.browser_id == wanted))
        .collect();
    let [kept] = &of_it[..] else {
        let ids: Vec<String> = of_it.iter().map(|k| k.browser_id.to_string()).collect();
        return Err(CliError::Input(match ids.is_empty() {
            true => format!(
                "{} has no profile of crawl {crawl_id}: `sonde profile list --data {}` shows those that are there",
                root.display(),
                data.display()
            ),
            false => format!(
                "crawl {crawl_id} has several profiles: choose one by --browser-id ({})",
                ids.join(", ")
            ),
        }));
    };
    let mut new = to.as_os_str().to_owned();
    new.push(".part");
    let packed = File::create(&new).and_then(|file| {
        let mut file = kept.pack(BufWriter::new(file))?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(&new, to)
    });
    if let Err(error) = packed {
        // The first error is the one to tell.
        let _ = fs::remove_file(&new);
        return Err(unreadable(to)(error));
    }
    println!("{}", to.display());
    Ok(0)
}

/// The seed of a crawl's profiles: stored here if it is a file.
pub async fn plant(seed: Option<&str>, browser: &mut BrowserSpec, storage: &Channel) -> Result<(), CliError> {
    if let Some(file) = seed.filter(|seed| !is_sha256(seed)) {
        browser.seed_profile = store(&PathBuf::from(file), browser.kind(), storage).await?;
    }
    Ok(())
}

/// For a coordinator elsewhere, whose storage this command does not know.
pub fn must_be_stored(seed: Option<&str>) -> Result<(), CliError> {
    match seed.filter(|seed| !is_sha256(seed)) {
        Some(file) => Err(CliError::Input(format!(
            "--seed-profile {file}: with --server it must be stored already: give what \
             `sonde profile seed {file} --storage ADDRESS` prints"
        ))),
        None => Ok(()),
    }
}

/// Checks an archive and stores it; gives its SHA-256.
async fn store(file: &Path, kind: BrowserKind, storage: &Channel) -> Result<String, CliError> {
    let archive = file.to_owned();
    let looked = tokio::task::spawn_blocking(move || profiles::look(&archive, kind)).await;
    looked
        .map_err(|e| CliError::Service(e.to_string()))?
        .map_err(|error| CliError::Input(format!("the profile {}: {error}", file.display())))?;
    let mut content = tokio::fs::File::open(file).await.map_err(unreadable(file))?;
    let (pieces, waiting) = tokio::sync::mpsc::channel(WAITING);
    let reading = async move {
        loop {
            let mut chunk = vec![0; PIECE];
            let read = content.read(&mut chunk).await?;
            chunk.truncate(read);
            let piece = PutBlobRequest { sha256: String::new(), chunk: chunk.into() };
            // An upload that ended says why by itself.
            if read == 0 || pieces.send(piece).await.is_err() {
                return Ok(());
            }
        }
    };
    let mut client = BlobServiceClient::new(storage.clone());
    let putting = client.put_blob(tokio_stream::wrappers::ReceiverStream::new(waiting));
    let (read, put) = tokio::join!(reading, putting);
    read.map_err(unreadable(file))?;
    Ok(put?.into_inner().sha256)
}
