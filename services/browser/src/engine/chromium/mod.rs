//! Chromium: launched by us, driven over a DevTools pipe.

mod calls;
pub(super) mod capabilities;
pub mod cdp;
mod engine;
pub mod features;
pub mod flags;
pub mod http;
mod inlined;
mod kept;
pub mod launch;
mod profile;
mod recorder;
pub mod scripts;
mod stealth;
mod strangers;
mod visit;
mod workers;

pub use engine::Chromium;
pub use strangers::keep_strangers;
