//! Videos of pages (M21), on a real Chromium and a real Firefox, looked at by the real ffprobe and ffmpeg.

// Clippy's allowance for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sonde_proto::visit::v1::{BrowserKind, CommandStatus, Outcome};
use sonde_tests::rig::{Artifact, Rig};

/// Frames a second.
const FPS: i64 = 30;

fn start() -> Value {
    json!({"record_video": {"start": {}}})
}

fn stop() -> Value {
    json!({"record_video": {"stop": {}}})
}

fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The only stream of a video, as ffprobe tells of it. D56, D61, D62.
fn probe(path: &Path) -> Value {
    let path = path.to_str().unwrap();
    let told = run("ffprobe", &["-v", "error", "-of", "json", "-show_streams", "-count_frames", path]);
    let told: Value = serde_json::from_slice(&told).unwrap();
    let [video] = told["streams"].as_array().unwrap().as_slice() else { panic!("one stream: {told}") };
    let is = |name: &str, wanted: &str| assert_eq!(video[name], json!(wanted), "{name}: {video}");
    is("codec_name", "h264");
    is("pix_fmt", "yuv420p");
    is("r_frame_rate", "30/1");
    is("avg_frame_rate", "30/1");
    is("sample_aspect_ratio", "1:1");
    is("color_space", "bt709");
    is("color_primaries", "bt709");
    is("color_transfer", "bt709");
    is("color_range", "tv");
    // Seconds from one key frame to the next.
    let keys = run(
        "ffprobe",
        &["-v", "error", "-of", "csv=p=0", "-skip_frame", "nokey", "-show_entries", "frame=pts_time", path],
    );
    let keys = String::from_utf8(keys).unwrap();
    let keys: Vec<f64> = keys.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect();
    assert!(keys[0] == 0.0 && keys.windows(2).all(|pair| pair[1] - pair[0] <= 2.001), "{keys:?}");
    video.clone()
}

/// The video of a command: as told, as stored, and as ffprobe sees it.
fn video(
    rig: &Rig,
    result: &sonde_proto::visit::v1::AttemptResult,
    index: usize,
) -> (Value, Artifact, Vec<u8>) {
    let command = &result.commands[index];
    assert_eq!(command.status(), CommandStatus::Ok, "{:?}: {command:#?}", rig.kind);
    let (artifact, mp4) = rig.artifact(result, index);
    assert_eq!((artifact.kind.as_str(), artifact.media_type.as_str()), ("video", "video/mp4"));
    assert!(artifact.name.ends_with(".mp4"), "{artifact:?}");
    let at = |name: &[u8]| mp4.windows(4).position(|four| four == name).unwrap();
    assert!(at(b"moov") < at(b"mdat"), "the index comes first");
    let told: Value = serde_json::from_str(&command.value_json).unwrap();
    let path = rig.world.path().join("video.mp4");
    std::fs::write(&path, &mp4).unwrap();
    let seen = probe(&path);
    assert_eq!(seen["nb_read_frames"], json!(told["frames"].to_string()), "{told}");
    assert_eq!((&seen["width"], &seen["height"]), (&told["width"], &told["height"]));
    let (width, height) = (told["width"].as_i64().unwrap(), told["height"].as_i64().unwrap());
    assert!(width % 2 == 0 && height % 2 == 0 && width <= 1280 && height <= 720, "{told}");
    (told, artifact, mp4)
}

/// The code that each frame shows, of 24 columns.
fn codes(path: &Path) -> Vec<i64> {
    // Averages of the middle of each column.
    let filter = "crop=iw:ih/4,scale=240:4:flags=area,format=gray";
    let raw =
        run("ffmpeg", &["-v", "error", "-i", path.to_str().unwrap(), "-vf", filter, "-f", "rawvideo", "-"]);
    let bit = |frame: &[u8], column: usize| i64::from(frame[240 + column * 10 + 5] > 127);
    raw.chunks_exact(240 * 4)
        .map(|frame| (0..24).fold(0, |code, column| code << 1 | bit(frame, column)))
        .collect()
}

fn median(values: &[i64]) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// How much later each frame is shown than what it shows was drawn, in milliseconds.
fn lateness(told: &Value, codes: &[i64]) -> Vec<i64> {
    let started = told["started_at"].as_str().unwrap();
    let started: jiff::Timestamp = started.parse().unwrap();
    let started = started.as_millisecond();
    let late = codes.iter().enumerate().map(|(k, code)| {
        let shown_at = started + i64::try_from(k).unwrap() * 1000 / FPS;
        // The code is that modulo 2^24.
        let late = (shown_at - code).rem_euclid(1 << 24);
        if late > 1 << 23 { late - (1 << 24) } else { late }
    });
    late.collect()
}

/// D64: records the time code; gives the shares of the frames that are within each margin, and the drift in milliseconds.
async fn timed<const N: usize>(kind: BrowserKind, seconds: u32, margins: [i64; N]) -> ([f64; N], i64) {
    let mut rig = Rig::start(kind).await;
    let url = rig.site.url(&rig.site.hosts()[0], "/p/timecode?v=tc");
    let stay = json!({"sleep": {"duration": format!("{seconds}s")}});
    let result = rig.visit_at(&url, json!([{"get": {}}, start(), stay, stop()])).await;
    rig.assert_ok(&result);
    let (told, ..) = video(&rig, &result, 3);
    let codes = codes(&rig.world.path().join("video.mp4"));
    let length = told["duration_ms"].as_i64().unwrap();
    let asked = i64::from(seconds) * 1000;
    assert!((asked - 1000..asked + 3000).contains(&length), "{told}");
    let late = lateness(&told, &codes);
    let usual = median(&late);
    let within = |margin: i64| {
        let right = late.iter().filter(|late| (*late - usual).abs() <= margin).count();
        right as f64 / late.len() as f64
    };
    let shares = margins.map(within);
    let quarter = late.len() / 4;
    let drift = median(&late[late.len() - quarter..]) - median(&late[..quarter]);
    println!("{kind:?}: {told}: {shares:.3?} within {margins:?} ms of {usual} ms, drift {drift} ms");
    rig.stop().await;
    (shares, drift)
}

