//! The inspector: by its JSON, and in a real browser.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
};
use axum_cloud_variables::{RoomRegistry, Schema};
use common::{Browser, Client, Driver, eventually, serve, within};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_http::services::ServeDir;

const GAME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/game");

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn ask(app: &Router, method: Method, path: &str, token: &str, body: &Value) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("/inspector{path}"))
        .header("x-inspector-token", token)
        .body(Body::from(body.to_string()))
        .unwrap();
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn get(app: &Router, path: &str) -> Answer {
    ask(app, Method::GET, path, "", &Value::Null).await
}

fn app(rooms: &RoomRegistry, allows_actions: bool) -> Router {
    let inspector = rooms.inspector().allow_actions(allows_actions);
    Router::new()
        .merge(rooms.mount("/cloud"))
        .nest("/inspector", inspector.into())
        .fallback_service(ServeDir::new(GAME))
}

#[tokio::test]
async fn pages_of_rooms_are_found_and_sorted() {
    let rooms = RoomRegistry::builder().history(10).build().unwrap();
    for n in 0..120 {
        let variables = (0..=n % 7).map(|name| (name.to_string(), "0"));
        rooms.open(format!("Room {n:03}")).variables(variables).await.unwrap();
    }
    let app = app(&rooms, false);
    let first = get(&app, "/api/rooms?sort=id").await.json();
    assert_eq!((&first["found"], &first["pages"]), (&json!(120), &json!(3)));
    assert_eq!(first["rooms"].as_array().unwrap().len(), 50);
    assert_eq!(first["rooms"][0]["id"], "Room 000");
    assert_eq!(first["stats"]["rooms"], 120);
    let last = get(&app, "/api/rooms?sort=id&page=2").await.json();
    assert_eq!(last["rooms"][19]["id"], "Room 119");
    assert_eq!(get(&app, "/api/rooms?page=99").await.json()["page"], 2);
    let found = get(&app, "/api/rooms?search=roOM+05").await.json();
    assert_eq!(found["found"], 10);
    let most = get(&app, "/api/rooms?sort=variables").await.json();
    assert_eq!(
        (&most["rooms"][0]["id"], &most["rooms"][0]["variables"]),
        (&json!("Room 006"), &json!(7))
    );
    assert_eq!(get(&app, "/api/rooms?sort=age").await.status, StatusCode::BAD_REQUEST);

    let room = rooms.room("Room 000").unwrap();
    for n in 0..12 {
        room.set("0", n).unwrap();
    }
    let shown = get(&app, "/api/room?id=Room+000").await.json();
    assert_eq!(shown["variables"][0]["value"], "11");
    assert_eq!(shown["history"].as_array().unwrap().len(), 10);
    assert_eq!(shown["plots"]["writes"].as_array().unwrap().len(), 60);
    let lines = get(&app, "/api/room/history?id=Room+000").await.body;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 10);
    assert_eq!((&lines[0]["value"], &lines[9]["value"]), (&json!("2"), &json!("11")));
    assert_eq!(get(&app, "/api/room?id=none").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nothing_is_changed_without_leave_and_token() {
    let rooms = RoomRegistry::new();
    let room = rooms.open("r").variables([("x", "0")]).await.unwrap();
    let [shows, acts] = [false, true].map(|allows| app(&rooms, allows));
    let page = get(&acts, "").await;
    assert_eq!(page.headers[header::X_FRAME_OPTIONS], "DENY");
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let token = page.body.split("name=\"token\" content=\"").nth(1).unwrap();
    let token = token.split('"').next().unwrap();
    assert!(token.len() >= 32, "{token}");
    assert!(get(&shows, "").await.body.contains("name=\"token\" content=\"\""));

    let bodies = [
        ("set", json!({ "name": "x", "value": "1" })),
        ("kick", json!({ "member": 1, "reason": "" })),
        ("ban", json!({ "member": 1, "seconds": 1 })),
        ("lock", json!({ "locked": true })),
        ("close", json!({})),
        ("none", json!({})),
    ];
    for (action, body) in &bodies {
        let path = format!("/api/room/{action}?id=r");
        for (app, token) in [(&shows, token), (&shows, ""), (&acts, ""), (&acts, "guessed")] {
            let answer = ask(app, Method::POST, &path, token, body).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{action}");
        }
        let answer = ask(&acts, Method::GET, &path, token, body).await;
        assert!(answer.status.is_client_error(), "{action} by GET");
    }
    assert_eq!(room.get("x").as_deref(), Some("0"));
    assert!(!rooms.rooms("", 1)[0].locked);

    let act = async |action: usize| {
        let (action, body) = &bodies[action];
        ask(&acts, Method::POST, &format!("/api/room/{action}?id=r"), token, body).await.status
    };
    assert_eq!(act(0).await, StatusCode::NO_CONTENT);
    assert_eq!(room.get("x").as_deref(), Some("1"));
    assert_eq!(act(1).await, StatusCode::NOT_FOUND, "there is no such member");
    assert_eq!(act(3).await, StatusCode::NO_CONTENT);
    assert!(rooms.rooms("", 1)[0].locked);
    assert_eq!(act(4).await, StatusCode::NO_CONTENT);
    assert_eq!(act(5).await, StatusCode::NOT_FOUND);
    let bad = ask(&acts, Method::POST, "/api/room/set?id=r", token, &json!({ "name": "x" })).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
}

/// An open page would else keep a host from ending.
#[tokio::test]
async fn streams_end_with_the_registry() {
    let rooms = RoomRegistry::new();
    let app = app(&rooms, false);
    let stream = tokio::spawn(async move { get(&app, "/api/rooms/live").await.body });
    tokio::task::yield_now().await;
    rooms.shutdown(std::time::Duration::from_secs(1)).await;
    let body = within("the stream's end", stream).await.unwrap();
    assert!(body.is_empty() || body.starts_with("data: {"), "{body}");
}

const GAME_ROOM: &str = "lobby";

/// Twenty players who wander over the field.
fn start_bots(url: &str) {
    for n in 0..20 {
        let url = url.to_owned();
        tokio::spawn(async move {
            let (name, variable) = (format!("bot{n}"), format!("p_bot{n}"));
            let place = |step: usize| {
                let angle = (n * 18 + step) as f64 / 57.3;
                let (x, y) = (500.0 + 300.0 * angle.cos(), 300.0 + 200.0 * (2.0 * angle).sin());
                format!("{x:.0},{y:.0},{}", n % 4)
            };
            let variables: &[(&str, &str)] = &[(&variable, &place(0)), ("star", "0")];
            let mut bot = Client::join(&url, GAME_ROOM, &name, variables).await;
            for step in 0.. {
                if bot.set_or_closed(&variable, &place(step)).await.is_some() {
                    return;
                }
                bot.apply_waiting();
                tokio::time::sleep(std::time::Duration::from_millis(60)).await;
            }
        });
    }
}

async fn assert_no_complaints(browser: &Browser) {
    let console = browser.console().await;
    let complaints: Vec<_> = console.iter().filter(|entry| entry["level"] != "INFO").collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// What a screen reader says of each control, and whether the keyboard reaches it.
const NAMELESS: &str = "return [...document.querySelectorAll('button, input, a')].filter(control => \
    control.checkVisibility() && !(control.labels?.[0] ?? control).textContent.trim() \
    && !control.ariaLabel || control.tabIndex < 0).map(control => control.outerHTML)";

#[tokio::test(flavor = "multi_thread")]
async fn a_game_is_looked_at_and_a_player_kicked() {
    let rooms = RoomRegistry::builder().schema(Schema::Growing).history(100).build().unwrap();
    let addr = serve(app(&rooms, true)).await;
    start_bots(&format!("ws://{addr}/cloud"));
    let driver = Driver::start();
    let browser = driver.browser().await;
    browser.0.set_window_size(1100, 900).await.unwrap();
    browser.0.goto(&format!("http://{addr}/")).await.unwrap();
    browser.fill("#name", "ann").await;
    browser.click("#join").await;
    browser.until("document.body.dataset.state === 'connected'").await;
    browser.until("game.players.size >= 20").await;
    browser.picture("game.png").await;
    // Who is kicked comes back, so what it is told stands there for a moment only.
    browser
        .run(
            "new MutationObserver(() => window.told ||= document.body.textContent.includes('too good'))
             .observe(document.body, { childList: true, subtree: true, characterData: true })",
        )
        .await;
    let game = browser.0.window().await.unwrap();

    let tab = browser.0.new_window(true).await.unwrap().handle;
    browser.0.switch_to_window(tab.clone()).await.unwrap();
    browser.0.goto(&format!("http://{addr}/inspector")).await.unwrap();
    browser.until("document.querySelector('#rooms')?.textContent.includes('21 of 128')").await;
    browser.picture("inspector-rooms.png").await;
    assert_eq!(browser.run(NAMELESS).await, json!([]));
    browser.fill("#search", "LOB").await;
    browser.until("document.querySelector('#page').textContent.includes(' 1 found')").await;
    browser.click("#rooms a").await;
    browser.until("document.querySelectorAll('#members tr').length === 21").await;
    browser.until("document.querySelector('#members').textContent.includes('bot19')").await;
    assert_eq!(browser.run(NAMELESS).await, json!([]));

    // A value changes on the screen within a second of its change here.
    let room = rooms.room(GAME_ROOM).unwrap();
    room.set("bell", 7).unwrap();
    let bell = "[...document.querySelectorAll('#variables tr')].find(row => \
                row.firstChild.textContent === 'bell')?.children[1].textContent";
    let is_seven = format!("{bell} === '7'");
    let changed = browser.until(&is_seven);
    tokio::time::timeout(std::time::Duration::from_secs(1), changed).await.unwrap();
    browser
        .until("document.querySelector('#plots figcaption').textContent.includes('writes')")
        .await;
    browser.until("document.querySelectorAll('#history tr').length === 50").await;
    browser.picture("inspector.png").await;

    browser.click("[aria-label='Set bell']").await;
    browser.fill("#answer", "9").await;
    browser.click("#yes").await;
    eventually("it is set", || room.get("bell").as_deref() == Some("9")).await;
    browser.click("[aria-label='Kick ann']").await;
    browser.fill("#answer", "you were too good").await;
    browser.click("#yes").await;
    browser.0.switch_to_window(game.clone()).await.unwrap();
    browser.until("window.told && document.body.dataset.state === 'connected'").await;
    browser.0.switch_to_window(tab.clone()).await.unwrap();
    browser.until("document.querySelector('[aria-label=\"Ban ann\"]')").await;
    browser.click("[aria-label='Ban ann']").await;
    browser.click("#yes").await;
    browser.until("document.querySelectorAll('#members tr').length === 20").await;
    browser.click("[aria-label='Lock the room']").await;
    browser.click("#yes").await;
    browser.until("document.querySelector('#facts').textContent.includes('locked')").await;
    assert_no_complaints(&browser).await;

    browser.0.switch_to_window(game).await.unwrap();
    browser.until("document.body.textContent.includes('you are banned')").await;
    browser.0.switch_to_window(tab).await.unwrap();
    browser.click("[aria-label='Close the room']").await;
    browser.click("#yes").await;
    browser.until("document.querySelectorAll('#members tr').length === 0").await;
    room.remove().await.unwrap();
    browser.until("document.querySelector('#state').textContent.includes('gone')").await;
    browser.0.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_and_values_are_only_text() {
    let script =
        "</bdi></script><script>window.hacked = 1</script><img src=x onerror='hacked = 2'>";
    let reversed = "\u{202e}txt.exe \u{2066}\u{0007}\0";
    let long = "\u{1f600}".repeat(25_000);
    let rooms = RoomRegistry::builder().history(10).build().unwrap();
    let values =
        [(script, script), (reversed, reversed), ("long", &long), ("__proto__", "1"), ("", "")];
    for id in [script, reversed, "..", "a/b?c#d&e=%41", "__proto__"] {
        let room = rooms.open(id).variables(values[..4].iter().copied()).await.unwrap();
        room.set("long", &long).unwrap();
        room.set(script, script).unwrap();
    }
    let addr = serve(app(&rooms, true)).await;
    let driver = Driver::start();
    let browser = driver.browser().await;
    browser.0.goto(&format!("http://{addr}/inspector?x=1")).await.unwrap();
    for n in 0..5 {
        browser.until("document.querySelectorAll('#rooms a').length === 5").await;
        browser.run(&format!("document.querySelectorAll('#rooms a')[{n}].click()")).await;
        browser.until("document.querySelectorAll('#variables tr').length === 4").await;
        browser.until("document.querySelectorAll('#history tr').length === 2").await;
        let shown = browser.run("return document.querySelector('#variables').textContent").await;
        assert!(shown.as_str().unwrap().contains(script), "{shown}");
        assert!(shown.as_str().unwrap().chars().count() < 2_000, "what is long is cut");
        let strange = "return [window.hacked ?? null, document.scripts.length, document.images.length, \
                       document.querySelectorAll('#variables td:first-child bdi').length]";
        assert_eq!(browser.run(strange).await, json!([null, 1, 0, 4]));
        browser.run("location.hash = ''").await;
    }
    assert_no_complaints(&browser).await;
    browser.0.close().await.unwrap();
}
