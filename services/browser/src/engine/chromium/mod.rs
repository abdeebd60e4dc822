//! Chromium: launched by us, driven over a DevTools pipe.

pub mod cdp;
mod engine;
pub mod flags;
pub mod http;
pub mod launch;
mod profile;
mod visit;
mod workers;

pub use engine::Chromium;
