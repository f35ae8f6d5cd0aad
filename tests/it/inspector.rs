//! The inspector, through its JSON and in a real browser.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::{Arc, atomic::Ordering::SeqCst};

use crate::common::{Browser, Client, Driver, Server, ShakyBroker, eventually, serve, within};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
};
use axum_cloud_variables::{RoomRegistry, Schema};
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
        .nest_service("/inspector", Router::<()>::from(inspector))
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

/// Another site's page could not read the answers, but would occupy places of pages that can.
#[tokio::test]
async fn a_page_of_another_site_gets_nothing() {
    let rooms = RoomRegistry::new();
    let app = app(&rooms, false);
    for (site, mode, status) in [
        ("cross-site", "no-cors", StatusCode::FORBIDDEN),
        ("same-site", "cors", StatusCode::FORBIDDEN),
        ("cross-site", "navigate", StatusCode::OK),
        ("same-origin", "cors", StatusCode::OK),
    ] {
        let request = Request::get("/inspector/api/rooms")
            .header("sec-fetch-site", site)
            .header("sec-fetch-mode", mode)
            .body(Body::empty())
            .unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{site}, {mode}");
    }
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
        ("remove", json!({})),
        ("unset", json!({ "name": "x" })),
    ];
    for (action, body) in &bodies {
        let path = format!("/api/room/{action}?id=r");
        for (app, token) in [(&shows, token), (&shows, ""), (&acts, ""), (&acts, "guessed")] {
            let answer = ask(app, Method::POST, &path, token, body).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{action}");
        }
        let answer = ask(&acts, Method::GET, &path, token, body).await;
        assert!(answer.status.is_client_error(), "{action} by GET");
        // The size is checked before anything else.
        let (path, long) = (format!("/api/room/{action}"), json!("x".repeat(3 << 20)));
        for app in [&shows, &acts] {
            let answer = ask(app, Method::POST, &path, "", &long).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{action} without all else");
        }
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
    assert_eq!(act(7).await, StatusCode::CONFLICT, "the room's names are fixed");
    assert_eq!(act(6).await, StatusCode::NO_CONTENT);
    assert!(rooms.room("r").is_none());
    let room = rooms.open("r").schema(Schema::Growing).variables([("x", "0"), ("y", "0")]);
    let room = room.await.unwrap();
    assert_eq!(act(7).await, StatusCode::NO_CONTENT);
    assert_eq!(room.variables(), [("y".into(), "0".into())]);
}

