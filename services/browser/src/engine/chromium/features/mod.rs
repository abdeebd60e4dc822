//! The cross-check of the JavaScript instrument with the engine itself (I3): what Blink's use counters saw used in a visit
//! and no row tells of was called unseen.
//!
//! The counters reach us as trace events, `FeatureFirstUsed` with the number of a feature, the first time that a document
//! uses it: of documents whatever way they were made, and of their dedicated and shared workers. Pages cannot see it.

mod map;
mod watch;

pub use map::{FeatureUse, checkable, feature_uses};
pub(super) use watch::FeatureWatch;
pub use watch::{Collected, trace_config};
pub(super) use watch::{Used, WatchError, record_unchecked};
