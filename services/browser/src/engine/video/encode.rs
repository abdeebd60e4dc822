//! ffmpeg makes the video.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::timing::{frame, frames};
use super::{Bound, FPS, Kept, Recorded, Spool, name};
use crate::process::{self, EndReason, Spawn, SpawnError};

/// Longest time between two places that a player can jump to, in frames.
const KEY_EVERY: u32 = 60;
/// For ffmpeg to end by itself when its time is over.
const GRACE: Duration = Duration::from_millis(500);
/// Bytes of its last words that are told.
const LAST_WORDS: usize = 1000;
const LIST: &str = "list.ffconcat";
const MADE: &str = "video.mp4";

/// Why there is no video.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the browser gave no picture of the page between start and stop")]
    NoPictures,
    #[error("the pictures cannot be kept on the server: {0}; see to its disk (browser.run_dir)")]
    NotWritten(io::Error),
    #[error(
        "{0}: install ffmpeg on the browser-service (Debian: apt-get install ffmpeg), or set browser.ffmpeg"
    )]
    NoFfmpeg(SpawnError),
    #[error("ffmpeg ended with {how}; its last words: {words}")]
    Failed { how: String, words: String },
    #[error("the time ran out while ffmpeg was at frame {at} of {of}: give the stop a longer timeout")]
    TooSlow { at: u64, of: u64 },
}

/// A video and what it is.
#[derive(Debug)]
pub struct Video {
    pub mp4: Vec<u8>,
    /// Of its first picture, in microseconds since the epoch.
    pub started_us: i64,
    pub size: (u32, u32),
    pub frames: u64,
    /// Different ones that are in it.
    pub pictures: u64,
    pub captured: u64,
    pub dropped: u64,
    pub bound: Option<Bound>,
}

impl Video {
    /// In milliseconds.
    pub fn duration_ms(&self) -> u64 {
        self.frames * 1000 / u64::from(FPS)
    }
}

/// Makes videos.
#[derive(Debug, Clone)]
pub struct Encoder {
    pub ffmpeg: PathBuf,
}

impl Encoder {
    /// The video of a recording that ended at a time, in microseconds since the epoch. Nothing else is left of it.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub async fn encode(
        &self,
        mut spool: Spool,
        end_us: i64,
        deadline: Instant,
    ) -> Result<Video, EncodeError> {
        if let Some(error) = spool.failure.take() {
            return Err(EncodeError::NotWritten(error));
        }
        let (Some(first), Some(last)) = (spool.kept.first(), spool.kept.last()) else {
            return Err(EncodeError::NoPictures);
        };
        let started_us = first.at_us;
        let longest = i64::try_from(spool.recorded.duration.as_micros()).unwrap_or(i64::MAX);
        // What is not in it because there was no room does not make it longer.
        let end_us = match spool.bound {
            Some(Bound::Bytes(_)) => last.at_us,
            _ => end_us.min(started_us.saturating_add(longest)),
        };
        let of = frames(started_us, end_us).max(frame(started_us, last.at_us) + 1);
        let size = size(&spool.kept, spool.recorded);
        let dir = spool.dir.path();
        let list = list(&spool.kept, of);
        tokio::fs::write(dir.join(LIST), list).await.map_err(EncodeError::NotWritten)?;
        let frames = self.run(dir, size, of, deadline).await?;
        let mp4 = tokio::fs::read(dir.join(MADE)).await.map_err(EncodeError::NotWritten)?;
        Ok(Video {
            mp4,
            started_us,
            size,
            frames,
            pictures: spool.kept.len() as u64,
            captured: spool.captured,
            dropped: spool.dropped,
            bound: spool.bound,
        })
    }

    /// Gives the frames that it has made.
    async fn run(
        &self,
        dir: &Path,
        size: (u32, u32),
        of: u64,
        deadline: Instant,
    ) -> Result<u64, EncodeError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let spec = Spawn::new("ffmpeg", &self.ffmpeg).args(arguments(size, of)).cwd(dir).timeout(left);
        let process = process::spawn(spec).await.map_err(EncodeError::NoFfmpeg)?;
        let Ok((exit, _)) = timeout_at(deadline - GRACE.min(left / 2), process.wait_gone()).await else {
            process.because(EndReason::Timeout, "the video was not made in time");
            process.terminate(GRACE.min(left / 2)).await;
            return Err(EncodeError::TooSlow { at: told(&process.stdout_tail()).unwrap_or(0), of });
        };
        let words = || {
            let words = process.stderr_tail();
            let words = words.trim();
            words[words.ceil_char_boundary(words.len().saturating_sub(LAST_WORDS))..].to_owned()
        };
        if exit.code != Some(0) {
            return Err(EncodeError::Failed { how: exit.to_string(), words: words() });
        }
        match told(&process.stdout_tail()) {
            Some(frames) if frames == of => Ok(frames),
            made => {
                let how = format!("{} of {of} frames", made.unwrap_or(0));
                Err(EncodeError::Failed { how, words: words() })
            }
        }
    }
}

