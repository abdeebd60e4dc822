//! What a page shows, as documents: PDF, MHTML, the sources of its frames.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use sonde_proto::StreamId;
use sonde_proto::record::v1::{Truncation, record::Row};
use sonde_proto::visit::v1::{CommandStatus, DumpPageSourceCommand, MhtmlCommand, PdfCommand};
use sonde_runtime::clock::wall_us;
use tokio::time::Instant;

use super::frames::{DEPTH, Frame, Read, down_to, source, tree};
use super::script::Refusal;
use super::{Page, Why, reported};
use crate::engine::CommandReport;
use crate::engine::artifact::{Made, no_page};

/// Longest document in bytes.
const MAX_BYTES: usize = 256 << 20;
/// For one frame: one that does not answer must not take the time of the others.
const FRAME: Duration = Duration::from_secs(5);

pub(super) async fn pdf(page: &mut impl Page, pdf: &PdfCommand, deadline: Instant) -> CommandReport {
    if !page.loaded() {
        return no_page("pdf");
    }
    page.progress().detail("printing");
    let made = Made { kind: "pdf", media_type: "application/pdf", suffix: &pdf.suffix, ending: "pdf" };
    let printed = page.print(pdf, MAX_BYTES, deadline).await;
    keep(page, "pdf", made, printed, deadline).await
}

pub(super) async fn mhtml(page: &mut impl Page, mhtml: &MhtmlCommand, deadline: Instant) -> CommandReport {
    if !page.loaded() {
        return no_page("mhtml");
    }
    page.progress().detail("storing the page");
    let made =
        Made { kind: "mhtml", media_type: "multipart/related", suffix: &mhtml.suffix, ending: "mhtml" };
    let text = page.mhtml(deadline).await.map(String::into_bytes);
    keep(page, "mhtml", made, text, deadline).await
}

async fn keep<P: Page>(
    page: &mut P,
    name: &str,
    made: Made<'_>,
    content: Result<Vec<u8>, Why<P::NotLoaded>>,
    deadline: Instant,
) -> CommandReport {
    let fits = |content: Vec<u8>| match content.len() {
        0..=MAX_BYTES => Ok(content),
        length => Err(too_large(length).into()),
    };
    match content.and_then(fits) {
        Ok(content) => made.keep(page.uplink(), page.url(), content.into(), deadline).await,
        Err(why) => reported(page, name, Err(why), deadline).await,
    }
}

fn too_large(bytes: usize) -> Refusal {
    Refusal::new("result_too_large", format!("{bytes} bytes, at most {MAX_BYTES}"))
}

/// Sources of the page and its frames.
pub(super) async fn frame_sources(
    page: &mut impl Page,
    index: u32,
    dump: &DumpPageSourceCommand,
    deadline: Instant,
) -> CommandReport {
    const NAME: &str = "dump_page_source";
    if !page.loaded() {
        return no_page(NAME);
    }
    page.progress().detail("looking for frames");
    let frames = match page.frames(deadline).await {
        Ok(frames) => frames,
        Err(why) => return reported(page, NAME, Err(why), deadline).await,
    };
    let depth = if dump.max_depth == 0 { DEPTH } else { dump.max_depth };
    let (frames, cut) = down_to(frames, depth);
    if cut > 0 {
        let row = depth_truncation(index, cut, depth);
        if let Err(error) = page.uplink().record(StreamId::SERVICE, wall_us(), row).await {
            return CommandReport::failed(CommandStatus::Error, "storage", error.failure());
        }
    }
    let made = Made {
        kind: "frame_sources",
        media_type: "application/gzip",
        suffix: &dump.suffix,
        ending: "json.gz",
    };
    let packed = match sources(page, frames, deadline).await {
        Ok(read) => pack(read).await.map_err(Why::from),
        Err(refusal) => Err(refusal.into()),
    };
    keep(page, NAME, made, packed, deadline).await
}

async fn sources(page: &mut impl Page, frames: Vec<Frame>, deadline: Instant) -> Result<Vec<Read>, Refusal> {
    let (mut read, mut bytes, all, expression) = (Vec::new(), 0, frames.len(), source());
    for (n, frame) in frames.into_iter().enumerate() {
        page.progress().detail(format!("reading frame {} of {all}", n + 1));
        let time = deadline.min(Instant::now() + FRAME);
        let text = page.read_frame(&frame, &expression, time).await;
        let pair = text.and_then(|text| {
            serde_json::from_str::<(String, String)>(&text).map_err(|e| format!("it cannot be read: {e}"))
        });
        let (url, source) = match pair {
            Ok((url, source)) => (url, Ok(source)),
            Err(error) => (frame.url.clone(), Err(error)),
        };
        if frame.parent.is_none()
            && let Err(error) = &source
        {
            return Err(Refusal::new("no_source", error.clone()));
        }
        bytes += source.as_ref().map_or(0, String::len);
        if bytes > MAX_BYTES {
            return Err(too_large(bytes));
        }
        read.push(Read { frame, url, source });
    }
    Ok(read)
}

async fn pack(read: Vec<Read>) -> Result<Vec<u8>, Refusal> {
    let packing = move || {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(tree(&read).to_string().as_bytes())?;
        gzip.finish()
    };
    let packed = tokio::task::spawn_blocking(packing).await;
    let lost =
        |error: &dyn std::fmt::Display| Refusal::new("no_source", format!("it cannot be packed: {error}"));
    packed.map_err(|e| lost(&e))?.map_err(|e| lost(&e))
}

fn depth_truncation(command: u32, frames: usize, depth: u32) -> Row {
    Row::Truncation(Truncation {
        table_name: "artifacts".to_owned(),
        reason: "frame_depth".to_owned(),
        dropped_rows: i64::try_from(frames).unwrap_or(i64::MAX),
        limit_value: i64::from(depth),
        subject: Some(format!("command {command}")),
        ..Truncation::default()
    })
}
