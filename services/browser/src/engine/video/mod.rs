//! What a page shows, as pictures with times on disk, and the video that is made of them.

mod encode;
mod timing;

use std::io;
use std::path::Path;
use std::time::Duration;

use sonde_proto::visit::v1::StartVideo;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::encode::{EncodeError, Encoder, Video};
use self::timing::Times;
use super::scratch::Scratch;

/// Pictures a second of every video.
pub const FPS: u32 = 30;
/// Longest side of a picture that can be read, in pixels.
const MAX_SIDE: usize = 16_384;

/// What is recorded, with the contract's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Largest, in pixels.
    pub width: u32,
    pub height: u32,
    /// Of JPEG, in percent.
    pub quality: u32,
    pub fps: u32,
    pub duration: Duration,
    /// Of pictures.
    pub bytes: u64,
}

impl From<&StartVideo> for Recorded {
    fn from(asked: &StartVideo) -> Self {
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        Self {
            width: or(asked.max_width, 1280),
            height: or(asked.max_height, 720),
            quality: or(asked.quality, 90),
            fps: or(asked.max_fps, FPS),
            duration: crate::attempt::or(asked.max_duration, Duration::from_secs(600)),
            bytes: if asked.max_bytes == 0 { 1 << 30 } else { asked.max_bytes },
        }
    }
}

/// A picture of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub jpeg: Vec<u8>,
    /// When it was shown, in microseconds since the epoch.
    pub at_us: i64,
}

/// A picture on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    /// Its file is named by it.
    number: u64,
    at_us: i64,
    bytes: u64,
    size: (u32, u32),
}

/// Why the end of a recording is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Duration(Duration),
    Bytes(u64),
}

/// Takes a recording's pictures.
#[derive(Debug)]
pub struct Spool {
    dir: Scratch,
    recorded: Recorded,
    times: Times,
    kept: Vec<Kept>,
    bytes: u64,
    captured: u64,
    dropped: u64,
    bound: Option<Bound>,
    /// The first that could not be written.
    failure: Option<io::Error>,
}

impl Spool {
    pub fn new(run_dir: &Path, recorded: Recorded) -> io::Result<Self> {
        Ok(Self {
            dir: Scratch::new(run_dir, "video")?,
            recorded,
            times: Times::new(recorded.fps),
            kept: Vec::new(),
            bytes: 0,
            captured: 0,
            dropped: 0,
            bound: None,
            failure: None,
        })
    }

