//! Where a service listens and how it is reached: `http://127.0.0.1:7400`, `unix:/run/sonde/storage.sock`, or
//! `inproc:storage` within one process.

mod connect;
mod inproc;
mod listener;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tonic::transport::Uri;

pub use connect::connect;
pub use inproc::Inproc;
pub(crate) use listener::Accepted;
pub use listener::Listener;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `http://host:port`; port 0 lets the system choose.
    Tcp { host: String, port: u16 },
    /// `unix:/absolute/path.sock`
    Unix(PathBuf),
    /// `inproc:name`
    Inproc(String),
}

#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(
        "`{text}` is no endpoint: {reason}; give http://127.0.0.1:7400, unix:/path/to.sock or inproc:name"
    )]
    Parse { text: String, reason: &'static str },
    #[error(
        "refusing to listen on {endpoint}: only loopback addresses and Unix sockets are open without TLS or a token, \
         which this version does not have; use http://127.0.0.1:PORT or unix:/path/to.sock, and reach it from \
         elsewhere through an authenticated tunnel (such as ssh -L)"
    )]
    NotLoopback { endpoint: Endpoint },
    #[error("cannot listen on {endpoint}: {source}")]
    Bind { endpoint: Endpoint, source: std::io::Error },
    #[error("cannot listen on {endpoint}: another process answers there; stop it, or give another path")]
    InUse { endpoint: Endpoint },
    #[error("cannot listen on {endpoint}: the path exists and is no socket; remove it, or give another path")]
    NotASocket { endpoint: Endpoint },
    #[error(
        "cannot listen on {endpoint}: the path is longer than a socket's may be ({max} bytes); give a shorter one"
    )]
    PathTooLong { endpoint: Endpoint, max: usize },
    #[error("{endpoint} cannot be reached: {reason}")]
    Unreachable { endpoint: Endpoint, reason: String },
}

impl EndpointError {
    /// Exit code of a service that cannot start because of this.
    pub const EXIT_CODE: u8 = crate::EXIT_CONFIG;
}

impl Endpoint {
    /// The addresses to listen on, if they may be listened on.
    fn loopback(&self) -> Option<SocketAddr> {
        let Self::Tcp { host, port } = self else { return None };
        let ip = match host.trim_start_matches('[').trim_end_matches(']') {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            other => other.parse().ok()?,
        };
        ip.is_loopback().then(|| SocketAddr::new(ip, *port))
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = |reason| EndpointError::Parse { text: text.to_owned(), reason };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(wrong("the path is not absolute"))
            };
        }
        if let Some(name) = text.strip_prefix("inproc:") {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
            let good = !name.is_empty() && name.len() <= 64 && name.chars().all(plain);
            return if good {
                Ok(Self::Inproc(name.to_owned()))
            } else {
                Err(wrong("the name is not plain"))
            };
        }
        if text.starts_with("https:") {
            return Err(wrong("TLS is not available in this version"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("it has no known scheme"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("it has a path"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("it has a user name"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it has no host"))?;
        let port = uri.port_u16().ok_or_else(|| wrong("it has no port"))?;
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "http://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inproc(name) => write!(f, "inproc:{name}"),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_and_write() {
        for text in [
            "http://127.0.0.1:7400",
            "http://[::1]:7400",
            "http://browser:7400",
            "unix:/a/b.sock",
            "inproc:storage",
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), text);
        }
        for text in [
            "",
            "127.0.0.1:7400",
            "http://127.0.0.1",
            "https://a:1",
            "unix:a.sock",
            "inproc:",
            "inproc:a/b",
            "http://a:1/path",
            "http://user@a:1",
            "ftp://a:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    /// S1
    #[test]
    fn only_loopback_may_be_listened_on() {
        for (text, open) in [
            ("http://127.0.0.1:0", true),
            ("http://127.9.9.9:1", true),
            ("http://[::1]:0", true),
            ("http://localhost:0", true),
            ("http://0.0.0.0:0", false),
            ("http://[::]:0", false),
            ("http://10.0.0.1:0", false),
            ("http://example.com:0", false),
        ] {
            assert_eq!(text.parse::<Endpoint>().expect(text).loopback().is_some(), open, "{text}");
        }
    }
}
