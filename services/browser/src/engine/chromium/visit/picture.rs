//! Pictures and sources of the page, as blobs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use sonde_proto::StreamId;
use sonde_proto::visit::v1::{Clip, CommandStatus, DumpPageSourceCommand, ImageFormat, ScreenshotCommand};
use sonde_runtime::clock::wall_us;
use tokio::time::Instant;

use super::ChromiumVisit;
use super::page::{NotLoaded, call_failed};
use crate::attempt::fault;
use crate::engine::CommandReport;
use crate::engine::artifact::{JPEG_QUALITY, MAX_SIDE, Made, SOURCE, no_page, size_truncation};
use crate::engine::commands::picture::Area;

#[derive(Deserialize)]
struct Picture {
    data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    css_content_size: Size,
}

#[derive(Deserialize, Clone, Copy)]
struct Size {
    width: f64,
    height: f64,
}

impl ChromiumVisit {
    pub(super) async fn screenshot(
        &mut self,
        index: u32,
        shot: &ScreenshotCommand,
        area: Area,
        deadline: Instant,
    ) -> CommandReport {
        let (format, ending, media_type) = match shot.format() {
            ImageFormat::Jpeg => ("jpeg", "jpg", "image/jpeg"),
            ImageFormat::Png | ImageFormat::Unspecified => ("png", "png", "image/png"),
        };
        let mut params = json!({"format": format, "optimizeForSpeed": false});
        if format == "jpeg" {
            params["quality"] = json!(if shot.quality == 0 { JPEG_QUALITY } else { shot.quality });
        }
        let clip = match area {
            Area::Viewport => None,
            Area::Rectangle(Clip { x, y, width, height }) => {
                Some(json!({"x": x, "y": y, "width": width, "height": height, "scale": 1}))
            }
            Area::Page => match self.whole_page(index, deadline).await {
                Ok(clip) => Some(clip),
                Err(report) => return *report,
            },
        };
        if let Some(clip) = clip {
            params["captureBeyondViewport"] = json!(true);
            params["clip"] = clip;
        }
        let answer = match self.page("Page.captureScreenshot", params, deadline).await {
            Ok(answer) => answer,
            Err(error) => return self.unanswered("screenshot", &error),
        };
        let picture = answer.decode::<Picture>().ok().and_then(|p| BASE64.decode(p.data).ok());
        let Some(picture) = picture else {
            let failure = fault::command("screenshot", "the browser's picture cannot be read");
            return CommandReport::failed(CommandStatus::Error, "unreadable picture", failure);
        };
        let made = Made { kind: "screenshot", media_type, suffix: &shot.suffix, ending };
        made.keep(&self.uplink, self.url(), picture.into(), deadline).await
    }

    async fn whole_page(
        &self,
        index: u32,
        deadline: Instant,
    ) -> Result<serde_json::Value, Box<CommandReport>> {
        let answer = self.page("Page.getLayoutMetrics", json!({}), deadline).await;
        let answer = answer.map_err(|e| Box::new(call_failed("screenshot", &e)))?;
        let wrong = |e: serde_json::Error| {
            let failure = fault::command("screenshot", format!("the page has no size: {e}"));
            Box::new(CommandReport::failed(CommandStatus::Error, "no size", failure))
        };
        let size = answer.decode::<Metrics>().map_err(wrong)?.css_content_size;
        let (width, height) = (size.width.clamp(1.0, MAX_SIDE), size.height.clamp(1.0, MAX_SIDE));
        if size.width > width || size.height > height {
            let row = size_truncation(index, size.width, size.height);
            self.uplink
                .record(StreamId::SERVICE, wall_us(), row)
                .await
                .map_err(|e| Box::new(CommandReport::failed(CommandStatus::Error, "storage", e.failure())))?;
        }
        Ok(json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1}))
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
            Ok(serde_json::Value::String(source)) => source,
            Ok(_) => {
                let failure = fault::command("dump_page_source", "the page has no source to be read");
                return CommandReport::failed(CommandStatus::Error, "no source", failure);
            }
            Err(NotLoaded::Call(error)) => return self.unanswered("dump_page_source", &error),
            Err(other) => return self.report(Err(other), deadline).await,
        };
        Made::source(&dump.suffix).keep(&self.uplink, self.url(), source.into(), deadline).await
    }

    fn unanswered(&mut self, what: &str, error: &super::super::cdp::CallError) -> CommandReport {
        let mut report = call_failed(what, error);
        self.stuck |= report.status == CommandStatus::Timeout;
        report.final_url = self.url();
        report
    }
}
