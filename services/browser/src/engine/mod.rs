//! The browsers that Sonde can drive, one module each.

pub mod chromium;
