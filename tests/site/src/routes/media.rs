//! Resources that browsers decode: sound, subtitles, drawings.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use super::reply;
use crate::site::Shared;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/r/tone.wav", get(|| async { reply("audio/wav", tone()) }))
        .route(
            "/r/track.vtt",
            get(|| async { reply("text/vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\nsubtitle\n") }),
        )
        .route("/r/drawing.svg", get(|| async { reply("image/svg+xml", DRAWING) }))
}

const DRAWING: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1 1\"><rect id=\"part\" width=\"1\" height=\"1\"/></svg>";

/// A tenth of a second of silence: RIFF, PCM, one channel of 8 bits at 8 kHz.
fn tone() -> Vec<u8> {
    let samples = [128_u8; 800];
    let length = |n: usize| u32::try_from(n).expect("a second of sound is short").to_le_bytes();
    let mut wav = Vec::with_capacity(44 + samples.len());
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&length(36 + samples.len()));
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&[length(8000), length(8000)].concat());
    wav.extend_from_slice(b"\x01\0\x08\0data");
    wav.extend_from_slice(&length(samples.len()));
    wav.extend_from_slice(&samples);
    wav
}
