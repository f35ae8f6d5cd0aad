//! A connection's socket: its options, its place among the open files, and its HTTP version.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};

/// How many unsent bytes may wait in the kernel before a socket accepts no more.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const NOT_SENT: u32 = 16 << 10;
/// The bytes with which an HTTP/2 client begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    #[cfg(feature = "http2")]
    Http2,
}

/// A socket that holds its place until it is closed, even as a WebSocket.
#[derive(Debug)]
pub(super) struct Socket<S> {
    stream: S,
    /// The first bytes, which show the protocol.
    beginning: [u8; PREFACE.len()],
    /// Those that came, and those that HTTP has read.
    came: u8,
    read: u8,
    _place: OwnedSemaphorePermit,
}

impl<S: AsyncRead + Unpin> Socket<S> {
    pub(super) fn new(stream: S, place: OwnedSemaphorePermit) -> Self {
        Self { stream, beginning: [0; PREFACE.len()], came: 0, read: 0, _place: place }
    }

    /// Waits for the client's first bytes, and keeps them to be read again. Returns `None` if the connection
    /// has ended, or uses an unsupported protocol.
    pub(super) async fn protocol(&mut self) -> Option<Protocol> {
        loop {
            let came = usize::from(self.came);
            let read = self.stream.read(&mut self.beginning[came..]).await;
            let came = came + read.ok().filter(|count| *count > 0)?;
            self.came = came as u8;
            if self.beginning[..came] != PREFACE[..came] {
                return Some(Protocol::Http1);
            }
            if came == PREFACE.len() {
                #[cfg(feature = "http2")]
                return Some(Protocol::Http2);
                #[cfg(not(feature = "http2"))]
                return None;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (read, came) = (usize::from(self.read), usize::from(self.came));
        if read < came {
            let count = buffer.remaining().min(came - read);
            buffer.put_slice(&self.beginning[read..read + count]);
            self.read += count as u8;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Sets the options of a socket, except any that the system does not support.
pub(super) fn set_options(stream: &TcpStream) {
    _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT);
    }
}

/// Raises the limit of open files as far as the process may, and returns it.
pub(super) fn raise_open_files() -> usize {
    #[cfg(unix)]
    let limit = rlimit::increase_nofile_limit(u64::MAX).ok().and_then(|n| n.try_into().ok());
    #[cfg(not(unix))]
    let limit = None;
    limit.unwrap_or(usize::MAX)
}
