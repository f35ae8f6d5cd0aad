//! The surroundings of a mount in hosts: logins, tokens, layers, HTTP/2.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use crate::common::{Client, Process, inflated, masked, read_frame, serve, within};
use axum::{
    Router,
    body::Body,
    extract::{Query, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use axum_cloud_variables::{
    Compression, Identity, RoomRegistry,
    policy::{Policy, Verdict, Write},
};
use futures_util::{SinkExt, StreamExt};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, protocol::Role},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::CorsLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    set_header::SetResponseHeaderLayer,
    timeout::TimeoutLayer,
    trace::TraceLayer,
};

const VARIABLES: &[(&str, &str)] = &[("x", "0")];

/// Sends a form, or a plain request if there is none, and returns the head of the answer.
async fn send(addr: &str, path: &str, cookie: &str, form: Option<&str>) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let method = if form.is_some() { "POST" } else { "GET" };
    let body = form.unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nCookie: {cookie}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// Logs in at `custom_auth`, and returns the session's cookie.
async fn log_in(addr: &str, name: &str) -> String {
    let answer = send(addr, "/login", "", Some(&format!("name={name}&password=quiz"))).await;
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

async fn connect(addr: &str, headers: &[(HeaderName, &str)]) -> Result<Client, StatusCode> {
    let mut request = format!("ws://{addr}/cloud").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    Client::request(request).await
}

/// The example, with axum-login and tower-sessions.
#[tokio::test]
async fn roles_of_a_login_decide_the_rights_to_write() {
    let server = Process::example("custom_auth", &[]);
    let addr = &*server.addr;
    let wrong = send(addr, "/login", "", Some("name=ann&password=x")).await;
    assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
    assert_eq!(connect(addr, &[]).await.err(), Some(StatusCode::UNAUTHORIZED));

    let teacher = log_in(addr, "ms-frizzle").await;
    let ann = log_in(addr, "ann").await;
    let guest = log_in(addr, "guest").await;
    let join = async |cookie: &str, name: &str, variables| {
        let mut client = connect(addr, &[(header::COOKIE, cookie)]).await.unwrap();
        client.handshake("quiz", name, variables).await;
        client
    };
    // Another user's name, and a room that they may not join.
    assert_eq!(join(&ann, "ben", &[]).await.closed().await.0, 4002);
    let mut astray = connect(addr, &[(header::COOKIE, &ann)]).await.unwrap();
    astray.handshake("staffroom", "ann", &[]).await;
    assert_eq!(astray.closed().await.0, 4001);

    let mut teacher = join(&teacher, "ms-frizzle", &[]).await;
    teacher.until("question", "Are you ready?").await;
    let mut pupil = join(&ann, "ann", &[("answer_ann", "")]).await;
    pupil.until("question", "Are you ready?").await;
    let mut watcher = join(&guest, "guest", &[]).await;
    watcher.until("question", "Are you ready?").await;
    pupil.set("question", "Pizza?").await;
    pupil.until("question", "Are you ready?").await;
    watcher.set("answer_ann", "no").await;
    watcher.until("answer_ann", "").await;
    pupil.set("answer_ann", "yes").await;
    teacher.until("answer_ann", "yes").await;
    teacher.set("question", "Are you sure?").await;
    pupil.until("question", "Are you sure?").await;
    assert_eq!(watcher.until("question", "Are you sure?").await.len(), 2, "and nothing else");

    // A user that logs out is also removed from the quiz.
    send(addr, "/logout", &ann, Some("")).await;
    assert_eq!(pupil.closed().await, (4002, "you logged out".into()));
    assert_eq!(
        connect(addr, &[(header::COOKIE, &ann)]).await.err(),
        Some(StatusCode::UNAUTHORIZED)
    );
}

/// The example: a game that the server runs.
#[tokio::test]
async fn the_host_runs_the_game() {
    let server = Process::example("host_authority", &[]);
    let mut ann = connect(&server.addr, &[]).await.unwrap();
    ann.handshake("court", "ann", &[("p_ann", "400")]).await;
    // Only the host writes the ball, and a paddle cannot leap.
    ann.set("ball_x", "cheat").await;
    ann.set("p_ann", "700").await;
    while ann.view["ball_x"] == "cheat" || ann.view["p_ann"] == "700" {
        ann.frame().await;
    }
    assert_eq!(ann.view["p_ann"], "480");
    let place = ann.view["ball_x"].clone();
    while ann.view["ball_x"] == place {
        ann.frame().await;
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    room: String,
    exp: u64,
}

const SECRET: &[u8] = b"a secret of the test";

/// Checks a token in the query, which pages use because they cannot set headers on a WebSocket.
async fn by_token(
    Query(query): Query<HashMap<String, String>>,
    mut request: Request,
    next: Next,
) -> Response {
    let key = DecodingKey::from_secret(SECRET);
    let token = query.get("token").map_or("", String::as_str);
    match jsonwebtoken::decode::<Claims>(token, &key, &Validation::default()) {
        Ok(token) => {
            let Claims { sub, room, .. } = token.claims;
            let identity =
                Identity::new().with_id(&sub).with_assigned_username(sub).with_rooms([room]);
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(_) => StatusCode::UNAUTHORIZED.into_response(),
    }
}

#[tokio::test]
async fn a_token_in_the_query_is_an_identity() {
    let rooms = RoomRegistry::new();
    let app = Router::new().merge(rooms.mount("/cloud")).layer(middleware::from_fn(by_token));
    let addr = serve(app).await;
    let token = |sub: &str, exp| {
        let claims = Claims { sub: sub.into(), room: "arena".into(), exp };
        jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET))
            .unwrap()
    };
    let url = |token: &str| format!("ws://{addr}/cloud?token={token}");
    for bad in ["", "x", &token("ann", 1)] {
        let refused = Client::request(url(bad)).await.err();
        assert_eq!(refused, Some(StatusCode::UNAUTHORIZED), "{bad}");
    }
    let mut ann = Client::connect(&url(&token("ann", 4_000_000_000))).await;
    ann.handshake("arena", "whoever", VARIABLES).await;
    ann.sync().await;
    assert_eq!(&*rooms.room("arena").unwrap().members()[0].username, "ann");
    // The same person in another tab.
    let mut again = Client::connect(&url(&token("ann", 4_000_000_000))).await;
    again.handshake("arena", "whoever", VARIABLES).await;
    assert_eq!(ann.closed().await.0, 4002);
}

/// Returns an app with layers as hosts have them. None may cut, buffer or compress an upgraded
/// connection.
fn layered(rooms: &RoomRegistry) -> Router {
    Router::new()
        .merge(rooms.mount("/cloud"))
        .layer(CatchPanicLayer::new())
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(SetResponseHeaderLayer::overriding(
            HeaderName::from_static("x-host"),
            HeaderValue::from_static("here"),
        ))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            Duration::from_millis(300),
        ))
        .layer(TraceLayer::new_for_http())
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
}

