//! The running site and its questions.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::log::{Hit, Log, LogOptions};
use crate::routes;
use crate::server::{Scheme, Server, SiteError};
use crate::tls;
use crate::truth::{Truth, Truths};

/// The host that plays an unrelated third party.
pub const THIRD: &str = "third.localhost";
/// The host that plays a tracker.
pub const TRACKER: &str = "tracker.localhost";
/// The host that plays a content network.
pub const CDN: &str = "cdn.localhost";

/// A host of a name that no browser takes for this machine by itself: visits need a rule for it.
pub const HSTS: &str = "hsts.test";

/// How to start a [`Site`].
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// 0 takes any free port.
    pub port: u16,
    /// First-party hosts `site-0.localhost` to `site-<n-1>.localhost`.
    pub sites: usize,
    pub log: LogOptions,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self { port: 0, sites: 4, log: LogOptions::default() }
    }
}

/// What handlers share.
pub(crate) struct Shared {
    pub log: Arc<Log>,
    pub truths: Truths,
    pub port: u16,
    pub tls_port: u16,
    pub refused_port: u16,
    pub sites: usize,
    pub cancel: tokio_util::sync::CancellationToken,
}

struct Running {
    server: Server,
    tls_server: Server,
    shared: Arc<Shared>,
    /// Bound and never listening: connections to it are refused, and nobody else can take it meanwhile.
    _refused: TcpSocket,
}

/// The fixture site. Clones share one server; it ends when the last clone is dropped or on [`Site::stop`].
#[derive(Clone)]
pub struct Site {
    running: Arc<Running>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

impl Site {
    /// Listens on 127.0.0.1 and serves until stopped.
    pub async fn start(options: SiteOptions) -> Result<Self, SiteError> {
        let bind_error = |port| move |source| SiteError::Bind { port, source };
        let listener = Server::bind(options.port).await?;
        let port = listener.local_addr().map_err(bind_error(options.port))?.port();
        let tls_listener = Server::bind(0).await?;
        let tls_port = tls_listener.local_addr().map_err(bind_error(0))?.port();
        let refused = TcpSocket::new_v4().map_err(bind_error(0))?;
        refused.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(bind_error(0))?;
        let refused_port = refused.local_addr().map_err(bind_error(0))?.port();
        let shared = Arc::new(Shared {
            log: Arc::new(Log::new(options.log, None)),
            truths: Truths::default(),
            port,
            tls_port,
            refused_port,
            sites: options.sites.max(2),
            cancel: tokio_util::sync::CancellationToken::new(),
        });
        let router = routes::router(&shared);
        let tls_server = Server::start(tls_listener, router.clone(), &shared.log, Some(tls::acceptor()?))
            .map_err(bind_error(tls_port))?;
        let server = Server::start(listener, router, &shared.log, None).map_err(bind_error(port))?;
        Ok(Self { running: Arc::new(Running { server, tls_server, shared, _refused: refused }) })
    }

    /// The port of every host, without TLS.
    pub fn port(&self) -> u16 {
        self.running.server.addr.port()
    }

    /// A port of 127.0.0.1 that refuses connections for as long as the site lives.
    pub fn refused_port(&self) -> u16 {
        self.running.shared.refused_port
    }

    /// `http://host:port/path`; `path` begins with a slash.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("{}{path}", self.running.shared.origin(Scheme::Http, host))
    }

    /// `https://host:port/path`; `path` begins with a slash. Who visits it has to trust [`tls::authority_pem`].
    pub fn secure_url(&self, host: &str, path: &str) -> String {
        format!("{}{path}", self.running.shared.origin(Scheme::Https, host))
    }

    /// Every host name served.
    pub fn hosts(&self) -> Vec<String> {
        self.running.shared.hosts()
    }

    /// Every hit kept, in order of arrival.
    pub fn log(&self) -> Vec<Hit> {
        self.running.shared.log.all()
    }

    /// The hits of one visit.
    pub fn hits_for(&self, token: &str) -> Vec<Hit> {
        self.running.shared.log.matching(|hit| hit.token.as_deref() == Some(token))
    }

    /// Hits that found the log full and are not in it.
    pub fn log_overflow(&self) -> u64 {
        self.running.shared.log.overflow()
    }

    /// What the visit's pages reported so far.
    pub fn truth(&self, token: &str) -> Truth {
        self.running.shared.truths.get(token)
    }

    /// CSP reports of a visit.
    pub fn csp_reports(&self, token: &str) -> Vec<Hit> {
        self.running
            .shared
            .log
            .matching(|hit| hit.token.as_deref() == Some(token) && hit.path_only() == "/csp-report")
    }

    /// Waits until `ready`, which is asked again after each change of log or truth.
    pub async fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        ready: impl Fn(&Site) -> bool,
    ) -> Result<(), SiteError> {
        let mut changes = self.running.shared.log.subscribe();
        let end = Instant::now() + deadline;
        while !ready(self) {
            let changed = tokio::time::timeout_at(end, changes.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                let hits = self.log().len();
                return Err(SiteError::Deadline { what: what.to_owned(), waited: deadline, hits });
            }
        }
        Ok(())
    }

    /// Waits until the named document of a visit reported that it is done.
    pub async fn wait_done(&self, token: &str, document: &str, deadline: Duration) -> Result<(), SiteError> {
        let what = format!("document {document} of visit {token} to report it is done");
        self.wait_for(&what, deadline, |site| site.truth(token).done.iter().any(|d| d == document)).await
    }

    /// Waits until the document has what the site had answered when it was done.
    pub async fn wait_settled(
        &self,
        token: &str,
        document: &str,
        deadline: Duration,
    ) -> Result<(), SiteError> {
        let what = format!("document {document} of visit {token} to report it has its answers");
        self.wait_for(&what, deadline, |site| site.truth(token).settled.iter().any(|d| d == document)).await
    }

    /// Ends every connection, the hanging ones too, and waits for them. The log stays readable.
    pub async fn stop(&self) -> Result<(), SiteError> {
        self.running.shared.cancel.cancel();
        self.running.tls_server.stop().await?;
        self.running.server.stop().await
    }

    /// Whether [`Site::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.running.server.cancelled()
    }
}

impl Shared {
    pub fn port(&self, scheme: Scheme) -> u16 {
        match scheme {
            Scheme::Http => self.port,
            Scheme::Https => self.tls_port,
        }
    }

    /// As `http://site-0.localhost:8080`.
    pub fn origin(&self, scheme: Scheme, host: &str) -> String {
        format!("{}://{host}:{}", scheme.name(), self.port(scheme))
    }

    pub fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = (0..self.sites).map(|n| format!("site-{n}.localhost")).collect();
        hosts.extend([THIRD, TRACKER, CDN, HSTS, "127.0.0.1"].map(str::to_owned));
        hosts
    }
}
