//! The host's app: where a mount answers, which requests it admits, and which it leaves to the host.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;

use crate::common::serve;
use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware,
    response::Html,
    routing::get,
};
use axum_cloud_variables::{Identity, Origins, RoomRegistry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{self, client::IntoClientRequest},
};
use tower_http::services::ServeDir;

/// Returns the status of an upgrade at a path, which is 101 if it succeeds.
async fn upgrade(addr: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    let mut request = format!("ws://{addr}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    match connect_async(request).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{path}: {error}"),
    }
}

/// Returns the answer to a plain request: status, headers and body.
async fn fetch(addr: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    crate::common::within("answer", stream.read_to_string(&mut answer)).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[derive(Clone)]
struct HostState(&'static str);

/// Returns a host with a state, a page at `/`, and static files for every other path.
fn host() -> Router<HostState> {
    Router::new()
        .route("/", get(async |State(HostState(page)): State<HostState>| Html(page)))
        .fallback_service(ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")))
}

#[tokio::test]
async fn mounts_answer_their_path_and_leave_the_rest_to_the_host() {
    let (rooms, others) = (RoomRegistry::new(), RoomRegistry::new());
    let app = host()
        .merge(rooms.mount("/cloud"))
        .merge(others.mount("/a/b/c/"))
        .nest("/nested", rooms.router())
        .layer(Extension(rooms.clone()))
        .with_state(HostState("the host's page"));
    let addr = serve(app).await;
    for path in ["/cloud", "/cloud/", "/a/b/c", "/a/b/c/", "/nested", "/cloud?token=1"] {
        assert_eq!(upgrade(addr, path, &[]).await, 101, "{path}");
        assert_eq!(fetch(addr, path, "").await.0, 426, "{path}");
    }
    for path in ["/", "/clou", "/cloud/x", "/cloudx", "/a/b", "/a/b/c/d", "/nested/x"] {
        assert_ne!(upgrade(addr, path, &[]).await, 101, "{path}");
    }
    assert!(fetch(addr, "/", "").await.1.ends_with("the host's page"));
    for mount in ["/cloud", "/a/b/c", "/nested"] {
        let (status, answer) = fetch(addr, &format!("{mount}/client.js"), "").await;
        assert_eq!(status, 200, "{mount}");
        assert!(answer.contains("text/javascript") && answer.contains("export function connect"));
        assert_eq!(fetch(addr, &format!("{mount}/other.js"), "").await.0, 404);
    }
    // Every other path belongs to the static folder.
    assert!(
        fetch(addr, "/wire/spec.rs", "").await.1.contains("the specification's, and that of 2020")
    );
}

#[tokio::test]
async fn a_layer_at_the_root_leaves_the_page_to_the_host() {
    let rooms = RoomRegistry::new();
    let app = host().with_state(HostState("the host's page")).layer(rooms.mount("/").layer());
    let addr = serve(app).await;
    assert_eq!(upgrade(addr, "/", &[]).await, 101);
    assert_ne!(upgrade(addr, "/x", &[]).await, 101);
    assert!(fetch(addr, "/", "").await.1.ends_with("the host's page"));
    assert!(fetch(addr, "/client.js", "").await.1.contains("export function connect"));
    assert!(
        fetch(addr, "/wire/spec.rs", "").await.1.contains("the specification's, and that of 2020")
    );

    let app = Router::new().fallback_service(ServeDir::new("nowhere"));
    let addr = serve(app.layer(rooms.mount("/deep/er").layer())).await;
    for path in ["/deep/er", "/deep/er/"] {
        assert_eq!(upgrade(addr, path, &[]).await, 101, "{path}");
        assert_eq!(fetch(addr, path, "").await.0, 404, "{path}");
    }
    assert_eq!(fetch(addr, "/deep/er/client.js", "").await.0, 200);
    assert_eq!(fetch(addr, "/deep/er/client.d.ts", "").await.0, 200);
}

#[tokio::test]
async fn strangers_are_told_before_the_upgrade() {
    let rooms = RoomRegistry::new();
    let auth = middleware::from_fn(async |mut request: Request, next: middleware::Next| {
        if request.headers().contains_key("cookie") {
            request.extensions_mut().insert(Identity::new());
        }
        next.run(request).await
    });
    let app = Router::new()
        .merge(rooms.mount("/staff").require_identity(true))
        .merge(rooms.mount("/cloud"))
        .merge(
            rooms
                .mount("/list")
                .origins(Origins::list(["https://turbowarp.org"]).unwrap().refuse_missing()),
        )
        .merge(rooms.mount("/any").origins(Origins::any()))
        .layer(auth);
    let addr = serve(app).await;
    let own = format!("http://{addr}");
    for (path, headers, status) in [
        ("/staff", &[][..], 401),
        ("/staff", &[("cookie", "in=1")], 101),
        ("/staff", &[("cookie", "in=1"), ("origin", "https://evil.example")], 403),
        ("/cloud", &[("origin", "https://evil.example")], 403),
        ("/cloud", &[("origin", "null")], 403),
        ("/cloud", &[("origin", &own)], 101),
        ("/list", &[("origin", "https://turbowarp.org")], 101),
        ("/list", &[("origin", &own)], 403),
        ("/list", &[], 403),
        ("/any", &[("origin", "https://evil.example")], 101),
    ] {
        assert_eq!(upgrade(addr, path, headers).await, status, "{path} {headers:?}");
        let plain: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        let expected = if status == 101 { 426 } else { status };
        assert_eq!(fetch(addr, path, &plain).await.0, expected, "{path} {headers:?}");
    }
    assert_eq!(fetch(addr, "/staff/client.js", "").await.0, 200, "needs no identity");
    let told = fetch(addr, "/cloud", "Origin: https://evil.example\r\n").await.1;
    assert!(told.contains("https://evil.example") && told.contains("Mount::origins"), "{told}");
}

#[tokio::test]
async fn the_client_is_cached_by_its_tag() {
    let addr = serve(RoomRegistry::new().mount("/cloud").into()).await;
    let (_, types) = fetch(addr, "/cloud/client.d.ts", "").await;
    assert!(types.contains("content-type: application/typescript") && types.contains("connect<"));
    let (_, answer) = fetch(addr, "/cloud/client.js", "").await;
    assert!(answer.contains("x-typescript-types: ./client.d.ts"));
    let header = |name: &str| {
        let line = answer.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(header("cache-control"), "no-cache");
    let etag = header("etag");
    let again = format!("If-None-Match: \"other\", W/{etag}\r\n");
    assert_eq!(fetch(addr, "/cloud/client.js", &again).await.0, 304);
    assert_eq!(fetch(addr, "/cloud/client.js", "If-None-Match: \"other\"\r\n").await.0, 200);
}

#[test]
#[should_panic(expected = "must begin with a slash")]
fn a_mount_without_a_slash_is_a_mistake_of_the_host() {
    _ = RoomRegistry::new().mount("cloud");
}

/// A page of the host's and the rooms cannot share a path: if they were merged silently, the page would
/// take the upgrades, or the rooms would hide the page.
#[test]
fn a_route_that_the_app_has_already_is_a_mistake_of_the_host() {
    let routes = [
        get(async || "the page"),
        axum::routing::any(async || "the page"),
        axum::routing::connect(async || "the page"),
    ];
    for (number, route) in routes.into_iter().enumerate() {
        for path in ["/cloud", "/cloud/"] {
            let (route, path) = (route.clone(), path.to_owned());
            let merged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let rooms = RoomRegistry::new();
                let _: Router = Router::new().route(&path, route).merge(rooms.mount("/cloud"));
            }));
            assert!(merged.is_err(), "{number}");
        }
    }
}

#[test]
#[should_panic = "no captures"]
fn a_layer_with_captures_is_a_mistake_of_the_host() {
    _ = RoomRegistry::new().mount("/x/{room}/cloud").layer();
}

/// A mount as a route may have captures, and may be in a nested router.
#[tokio::test]
async fn a_mount_with_captures_and_in_a_nested_router() {
    let rooms = RoomRegistry::new();
    let nested = Router::new().merge(rooms.mount("/{room}/cloud"));
    let addr = serve(Router::new().nest("/x", nested)).await;
    assert_eq!(upgrade(addr, "/x/7/cloud", &[]).await, 101);
    assert_eq!(upgrade(addr, "/x/7/other", &[]).await, 404);
}