    /// Takes the next one. Of two that are shown within the same time of one, only the later is ever seen.
    pub async fn take(&mut self, picture: Picture) {
        self.captured += 1;
        let Picture { jpeg, at_us } = picture;
        let size = imagesize::blob_size(&jpeg).ok().filter(|s| s.width <= MAX_SIDE && s.height <= MAX_SIDE);
        let Some(size) = size.filter(|_| self.failure.is_none() && self.bound.is_none()) else {
            self.dropped += 1;
            return;
        };
        let size = (u32::try_from(size.width).unwrap_or(0), u32::try_from(size.height).unwrap_or(0));
        let first = self.kept.first().map_or(at_us, |first| first.at_us);
        // Times never go back: a picture that came later was shown later.
        let at_us = self.kept.last().map_or(at_us, |last| at_us.max(last.at_us));
        let bytes = jpeg.len() as u64;
        if u128::try_from(at_us - first).unwrap_or(0) > self.recorded.duration.as_micros() {
            self.bound = Some(Bound::Duration(self.recorded.duration));
        } else if self.bytes + bytes > self.recorded.bytes {
            self.bound = Some(Bound::Bytes(self.recorded.bytes));
        }
        if self.bound.is_some() {
            self.dropped += 1;
            return;
        }
        if let Some(last) = self.kept.pop_if(|last| self.times.same(first, last.at_us, at_us)) {
            self.bytes -= last.bytes;
            self.remove(last).await;
        }
        let kept = Kept { number: self.captured, at_us, bytes, size };
        match tokio::fs::write(self.dir.path().join(name(kept.number)), jpeg).await {
            Ok(()) => {
                self.bytes += bytes;
                self.kept.push(kept);
            }
            Err(error) => {
                self.dropped += 1;
                self.failure = Some(error);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Pictures a second that it takes at most.
    pub fn fps(&self) -> u32 {
        self.recorded.fps
    }

    /// So many were lost on the way here.
    pub fn lost(&mut self, pictures: u64) {
        self.captured += pictures;
        self.dropped += pictures;
    }

    async fn remove(&mut self, kept: Kept) {
        if let Err(error) = tokio::fs::remove_file(self.dir.path().join(name(kept.number))).await {
            self.failure = Some(error);
        }
    }
}

/// In the order of time, and nothing that would have to be quoted.
fn name(number: u64) -> String {
    format!("{number:08}.jpg")
}

/// A recording that runs. Dropped, it ends, and its pictures are gone.
#[derive(Debug)]
pub struct Recording {
    task: JoinHandle<Spool>,
    stop: DropGuard,
}

impl Recording {
    /// Pictures are taken by `capture` until the token is cancelled.
    pub fn start<F>(spool: Spool, capture: impl FnOnce(Spool, CancellationToken) -> F) -> Self
    where
        F: Future<Output = Spool> + Send + 'static,
    {
        let token = CancellationToken::new();
        let task = tokio::spawn(capture(spool, token.clone()));
        Self { task, stop: token.drop_guard() }
    }

    /// Ends it; `None` when its task has panicked.
    pub async fn stop(self) -> Option<Spool> {
        drop(self.stop);
        self.task.await.inspect_err(|error| tracing::error!(%error, "a recording ended by itself")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG of 2 x 1 pixels, as far as its header goes.
    fn jpeg(filler: usize) -> Vec<u8> {
        let head = [0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0, 1, 0, 2, 1, 1, 0x11, 0, 0xff, 0xd9];
        head.into_iter().chain(std::iter::repeat_n(0, filler)).collect()
    }

    fn at(ms: i64) -> Picture {
        Picture { jpeg: jpeg(0), at_us: ms * 1000 }
    }

    fn recorded() -> Recorded {
        Recorded::from(&StartVideo::default())
    }

    /// M21: what no frame of the video shows is not kept; what is beyond the bounds is counted.
    #[tokio::test]
    async fn pictures_are_thinned_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(dir.path()).unwrap().flatten().count();
        let short = Recorded { duration: Duration::from_secs(1), bytes: 60, ..recorded() };
        let mut spool = Spool::new(dir.path(), short).unwrap();
        // The first is the first frame, 10 and 30 ms the second, 40 the third.
        for ms in [0, 10, 30, 40] {
            spool.take(at(ms)).await;
        }
        let kept: Vec<i64> = spool.kept.iter().map(|k| k.at_us / 1000).collect();
        assert_eq!((kept.as_slice(), spool.captured, spool.dropped), (&[0, 30, 40][..], 4, 0));
        assert_eq!(std::fs::read_dir(spool.dir.path()).unwrap().count(), 3);
        // Beyond the bytes.
        spool.take(at(200)).await;
        assert_eq!((spool.bound, spool.dropped), (Some(Bound::Bytes(60)), 1));
        spool.lost(2);
        assert_eq!((spool.captured, spool.dropped), (7, 3));
        drop(spool);
        assert_eq!(files(), 0, "the pictures go with the recording");
        let mut spool = Spool::new(dir.path(), Recorded { bytes: 1 << 20, ..short }).unwrap();
        for ms in [5000, 5999, 6001] {
            spool.take(at(ms)).await;
        }
        assert_eq!(spool.bound, Some(Bound::Duration(Duration::from_secs(1))));
        // No picture at all.
        spool.take(Picture { jpeg: b"nothing".to_vec(), at_us: 0 }).await;
        assert_eq!((spool.kept.len(), spool.dropped), (2, 2));
    }

    /// M21: a disk that takes nothing more is noticed, and told at the stop.
    #[tokio::test]
    async fn what_cannot_be_written_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(dir.path(), recorded()).unwrap();
        std::fs::remove_dir_all(spool.dir.path()).unwrap();
        spool.take(at(1)).await;
        assert!(spool.failure.is_some());
        std::fs::create_dir(spool.dir.path()).unwrap();
    }
}
