//! The first game, as its guide tests it; and the guide, which shows what is here.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../examples/first_game.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is an example")]
mod example;

use std::time::Duration;

use axum::Router;
use axum_cloud_variables::{
    client::{Client, ClientEvent},
    testing,
};
use example::game;
use tokio::time::sleep;

/// The guide shows what is here.
#[test]
fn the_guide_has_the_game_and_its_tests() {
    let guide = include_str!("../../src/docs/first_game.md");
    let behind = |source: &'static str, mark| source.split_once(mark).unwrap().1.trim();
    for part in [
        behind(include_str!("../../examples/first_game.rs"), "\n\n"),
        include_str!("../../examples/first_game/game.js").trim(),
        behind(include_str!("first_game.rs"), "\n// As in the guide.\n"),
    ] {
        assert!(guide.contains(part), "{part}");
    }
}

/// Two players in a browser each: one moves and catches the star, and the other sees it.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_plays() {
    let addr = crate::common::serve(game().await.unwrap()).await;
    let driver = crate::common::Driver::start();
    let (ann, bob) = (driver.browser().await, driver.browser().await);
    for (browser, name) in [(&ann, "ann"), (&bob, "bob")] {
        browser.0.goto(&format!("http://{addr}/?name={name}")).await.unwrap();
        browser.until("document.getElementById('line').textContent === '0 stars'").await;
    }
    let point = async |event: &str, x: u32, y: u32| {
        let script = format!(
            "const meadow = document.getElementById('meadow');
            const {{ left, top }} = meadow.getBoundingClientRect();
            const at = {{ clientX: left + {x}, clientY: top + {y} }};
            meadow.dispatchEvent(new PointerEvent('{event}', at));"
        );
        ann.run(&script).await;
    };
    point("pointermove", 50, 60).await;
    point("pointerdown", 20, 20).await;
    point("pointerdown", 205, 145).await;
    bob.until("document.getElementById('line').textContent === '1 stars'").await;
    let variables = [("p_eve", "0 0"), ("star", ""), ("score", "")];
    let url = format!("ws://{addr}/cloud");
    let eve = Client::connect(&url, "meadow", "eve", variables).await.unwrap();
    assert_eq!(eve.get("star").as_deref(), Some("137 89"));
    let place = eve.get("p_ann").unwrap();
    let place: Vec<i32> = place.split(' ').map(|number| number.parse().unwrap()).collect();
    assert!((place[0] - 50).abs() < 2 && (place[1] - 60).abs() < 2, "{place:?}");
    for browser in [ann, bob] {
        assert_eq!(browser.console().await, Vec::<serde_json::Value>::new());
        browser.0.close().await.unwrap();
    }
}

// As in the guide.

async fn join(app: &Router, name: &str) -> Client {
    let variables = [(format!("p_{name}"), "0 0"), ("star".into(), ""), ("score".into(), "")];
    let client = testing::client(app, "/cloud", "meadow", name).variables(variables);
    client.connect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn everyone_sees_everyone_and_nobody_who_has_left() {
    let app = game().await.unwrap();
    let (ann, bob) = (join(&app, "ann").await, join(&app, "bob").await);
    ann.set("p_ann", "10 20");
    bob.set("p_ann", "0 0"); // is not bob's
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bob.get("p_ann").as_deref(), Some("10 20"));
    ann.close().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bob.get("p_ann").as_deref(), Some(""));
    assert_eq!(join(&app, "eve").await.get("p_ann"), None);
}

#[tokio::test(start_paused = true)]
async fn each_star_counts_once() {
    let app = game().await.unwrap();
    let mut tasks = Vec::new();
    for n in 0..20 {
        let player = join(&app, &format!("p{n}")).await;
        tasks.push(tokio::spawn(async move {
            player.update("score", |old| old.parse().unwrap_or(0) + 1).await.unwrap();
            player
        }));
    }
    let players = futures_util::future::join_all(tasks).await;
    sleep(Duration::from_secs(1)).await;
    for player in players {
        assert_eq!(player.unwrap().get("score").as_deref(), Some("20"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_referee_places_the_star() {
    let app = game().await.unwrap();
    let ann = join(&app, "ann").await;
    let mut events = ann.events();
    ann.set("star", "0 0");
    ann.set("score", "1000");
    sleep(Duration::from_secs(1)).await;
    assert_eq!((ann.get("star"), ann.get("score")), (Some("200 150".into()), Some("0".into())));
    ann.update("score", |old| old.parse().unwrap_or(0) + 1).await.unwrap();
    let is_star = |event| matches!(event, ClientEvent::Set { name, .. } if &*name == "star");
    while !is_star(events.next().await.unwrap()) {}
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ann.get("star").as_deref(), Some("137 89"));
}
