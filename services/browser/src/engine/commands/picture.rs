//! Pictures: of the viewport, the page, an element or a rectangle.

use serde_json::{Map, Value};
use sonde_proto::StreamId;
use sonde_proto::visit::v1::{Clip, CommandStatus, ScreenshotCommand};
use sonde_runtime::clock::wall_us;
use tokio::time::Instant;

use super::interact::{ask, fields};
use super::script::{Refusal, target, task};
use super::{Page, Why, reported};
use crate::engine::CommandReport;
use crate::engine::artifact::{MAX_SIDE, no_page, size_truncation};

/// What is pictured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Area {
    Viewport,
    Page,
    /// In CSS pixels of the document.
    Rectangle(Clip),
}

pub(super) async fn screenshot<P: Page>(
    page: &mut P,
    index: u32,
    shot: &ScreenshotCommand,
    deadline: Instant,
) -> CommandReport {
    if !page.loaded() {
        return no_page("screenshot");
    }
    let area = match area(page, shot, deadline).await {
        Ok(area) => area,
        Err(why) => return reported(page, "screenshot", Err(why), deadline).await,
    };
    if let Area::Rectangle(Clip { width, height, .. }) = area
        && (width > MAX_SIDE || height > MAX_SIDE)
    {
        let row = size_truncation(index, width, height);
        if let Err(error) = page.uplink().record(StreamId::SERVICE, wall_us(), row).await {
            return CommandReport::failed(CommandStatus::Error, "storage", error.failure());
        }
    }
    page.progress().detail("taking a picture");
    page.screenshot(index, shot, cut(area), deadline).await
}

/// Down to the largest picture.
fn cut(area: Area) -> Area {
    match area {
        Area::Rectangle(clip) => Area::Rectangle(Clip {
            width: clip.width.min(MAX_SIDE),
            height: clip.height.min(MAX_SIDE),
            ..clip
        }),
        other => other,
    }
}

async fn area<P: Page>(
    page: &mut P,
    shot: &ScreenshotCommand,
    deadline: Instant,
) -> Result<Area, Why<P::NotLoaded>> {
    if let Some(element) = &shot.element {
        page.progress().detail("waiting for the element");
        let wanted = fields([("target", target(Some(element)))]);
        let found = ask(page, task("box", wanted, deadline, true), deadline).await?;
        return Ok(Area::Rectangle(rectangle(&found)?));
    }
    let Some(clip) = shot.clip else {
        return Ok(if shot.full_page { Area::Page } else { Area::Viewport });
    };
    let extent = ask(page, task("extent", Map::new(), deadline, true), deadline).await?;
    let extent = rectangle(&extent)?;
    match within(clip, extent.width, extent.height) {
        Some(clip) => Ok(Area::Rectangle(clip)),
        None => {
            let message = format!("the page is {} x {} CSS pixels", extent.width, extent.height);
            Err(Refusal::new("empty_picture", message).into())
        }
    }
}

fn rectangle(json: &str) -> Result<Clip, Refusal> {
    let found: Value = serde_json::from_str(json).unwrap_or_default();
    let side = |name: &str| found[name].as_f64();
    let sides = side("width").zip(side("height"));
    let (width, height) = sides.ok_or_else(|| Refusal::new("script_error", "it has no size"))?;
    Ok(Clip { x: side("x").unwrap_or_default(), y: side("y").unwrap_or_default(), width, height })
}

/// The part of a rectangle that is in a document; `None`: not one pixel is.
fn within(clip: Clip, width: f64, height: f64) -> Option<Clip> {
    let (right, lower) = ((clip.x + clip.width).min(width), (clip.y + clip.height).min(height));
    let inside = Clip { width: right - clip.x, height: lower - clip.y, ..clip };
    (inside.width >= 1.0 && inside.height >= 1.0).then_some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M20
    #[test]
    fn what_is_outside_of_the_document_is_left_out() {
        let clip = Clip { x: 90.0, y: 0.0, width: 20.0, height: 5.0 };
        assert_eq!(within(clip, 100.0, 100.0), Some(Clip { width: 10.0, ..clip }));
        assert_eq!(within(clip, 90.0, 100.0), None);
    }
}
