//! The browser's module, in a real browser.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use axum::{
    Router,
    extract::Request,
    http::{Method, StatusCode},
    middleware::{Next, from_fn},
    response::{Html, IntoResponse},
    routing::get,
};
use axum_cloud_variables::{Limits, Origins, RoomRegistry, Schema};
use common::{Browser, Client, Driver, WiFi, serve};
use tokio::net::TcpListener;

/// A page that records the events of its clients.
const PAGE: &str = "<!doctype html><script type=module>
    import { connect } from './cloud/client.js';
    window.join = (url, username, variables = { x: '0' }) => {
        const cloud = connect(url, { room: 'room', username, variables });
        cloud.log = [];
        for (const event of ['set', 'open', 'close']) cloud.on(event, (...details) => cloud.log.push([event, ...details]));
        return cloud;
    };
</script>";

fn host(rooms: &RoomRegistry) -> Router {
    Router::new()
        .route("/", get(async || Html(PAGE)))
        .merge(rooms.mount("/cloud"))
        .merge(rooms.mount("/staff").require_identity(true))
}

async fn page(driver: &Driver, url: &str) -> Browser {
    let browser = driver.browser().await;
    browser.0.goto(url).await.unwrap();
    browser.until("window.join").await;
    browser
}

#[tokio::test(flavor = "multi_thread")]
async fn the_module_plays_reconnects_and_says_why_not() {
    let rooms = RoomRegistry::builder().schema(Schema::Growing).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, host(&rooms)).into_future());
    let url = format!("ws://{addr}/cloud");
    let driver = Driver::start();
    let browser = page(&driver, &format!("http://{addr}/")).await;

    // Sets go both ways, and any name is only a name.
    browser
        .run("window.ann = join('./cloud', 'ann', { x: '0', then: '', ['__proto__']: 'p' })")
        .await;
    browser.until("ann.connected").await;
    let mut ben = Client::join(&url, "room", "ben", &[]).await;
    let mut snapshot = ben.frame().await;
    snapshot.sort();
    let expected = [("__proto__", "p"), ("then", ""), ("x", "0")];
    assert_eq!(snapshot, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    browser.run("ann.vars.x = 1; ann.vars.__proto__ = 'q'; ann.vars.then = 't'").await;
    ben.until("then", "t").await;
    assert_eq!((&*ben.view["x"], &*ben.view["__proto__"]), ("1", "q"));
    ben.set("x", "from ben").await;
    browser.until("ann.vars.x === 'from ben'").await;
    let state = "return [ann.vars.__proto__, Object.keys(ann.vars).sort(), 'x' in ann.vars, ann.vars.y ?? null]";
    let expected = serde_json::json!(["q", ["__proto__", "then", "x"], true, null]);
    assert_eq!(browser.run(state).await, expected);

    // Final codes stop the client; the reason is the server's.
    browser.run("window.twin = join('./cloud', 'Ben')").await;
    ben.reading_until(browser.until("twin.log.some(([event]) => event === 'close')")).await;
    let closed = browser.run("return twin.log.at(-1)[1]").await;
    assert_eq!((&closed["code"], &closed["reconnecting"]), (&4002.into(), &false.into()));
    assert!(closed["reason"].as_str().unwrap().contains("in use"));

    // A refused upgrade is explained.
    browser.run("window.staff = join('/staff', 'eve')").await;
    browser.until("staff.log.length").await;
    let closed = browser.run("return staff.log[0]").await;
    assert_eq!((&closed[0], &closed[1]["reconnecting"]), (&"close".into(), &false.into()));
    assert!(closed[1]["reason"].as_str().unwrap().contains("log in"), "{closed}");

    // After a reconnect, the client sends the last value of each variable that was set meanwhile.
    server.abort();
    rooms.shutdown(common::PATIENCE).await;
    browser
        .until("ann.log.some(([event, closed]) => event === 'close' && closed.reconnecting)")
        .await;
    browser.run("ann.vars.x = 'offline 1'; ann.vars.x = 'offline 2'").await;
    let rooms = RoomRegistry::builder().schema(Schema::Growing).build().unwrap();
    let listener = TcpListener::bind(addr).await.unwrap();
    tokio::spawn(axum::serve(listener, host(&rooms)).into_future());
    browser.until("ann.connected").await;
    let mut ben = Client::join(&url, "room", "ben", &[]).await;
    while ben.view.get("x").map(String::as_str) != Some("offline 2") {
        ben.frame().await;
    }
    // The room is a new one with the declared values, and its creator sees them too.
    browser.until("ann.vars.__proto__ === 'p' && ann.vars.then === ''").await;
    assert_eq!((&*ben.view["__proto__"], &*ben.view["then"]), ("p", ""));
    assert_eq!(browser.run("return ann.vars.x").await, "offline 2");

    // A client that has left stays away.
    browser.run("ann.close()").await;
    common::eventually("one member", || rooms.stats().members == 1).await;
    browser.0.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mismatch_of_variables_is_final() {
    let rooms = RoomRegistry::new();
    let addr = serve(host(&rooms)).await;
    let _ann = Client::join(&format!("ws://{addr}/cloud"), "room", "ann", &[("y", "")]).await;
    let driver = Driver::start();
    let browser = page(&driver, &format!("http://{addr}/")).await;
    browser.run("window.ben = join('./cloud', 'ben')").await;
    browser.until("ben.log.length === 1").await;
    let closed = browser.run("return ben.log[0][1]").await;
    assert_eq!((&closed["code"], &closed["reconnecting"]), (&4001.into(), &false.into()));
    browser.0.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_set_offline_outlives_a_refusal() {
    let limits = Limits::default().members_per_room(2);
    let rooms = RoomRegistry::builder().limits(limits).build().unwrap();
    let addr = serve(host(&rooms)).await;
    let url = format!("ws://{addr}/cloud");
    let mut ben = Client::join(&url, "room", "ben", &[("x", "0")]).await;
    let cem = Client::join(&url, "room", "cem", &[("x", "0")]).await;
    let driver = Driver::start();
    let browser = page(&driver, &format!("http://{addr}/")).await;
    browser.run("window.ann = join('./cloud', 'ann')").await;
    browser
        .run("window.refusals = () => ann.log.filter(([event]) => event === 'close').length")
        .await;
    browser.until("refusals() === 1").await;
    browser.run("ann.vars.x = 'kept'").await;
    browser.until("refusals() === 2").await;
    assert_eq!(browser.run("return ann.log.at(-1)[1].code").await, 4003);
    cem.close().await;
    ben.until("x", "kept").await;
    browser.0.close().await.unwrap();
}

/// Checks that the client gives up for this reason, on the page's own origin and on another one.
async fn refused_for_good(app: Router, reason: &str) {
    let addr = serve(app).await;
    let driver = Driver::start();
    let browser = page(&driver, &format!("http://{addr}/")).await;
    // `localhost` is another site for the browser, because it is another name of this machine.
    for page in [format!("http://{addr}/"), format!("http://localhost:{}/", addr.port())] {
        browser.0.goto(&page).await.unwrap();
        browser.until("window.join").await;
        browser.run(&format!("window.ann = join('ws://{addr}/listed', 'ann')")).await;
        browser.until("ann.log.length").await;
        let closed = browser.run("return ann.log[0]").await;
        assert_eq!((&closed[0], &closed[1]["reconnecting"]), (&"close".into(), &false.into()));
        assert!(closed[1]["reason"].as_str().unwrap().contains(reason), "{closed}");
    }
    browser.0.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_origin_is_told_so_and_stays_away() {
    let rooms = RoomRegistry::new();
    let listed = || rooms.mount("/listed").origins(Origins::list(["https://example.org"]).unwrap());
    refused_for_good(host(&rooms).merge(listed()), "is not among those that may connect").await;
    // The layer passes plain requests on to the host's files.
    let app = host(&rooms).fallback(async || "a file").layer(listed().layer());
    refused_for_good(app, "is not among those that may connect").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_told_so_by_the_hosts_own_layer_too() {
    let rooms = RoomRegistry::new();
    let cloud = Router::from(rooms.mount("/listed").origins(Origins::any()));
    let cloud =
        cloud.layer(from_fn(async |request: Request, next: Next| match request.uri().path() {
            "/listed/client.js" if request.method() == Method::GET => next.run(request).await,
            _ => (StatusCode::UNAUTHORIZED, CORS, "who are you?").into_response(),
        }));
    refused_for_good(host(&rooms).merge(cloud), "who are you?").await;
}

/// The header with which a host's own layer lets other sites read its answers.
const CORS: [(&str, &str); 1] = [("access-control-allow-origin", "*")];

/// A player's connection breaks, and the server probes its ghost for longer than a silent join takes.
/// Until the player is in the room, it sees the last known value, and adds to that.
#[tokio::test(flavor = "multi_thread")]
async fn a_returning_player_adds_to_the_rooms_value() {
    let limits = Limits::default().takeover_probe(Duration::from_secs(4));
    let rooms = RoomRegistry::builder().limits(limits).build().unwrap();
    let addr = serve(host(&rooms)).await;
    let wifi = WiFi::to(addr.to_string()).await;
    let mut ben = Client::join(&format!("ws://{addr}/cloud"), "room", "ben", &[("x", "0")]).await;
    let driver = Driver::start();
    let browser = page(&driver, &format!("http://{}/", wifi.addr)).await;
    browser.run("window.ann = join('./cloud', 'ann')").await;
    ben.reading_until(browser.until("ann.connected")).await;
    browser.run("ann.vars.x = '100'").await;
    ben.until("x", "100").await;
    wifi.goes();
    ben.reading_until(browser.until("ann.log.some(([event]) => event === 'close')")).await;
    assert_eq!(browser.run("return ann.vars.x").await, "100");
    browser.run("ann.vars.x = String(Number(ann.vars.x) + 1)").await;
    ben.reading_until(browser.until("ann.connected")).await;
    ben.until("x", "101").await;
    let since = "ann.log.slice(ann.log.findIndex(([event]) => event === 'close'))";
    let other = format!("return {since}.filter(([event, , x]) => event === 'set' && x !== '101')");
    assert_eq!(browser.run(&other).await, serde_json::json!([]), "nothing else was shown");
    browser.0.close().await.unwrap();
}

/// Two players add to one score at once, and neither's addition is lost.
#[tokio::test(flavor = "multi_thread")]
async fn updates_of_two_players_all_count() {
    let rooms = RoomRegistry::new();
    let addr = serve(host(&rooms)).await;
    let driver = Driver::start();
    let browser = page(&driver, &format!("http://{addr}/")).await;
    // One player asks before it is in the room.
    browser
        .run(
            "window.all = ['ann', 'ben'].map(async (name) => {
                 const cloud = join('./cloud', name);
                 const add = () => cloud.update('x', (old) => Number(old) + 1);
                 const values = await Promise.all(Array.from({ length: 50 }, add));
                 return [cloud, values];
             });
             Promise.all(window.all).then((players) => (window.players = players))",
        )
        .await;
    browser.until("window.players").await;
    browser.until("players.every(([cloud]) => cloud.vars.x === '100')").await;
    assert_eq!(rooms.room("room").unwrap().get("x").as_deref(), Some("100"));
    // Each value was the room's once.
    let distinct = "return new Set(players.flatMap(([, values]) => values)).size";
    assert_eq!(browser.run(distinct).await, 100);
    // An update after the client has left fails.
    browser
        .run(
            "const [[ann]] = window.players;
             ann.close();
             ann.update('x', () => 1).catch((error) => (window.failed = error.message))",
        )
        .await;
    browser.until("window.failed === 'the client has left the room'").await;
    browser.0.close().await.unwrap();
}
