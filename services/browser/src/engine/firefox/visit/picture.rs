//! Pictures and sources of the page, as blobs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use sonde_proto::StreamId;
use sonde_proto::visit::v1::{Clip, CommandStatus, DumpPageSourceCommand, ImageFormat, ScreenshotCommand};
use sonde_runtime::clock::wall_us;
use tokio::time::Instant;

use super::page::{NotLoaded, call_failed};
use super::{FirefoxVisit, left};
use crate::attempt::fault;
use crate::engine::CommandReport;
use crate::engine::artifact::{JPEG_QUALITY, MAX_SIDE, Made, SOURCE, no_page, size_truncation};
use crate::engine::commands::picture::Area;
use crate::engine::firefox::bidi::BidiError;

/// Width and height of the whole document in CSS pixels.
const SIZE: &str = r"(() => {
  const root = document.documentElement, body = document.body;
  const most = (name) => Math.max(root?.[name] ?? 0, body?.[name] ?? 0);
  return `${most('scrollWidth')} ${most('scrollHeight')}`;
})()";

impl FirefoxVisit {
    pub(super) async fn screenshot(
        &mut self,
        index: u32,
        shot: &ScreenshotCommand,
        area: Area,
        deadline: Instant,
    ) -> CommandReport {
        let quality = f64::from(if shot.quality == 0 { JPEG_QUALITY } else { shot.quality }) / 100.0;
        let (format, ending, media_type) = match shot.format() {
            ImageFormat::Jpeg => (json!({"type": "image/jpeg", "quality": quality}), "jpg", "image/jpeg"),
            ImageFormat::Png | ImageFormat::Unspecified => (json!({"type": "image/png"}), "png", "image/png"),
        };
        let origin = if area == Area::Viewport { "viewport" } else { "document" };
        let mut params = json!({"context": self.context, "origin": origin, "format": format});
        match area {
            Area::Viewport => {}
            Area::Rectangle(Clip { x, y, width, height }) => {
                params["clip"] = json!({"type": "box", "x": x, "y": y, "width": width, "height": height});
            }
            Area::Page => match self.clip(index, deadline).await {
                Ok(Some(clip)) => params["clip"] = clip,
                Ok(None) => {}
                Err(report) => return *report,
            },
        }
        let answer =
            match self.browser.bidi.call("browsingContext.captureScreenshot", params, left(deadline)).await {
                Ok(answer) => answer,
                Err(error) => return self.unanswered("screenshot", &error),
            };
        let picture = answer["data"].as_str().and_then(|data| BASE64.decode(data).ok());
        let Some(picture) = picture else {
            let failure = fault::command("screenshot", "the browser's picture cannot be read");
            return CommandReport::failed(CommandStatus::Error, "unreadable picture", failure);
        };
        let made = Made { kind: "screenshot", media_type, suffix: &shot.suffix, ending };
        made.keep(&self.uplink, self.url(), picture.into(), deadline).await
    }

    /// What can be pictured of a document that is too large; `None` when it is not.
    async fn clip(
        &mut self,
        index: u32,
        deadline: Instant,
    ) -> Result<Option<serde_json::Value>, Box<CommandReport>> {
        let size = match self.isolated(SIZE, deadline).await {
            Ok(size) => size.unwrap_or_default(),
            Err(NotLoaded::Call(error)) => return Err(Box::new(self.unanswered("screenshot", &error))),
            Err(other) => return Err(Box::new(self.report(Err(other), deadline).await)),
        };
        let sides = size.split_once(' ').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        let Some((width, height)): Option<(f64, f64)> = sides else {
            let failure = fault::command("screenshot", "the page has no size");
            return Err(Box::new(CommandReport::failed(CommandStatus::Error, "no size", failure)));
        };
        if width <= MAX_SIDE && height <= MAX_SIDE {
            return Ok(None);
        }
        let row = size_truncation(index, width, height);
        let recorded = self.uplink.record(StreamId::SERVICE, wall_us(), row).await;
        recorded
            .map_err(|e| Box::new(CommandReport::failed(CommandStatus::Error, "storage", e.failure())))?;
        let (width, height) = (width.min(MAX_SIDE), height.min(MAX_SIDE));
        Ok(Some(json!({"type": "box", "x": 0, "y": 0, "width": width, "height": height})))
    }

    pub(super) async fn dump_source(
        &mut self,
        dump: &DumpPageSourceCommand,
        deadline: Instant,
    ) -> CommandReport {
        if !self.loaded {
            return no_page("dump_page_source");
        }
        self.progress.detail("reading the source");
        let source = match self.isolated(SOURCE, deadline).await {
            Ok(Some(source)) => source,
            Ok(None) => {
                let failure = fault::command("dump_page_source", "the page has no source to be read");
                return CommandReport::failed(CommandStatus::Error, "no source", failure);
            }
            Err(NotLoaded::Call(error)) => return self.unanswered("dump_page_source", &error),
            Err(other) => return self.report(Err(other), deadline).await,
        };
        Made::source(&dump.suffix).keep(&self.uplink, self.url(), source.into(), deadline).await
    }

    fn unanswered(&mut self, what: &str, error: &BidiError) -> CommandReport {
        let mut report = call_failed(what, error);
        self.stuck |= report.status == CommandStatus::Timeout;
        report.final_url = self.url();
        report
    }
}
