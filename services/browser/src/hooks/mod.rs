//! Archivists' hooks: executables of plugins that the operator installed, run in order on a page.
//!
//! [`discovery`] finds plugins, [`config`] gives their settings values, [`env`] makes a hook's environment, [`runner`]
//! runs a plan of hooks and tells what happens as [`event`]s; [`record`] reads what hooks print, [`outputs`] lists what
//! they leave, [`verdict`] says how each ended. No request ever names a path: plugins are named, and looked for in
//! configured directories only.

pub mod chrome;
pub mod config;
pub mod crawl;
pub mod crawls;
pub mod discovery;
pub mod drive;
pub mod env;
pub mod event;
pub mod host;
pub mod keep;
pub mod launch;
pub mod names;
pub mod outputs;
pub mod plan;
pub mod record;
pub mod runner;
pub mod schema;
pub mod verdict;
