//! A connection's socket: its options, its place among the open files, and which HTTP it speaks.

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

/// What may wait in the kernel for a reader before a socket takes no more.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const NOT_SENT: u32 = 16 << 10;
/// What a client of HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks at a beginning that may still become either.
const LOOK: Duration = Duration::from_millis(20);

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    #[cfg(feature = "http2")]
    Http2,
}

/// A socket that has its place until it is closed, as a WebSocket too.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        Self { stream, _place: place }
    }

    /// Waits for the beginning of what the client says, and leaves it where it is. `None` if it has
    /// ended, or speaks what is not spoken here.
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
            // A socket with something to read is ready at once, so this cannot wait for more.
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

/// Sets the options of a socket; one that the system does not know is left.
pub(super) fn set_options(stream: &TcpStream) {
    _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT);
    }
}

/// Raises the limit of open files as far as the process may; what it is then.
pub(super) fn raise_open_files() -> usize {
    #[cfg(unix)]
    let limit = rlimit::increase_nofile_limit(u64::MAX).ok().and_then(|n| n.try_into().ok());
    #[cfg(not(unix))]
    let limit = None;
    limit.unwrap_or(usize::MAX)
}