#[tokio::test]
async fn layers_around_a_mount_do_no_harm() {
    let rooms = RoomRegistry::new();
    let addr = serve(layered(&rooms)).await.to_string();
    let answer = send(&addr, "/cloud", "", None).await;
    assert!(answer.starts_with("HTTP/1.1 426") && answer.contains("x-host: here"), "{answer}");
    let script = send(&addr, "/cloud/client.js", "", None).await;
    assert!(script.contains("export"), "{script}");
    let mut ann = connect(&addr, &[]).await.unwrap();
    ann.handshake("room", "ann", VARIABLES).await;
    ann.sync().await;
    let mut ben = connect(&addr, &[]).await.unwrap();
    ben.handshake("room", "ben", VARIABLES).await;
    ben.frame().await;
    // This is longer than the timeout of requests.
    tokio::time::sleep(Duration::from_millis(500)).await;
    ann.set("x", "1").await;
    assert_eq!(ben.frame().await, [("x".into(), "1".into())]);
}

/// Two registries behind mounts of one app, with rules of their own.
#[tokio::test]
async fn registries_in_one_app_share_nothing() {
    struct Nobody;
    impl Policy for Nobody {
        fn write(&self, _: &Write<'_>) -> Verdict {
            Verdict::Ignore
        }
    }
    let open = RoomRegistry::new();
    let shut = RoomRegistry::builder().policy(Nobody).build().unwrap();
    let app = Router::new().merge(open.mount("/a")).merge(open.mount("/b")).merge(shut.mount("/c"));
    let addr = serve(app).await;
    let join = |path: &'static str, name: &'static str| async move {
        Client::join(&format!("ws://{addr}{path}"), "room", name, VARIABLES).await
    };
    let (mut a, mut b, mut c) =
        (join("/a", "ann").await, join("/b", "ben").await, join("/c", "cat").await);
    b.frame().await;
    a.set("x", "1").await;
    assert_eq!(b.frame().await, [("x".into(), "1".into())]);
    c.set("x", "2").await;
    assert_eq!(c.frame().await, [("x".into(), "0".into())]);
    assert_eq!((open.stats().members, shut.stats().members), (2, 1));
}

