use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};

use super::inproc::InprocListener;
use super::{Endpoint, EndpointError, Inproc};
use crate::lock::FileLock;

const BACKLOG: u32 = 1024;
/// `sun_path` without its final NUL.
const MAX_SOCKET_PATH: usize = 107;
/// How long another process may hold the directory while it binds, and how long a stale socket may take to refuse.
const BIND_DEADLINE: Duration = Duration::from_secs(2);

/// A bound endpoint, not yet served. Dropping it frees the address: the socket file is removed, the name given back.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp { listener: TcpListener, endpoint: Endpoint },
    Unix { listener: UnixListener, file: SocketFile },
    Inproc(InprocListener),
}

/// One accepted connection.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
    Inproc(DuplexStream),
}

impl Listener {
    /// Binds `endpoint`; `inproc` holds the names of in-process endpoints.
    ///
    /// # Errors
    /// If the address is not loopback, is in use, or the system refuses.
    pub async fn bind(endpoint: &Endpoint, inproc: &Inproc) -> Result<Self, EndpointError> {
        match endpoint {
            Endpoint::Tcp { .. } => bind_tcp(endpoint).await,
            Endpoint::Unix(path) => bind_unix(endpoint, path).await,
            Endpoint::Inproc(name) => inproc
                .listen(name)
                .map(|listener| Self(Kind::Inproc(listener)))
                .ok_or_else(|| EndpointError::InUse { endpoint: endpoint.clone() }),
        }
    }

    /// Where clients connect: as asked, with the port that the system chose.
    pub fn endpoint(&self) -> Endpoint {
        match &self.0 {
            Kind::Tcp { endpoint, .. } => endpoint.clone(),
            Kind::Unix { file, .. } => Endpoint::Unix(file.path.clone()),
            Kind::Inproc(listener) => Endpoint::Inproc(listener.name().to_owned()),
        }
    }

    pub(crate) async fn accept(&mut self) -> io::Result<Accepted> {
        match &mut self.0 {
            Kind::Tcp { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream))
            }
            Kind::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
            Kind::Inproc(listener) => listener.accept().await.map(Accepted::Inproc),
        }
    }
}

async fn bind_tcp(endpoint: &Endpoint) -> Result<Listener, EndpointError> {
    let failed = |source| EndpointError::Bind { endpoint: endpoint.clone(), source };
    let address =
        endpoint.loopback().ok_or_else(|| EndpointError::NotLoopback { endpoint: endpoint.clone() })?;
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let Endpoint::Tcp { host, .. } = endpoint else {
        unreachable!("only a TCP endpoint has a loopback address")
    };
    let endpoint = Endpoint::Tcp { host: host.clone(), port: bound.port() };
    Ok(Listener(Kind::Tcp { listener, endpoint }))
}

/// Binds beside the final path, narrows the mode, and only then moves the socket into place: at no moment can another
/// user connect, and a stale file is replaced in one step.
async fn bind_unix(endpoint: &Endpoint, path: &Path) -> Result<Listener, EndpointError> {
    let failed = |source| EndpointError::Bind { endpoint: endpoint.clone(), source };
    let parent = path.parent().filter(|_| path.file_name().is_some());
    let parent = parent.ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
    let fresh = parent.join(format!(".{}.s", std::process::id()));
    if path.as_os_str().len().max(fresh.as_os_str().len()) > MAX_SOCKET_PATH {
        return Err(EndpointError::PathTooLong { endpoint: endpoint.clone(), max: MAX_SOCKET_PATH });
    }
    let _held = lock_directory(parent).await.map_err(failed)?;
    refuse_if_taken(endpoint, path).await?;
    let listener = bind_narrow(&fresh, path).map_err(|source| {
        // Nothing to report if it was not created.
        let _ = fs::remove_file(&fresh);
        failed(source)
    })?;
    let inode = fs::metadata(path).map_err(failed)?.ino();
    Ok(Listener(Kind::Unix { listener, file: SocketFile { path: path.to_owned(), inode } }))
}

fn bind_narrow(fresh: &Path, path: &Path) -> io::Result<UnixListener> {
    // One of a process that died while binding, and had our id.
    match fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(fresh)?;
    fs::set_permissions(fresh, Permissions::from_mode(0o600))?;
    let listener = socket.listen(BACKLOG)?;
    fs::rename(fresh, path)?;
    Ok(listener)
}

/// Keeps two starting processes from each taking the other's fresh socket for a stale one.
async fn lock_directory(parent: &Path) -> io::Result<FileLock> {
    let attempt = async {
        loop {
            match FileLock::hold(fs::File::open(parent)?)? {
                Some(lock) => return Ok(lock),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    match tokio::time::timeout(BIND_DEADLINE, attempt).await {
        Ok(locked) => locked,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "another process holds a lock on the socket's directory",
        )),
    }
}

async fn refuse_if_taken(endpoint: &Endpoint, path: &Path) -> Result<(), EndpointError> {
    let failed = |source| EndpointError::Bind { endpoint: endpoint.clone(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(EndpointError::NotASocket { endpoint: endpoint.clone() });
        }
        Ok(_) => {}
    }
    match tokio::time::timeout(BIND_DEADLINE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(Err(error)) => Err(failed(error)),
        // A full backlog counts as an answer: somebody has it open.
        Ok(Ok(_)) | Err(_) => Err(EndpointError::InUse { endpoint: endpoint.clone() }),
    }
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file could not be removed");
        }
    }
}
