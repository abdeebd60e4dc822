//! The coordinator: crawls, the durable queue of visits, leases, retries, outcomes, and the fleet.
//!
//! It holds no browser and no record of a page: those are the browser-service's and the storage-service's, which it
//! meets over gRPC only, also when all three run in one process.
//!
//! `visit` and `schedule` decide purely; `engine` is the one loop that acts; `store` is what survives; `fleet` keeps
//! the sessions to browser slots; `ledger` takes rows to storage; `api` serves users.

mod api;
mod config;
mod coordinator;
mod engine;
mod facts;
mod fleet;
mod ledger;
mod live;
mod schedule;
mod store;
mod time;
mod visit;

pub use api::SERVICE_NAMES;
pub use config::Config;
pub use coordinator::{Coordinator, StartError};
pub use store::StoreError;
