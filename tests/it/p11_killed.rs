//! P11 when a node is killed, or stands still.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use crate::common::{Client, Process, Redis, count, within};

const X: &[(&str, &str)] = &[("x", "0")];

/// Joins as a member, or returns the code of the refusal.
async fn try_to_join(server: &Process, name: &str) -> Result<Client, u16> {
    let mut client = Client::connect(&server.url()).await;
    client.handshake("arena", name, X).await;
    client.ping().await;
    client.next_is_close().await.map_or(Ok(client), Err)
}

/// A game that the server runs continues when the leading server is killed.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_moves_the_ball() {
    let redis = Redis::start("ball");
    let url = redis.url();
    let leads = Process::example("host_authority", &["--redis", &url]);
    let other = Process::example("host_authority", &["--redis", &url]);
    let url = format!("ws://{}/cloud", other.addr);
    let mut ann = Client::join(&url, "court", "ann", &[("p_ann", "400")]).await;
    let mut bounces = async || {
        let from = ann.view.get("ball_y").cloned();
        while ann.view.get("ball_y") == from.as_ref() {
            ann.frame().await;
        }
    };
    bounces().await;
    leads.crash();
    // The sets that had been sent by then still arrive.
    for _ in 0..60 {
        bounces().await;
    }
}

/// A node is killed under load.
#[tokio::test(flavor = "multi_thread")]
async fn when_a_node_is_killed_the_others_go_on() {
    let redis = Redis::start("killed");
    let url = redis.url();
    let args = ["--redis", &url, "--messages-per-second", "0"];
    let stays = Process::standalone(&args);
    let mut bob = Client::join(&stays.url(), "arena", "bob", X).await;
    for round in 0..count(2, 50) {
        let killed = Process::standalone(&args);
        let name = format!("ann{round}");
        let mut ann = Client::join(&killed.url(), "arena", &name, X).await;
        let value = |n: usize| format!("{round} {n}");
        for n in 0..20 {
            ann.set("x", &value(n)).await;
        }
        bob.until("x", &value(19)).await;
        ann.set("x", &value(20)).await;
        killed.crash();
        let began = Instant::now();
        bob.set("x", &format!("bob {round}")).await;
        bob.sync().await;
        // A newcomer receives the values that were delivered.
        let mut eve = Client::join(&stays.url(), "arena", &format!("eve{round}"), X).await;
        let delivered = [format!("bob {round}"), value(19), value(20)];
        let seen = eve.frame().await;
        assert!(delivered.contains(&seen[0].1), "{seen:?} in {round}");
        // Bob's last set may still be on its way into the order.
        while eve.view["x"] == value(19) {
            eve.frame().await;
        }
        assert!(delivered.contains(&eve.view["x"]), "{:?} in {round}", eve.view);
        eve.close().await;
        if round == 0 {
            // She waits in the handshake until her old node has had the time to show that it is alive.
            let url = stays.url();
            within("her place", Client::join(&url, "arena", &name, X)).await;
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        }
    }
}

/// A node stands still for longer than its lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stood_still_is_fenced() {
    let redis = Redis::start("fenced");
    let url = redis.url();
    let args = ["--redis", &url, "--messages-per-second", "0"];
    let (stays, stops) = (Process::standalone(&args), Process::standalone(&args));
    let mut bob = Client::join(&stays.url(), "arena", "bob", X).await;
    let mut ann = Client::join(&stops.url(), "arena", "ann", X).await;
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    stops.stand_still(true);
    ann.set("x", "late").await;
    let free = async {
        loop {
            if let Ok(client) = try_to_join(&stays, "ann").await {
                break client;
            }
            bob.sync().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let mut other = within("its lease is over", free).await;
    stops.stand_still(false);
    assert_eq!(ann.closed().await.0, 1012);
    other.set("x", "2").await;
    let seen = bob.until("x", "2").await;
    assert!(!seen.iter().any(|(_, value)| value == "late"), "{seen:?}");
    // Her name is taken by now, but she can continue at the same server under another.
    let mut sue = Client::join(&stops.url(), "arena", "sue", X).await;
    sue.until("x", "2").await;
    sue.set("x", "3").await;
    let seen = bob.until("x", "3").await;
    assert!(!seen.iter().any(|(_, value)| value == "late"), "{seen:?}");
}