/// RFC 8441: a WebSocket over HTTP/2 begins with an extended CONNECT.
#[tokio::test]
async fn websockets_over_http_2() {
    let rooms = RoomRegistry::new();
    let addr = serve(layered(&rooms)).await;
    let mut ann = Client::join(&format!("ws://{addr}/cloud"), "room", "ann", VARIABLES).await;
    let mut socket = http_2(addr, "/cloud").await;
    let handshake = r#"{"kind":"handshake","room":"room","username":"ben","variables":{"x":"5"}}"#;
    socket.send(Message::text(handshake)).await.unwrap();
    socket.send(Message::text(r#"{"kind":"set","variable":"x","value":"1"}"#)).await.unwrap();
    assert_eq!(ann.frame().await, [("x".into(), "1".into())]);
    let first = within("frame", socket.next()).await.unwrap().unwrap();
    assert_eq!(first.to_text().unwrap(), r#"{"kind":"set","variable":"x","value":"0"}"#);
    socket.send(Message::text("junk")).await.unwrap();
    let code = loop {
        let message = within("close", socket.next()).await.unwrap().unwrap();
        if let Message::Close(Some(frame)) = message {
            break u16::from(frame.code);
        }
    };
    assert_eq!(code, 4000);
}

async fn http_2(
    addr: SocketAddr,
    path: &str,
) -> WebSocketStream<TokioIo<hyper::upgrade::Upgraded>> {
    let (_, upgraded) = extended_connect(addr, path, "").await;
    WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await
}

/// Connects by HTTP/2 with this offer of extensions, and returns the answer to it.
async fn extended_connect(
    addr: SocketAddr,
    path: &str,
    offer: &str,
) -> (Option<HeaderValue>, TokioIo<hyper::upgrade::Upgraded>) {
    let stream = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut requests, connection) = client.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .extension(Protocol::from_static("websocket"))
        .uri(format!("http://{addr}{path}"))
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::ORIGIN, format!("http://{addr}"))
        .header(header::SEC_WEBSOCKET_EXTENSIONS, offer)
        .body(Body::empty())
        .unwrap();
    // The server must announce extended CONNECT before a client may send it.
    let response = within("CONNECT", async {
        requests.ready().await.unwrap();
        requests.send_request(request).await.unwrap()
    })
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    let agreed = response.headers().get(header::SEC_WEBSOCKET_EXTENSIONS).cloned();
    (agreed, TokioIo::new(hyper::upgrade::on(response).await.unwrap()))
}

#[tokio::test]
async fn compression_is_agreed_on_over_http_2_too() {
    let rooms = RoomRegistry::new();
    let _room = rooms.open("arena").variables([("x", "7".repeat(500))]).await.unwrap();
    let mount = rooms.mount("/cloud").compression(Compression::From(64));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(axum_cloud_variables::serve(listener, Router::new().merge(mount)).into_future());
    let (agreed, mut stream) = extended_connect(addr, "/cloud", "permessage-deflate").await;
    assert!(agreed.unwrap().to_str().unwrap().starts_with("permessage-deflate"));
    let handshake =
        br#"{"kind":"handshake","room":"arena","username":"ann","variables":{"x":"0"}}"#;
    stream.write_all(&masked(0x81, handshake)).await.unwrap();
    let (first, payload) = within("a frame", read_frame(&mut stream)).await.unwrap();
    assert_eq!(first, 0xc1, "a compressed text");
    assert!(payload.len() < 126, "500 digits in {} bytes", payload.len());
    let text = inflated(&mut flate2::Decompress::new(false), &payload);
    assert!(String::from_utf8(text).unwrap().contains(&"7".repeat(500)));
}
