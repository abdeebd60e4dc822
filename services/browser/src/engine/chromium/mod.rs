//! Chromium: launched by us, driven over a DevTools pipe.

pub mod cdp;
pub mod flags;
pub mod launch;
mod profile;
