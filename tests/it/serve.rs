//! `serve` does the things that `axum::serve` leaves to its host.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::common::{Client, within};
use axum::{Router, extract::ConnectInfo, routing::get};
use axum_cloud_variables::{RoomRegistry, ShutdownReport, serve};
use futures_util::{SinkExt, StreamExt, future::join_all};
use hyper::{Method, Request, StatusCode, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

const X: &[(&str, &str)] = &[("x", "0")];

struct Running {
    rooms: RoomRegistry,
    addr: SocketAddr,
    stop: Arc<Notify>,
    serving: JoinHandle<std::io::Result<ShutdownReport>>,
}

async fn run() -> Running {
    let rooms = RoomRegistry::new();
    let who = get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string());
    let app = Router::new().route("/who", who).merge(rooms.mount("/cloud"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, stop) = (listener.local_addr().unwrap(), Arc::new(Notify::new()));
    let signal = stop.clone();
    let server = serve(listener, app)
        .shutdown_on(&rooms, async move { signal.notified().await })
        .grace(Duration::from_secs(5));
    let serving = tokio::spawn(server.into_future());
    Running { rooms, addr, stop, serving }
}

/// Returns the text that comes until the other side closes, and the time that this took.
async fn to_the_end(mut stream: TcpStream) -> (String, Duration) {
    let (began, mut answer) = (Instant::now(), Vec::new());
    _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer))
        .await
        .expect("it is closed");
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}

#[tokio::test]
async fn a_client_that_is_silent_before_the_upgrade_is_closed() {
    let server = run().await;
    let whole = "GET /who HTTP/1.1\r\nhost: x\r\n\r\n";
    let beginnings = ["", "P", "PRI * HTTP/2.0\r\n", "GET /who HTTP/1.1\r\nhost: x\r\n", whole];
    let closed = beginnings.map(async |beginning| {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let (answer, took) = to_the_end(stream).await;
        assert!((9..15).contains(&took.as_secs()), "{beginning:?}: {took:?}");
        answer
    });
    let answers = join_all(closed).await;
    assert!(answers[4].starts_with("HTTP/1.1 200") && answers[4].ends_with("127.0.0.1"));
    // A head without an end is refused before it takes much memory.
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(100_000));
    _ = stream.write_all(endless.as_bytes()).await;
    let (_, took) = to_the_end(stream).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn the_end_comes_in_order() {
    let server = run().await;
    let url = format!("ws://{}/cloud", server.addr);
    let mut ann = Client::join(&url, "room", "ann", X).await;
    let mut ben = Client::join(&url, "room", "ben", X).await;
    ben.frame().await;
    ann.set("x", "1").await;
    ben.until("x", "1").await;
    server.stop.notify_one();
    // Nobody can join any more from the moment when the first member is notified.
    assert_eq!(ann.closed().await.0, 1001);
    assert!(TcpStream::connect(server.addr).await.is_err(), "nobody listens");
    assert_eq!(ben.closed().await.0, 1001);
    drop((ann, ben));
    within("the server ends", server.serving).await.unwrap().unwrap();
    assert_eq!(server.rooms.stats().sessions, 0);
}

/// As behind HAProxy, which passes on a key that has no meaning over HTTP/2.
#[tokio::test]
async fn a_websocket_over_http_2_may_bring_a_key() {
    let server = run().await;
    let stream = TokioIo::new(TcpStream::connect(server.addr).await.unwrap());
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://{}/cloud", server.addr))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .extension(Protocol::from_static("websocket"))
        .body(axum::body::Body::empty())
        .unwrap();
    sender.ready().await.unwrap();
    let response = within("an answer", sender.send_request(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

/// A reverse proxy on the same machine may use a Unix socket.
#[cfg(unix)]
#[tokio::test]
async fn players_come_by_a_unix_socket() {
    let rooms = RoomRegistry::new();
    let _room = rooms.open("r").variables([("x", "8")]).await.unwrap();
    let folder = crate::common::Folder::new("unix");
    let path = folder.file("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let app = Router::new().merge(rooms.mount("/cloud"));
    tokio::spawn(serve(listener, app).into_future());
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async("ws://localhost/cloud", stream).await.unwrap();
    let handshake = r#"{"kind":"handshake","room":"r","username":"ann","variables":{"x":"7"}}"#;
    socket.send(handshake.into()).await.unwrap();
    let first = within("a frame", socket.next()).await.unwrap().unwrap();
    assert!(first.to_text().unwrap().contains(r#""8""#), "{first}");
}
