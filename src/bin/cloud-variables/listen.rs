//! The addresses that the server listens on: TCP with or without TLS, Unix sockets, and systemd's sockets.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use axum::serve::Listener;
use axum_cloud_variables::tune_socket;
#[cfg(unix)]
use std::{fs, path::PathBuf};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, lookup_host},
};
use tokio_rustls::{Accept, server::TlsStream};

use super::tls::Tls;

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    /// A process on this machine.
    Unix,
}

/// All listeners of the server, as one.
pub(crate) struct Listeners {
    sockets: Vec<Socket>,
    tls: Option<Tls>,
}

enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, Option<SocketFile>),
}

impl Listeners {
    /// Listens on addresses such as `localhost:9080`, `[::]:9080` and `unix:/run/cloud.sock` (with a mode:
    /// `unix:/run/cloud.sock?660`). `systemd` stands for the sockets that systemd has opened.
    pub(crate) async fn bind(
        flag: &str,
        addresses: &[String],
        tls: Option<Tls>,
    ) -> Result<Self, Box<dyn Error>> {
        // If a later address fails, dropping this releases the sockets that are already bound.
        let mut listeners = Self { sockets: Vec::new(), tls };
        let mut tcp = Vec::new();
        for address in addresses {
            let failed = |error: &dyn std::fmt::Display| format!("{flag} {address}: {error}");
            if address == "systemd" {
                listeners.sockets.extend(inherited().map_err(|error| failed(&error))?);
            } else if let Some(path) = address.strip_prefix("unix:") {
                listeners.sockets.push(unix(path).await.map_err(|error| failed(&error))?);
            } else {
                let found = lookup_host(address).await.map_err(|error| failed(&error))?;
                tcp.push((address, Vec::from_iter(found)));
            }
        }
        let all: Vec<_> = tcp.iter().flat_map(|(_, found)| found.iter().copied()).collect();
        for (address, found) in tcp {
            let bound = bind_all(&found, &all);
            let bound = bound.map_err(|error| format!("{flag} {address}: {error}"))?;
            listeners.sockets.extend(bound.into_iter().map(Socket::Tcp));
        }
        match listeners.sockets.is_empty() {
            true => Err(format!("{flag}: no address").into()),
            false => Ok(listeners),
        }
    }

    /// Returns the addresses as a person would write them.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let address = |socket: &Socket| match socket {
            Socket::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("{scheme}://{address}"),
                Err(error) => error.to_string(),
            },
            #[cfg(unix)]
            Socket::Unix(_, path) => match path {
                Some(file) => format!("unix:{}", file.path.display()),
                None => "unix:systemd".into(),
            },
        };
        self.sockets.iter().map(address).collect()
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        for socket in &self.sockets {
            match socket {
                Socket::Tcp(listener) => {
                    if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                        return Poll::Ready(accepted.map(|(stream, peer)| {
                            tune_socket(&stream);
                            (Stream::new(stream, self.tls.as_ref()), Peer::Tcp(peer))
                        }));
                    }
                }
                #[cfg(unix)]
                Socket::Unix(listener, _) => {
                    if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                        let unix = |(stream, _)| (Stream::Unix(stream), Peer::Unix);
                        return Poll::Ready(accepted.map(unix));
                    }
                }
            }
        }
        Poll::Pending
    }
}

impl Listener for Listeners {
    type Io = Stream;
    type Addr = Peer;

    async fn accept(&mut self) -> (Stream, Peer) {
        loop {
            match std::future::poll_fn(|cx| self.poll_accept(cx)).await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    // The connection is already gone, or the process can open no more files.
                    tracing::debug!(%error, "accept");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        match self.sockets.first() {
            Some(Socket::Tcp(listener)) => listener.local_addr().map(Peer::Tcp),
            _ => Ok(Peer::Unix),
        }
    }
}

/// Listens on the addresses of one name, except those of a kind (IPv4 or IPv6) that the machine lacks.
fn bind_all(addresses: &[SocketAddr], all: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut lacking = None;
    for address in addresses {
        let mut address = *address;
        // For port 0, all addresses of the name share one free port.
        if let Some(first) = listeners.first().filter(|_| address.port() == 0) {
            address.set_port(first.local_addr()?.port());
        }
        // Otherwise an IPv6 socket would also take the port of the IPv4 address.
        let has_both = all.iter().any(|other| other.is_ipv4() && other.port() == address.port());
        match bind(address, address.is_ipv6() && has_both) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_lacking(&error) => lacking = Some(error),
            Err(error) => return Err(error),
        }
    }
    match lacking.filter(|_| listeners.is_empty()) {
        Some(error) => Err(error),
        None => Ok(listeners),
    }
}

