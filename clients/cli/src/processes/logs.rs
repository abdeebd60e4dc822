//! What a process wrote, from a service or from its files.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use sonde_proto::browser::v1::{
    Process, ProcessStream, TailOutputRequest, process_service_client::ProcessServiceClient,
};
use sonde_runtime::process::{OutputReader, start_ticks};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tonic::transport::Channel;

use super::args::LogsArgs;
use super::print;
use crate::exit::CliError;

/// Bytes from the end unless lines are asked for.
const BYTES: u64 = 64 << 10;
/// Looked for lines in.
const LINES_IN: u64 = 8 << 20;
/// How often a file is looked at for more: without its writer nothing tells of it.
const LOOK: Duration = Duration::from_millis(200);

/// From a service.
pub(super) async fn from_service(
    mut client: ProcessServiceClient<Channel>,
    process: &Process,
    args: &LogsArgs,
) -> Result<(), CliError> {
    let stream = if args.stderr { ProcessStream::Stderr } else { ProcessStream::Stdout };
    let request = TailOutputRequest {
        id: process.id.clone(),
        stream: stream.into(),
        bytes: if args.lines.is_some() { LINES_IN } else { BYTES },
        lines: args.lines.unwrap_or_default(),
        follow: args.follow,
    };
    let mut pieces = client.tail_output(request).await?.into_inner();
    while let Some(piece) = pieces.message().await? {
        if piece.skipped > 0 {
            eprintln!("sonde: {} bytes were written faster than they could be read", piece.skipped);
        }
        if !print(&piece.data)? {
            break;
        }
    }
    Ok(())
}

/// From the files that its record names.
pub(super) async fn from_files(process: &Process, args: &LogsArgs) -> Result<(), CliError> {
    let path = if args.stderr { &process.stderr_path } else { &process.stdout_path };
    if path.is_empty() {
        return Err(CliError::Input(format!("the output of {} ({}) is not kept", process.label, process.id)));
    }
    let path = Path::new(path);
    let problem = |e: std::io::Error| CliError::Input(format!("{} cannot be read: {e}", path.display()));
    // Opened before what is there is read: what comes later is then not missed.
    let open = || async {
        match File::open(path).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    };
    let mut file = open().await.map_err(problem)?;
    let mut at = match &mut file {
        Some(file) => file.metadata().await.map_err(problem)?.len(),
        None => 0,
    };
    let there = last(path, args.lines).await.map_err(problem)?;
    if !print(&there)? || !args.follow {
        return Ok(());
    }
    loop {
        // Looked at before reading: what it wrote last is read in any case.
        let ended = start_ticks(process.pid).ok() != Some(process.start_ticks);
        if let Some(open) = &mut file {
            let mut more = Vec::new();
            open.seek(std::io::SeekFrom::Start(at)).await.map_err(problem)?;
            open.read_to_end(&mut more).await.map_err(problem)?;
            at += more.len() as u64;
            if !print(&more)? {
                return Ok(());
            }
        }
        let now = tokio::fs::metadata(path).await.map(|meta| meta.ino()).ok();
        let ours = match &file {
            Some(file) => Some(file.metadata().await.map_err(problem)?.ino()),
            None => None,
        };
        if now.is_some() && now != ours {
            // It was turned over.
            (file, at) = (open().await.map_err(problem)?, 0);
            continue;
        }
        if ended {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The last 64 KiB of an output, or its last lines.
async fn last(path: &Path, lines: Option<u32>) -> std::io::Result<Vec<u8>> {
    let reader = OutputReader::closed(path);
    let end = reader.end().await?;
    let mut at = end.saturating_sub(if lines.is_some() { LINES_IN } else { BYTES });
    let mut all = Vec::new();
    while at < end {
        let piece = reader.read(at, 1 << 20).await?;
        if piece.bytes.is_empty() {
            break;
        }
        at = piece.at + piece.bytes.len() as u64;
        all.extend(piece.bytes);
    }
    if let Some(lines) = lines {
        let body = all.strip_suffix(b"\n").unwrap_or(&all);
        let mut breaks =
            body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place + 1);
        let begin = match lines as usize {
            0 => all.len(),
            lines => breaks.nth(lines - 1).unwrap_or_default(),
        };
        all.drain(..begin);
    }
    Ok(all)
}