/// With a trailing slash or without, and below a host's own paths.
#[tokio::test]
async fn the_page_is_where_it_is_nested() {
    let rooms = RoomRegistry::new();
    for prefix in ["/inspector", "/staff/rooms-of-today"] {
        let [nested, inner] = [(), ()].map(|()| Router::<()>::from(rooms.inspector()));
        let service = Router::new().nest_service(prefix, inner);
        let get = async |app: &Router, path: String| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            app.clone().oneshot(request).await.unwrap().status()
        };
        for end in ["", "/", "/api/rooms"] {
            assert_eq!(get(&service, format!("{prefix}{end}")).await, StatusCode::OK, "{end}");
        }
        let app = Router::new().nest(prefix, nested);
        assert_eq!(get(&app, prefix.to_owned()).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn it_shows_how_the_broker_does() {
    let broker: Arc<ShakyBroker> = Arc::default();
    let rooms = RoomRegistry::builder().relay(broker.clone()).build().unwrap();
    let app = app(&rooms, false);
    let room = rooms.open("arena").variables([("x", "0")]).await.unwrap();
    let relay = async || get(&app, "/api/rooms").await.json()["relay"].clone();
    assert_eq!(
        relay().await,
        json!({ "is_failing": false, "last_error": null, "rooms_waiting": 0 })
    );
    broker.is_away.store(true, SeqCst);
    room.set("x", 1).unwrap();
    let stats = || rooms.relay_stats().unwrap();
    eventually("the room waits", || stats().rooms_waiting == 1).await;
    let shown = relay().await;
    assert_eq!((&shown["is_failing"], &shown["rooms_waiting"]), (&json!(true), &json!(1)));
    assert!(shown["last_error"].as_str().unwrap().contains("away"), "{shown}");
    broker.is_away.store(false, SeqCst);
    eventually("it works again", || !stats().is_failing && stats().rooms_waiting == 0).await;
}

#[tokio::test]
async fn the_last_writer_is_known() {
    let server = Server::with(RoomRegistry::builder()).await;
    let app = app(&server.rooms, false);
    let variables = &[("a", "0"), ("b", "0"), ("c", "0"), ("d", "0")];
    let mut ann = server.join("r", "ann", variables).await;
    let mut bob = server.join("r", "bob", variables).await;
    ann.set("a", "1").await;
    bob.set("b", "1").await;
    ann.sync().await;
    bob.sync().await;
    bob.close().await;
    server.rooms.room("r").unwrap().set("c", 1).unwrap();
    server.members(1).await;
    let shown = get(&app, "/api/room?id=r").await.json();
    let writers: Vec<_> = (0..4)
        .map(|n| (shown["variables"][n]["by"].clone(), shown["variables"][n]["writer"].clone()))
        .collect();
    let expected = [(json!("ann"), "member"), (Value::Null, "left"), (Value::Null, "other")];
    let expected = expected.map(|(by, writer)| (by, json!(writer)));
    assert_eq!(writers[..3], expected);
    assert_eq!(shown["variables"][3]["written_at"], Value::Null);
}

/// Otherwise an open page would keep a host from stopping.
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

/// Starts twenty players that wander over the field.
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

/// A script that returns the controls that a screen reader cannot name or the keyboard cannot reach.
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
    // A kicked client comes back, so the reason is visible only for a moment.
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
        .until("document.querySelector('#plots figcaption').textContent.includes('Writes')")
        .await;
    browser.until("document.querySelectorAll('#history tr').length === 50").await;
    browser.picture("inspector.png").await;

    browser.click("[aria-label='Set bell']").await;
    browser.fill("#answer", "9").await;
    browser.click("#yes").await;
    eventually("it is set", || room.get("bell").as_deref() == Some("9")).await;
    let before =
        "document.querySelector(\"[aria-label='Kick ann']\").closest('tr').dataset.old = 1";
    browser.run(before).await;
    browser.click("[aria-label='Kick ann']").await;
    browser.fill("#answer", "you were too good").await;
    browser.click("#yes").await;
    browser.0.switch_to_window(game.clone()).await.unwrap();
    browser.until("window.told && document.body.dataset.state === 'connected'").await;
    browser.0.switch_to_window(tab.clone()).await.unwrap();
    let back = "tr:not([data-old]) [aria-label='Ban ann']";
    browser.until(&format!("document.querySelector(\"{back}\")")).await;
    browser.click(back).await;
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

/// A script that returns the texts with less contrast to their background than WCAG asks for (4.5).
const FAINT: &str = "
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => channels(color).slice(0, 3).map((value) => value / 255)
        .map((value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, n) => sum + value * [0.2126, 0.7152, 0.0722][n], 0);
    const behind = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return channels(color)[3] === 0 ? behind(element.parentElement) : color;
    };
    const hasText = (element) => [...element.childNodes].some((node) =>
        node.nodeType === 3 && node.textContent.trim());
    return [...document.body.querySelectorAll('*')]
        .filter((element) => element.checkVisibility() && !element.disabled && hasText(element))
        .filter((element) => {
            const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
        })
        .map((element) => element.outerHTML);";

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// Presses Tab until this element has the focus, which must be visible.
async fn tab_to(browser: &Browser, css: &str) {
    for _ in 0..30 {
        browser.press(TAB).await;
        let outline = "return getComputedStyle(document.activeElement).outlineStyle";
        assert_ne!(browser.run(outline).await, "none", "the focus is not seen");
        let is_there = format!("return document.activeElement.matches(\"{css}\")");
        if browser.run(&is_there).await == true {
            return;
        }
    }
    panic!("the keyboard does not reach {css}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_by_keyboard_on_a_phone_and_in_the_dark() {
    let rooms = RoomRegistry::builder().history(10).build().unwrap();
    let addr = serve(app(&rooms, true)).await;
    let ann = Client::join(&format!("ws://{addr}/cloud"), "lobby", "ann", &[("x", "0")]).await;
    let room = rooms.room("lobby").unwrap();
    room.set("x", "a value of some length, which a narrow screen must break somewhere").unwrap();
    let driver = Driver::start();
    let browser = driver.browser().await;
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true });
    browser.chromium("Emulation.setDeviceMetricsOverride", phone).await;
    browser.0.goto(&format!("http://{addr}/inspector/")).await.unwrap();
    browser.until("document.querySelector('#rooms a')").await;
    let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    browser.until(fits).await;
    browser.picture("inspector-phone-rooms.png").await;

    tab_to(&browser, "#search").await;
    browser.press("lob").await;
    browser.until("document.querySelector('#page').textContent.includes(' 1 found')").await;
    tab_to(&browser, "#rooms a").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#members').textContent.includes('ann')").await;
    browser.until("document.activeElement.id === 'name'").await;
    browser.picture("inspector-phone-room.png").await;
    browser.until(fits).await;
    for scheme in ["light", "dark"] {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.chromium("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        let dark = format!("matchMedia('(prefers-color-scheme: {scheme})').matches");
        browser.until(&dark).await;
        assert_eq!(browser.run(FAINT).await, json!([]), "{scheme}");
        browser.picture(&format!("inspector-phone-{scheme}.png")).await;
    }
    tab_to(&browser, "[aria-label='Set x']").await;
    browser.press(ENTER).await;
    browser.until("document.activeElement.id === 'answer'").await;
    assert_eq!(browser.run(FAINT).await, json!([]), "the dialog");
    browser.press("7").await;
    browser.press(ENTER).await;
    eventually("it is set", || room.get("x").as_deref() == Some("7")).await;
    assert_no_complaints(&browser).await;
    browser.0.close().await.unwrap();
    drop(ann);
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

    // The names differ, but look alike as text.
    let mut ann = Client::connect(&format!("ws://{addr}/cloud")).await;
    ann.send(
        r#"{"kind":"handshake","room":"halves","username":"ann","variables":{"\ud800":"0","\ud801":"0"}}"#,
    )
    .await;
    ann.sync().await;
    browser.run("location.hash = 'halves'").await;
    for n in 1..5 {
        ann.send(&format!(r#"{{"kind":"set","variable":"\ud801","value":"{n}"}}"#)).await;
        let shown = format!(
            "[...document.querySelectorAll('#variables td.value')].map(cell => cell.textContent) \
             .join() === '0,{n}'"
        );
        browser.until(&shown).await;
    }
    assert_no_complaints(&browser).await;
    browser.0.close().await.unwrap();
}