fn bind(address: SocketAddr, is_v6_only: bool) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if is_v6_only {
        socket.set_only_v6(true)?;
    }
    // Otherwise a restart would have to wait for the previous server's connections.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1_024)?;
    TcpListener::from_std(socket.into())
}

/// Returns whether the machine has no addresses of this kind.
fn is_lacking(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(97)
}

/// The file of a Unix socket, which is removed with its listener.
#[cfg(unix)]
struct SocketFile {
    path: PathBuf,
    /// The file's inode, which shows whether another server has replaced the file.
    inode: u64,
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt;
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
async fn unix(address: &str) -> io::Result<Socket> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
    let (path, mode) = address.split_once('?').unwrap_or((address, ""));
    if path.is_empty() {
        return Err(io::Error::other("behind unix: is a path"));
    }
    let mode = match mode {
        "" => None,
        mode => Some(
            u32::from_str_radix(mode, 8)
                .map_err(|_| io::Error::other("behind the question mark is a mode, such as 660"))?,
        ),
    };
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    // A socket that refuses connections is left over from a killed server. After any other error, it may
    // belong to another process.
    if is_socket
        && let Err(error) = UnixStream::connect(path).await
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let file = SocketFile { path: path.into(), inode: fs::symlink_metadata(path)?.ino() };
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(Socket::Unix(listener, Some(file)))
}

#[cfg(not(unix))]
async fn unix(_: &str) -> io::Result<Socket> {
    Err(io::Error::other("this system has no Unix sockets here"))
}

/// Returns the sockets that systemd has opened for the process.
#[cfg(unix)]
fn inherited() -> io::Result<Vec<Socket>> {
    let mut from = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..from.len() {
        if let Ok(Some(listener)) = from.take_tcp_listener(index) {
            listener.set_nonblocking(true)?;
            sockets.push(Socket::Tcp(TcpListener::from_std(listener)?));
        } else if let Some(listener) = from.take_unix_listener(index)? {
            listener.set_nonblocking(true)?;
            sockets.push(Socket::Unix(UnixListener::from_std(listener)?, None));
        }
    }
    match sockets.is_empty() {
        true => Err(io::Error::other("systemd has opened no socket: see systemd.socket(5)")),
        false => Ok(sockets),
    }
}

#[cfg(not(unix))]
fn inherited() -> io::Result<Vec<Socket>> {
    Err(io::Error::other("this system has no systemd"))
}

/// A connection. The TLS handshake begins when it is first read, so that a slow client delays only itself,
/// within the time that `serve` allows for a request's head.
pub(crate) enum Stream {
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    fn new(stream: TcpStream, tls: Option<&Tls>) -> Self {
        match tls {
            Some(tls) => Self::Handshake(Box::new(tls.acceptor().accept(stream))),
            None => Self::Plain(stream),
        }
    }

    /// Completes the TLS handshake, if it is in progress.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Handshake(accept) = self {
            match Pin::new(accept).poll(cx)? {
                Poll::Ready(stream) => *self = Self::Tls(Box::new(stream)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Calls a method of the underlying stream, once the TLS handshake is complete.
macro_rules! with_stream {
    ($self:ident, $cx:ident, $method:ident $(, $argument:expr)*) => {{
        let this = $self.get_mut();
        match this.poll_ready($cx)? {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(()) => {}
        }
        match this {
            Self::Plain(stream) => Pin::new(stream).$method($cx $(, $argument)*),
            Self::Tls(stream) => Pin::new(&mut **stream).$method($cx $(, $argument)*),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).$method($cx $(, $argument)*),
            Self::Handshake(_) => Poll::Pending,
        }
    }};
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with_stream!(self, cx, poll_read, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self, cx, poll_write, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self, cx, poll_write_vectored, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, cx, poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, cx, poll_shutdown)
    }
}