/// Of the whole video: that of the largest of its pictures, within what is wanted, with even sides.
fn size(kept: &[Kept], wanted: Recorded) -> (u32, u32) {
    let largest = kept.iter().map(|k| k.size).max_by_key(|(w, h)| u64::from(*w) * u64::from(*h));
    let (width, height) = largest.unwrap_or((2, 2));
    let of = |most: u32, side: u32| f64::from(most) / f64::from(side.max(1));
    let scale = of(wanted.width, width).min(of(wanted.height, height)).min(1.0);
    let even = |side: u32| ((f64::from(side) * scale).round() as u32 & !1).max(2);
    (even(width), even(height))
}

/// The pictures with their times, as ffmpeg's concat demuxer reads them: all times are whole frames.
fn list(kept: &[Kept], of: u64) -> String {
    let first = kept.first().map_or(0, |k| k.at_us);
    let mut text = "ffconcat version 1.0\n".to_owned();
    let mut put = |kept: &Kept, frames: u64| {
        let seconds = frames as f64 / f64::from(FPS);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "file {}\noption framerate {FPS}\nduration {seconds:.6}", name(kept.number));
    };
    let ends = kept.iter().skip(1).map(|next| frame(first, next.at_us)).chain([of - 1]);
    for (picture, end) in kept.iter().zip(ends) {
        put(picture, end - frame(first, picture.at_us));
    }
    // The duration of the last one is not heard: it is there once more, as the last frame.
    if let Some(last) = kept.last().filter(|last| frame(first, last.at_us) < of - 1) {
        put(last, 1);
    }
    text
}

fn arguments((width, height): (u32, u32), of: u64) -> Vec<String> {
    // Pictures of another size than the video, as of a window that was resized, keep their shape.
    let picture = format!(
        "scale={width}:{height}:force_original_aspect_ratio=decrease:out_color_matrix=bt709:out_range=tv:\
         flags=bicubic+accurate_rnd+full_chroma_int,\
         pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1,format=yuv420p"
    );
    let [fps, frames, key] = [FPS.to_string(), of.to_string(), KEY_EVERY.to_string()];
    // The list is ours: it is not "safe" because it has options.
    let words: &[&str] = &[
        "-hide_banner",
        "-nostdin",
        "-loglevel",
        "error",
        "-nostats",
        "-progress",
        "pipe:1",
        "-y",
        "-f",
        "concat",
        "-safe",
        "0",
        "-i",
        LIST,
        "-vf",
        &picture,
        "-r",
        &fps,
        "-vsync",
        "cfr",
        "-frames:v",
        &frames,
        "-an",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-crf",
        "23",
        "-g",
        &key,
        "-colorspace",
        "bt709",
        "-color_primaries",
        "bt709",
        "-color_trc",
        "bt709",
        "-color_range",
        "tv",
        "-map_metadata",
        "-1",
        "-movflags",
        "+faststart",
        MADE,
    ];
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The last frame that ffmpeg has told of.
fn told(progress: &str) -> Option<u64> {
    progress.lines().rev().find_map(|line| line.strip_prefix("frame=")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(number: u64, ms: i64, size: (u32, u32)) -> Kept {
        Kept { number, at_us: 1_000_000 + ms * 1000, bytes: 1, size }
    }

    /// D61, D62
    #[test]
    fn the_list_is_exact() {
        let all = [kept(1, 0, (641, 479)), kept(2, 40, (8, 8)), kept(3, 1000, (9, 9))];
        let wanted = Recorded::from(&sonde_proto::visit::v1::StartVideo::default());
        assert_eq!(size(&all, wanted), (640, 478));
        assert_eq!(size(&all, Recorded { width: 320, ..wanted }), (320, 238));
        assert_eq!(size(&[kept(1, 0, (1366, 683))], wanted), (1280, 640));
        let text = list(&all, 60);
        let durations: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("duration ")).collect();
        // Frames 0 and 1, 2 to 29, 30 to 58, and the last once more.
        assert_eq!(durations, ["0.066667", "0.933333", "0.966667", "0.033333"]);
        assert_eq!(text.matches("file 00000003.jpg").count(), 2, "{text}");
        assert_eq!(list(&all[..1], 1).matches("file").count(), 1, "one picture is one frame");
    }

    #[test]
    fn the_last_word_of_the_progress_counts() {
        assert_eq!(told("frame=3\nfps=1\nprogress=continue\nframe=12\nprogress=end\n"), Some(12));
        assert_eq!(told(""), None);
    }
}
