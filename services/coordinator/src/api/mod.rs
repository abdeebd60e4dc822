//! The gRPC services: checks what users send, reads and writes the store, steers the engine.
mod add_visits;
mod convert;
mod crawl_service;
mod drive;
mod errors;
mod fleet_service;
mod single;
mod spec;
mod watch;

use std::sync::Arc;

use sonde_proto::coordinator::v1::{
    crawl_service_server::CrawlServiceServer, fleet_service_server::FleetServiceServer,
};
use sonde_runtime::serve::limits;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{config::Config, engine::EngineHandle, live::Live, store::Store, time::Clock};

/// Full names of the services in [`routes`], as health reports them.
pub const SERVICE_NAMES: &[&str] =
    &["sonde.coordinator.v1.CrawlService", "sonde.coordinator.v1.FleetService"];

/// What every handler needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    pub store: Store,
    pub live: Live,
    pub engine: EngineHandle,
    pub config: Arc<Config>,
    pub clock: Clock,
    pub task_id: i64,
    pub outbox_bell: Arc<Notify>,
    /// Ends streams.
    pub stop: CancellationToken,
}

pub(crate) fn routes(api: &Api) -> Routes {
    let crawls = CrawlServiceServer::new(api.clone())
        .max_decoding_message_size(limits::MESSAGE_BYTES)
        .max_encoding_message_size(limits::MESSAGE_BYTES);
    let fleet = FleetServiceServer::new(api.clone()).max_encoding_message_size(limits::MESSAGE_BYTES);
    Routes::new(crawls).add_service(fleet)
}
