//! A directory of real-world HTML under many host names, for crawls whose every request is in an access log.

use std::fs::OpenOptions;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};

use crate::log::{Hit, Log, LogOptions};
use crate::observe::observe;
use crate::routes::reply;
use crate::server::{Server, SiteError};

/// How to start a [`DocSite`].
#[derive(Clone, Debug)]
pub struct DocOptions {
    /// The directory served. Symbolic links in it are followed, `..` is not.
    pub directory: PathBuf,
    /// Host names `doc-0.localhost` to `doc-<n-1>.localhost`, which all serve the whole directory.
    pub hosts: usize,
    /// 0 takes any free port.
    pub port: u16,
    /// A file that gets one JSON line per request, flushed; it is appended to.
    pub access_log: Option<PathBuf>,
    pub log: LogOptions,
}

impl DocOptions {
    /// Eight hosts on a free port without an access log.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), hosts: 8, port: 0, access_log: None, log: LogOptions::default() }
    }
}

/// A running server of a directory. It ends when dropped or on [`DocSite::stop`].
pub struct DocSite {
    server: Server,
    log: Arc<Log>,
    pages: Vec<String>,
    hosts: usize,
}

impl DocSite {
    /// Lists the directory's HTML files and serves it on 127.0.0.1.
    pub async fn start(options: DocOptions) -> Result<Self, SiteError> {
        let directory = options.directory.clone();
        let read_error = |path: &Path| {
            let path = path.display().to_string();
            move |source| SiteError::Read { path, source }
        };
        let pages = tokio::task::spawn_blocking(move || list(&directory))
            .await
            .map_err(|join| read_error(&options.directory)(std::io::Error::other(join)))?
            .map_err(read_error(&options.directory))?;
        if pages.is_empty() {
            return Err(SiteError::NoPages { path: options.directory.display().to_string() });
        }
        let open = |path: &PathBuf| {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            opened.map_err(|source| SiteError::AccessLog { path: path.display().to_string(), source })
        };
        let sink = options.access_log.as_ref().map(open).transpose()?;
        let log = Arc::new(Log::new(options.log, sink));
        let listener = Server::bind(options.port).await?;
        let router = Router::new()
            .fallback(serve)
            .layer(middleware::from_fn_with_state(Arc::clone(&log), observe))
            .with_state(Arc::new(options.directory));
        let bind_error = |source| SiteError::Bind { port: options.port, source };
        let server = Server::start(listener, router, &log, None).map_err(bind_error)?;
        Ok(Self { server, log, pages, hosts: options.hosts.max(1) })
    }

    pub fn port(&self) -> u16 {
        self.server.addr.port()
    }

    /// One URL per HTML file, sorted by path, dealt out to the hosts in turn.
    pub fn urls(&self) -> Vec<String> {
        let url = |(n, page): (usize, &String)| {
            format!("http://doc-{}.localhost:{}/{page}", n % self.hosts, self.port())
        };
        self.pages.iter().enumerate().map(url).collect()
    }

    /// Every hit kept, in order of arrival.
    pub fn log(&self) -> Vec<Hit> {
        self.log.all()
    }

    /// Hits that found the log full and are not in it (nor in the access log).
    pub fn log_overflow(&self) -> u64 {
        self.log.overflow()
    }

    /// The first error of writing the access log, if it ever failed.
    pub fn access_log_error(&self) -> Option<String> {
        self.log.sink_error()
    }

    /// Ends every connection and waits for them.
    pub async fn stop(&self) -> Result<(), SiteError> {
        self.server.stop().await
    }
}

/// Paths of HTML files below `root`, percent-encoded, with forward slashes.
fn list(root: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let path = entry.path();
            // A linked directory is served but not listed: a link upwards would never end.
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "html" || e == "htm") && path.is_file() {
                found.extend(path.strip_prefix(root).ok().and_then(Path::to_str).map(encode));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn encode(path: &str) -> String {
    path.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

fn decode(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(path.get(at + 1..at + 3)?, 16).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

async fn serve(State(root): State<Arc<PathBuf>>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Some(relative) = decode(request.uri().path()).map(|path| PathBuf::from(path.trim_start_matches('/')))
    else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut path = root.join(relative);
    if tokio::fs::metadata(&path).await.is_ok_and(|meta| meta.is_dir()) {
        path.push("index.html");
    }
    match tokio::fs::read(&path).await {
        Ok(bytes) => reply(content_type(&path), bytes),
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "not served");
            StatusCode::NOT_FOUND.into_response()
        }
    }
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or("") {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css",
        "js" => "text/javascript",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "gif" => "image/gif",
        "jpg" | "jpeg" => "image/jpeg",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" | "py" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
