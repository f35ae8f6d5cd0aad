//! A connection's socket: its options, its place among the open files, and its HTTP version.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::sleep,
};

/// How many unsent bytes may wait in the kernel before a socket accepts no more.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const NOT_SENT: u32 = 16 << 10;
/// The bytes with which an HTTP/2 client begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The pause between two peeks at a beginning that may still become either protocol.
const LOOK: Duration = Duration::from_millis(20);

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    #[cfg(feature = "http2")]
    Http2,
}

/// A socket that holds its place until it is closed, even as a WebSocket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        Self { stream, _place: place }
    }

    /// Waits for the client's first bytes, and leaves them unread. Returns `None` if the connection has
    /// ended, or uses an unsupported protocol.
    pub(super) async fn protocol(&self) -> Option<Protocol> {
        let mut beginning = [0; PREFACE.len()];
        loop {
            let count = self.stream.peek(&mut beginning).await.ok().filter(|count| *count > 0)?;
            if beginning[..count] != PREFACE[..count] {
                return Some(Protocol::Http1);
            }
            if count == PREFACE.len() {
                #[cfg(feature = "http2")]
                return Some(Protocol::Http2);
                #[cfg(not(feature = "http2"))]
                return None;
            }
            // A socket with unread data is ready at once, so awaiting readiness would not wait for more.
            sleep(LOOK).await;
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
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