/// D56, D61, D62, D64: frames show what Chromium showed at their time, and no drift accumulates. On an idle machine all
/// frames are within one; on one that is busy the page itself is drawn late.
#[tokio::test]
async fn chromium_is_recorded_in_time() {
    let ([within_a_frame, within_three], drift) = timed(BrowserKind::Chromium, 10, [34, 100]).await;
    assert!(within_a_frame >= 0.5 && within_three >= 0.9, "{within_a_frame} {within_three}");
    assert!(drift.abs() <= 34, "{drift}");
}

/// As far as pictures that are asked for can be in time.
#[tokio::test]
async fn firefox_is_recorded_by_pictures_in_time() {
    let ([right], drift) = timed(BrowserKind::Firefox, 8, [400]).await;
    assert!(right >= 0.9, "{right}");
    assert!(drift.abs() <= 150, "{drift}");
}

async fn kept_and_refused(kind: BrowserKind) {
    let mut rig = Rig::start(kind).await;
    let page = rig.page("rv");
    let commands = json!([
        start(),
        {"get": {}},
        {"record_video": {"stop": {"suffix": "one"}}},
        {"record_video": {"start": {"max_width": 400, "max_height": 300, "max_duration": "1s"}}},
        {"sleep": {"duration": "1.5s"}},
        {"scroll": {"by": {"y": 50}}},
    ]);
    let result = rig.visit_at(&page, commands).await;
    rig.assert_ok(&result);
    let commands = &result.commands;
    let (_, named, _) = video(&rig, &result, 2);
    assert!(named.name.ends_with("-one.mp4"), "{named:?}");
    // It was not stopped: its last command is ours, and its end is not in it.
    assert_eq!((commands.len(), commands[6].name.as_str()), (7, "record_video"), "{kind:?}: {commands:#?}");
    assert_eq!(rig.history(result.visit_id, 6, "command").unwrap(), "RecordVideoCommand");
    let (told, ..) = video(&rig, &result, 6);
    assert!(told["duration_ms"].as_i64().unwrap() <= 1034, "{kind:?}: {told}");
    assert!(told["width"].as_i64().unwrap() <= 400, "{kind:?}: {told}");
    let left = std::fs::read_dir(rig.world.path().join("tmp")).unwrap();
    for entry in left.flatten() {
        let below = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
        let names = below.map(|e| e.file_name().to_string_lossy().into_owned());
        assert_eq!(names.filter(|name| name.starts_with("video_")).count(), 0, "{kind:?}");
    }
    rig.stop().await;
}

/// M21, D20, D58: from before the first page on; what is not stopped is stopped by the visit's end; nothing is left.
#[tokio::test]
async fn chromium_keeps_what_is_recorded() {
    kept_and_refused(BrowserKind::Chromium).await;
}

/// M21, D58
#[tokio::test]
async fn firefox_keeps_what_is_recorded() {
    kept_and_refused(BrowserKind::Firefox).await;
}

/// M21: a command that fails ends the sequence, and the video of what led to it is kept.
#[tokio::test]
async fn the_video_of_a_failure_is_kept() {
    let mut rig = Rig::start(BrowserKind::Chromium).await;
    let page = rig.page("rf");
    let click = json!({"click": {"target": {"selector": "#none"}}, "timeout": "1s"});
    let result =
        rig.sequence_at(&page, json!([start(), {"get": {}}, click, {"sleep": {"duration": "1s"}}])).await;
    assert_eq!(result.outcome(), Outcome::Error, "{result:#?}");
    let names: Vec<(u32, &str)> = result.commands.iter().map(|c| (c.index, c.name.as_str())).collect();
    assert_eq!(names, [(0, "record_video"), (1, "get"), (2, "click"), (4, "record_video")]);
    let (told, ..) = video(&rig, &result, 3);
    assert!(told["duration_ms"].as_i64().unwrap() >= 500, "{told}");
    rig.stop().await;
}

/// M21: one recording at a time.
#[tokio::test]
async fn a_driver_records_once_at_a_time() {
    let mut rig = Rig::start(BrowserKind::Chromium).await;
    let url = rig.page("rd");
    let step = |command: Value| {
        let read =
            sonde_proto::from_json::<sonde_proto::visit::v1::Command>("sonde.visit.v1.Command", &command);
        read.unwrap().step.unwrap()
    };
    let instruments = rig.instruments.clone();
    let visit = rig.slot.begin_interactive(&url, instruments, vec![step(json!({"get": {}}))]).await;
    for command in [start(), start(), stop(), stop()] {
        assert!(rig.slot.step(visit, step(command)).await.is_none());
    }
    let result = rig.slot.finish(visit).await;
    let errors: Vec<&str> = result.commands.iter().map(|c| c.error.as_str()).collect();
    assert_eq!(errors, ["", "", "already_recording", "", "not_recording"], "{result:#?}");
    rig.stop().await;
}
