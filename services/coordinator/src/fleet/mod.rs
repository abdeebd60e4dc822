//! The browser-services: one task a service, which learns what it can run, and one task a slot, which keeps a session
//! to it and carries leases there and results back.
mod attempt;
mod service;
mod session;
mod slot;

use std::{sync::Arc, time::Duration};

use sonde_proto::visit::v1::Command;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Channel;

use crate::{
    engine::{EngineHandle, Running},
    live::{DriveLink, Live},
    store::Store,
};

pub(crate) use service::Service;

/// A lease to be run.
#[derive(Clone, Debug)]
pub(crate) struct Assigned {
    pub running: Running,
    pub site_rank: Option<i64>,
    pub commands: Vec<Command>,
    pub fresh_browser: bool,
}

/// To a slot's task.
#[derive(Debug)]
pub(crate) enum SlotCommand {
    Run { assigned: Box<Assigned>, drive: Option<DriveLink> },
    Cancel { visit_id: i64, reason: String },
}

/// What every task of the fleet needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Deps {
    pub store: Store,
    pub live: Live,
    pub engine: EngineHandle,
    pub lease: Duration,
    /// Ends the sessions as they are: what runs is left to be taken over.
    pub stop: CancellationToken,
    /// Closes sessions of slots where nothing runs.
    pub close: CancellationToken,
    pub tasks: TaskTracker,
}

/// Where a service is and how it is called.
#[derive(Clone)]
pub(crate) struct Place {
    pub endpoint: String,
    pub channel: Channel,
    /// Rung when a slot found another instance than before.
    pub changed: Arc<Notify>,
}
