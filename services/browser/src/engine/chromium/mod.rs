//! Chromium: launched by us, driven over a DevTools pipe.

pub mod cdp;
pub mod launch;
