//! The HTTP instrument: DevTools events of one visit become rows of the http, cookie and call-stack tables.
//!
//! [`HttpTracker`] is pure: it takes events and returns [`Action`]s. [`BodyFetcher`] performs those that need
//! the browser. Both are driven by the visit:
//!
//! 1. every new session gets [`setup_commands`];
//! 2. every event of the visit's context goes to [`HttpTracker::on_event`], in the order of the pipe;
//! 3. records go to the uplink, fetches to the fetcher, whose answers go back to the tracker;
//! 4. at the end [`HttpTracker::finish`] records what is still open.

mod config;
mod cookies;
mod cuts;
mod dns;
mod emit;
mod events;
mod exchange;
mod fetch;
mod frames;
mod gone;
mod links;
mod post;
mod resource;
mod rows;
pub(super) mod site;
mod sockets;
pub(super) mod stack;
mod tracker;

#[cfg(test)]
mod tests;

pub use config::{
    Action, BodyRequest, BodyResult, HttpConfig, MainDocument, PostDataRequest, RequestIds, SaveContent,
};
pub use cookies::{JarCookie, snapshot_rows};
pub use events::Decode;
pub(super) use events::StackTrace;
pub use fetch::{BlobSink, BodyFetcher, Caller, CdpCaller, setup_commands};
pub(super) use frames::Frames;
pub use links::{ScriptPlace, ScriptRequest};
pub(super) use rows::truncation;
pub use site::PUBLIC_SUFFIX_LIST;
pub(super) use site::stored_url;
pub use tracker::HttpTracker;
