//! Serves an app, with everything that [`axum::serve()`] leaves to its host: timeouts before the upgrade,
//! socket options, open files, and an orderly shutdown.

use std::{
    any::Any,
    fmt,
    future::{Future, IntoFuture},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, serve::Listener};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;
use tracing::{debug, warn};

use crate::{RoomRegistry, ShutdownReport};

mod socket;

use socket::{Protocol, Socket};

/// The time for a request's head, from the connection or from the previous request.
const HEAD: Duration = Duration::from_secs(10);
/// The size limit of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// How many bytes of an HTTP/2 connection may wait to be read. The default would be a megabyte, for a client
/// that no limit counts.
#[cfg(feature = "http2")]
const WINDOW: u32 = 256 << 10;
/// Open files that are reserved for the rest of the process: the broker, the store, the log.
const RESERVE: usize = 64;
/// The least time between two warnings that there are no open files left.
const WARN: Duration = Duration::from_secs(10);

/// Serves an app on a listener, of TCP, of Unix sockets, or a host's own ([`Listener`]). Like [`axum::serve()`], and also with the settings that a WebSocket server
/// needs:
///
/// - **Times.** A connection that sends no complete request head within 10 s is closed, and so is one that
///   stays idle for 10 s between two requests. A head may have up to 64 KiB. An HTTP/2 connection (the
///   feature `http2`) is pinged every 20 s, and may have up to 256 KiB of unread data, and 64 KiB of unsent
///   data per stream. Slow requests and responses are up to the app (`tower_http::timeout`).
/// - **Sockets.** [`tune_socket`], for a listener of TCP: `TCP_NODELAY`, so that a small frame does not wait for the acknowledgement of the previous
///   one. If the system supports it, also `TCP_NOTSENT_LOWAT` of 16 KiB: unsent data for a slow reader waits
///   in its room, where newer values replace older ones, and not in the kernel.
/// - **Open files.** Their limit is raised as far as the process may. 64 are reserved for the rest of the
///   process; when no more are left, new connections wait in the listener's queue, and a warning is logged.
/// - **Shutdown.** See [`shutdown_on`](Serve::shutdown_on).
/// - **Addresses.** Handlers and layers find the client's address as [`ConnectInfo`] of the listener's
///   [`Addr`](Listener::Addr), which is a [`SocketAddr`](std::net::SocketAddr) for TCP.
///
/// ```no_run
/// use axum::Router;
/// use axum_cloud_variables::{RoomRegistry, serve};
/// use tokio::net::TcpListener;
///
/// # async fn run() -> std::io::Result<()> {
/// let rooms = RoomRegistry::new();
/// let app = Router::new().merge(rooms.mount("/cloud"));
/// let listener = TcpListener::bind("127.0.0.1:3000").await?;
/// let stop = async { _ = tokio::signal::ctrl_c().await };
/// serve(listener, app).shutdown_on(&rooms, stop).await?;
/// # Ok(())
/// # }
/// ```
pub fn serve<L>(listener: L, app: Router) -> Serve<L>
where
    L: Listener<Addr: Clone + Sync + 'static>,
{
    Serve { listener, app }
}

/// Sets the options that a socket of players needs, as [`serve()`] does for a listener of TCP. For hosts with a
/// listener of their own, such as one that adds TLS.
pub fn tune_socket(stream: &TcpStream) {
    socket::set_options(stream);
}

/// A server that [`serve`] returns. It runs when it is awaited, and never ends.
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve<L> {
    listener: L,
    app: Router,
}

/// A server that [`Serve::shutdown_on`] returns. It runs when it is awaited, until the signal.
#[must_use = "a server does nothing until it is awaited"]
pub struct GracefulServe<L> {
    serve: Serve<L>,
    rooms: RoomRegistry,
    signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    drain_delay: Duration,
    grace: Duration,
}

impl<L> fmt::Debug for Serve<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").finish_non_exhaustive()
    }
}

impl<L> fmt::Debug for GracefulServe<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GracefulServe")
            .field("drain_delay", &self.drain_delay)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

