//! A small DevTools-protocol client over `--remote-debugging-pipe` (NUL-separated JSON).
//!
//! It sees every session of the browser (pages, cross-site iframes, workers, popups), sets each one up
//! before its first request, decodes leniently, bounds everything and counts what it drops. It ends every
//! pending call at once when the browser is gone. Command types come from `chromiumoxide::cdp`; nothing
//! else of that crate is used.
//!
//! - [`Connection`]: calls, sessions, subscriptions;
//! - [`AttachHook`]: which commands a new session gets before it runs;
//! - [`Subscription`]: one ordered stream of events with explicit gaps.

mod connection;
mod error;
mod guest;
mod ids;
mod pending;
mod raw;
mod router;
mod sessions;
mod subscription;
mod wire;

#[cfg(test)]
mod tests;

pub use connection::{Connection, ConnectionOptions, PendingCall, Stats, WeakConnection};
pub use error::{CallError, CloseReason};
pub use guest::{Guest, NotACall};
pub use ids::{ContextId, SessionId, TargetId};
pub use raw::RawJson;
pub use router::AutoAttach;
pub use sessions::{AttachHook, HookFailure, SessionInfo};
pub use subscription::{Event, Filter, Item, Limits, Subscription};
pub use wire::RawCommand;
