//! Values and past writes over plain HTTP.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use crate::common::{Client, ShakyStore, serve};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
    routing::get,
};
use axum_cloud_variables::{Identity, Origins, RoomRegistry};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Returns the status, the tag and the body.
async fn ask(app: &Router, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String, String) {
    let request = headers
        .iter()
        .fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
    let request = request.header("host", "example.org").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let etag = response.headers().get("etag").map(|etag| etag.to_str().unwrap().to_owned());
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, etag.unwrap_or_default(), String::from_utf8(body.into()).unwrap())
}

#[tokio::test]
async fn the_values_of_a_room_are_read_at_one_moment_and_again_if_they_change() {
    let rooms = RoomRegistry::new();
    let app = Router::new().merge(rooms.mount("/cloud").values_over_http(true));
    let arena = rooms.open("☁ \"a\"/b").variables([("z", "1"), ("☁ a", "\"\n")]).await.unwrap();
    let path = "/cloud/rooms/%E2%98%81%20%22a%22/b";
    let (status, etag, body) = ask(&app, path, &[]).await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        r#"{"room":"☁ \"a\"/b","variables":{"z":"1","☁ a":"\"\n"}}"#.replace('\n', "\\n")
    );
    assert_eq!(ask(&app, path, &[("if-none-match", &etag)]).await.0, 304);
    arena.set("z", "2").unwrap();
    let (status, new, body) = ask(&app, path, &[("if-none-match", &etag)]).await;
    assert!(status == 200 && new != etag && body.contains(r#""z":"2""#), "{body}");
    assert_eq!(ask(&app, "/cloud/rooms/none", &[]).await.0, 404);
    assert!(rooms.room("none").is_none());
    assert_eq!(ask(&app, "/cloud/logs?projectid=arena", &[]).await.0, 404, "it is off");
    let closed = Router::new().merge(rooms.mount("/cloud"));
    assert_eq!(ask(&closed, path, &[]).await.0, 404, "both are off by default");
}

#[tokio::test]
async fn the_rules_of_the_mount_hold_for_readers_too() {
    let rooms = RoomRegistry::new();
    let _rooms = [rooms.open("class/lobby").await.unwrap(), rooms.open("secret").await.unwrap()];
    let mount = rooms.mount("/").values_over_http(true).require_identity(true).rooms_in("class");
    let page = Router::new().route("/", get(async || "a page"));
    let app = page.layer(mount.origins(Origins::list(["https://a.example"]).unwrap()).layer());
    assert_eq!(ask(&app, "/rooms/lobby", &[]).await.0, 401);
    let known = |identity: Identity| app.clone().layer(axum::Extension(identity));
    let app = known(Identity::new().with_rooms(["class/lobby"]));
    let a = [("origin", "https://a.example")];
    assert_eq!(ask(&app, "/rooms/lobby", &a).await.0, 200);
    assert_eq!(ask(&app, "/rooms/lobby", &[("origin", "https://b.example")]).await.0, 403);
    assert_eq!(ask(&app, "/rooms/secret", &a).await.0, 403);
    assert_eq!(ask(&app, "/", &[]).await.2, "a page");
    assert_eq!(ask(&app, "/rooms", &[]).await.0, 404);
}

#[tokio::test]
async fn a_stored_room_is_read_and_not_loaded() {
    let store: Arc<ShakyStore> = Arc::default();
    let rooms = RoomRegistry::builder().store(store.clone()).build().unwrap();
    rooms.open("arena").variables([("x", "7")]).await.unwrap();
    rooms.shutdown(std::time::Duration::from_secs(1)).await;
    let rooms = RoomRegistry::builder().store(store).build().unwrap();
    let app = Router::new().merge(rooms.mount("/cloud").values_over_http(true));
    assert!(ask(&app, "/cloud/rooms/arena", &[]).await.2.contains(r#""x":"7""#));
    assert_eq!(rooms.stats().rooms, 0);
}

#[tokio::test]
async fn the_log_has_the_form_of_that_of_scratch() {
    let rooms = RoomRegistry::builder().history(100).build().unwrap();
    let app = Router::new().merge(rooms.mount("/cloud").logs_over_http(true));
    let url = format!("ws://{}/cloud", serve(app.clone()).await);
    let mut ann = Client::join(&url, "60917032", "ann", &[("☁ x", "0")]).await;
    for n in 1..=5 {
        ann.set("☁ x", &n.to_string()).await;
        ann.sync().await;
    }
    let log = async |query: &str| {
        let (status, _, body) = ask(&app, &format!("/cloud/logs?{query}"), &[]).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let all = log("projectid=60917032").await;
    let times: Vec<_> = all.as_array().unwrap().iter().map(|e| e["timestamp"].as_u64()).collect();
    assert!(
        times.len() == 5 && times.is_sorted_by(|a, b| a >= b) && times[4] > Some(1_700_000_000_000)
    );
    let mut second = log("limit=1&offset=1&projectid=60917032").await[0].clone();
    second.as_object_mut().unwrap().remove("timestamp");
    let expected = json!({ "user": "ann", "verb": "set_var", "name": "☁ x", "value": "4" });
    assert_eq!(second, expected);
    assert_eq!(log("projectid=60917032&offset=9").await, json!([]));
    assert_eq!(ask(&app, "/cloud/logs", &[]).await.0, 404);
}
