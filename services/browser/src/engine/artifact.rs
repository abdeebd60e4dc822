//! What commands leave behind: names, blobs and refusals. The same on every engine.

use bytes::Bytes;
use md5::{Digest, Md5};
use sonde_proto::digest::hex;
use sonde_proto::record::v1::{Truncation, record::Row};
use sonde_proto::visit::v1::{ArtifactRef, CommandStatus};
use tokio::time::Instant;

use super::CommandReport;
use crate::attempt::fault;
use crate::uplink::AttemptUplink;

/// Longest side of a picture in CSS pixels: what the browsers can still rasterise at once.
pub const MAX_SIDE: f64 = 16_384.0;
/// Of JPEG pictures, in percent.
pub const JPEG_QUALITY: u32 = 80;

/// Doctype and document, as the DOM now serialises.
pub const SOURCE: &str = r"(() => {
  const type = document.doctype ? new XMLSerializer().serializeToString(document.doctype) + '\n' : '';
  return type + (document.documentElement ? document.documentElement.outerHTML : '');
})()";

/// Something that a command made.
pub struct Made<'a> {
    /// `screenshot` or `page_source`.
    pub kind: &'a str,
    pub media_type: &'a str,
    /// Distinguishes two of the same page; may be "".
    pub suffix: &'a str,
    /// Of the file name.
    pub ending: &'a str,
}

impl<'a> Made<'a> {
    /// A page's source.
    pub fn source(suffix: &'a str) -> Self {
        Self { kind: "page_source", media_type: "text/html; charset=utf-8", suffix, ending: "html" }
    }

    /// `<visit_id>-<MD5 of the URL>[-suffix].<ending>`, as OpenWPM's.
    fn file_name(&self, visit_id: i64, url: &str) -> String {
        let hash = hex(&Md5::digest(url.as_bytes()));
        let suffix = if self.suffix.is_empty() { String::new() } else { format!("-{}", self.suffix) };
        format!("{visit_id}-{hash}{suffix}.{}", self.ending)
    }

    /// Stores it as a blob; the report names it.
    pub async fn keep(
        &self,
        uplink: &AttemptUplink,
        url: String,
        content: Bytes,
        deadline: Instant,
    ) -> CommandReport {
        let bytes = content.len() as i64;
        let artifact = |sha256| ArtifactRef {
            kind: self.kind.to_owned(),
            name: self.file_name(uplink.visit_id(), &url),
            media_type: self.media_type.to_owned(),
            sha256,
            bytes,
        };
        match uplink.put_blob(content, deadline).await.map(artifact) {
            Ok(artifact) => {
                CommandReport { final_url: url, artifacts: vec![artifact], ..CommandReport::ok() }
            }
            Err(error) => CommandReport::failed(CommandStatus::Error, "storage", error.failure()),
        }
    }
}

/// The report of a command that needs a page and came before one was loaded.
pub fn no_page(command: &str) -> CommandReport {
    let failure = fault::command(command, "no page was loaded before it");
    CommandReport::failed(CommandStatus::Error, "no page", failure)
}

/// Says that a picture of this size, in CSS pixels, was cut to [`MAX_SIDE`].
pub fn size_truncation(command: u32, width: f64, height: f64) -> Row {
    Row::Truncation(Truncation {
        table_name: "artifacts".to_owned(),
        column_name: None,
        reason: "screenshot_size".to_owned(),
        dropped_rows: 1,
        dropped_bytes: 0,
        limit_value: MAX_SIDE as i64,
        subject: Some(format!("command {command}: {width} x {height} CSS pixels")),
    })
}
