//! One listener on loopback, its connections, and their end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::log::Log;
use crate::tap::{AnswerTap, Carrier, Hangup, HeadTap, Tapped};
use crate::tls::TlsError;

/// What can go wrong with a site.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error("cannot listen on 127.0.0.1:{port}: {source}; choose a free port, or 0 for any")]
    Bind { port: u16, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("cannot write the access log {path}: {source}")]
    AccessLog { path: String, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{path} holds no .html file; give a directory of HTML pages")]
    NoPages { path: String },
    #[error("waited {waited:?} for {what}; hits so far: {hits}")]
    Deadline { what: String, waited: Duration, hits: usize },
    #[error("{left} connections did not end within {waited:?} of the stop")]
    Stop { left: usize, waited: Duration },
}

/// How long [`Server::stop`] waits for connections, which are all cancelled at once.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Whether a connection is encrypted; each request carries it as an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A running listener. Dropping it ends every connection; `stop` also waits for them.
pub(crate) struct Server {
    pub addr: SocketAddr,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    pub async fn bind(port: u16) -> Result<TcpListener, SiteError> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|source| SiteError::Bind { port, source })
    }

    /// Serves `router` on `listener`; each request carries the taps of its connection as extensions.
    pub fn start(
        listener: TcpListener,
        router: Router,
        log: &Arc<Log>,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let accept = accept_loop(listener, router, Arc::clone(log), tls, cancel.clone(), tasks.clone());
        tasks.spawn(accept);
        Ok(Self { addr, cancel, tasks })
    }

    pub async fn stop(&self) -> Result<(), SiteError> {
        self.cancel.cancel();
        self.tasks.close();
        tokio::time::timeout(STOP_DEADLINE, self.tasks.wait())
            .await
            .map_err(|_| SiteError::Stop { left: self.tasks.len(), waited: STOP_DEADLINE })
    }

    pub fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn accept_loop(
    listener: TcpListener,
    router: Router,
    log: Arc<Log>,
    tls: Option<TlsAcceptor>,
    cancel: CancellationToken,
    tasks: TaskTracker,
) {
    let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an accept failed");
                // Out of file descriptors: only a pause lets others close some.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
            continue;
        }
        let (router, cancel, log, tls) = (router.clone(), cancel.clone(), Arc::clone(&log), tls.clone());
        tasks.spawn(async move {
            let carrier = tokio::select! {
                () = cancel.cancelled() => return,
                carrier = carrier(stream, tls) => carrier,
            };
            let Some(stream) = carrier else { return };
            let (tap, hangup) = (HeadTap::default(), Hangup::default());
            let answers = AnswerTap::new(Arc::clone(&log));
            let layered = router
                .layer(Extension(scheme))
                .layer(Extension(tap.clone()))
                .layer(Extension(answers.clone()))
                .layer(Extension(hangup.clone()));
            let service = TowerToHyperService::new(layered);
            let tapped = Tapped { stream, tap, answers, hangup: hangup.clone() };
            let builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(tapped), service);
            tokio::select! {
                () = cancel.cancelled() => {}
                () = hangup.asked() => {}
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
            }
            log.touch();
        });
    }
}

/// `None`: the client would not have the certificate, as some are made for.
async fn carrier(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Carrier> {
    let Some(tls) = tls else { return Some(Carrier::Plain(stream)) };
    match tls.accept(stream).await {
        Ok(stream) => Some(Carrier::Tls(Box::new(stream))),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}
