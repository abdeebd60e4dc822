use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::endpoint::{Endpoint, EndpointError, Inproc, connect};

const POLL: Duration = Duration::from_millis(50);
const CALL: Duration = Duration::from_secs(1);

/// Returns once the server at `endpoint` says that it serves. Waits for ever: the caller bounds it.
pub(super) async fn until_serving(endpoint: &Endpoint) -> Result<(), EndpointError> {
    let mut client = HealthClient::new(connect(endpoint, &Inproc::new())?);
    loop {
        let check = client.check(HealthCheckRequest { service: String::new() });
        // Refused, late or not serving are all the same here: not yet.
        if let Ok(Ok(answer)) = tokio::time::timeout(CALL, check).await
            && answer.get_ref().status == ServingStatus::Serving as i32
        {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}
