use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Uri};
use tower::service_fn;

use super::{Endpoint, EndpointError, Inproc};
use crate::serve::limits;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel that connects when first used, and again after a loss. It sets no deadline on calls: each caller gives
/// its own. Call within a tokio runtime.
///
/// # Errors
/// If the endpoint is no valid address.
pub fn connect(endpoint: &Endpoint, inproc: &Inproc) -> Result<Channel, EndpointError> {
    let authority = match endpoint {
        Endpoint::Tcp { host, port } => format!("http://{host}:{port}"),
        Endpoint::Unix(_) | Endpoint::Inproc(_) => "http://localhost".to_owned(),
    };
    let transport = tonic::transport::Endpoint::from_shared(authority)
        .map_err(|error| EndpointError::Unreachable {
            endpoint: endpoint.clone(),
            reason: error.to_string(),
        })?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME_BYTES)
        .http2_max_header_list_size(limits::HEADER_BYTES)
        .http2_keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let channel = match endpoint.clone() {
        Endpoint::Tcp { host, port } => transport.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            async move {
                let stream = TcpStream::connect((host, port)).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        })),
        Endpoint::Unix(path) => transport.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        })),
        Endpoint::Inproc(name) => {
            let inproc = inproc.clone();
            transport.connect_with_connector_lazy(service_fn(move |_: Uri| {
                let (inproc, name) = (inproc.clone(), name.clone());
                async move { inproc.dial(&name).await.map(TokioIo::new) }
            }))
        }
    };
    Ok(channel)
}
