//! The page as PDF and as MHTML.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use sonde_proto::page_ranges;
use sonde_proto::visit::v1::PdfCommand;
use tokio::time::Instant;

use super::ChromiumVisit;
use super::page::NotLoaded;
use crate::engine::chromium::cdp::{CallError, RawJson};
use crate::engine::commands::Why;
use crate::engine::commands::script::Refusal;

/// Bytes of a stream that are asked for at once.
const PIECE: u32 = 1 << 20;
const MM_PER_INCH: f64 = 25.4;

#[derive(Deserialize)]
struct Printed {
    stream: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece {
    #[serde(default)]
    base64_encoded: bool,
    data: String,
    eof: bool,
}

#[derive(Deserialize)]
struct Snapshot {
    data: String,
}

impl ChromiumVisit {
    /// The page as PDF, of at most so many bytes.
    pub(super) async fn print(
        &mut self,
        pdf: &PdfCommand,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, Why<NotLoaded>> {
        let (sheet, inches) = (pdf.sheet(), |mm: f64| mm / MM_PER_INCH);
        let ranges = page_ranges(&pdf.page_ranges).map_err(|e| Refusal::new("invalid", e.to_string()))?;
        let ranges: Vec<String> = ranges
            .into_iter()
            .map(|(first, last)| format!("{first}-{}", last.map_or_else(String::new, |l| l.to_string())))
            .collect();
        let params = json!({
            "transferMode": "ReturnAsStream",
            "printBackground": pdf.background,
            "scale": if pdf.scale == 0.0 { 1.0 } else { pdf.scale },
            "paperWidth": inches(sheet.width_mm),
            "paperHeight": inches(sheet.height_mm),
            "marginTop": inches(sheet.margins.top_mm),
            "marginBottom": inches(sheet.margins.bottom_mm),
            "marginLeft": inches(sheet.margins.left_mm),
            "marginRight": inches(sheet.margins.right_mm),
            "pageRanges": ranges.join(","),
        });
        let answer = match self.page("Page.printToPDF", params, deadline).await {
            Err(CallError::Protocol { message, .. }) if message.contains("age range") => {
                return Err(Refusal::new("no_such_page", message).into());
            }
            answer => answer.map_err(|e| self.not_done(e))?,
        };
        let printed: Printed = read(&answer)?;
        let content = self.stream(&printed.stream, max_bytes, deadline).await;
        let close = json!({"handle": printed.stream});
        if let Err(error) = self.page("IO.close", close, deadline).await {
            tracing::debug!(%error, "a stream could not be closed");
        }
        content
    }

    async fn stream(
        &mut self,
        handle: &str,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, Why<NotLoaded>> {
        let mut content = Vec::new();
        loop {
            let params = json!({"handle": handle, "size": PIECE});
            let answer = self.page("IO.read", params, deadline).await.map_err(|e| self.not_done(e))?;
            let piece: Piece = read(&answer)?;
            match piece.base64_encoded {
                true => content.extend(
                    BASE64.decode(piece.data).map_err(|e| Refusal::new("browser_refused", e.to_string()))?,
                ),
                false => content.extend(piece.data.into_bytes()),
            }
            if content.len() > max_bytes {
                let message = format!("more than {max_bytes} bytes");
                return Err(Refusal::new("result_too_large", message).into());
            }
            if piece.eof {
                return Ok(content);
            }
        }
    }

    /// The page with all that it shows.
    pub(super) async fn mhtml(&mut self, deadline: Instant) -> Result<String, Why<NotLoaded>> {
        let params = json!({"format": "mhtml"});
        let answer =
            self.page("Page.captureSnapshot", params, deadline).await.map_err(|e| self.not_done(e))?;
        let snapshot: Snapshot = read(&answer)?;
        Ok(snapshot.data)
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: &RawJson) -> Result<T, Refusal> {
    answer.decode().map_err(|e| Refusal::new("browser_refused", format!("the answer cannot be read: {e}")))
}
