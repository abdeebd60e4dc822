//! FleetService: the slots and what they do.
use sonde_proto::coordinator::v1::{
    ListBrowsersRequest, ListBrowsersResponse, fleet_service_server::FleetService,
};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl FleetService for Api {
    async fn list_browsers(
        &self,
        _: Request<ListBrowsersRequest>,
    ) -> Result<Response<ListBrowsersResponse>, Status> {
        Ok(Response::new(ListBrowsersResponse { slots: self.live.slots() }))
    }
}
