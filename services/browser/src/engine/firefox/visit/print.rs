//! The page as PDF.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sonde_proto::page_ranges;
use sonde_proto::visit::v1::PdfCommand;
use tokio::time::Instant;

use super::page::NotLoaded;
use super::{FirefoxVisit, left};
use crate::engine::commands::Why;
use crate::engine::commands::script::Refusal;

const MM_PER_CM: f64 = 10.0;

impl FirefoxVisit {
    /// The page as PDF, of at most so many bytes.
    pub(super) async fn print(
        &mut self,
        pdf: &PdfCommand,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, Why<NotLoaded>> {
        let (sheet, cm) = (pdf.sheet(), |mm: f64| mm / MM_PER_CM);
        let ranges = page_ranges(&pdf.page_ranges).map_err(|e| Refusal::new("invalid", e.to_string()))?;
        let ranges: Vec<Value> = ranges
            .into_iter()
            .map(|(first, last)| {
                json!(format!("{first}-{}", last.map_or_else(String::new, |l| l.to_string())))
            })
            .collect();
        let margin = json!({
            "top": cm(sheet.margins.top_mm), "right": cm(sheet.margins.right_mm),
            "bottom": cm(sheet.margins.bottom_mm), "left": cm(sheet.margins.left_mm),
        });
        let params = json!({
            "context": self.context,
            "background": pdf.background,
            "margin": margin,
            "page": {"width": cm(sheet.width_mm), "height": cm(sheet.height_mm)},
            "pageRanges": ranges,
            "scale": if pdf.scale == 0.0 { 1.0 } else { pdf.scale },
        });
        let answer = self.browser.bidi.call("browsingContext.print", params, left(deadline)).await;
        let answer = answer.map_err(|e| self.not_done(e))?;
        let content = answer["data"].as_str().and_then(|data| BASE64.decode(data).ok());
        let content = content.ok_or_else(|| Refusal::new("browser_refused", "its PDF cannot be read"))?;
        match content.len() > max_bytes {
            true => Err(Refusal::new("result_too_large", format!("more than {max_bytes} bytes")).into()),
            false => Ok(content),
        }
    }
}
