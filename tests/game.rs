//! The main use of the crate, as players have it: the game in two tabs of a real browser.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use common::{Browser, Driver, Process, count};

async fn log_in(browser: &Browser, url: &str, account: &str) {
    browser.0.goto(url).await.unwrap();
    browser.fill("[name=account]", account).await;
    browser.click("button").await;
    browser.until("document.querySelector('#join')").await;
}

async fn join(browser: &Browser, name: &str) {
    browser.fill("#name", name).await;
    browser.click("#join").await;
    browser.until("document.body.dataset.state === 'connected'").await;
}

/// Moves one tab's player, and waits until the other tab shows it there.
async fn sees(browser: &Browser, [mover, watcher]: [&Tab; 2], (x, y): (i32, i32)) {
    mover.enter(browser).await;
    browser.run(&format!("game.moveTo({x}, {y})")).await;
    watcher.enter(browser).await;
    let player = format!("game.players.get('{}')", mover.name);
    let distance = format!("Math.hypot({player}?.x - {x}, {player}?.y - {y})");
    browser.until(&format!("{distance} < 2")).await;
}

struct Tab {
    name: &'static str,
    handle: fantoccini::wd::WindowHandle,
}

impl Tab {
    async fn enter(&self, browser: &Browser) {
        browser.0.switch_to_window(self.handle.clone()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_of_one_login_play_together() {
    let server = Process::example("game", &[]);
    let (addr, url) = (server.addr.clone(), format!("http://{}/", server.addr));
    let driver = Driver::start();
    let browser = driver.browser().await;
    log_in(&browser, &url, "family").await;
    join(&browser, "ann").await;
    let ann = Tab { name: "ann", handle: browser.0.window().await.unwrap() };
    let ben = Tab { name: "ben", handle: browser.0.new_window(true).await.unwrap().handle };
    ben.enter(&browser).await;
    browser.0.goto(&url).await.unwrap();
    join(&browser, "ben").await;

    sees(&browser, [&ann, &ben], (200, 300)).await;
    sees(&browser, [&ben, &ann], (700, 100)).await;

    // Another account wants a name that is in use.
    let other = driver.browser().await;
    log_in(&other, &url, "stranger").await;
    other.fill("#name", "Ann").await;
    other.click("#join").await;
    other.until("document.querySelector('#error').textContent").await;
    assert!(other.text("#error").await.contains("in use"), "{}", other.text("#error").await);
    join(&other, "cem").await;
    ann.enter(&browser).await;
    browser.until("game.players.has('cem')").await;

    // Neither tab replaces the other.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(count(3, 30) as u64) {
        for tab in [&ann, &ben] {
            tab.enter(&browser).await;
            assert_eq!(browser.run("return document.body.dataset.state").await, "connected");
        }
    }

    // The server stops and comes back, and so do the tabs.
    drop(server);
    for tab in [&ann, &ben] {
        tab.enter(&browser).await;
        browser.until("document.body.dataset.state === 'reconnecting'").await;
    }
    let _server = Process::example("game", &["--listen", &addr]);
    for tab in [&ann, &ben] {
        tab.enter(&browser).await;
        browser.until("document.body.dataset.state === 'connected'").await;
    }
    sees(&browser, [&ann, &ben], (400, 500)).await;
    sees(&browser, [&ben, &ann], (100, 200)).await;
    other.0.close().await.unwrap();
    browser.0.close().await.unwrap();
}
