//! Videos of the page.

use std::time::Duration;

use serde_json::json;
use sonde_proto::StreamId;
use sonde_proto::record::v1::{Truncation, record::Row};
use sonde_proto::visit::v1::{RecordVideoCommand, StartVideo, StopVideo, record_video_command::Action};
use sonde_runtime::clock::{rfc3339_ms, wall_us};
use tokio::time::Instant;

use super::script::Refusal;
use super::{Page, Why, reported};
use crate::engine::CommandReport;
use crate::engine::artifact::Made;
use crate::engine::video::{Bound, EncodeError, Recorded, Spool, Video};

/// For the video to be stored.
const STORE: Duration = Duration::from_secs(10);

/// Runs the command.
pub(super) async fn record_video(
    page: &mut impl Page,
    index: u32,
    asked: &RecordVideoCommand,
    deadline: Instant,
) -> CommandReport {
    let failed = match &asked.action {
        Some(Action::Start(asked)) => match start(page, asked, deadline).await {
            Ok(()) => return CommandReport { final_url: page.url(), ..CommandReport::ok() },
            Err(why) => why,
        },
        Some(Action::Stop(asked)) => match stop(page, index, asked, deadline).await {
            Ok(report) => return report,
            Err(why) => why,
        },
        None => Refusal::new("invalid", "neither start nor stop").into(),
    };
    reported(page, "record_video", Err(failed), deadline).await
}

async fn start<P: Page>(
    page: &mut P,
    asked: &StartVideo,
    deadline: Instant,
) -> Result<(), Why<P::NotLoaded>> {
    if page.recording().is_some() {
        return Err(Refusal::new("already_recording", "a recording runs already: stop it first").into());
    }
    let recorded = Recorded::from(asked);
    let spool = Spool::new(page.shared().run_dir.path(), recorded).map_err(|error| {
        Refusal::new("not_written", format!("no pictures can be kept on the server: {error}"))
    })?;
    let recording = page.capture(recorded, spool, deadline).await.map_err(Why::NotLoaded)?;
    *page.recording() = Some(recording);
    Ok(())
}

async fn stop<P: Page>(
    page: &mut P,
    index: u32,
    asked: &StopVideo,
    deadline: Instant,
) -> Result<CommandReport, Why<P::NotLoaded>> {
    let Some(recording) = page.recording().take() else {
        return Err(Refusal::new("not_recording", "no recording runs: start one first").into());
    };
    let end_us = wall_us();
    let spool = recording.stop().await;
    let spool = spool.ok_or_else(|| Refusal::new("not_recording", "the recording ended by itself"))?;
    let fps = spool.fps();
    page.progress().detail("making the video");
    let left = deadline.saturating_duration_since(Instant::now());
    let made_by = deadline.checked_sub(STORE.min(left / 4)).unwrap_or(deadline);
    let encoder = page.shared().encoder.clone();
    let video = encoder.encode(spool, end_us, made_by).await.map_err(|error| refusal(&error))?;
    if let Some(row) = truncation(index, &video)
        && let Err(error) = page.uplink().record(StreamId::SERVICE, wall_us(), row).await
    {
        return Err(Refusal::new("not_stored", format!("a truncation was not recorded: {error}")).into());
    }
    let value = json!({
        "started_at": rfc3339_ms(video.started_us),
        "duration_ms": video.duration_ms(),
        "width": video.size.0,
        "height": video.size.1,
        "frames": video.frames,
        "pictures": video.pictures,
        "captured": video.captured,
        "dropped": video.dropped,
        "max_fps": fps,
    });
    page.progress().detail("storing the video");
    let made = Made { kind: "video", media_type: "video/mp4", suffix: &asked.suffix, ending: "mp4" };
    let report = made.keep(page.uplink(), page.url(), video.mp4.into(), deadline).await;
    Ok(CommandReport { value_json: value.to_string(), ..report })
}

fn refusal(error: &EncodeError) -> Refusal {
    let word = match error {
        EncodeError::NoPictures => "no_pictures",
        EncodeError::NotWritten(_) => "not_written",
        EncodeError::NoFfmpeg(_) => "no_ffmpeg",
        EncodeError::Failed { .. } => "encoding_failed",
        EncodeError::TooSlow { .. } => "timeout",
    };
    Refusal::new(word, error.to_string())
}

/// What is not in the video.
fn truncation(command: u32, video: &Video) -> Option<Row> {
    let (reason, limit) = match video.bound {
        Some(Bound::Duration(time)) => {
            ("video_duration", Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
        }
        Some(Bound::Bytes(bytes)) => ("video_bytes", Some(i64::try_from(bytes).unwrap_or(i64::MAX))),
        None if video.dropped > 0 => ("video_pictures_lost", None),
        None => return None,
    };
    Some(Row::Truncation(Truncation {
        table_name: "artifacts".to_owned(),
        reason: reason.to_owned(),
        dropped_rows: i64::try_from(video.dropped).unwrap_or(i64::MAX),
        limit_value: limit.unwrap_or_default(),
        subject: Some(format!("command {command}: pictures of the video")),
        ..Truncation::default()
    }))
}