impl<L> Serve<L>
where
    L: Listener<Addr: Clone + Sync + 'static>,
{
    /// Shuts the server down when the signal completes. It stops accepting connections, closes the sessions
    /// by [`RoomRegistry::shutdown`], and waits for pending requests. It returns when all have ended or the
    /// [`grace`](GracefulServe::grace) is over.
    pub fn shutdown_on(
        self,
        rooms: &RoomRegistry,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> GracefulServe<L> {
        GracefulServe {
            serve: self,
            rooms: rooms.clone(),
            signal: Box::pin(signal),
            drain_delay: Duration::ZERO,
            grace: Duration::from_secs(10),
        }
    }
}

impl<L> GracefulServe<L>
where
    L: Listener<Addr: Clone + Sync + 'static>,
{
    /// Sets how long the server goes on as before after the signal, while [`RoomRegistry::readiness`] reports
    /// that it will end, so that a load balancer sends newcomers elsewhere. Default 0.
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.drain_delay = delay;
        self
    }

    /// Sets how long the shutdown may take after that. Default 10 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    async fn run(self) -> io::Result<ShutdownReport> {
        let Self { serve: Serve { mut listener, app }, rooms, signal, drain_delay, grace } = self;
        let (connections, draining) = (TaskTracker::new(), CancellationToken::new());
        let stop = async {
            signal.await;
            rooms.prepare_shutdown();
            sleep(drain_delay).await;
        };
        tokio::select! {
            () = stop => {}
            () = accept(&mut listener, &app, &connections, &draining) => {}
        }
        // Close the listener before the first session, so that its client reconnects to another server.
        drop(listener);
        let begun = Instant::now();
        draining.cancel();
        let report = rooms.shutdown(grace).await;
        if !report.is_complete() {
            let ShutdownReport { unanswered, unsaved, untold, .. } = report;
            warn!(unanswered, unsaved, untold, "the shutdown ended before everything was done");
        }
        connections.close();
        _ = timeout(grace.saturating_sub(begun.elapsed()), connections.wait()).await;
        Ok(report)
    }
}

impl<L> IntoFuture for Serve<L>
where
    L: Listener<Addr: Clone + Sync + 'static>,
{
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let (connections, draining) = (TaskTracker::new(), CancellationToken::new());
            accept(&mut self.listener, &self.app, &connections, &draining).await;
            Ok(())
        })
    }
}

impl<L> IntoFuture for GracefulServe<L>
where
    L: Listener<Addr: Clone + Sync + 'static>,
{
    type Output = io::Result<ShutdownReport>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<ShutdownReport>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Accepts connections forever.
async fn accept<L>(
    listener: &mut L,
    app: &Router,
    connections: &TaskTracker,
    draining: &CancellationToken,
) where
    L: Listener<Addr: Clone + Sync + 'static>,
{
    let places = Arc::new(Semaphore::new(places()));
    let mut warned: Option<Instant> = None;
    loop {
        if places.available_permits() == 0 && warned.is_none_or(|warned| warned.elapsed() > WARN) {
            warned = Some(Instant::now());
            warn!("no open files are left for connections: new ones wait (ulimit -n)");
        }
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, peer) = listener.accept().await;
        if let Some(stream) = (&stream as &dyn Any).downcast_ref() {
            tune_socket(stream);
        }
        let connection = talk(Socket::new(stream, place), peer, app.clone(), draining.clone());
        connections.spawn(connection);
    }
}

/// Returns how many connections may be open at once.
fn places() -> usize {
    let files = socket::raise_open_files();
    files.saturating_sub(RESERVE).clamp(1, Semaphore::MAX_PERMITS)
}

/// Serves a connection until it ends or becomes a WebSocket.
async fn talk<S, A>(mut socket: Socket<S>, peer: A, app: Router, draining: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    let protocol = tokio::select! {
        protocol = timeout(HEAD, socket.protocol()) => protocol,
        // A client that has said nothing has no request that the shutdown would wait for.
        () = draining.cancelled() => return,
    };
    let Ok(Some(protocol)) = protocol else { return };
    let has_asked = AtomicBool::new(false);
    let service = service_fn(|mut request: Request<Incoming>| {
        has_asked.store(true, Relaxed);
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        // A router is always ready.
        app.clone().call(request)
    });
    let io = TokioIo::new(socket);
    let ended = match protocol {
        Protocol::Http1 => {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
            let connection = http.serve_connection(io, service).with_upgrades();
            drive(connection, |open| open.graceful_shutdown(), &draining, &has_asked).await
        }
        #[cfg(feature = "http2")]
        Protocol::Http2 => {
            let mut http =
                hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            http.timer(TokioTimer::new())
                // For WebSockets over HTTP/2 (RFC 8441).
                .enable_connect_protocol()
                .keep_alive_interval(2 * HEAD)
                .keep_alive_timeout(HEAD)
                .max_send_buf_size(HEAD_BYTES)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .max_header_list_size(HEAD_BYTES as u32);
            let connection = http.serve_connection(io, service);
            drive(connection, |open| open.graceful_shutdown(), &draining, &has_asked).await
        }
    };
    if let Some(Err(error)) = ended {
        debug!(%error, "connection");
    }
}

/// Drives a connection to its end. When the server drains, the connection ends after its requests. If it has
/// sent no complete request yet, it is dropped, because a client could make the shutdown wait for the rest.
async fn drive<C: Future>(
    connection: C,
    shut_down: impl FnOnce(Pin<&mut C>),
    draining: &CancellationToken,
    has_asked: &AtomicBool,
) -> Option<C::Output> {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Some(ended),
        () = draining.cancelled() => {}
    }
    if !has_asked.load(Relaxed) {
        return None;
    }
    shut_down(connection.as_mut());
    Some(connection.await)
}
