//! Clients at the rates of real games, and far over them, with default settings: nobody falls behind,
//! and the last value of each variable arrives.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{collections::HashMap, time::Duration};

use axum_cloud_variables::{Dialect, Limits, RoomRegistry};
use common::{Client, Process, Server, count, masked, unlimited_rate, within};
use futures_util::{SinkExt, future::join_all};
use tokio::{
    io::AsyncWriteExt,
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};

/// Each test needs the machine for itself, because it measures time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const DIALECTS: [Dialect; 2] = [Dialect::Spec, Dialect::Scratch];

/// Returns the milliseconds since `began`, as a value.
fn stamp(began: Instant) -> String {
    began.elapsed().as_millis().to_string()
}

fn name(variable: usize) -> String {
    format!("☁ v{variable}")
}

/// Joins a writer and a listener to a room with this many variables.
async fn pair(url: &str, dialect: Dialect, room: &str, variables: usize) -> (Client, Client) {
    let names: Vec<_> = (0..variables).map(name).chain(["☁ end".into()]).collect();
    let variables: Vec<_> = names.iter().map(|name| (&**name, "0")).collect();
    let mut members = Vec::new();
    for username in ["writer", "listener"] {
        let mut client = Client::connect(url).await;
        client.handshake_in(dialect, room, username, &variables).await;
        client.sync().await;
        members.push(client);
    }
    let listener = members.pop().unwrap();
    (members.pop().unwrap(), listener)
}

/// Returns the lags of the sets that the listener received, in milliseconds and grouped by second, until
/// the writer has ended; and its view then.
async fn lags(mut listener: Client, began: Instant) -> (Vec<Vec<u64>>, HashMap<String, String>) {
    let mut lags: Vec<Vec<u64>> = Vec::new();
    while listener.view["☁ end"] != "1" {
        let frame = listener.frame().await;
        let now = began.elapsed().as_millis() as u64;
        let second = (now / 1_000) as usize;
        lags.resize(lags.len().max(second + 1), Vec::new());
        let sent = frame.iter().map(|(_, value)| value.parse::<u64>().unwrap());
        lags[second].extend(sent.filter(|sent| *sent > 1).map(|sent| now.saturating_sub(sent)));
    }
    (lags, listener.view)
}

/// Sets so many variables each frame, like TurboWarp's player, and returns the worst p99 of a second's
/// lags.
async fn game(
    url: &str,
    (dialect, room): (Dialect, &str),
    (variables, frames): (usize, u32),
    seconds: u32,
) -> Duration {
    let (mut writer, listener) = pair(url, dialect, room, variables).await;
    let began = Instant::now();
    let heard = tokio::spawn(lags(listener, began));
    for frame in 1..=frames * seconds {
        sleep_until(began + Duration::from_secs(1) * frame / frames).await;
        for variable in 0..variables {
            writer.set(&name(variable), &stamp(began)).await;
        }
    }
    let ended = Instant::now();
    writer.set("☁ end", "1").await;
    let (lags, seen) = within("the last values", heard).await.unwrap();
    let late = ended.elapsed();
    assert!(late < Duration::from_secs(1), "{room}: the last values took {late:?}");
    for variable in 0..variables {
        assert_eq!(seen[&name(variable)], writer.view[&name(variable)], "{room}");
    }
    let p99 = lags.into_iter().filter(|lags| !lags.is_empty()).map(|mut lags| {
        lags.sort_unstable();
        lags[(lags.len() - 1) * 99 / 100]
    });
    let worst = Duration::from_millis(p99.max().unwrap());
    println!(
        "{room}: p99 of the lag in its worst second {worst:?}, the last values after {late:?}"
    );
    worst
}

#[tokio::test(flavor = "multi_thread")]
async fn games_at_their_frame_rates_are_not_late() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let server = Process::standalone(&[]);
    let url = server.url();
    // The last work is over the rate.
    let works = [(4, 30), (10, 30), (10, 60), (40, 60)];
    for work in works {
        let games = DIALECTS.map(async |dialect| {
            let room = format!("{} x {} {dialect:?}", work.0, work.1);
            game(&url, (dialect, &room), work, count(3, 15) as u32).await
        });
        for p99 in join_all(games).await {
            assert!(p99 < Duration::from_millis(500), "{work:?}: {p99:?}");
        }
    }
}

/// Sets one variable `sets` times as fast as possible. Returns the values that the listener received
/// before the next set of another variable, and when that came.
async fn burst(url: &str, dialect: Dialect, sets: usize) -> (Vec<usize>, Duration) {
    let (mut writer, mut listener) = pair(url, dialect, &format!("{sets} {dialect:?}"), 1).await;
    let heard = tokio::spawn(async move {
        let frames = listener.until("☁ end", "1").await;
        let of_v = frames.into_iter().filter(|(name, _)| name == "☁ v0");
        of_v.map(|(_, value)| value.parse().unwrap()).filter(|value| *value > 0).collect()
    });
    for n in 1..=sets {
        writer.set(&name(0), &n.to_string()).await;
    }
    let began = Instant::now();
    writer.set("☁ end", "1").await;
    let heard = within("the next set", heard).await.unwrap();
    (heard, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_locks_nobody_out() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let server = Process::standalone(&[]);
    for dialect in DIALECTS {
        for sets in [2_000, 20_000] {
            let (heard, late) = burst(&server.url(), dialect, sets).await;
            println!("{sets} sets in {dialect:?}: {} heard, the next after {late:?}", heard.len());
            assert!(late < Duration::from_secs(5), "{sets}: {late:?}");
            assert_eq!(heard[..2_000], (1..=2_000).collect::<Vec<_>>(), "a burst is kept");
            assert!(heard.is_sorted());
            assert_eq!(heard.last(), Some(&sets));
        }
    }
}

#[tokio::test]
async fn the_last_values_arrive_of_a_client_that_leaves_at_once() {
    for is_clean in [true, false] {
        let server = Server::with(axum_cloud_variables::RoomRegistry::builder()).await;
        let (mut writer, mut listener) = pair(&server.url(), Dialect::Spec, "room", 10).await;
        for n in 1..=500 {
            for variable in 0..10 {
                writer.set(&name(variable), &n.to_string()).await;
            }
        }
        if is_clean {
            writer.close().await;
        } else {
            writer.socket.flush().await.unwrap();
            drop(writer);
        }
        for variable in 0..10 {
            while listener.view[&name(variable)] != "500" {
                listener.frame().await;
            }
        }
    }
}

/// Empty frames count, and so do frames after a close.
#[tokio::test]
async fn every_byte_of_any_frame_counts() {
    let limits = Limits::default().bytes_per_second(100_000).byte_burst(100_000);
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    for (name, closes) in [("ann", false), ("ben", true)] {
        let mut client = server.connect().await;
        client.handshake("room", name, &[("x", "")]).await;
        client.sync().await;
        let mut socket = client.into_socket();
        if closes {
            // The server closes, because a client sends no second handshake.
            let text = common::handshake("room", name, &[("x", "")]);
            socket.write_all(&masked(0x81, text.as_bytes())).await.unwrap();
        } else {
            // This is the beginning of a message that never ends.
            socket.write_all(&masked(0x01, b"{")).await.unwrap();
        }
        let flood = masked(0x00, b"").repeat(10_000);
        // The bytes in the sockets' buffers are gone soon.
        let (mut sent, began) = (0, Instant::now());
        let mut early = 0;
        while began.elapsed() < Duration::from_secs(3) {
            let soon = timeout(Duration::from_millis(50), socket.write(&flood)).await;
            match soon {
                Ok(Ok(written)) => sent += written,
                Ok(Err(_)) => break,
                Err(_) => {}
            }
            if began.elapsed() < Duration::from_secs(1) {
                early = sent;
            }
        }
        assert!(sent - early < 1_500_000, "{} bytes in two seconds", sent - early);
    }
}

/// A short message that is refused causes a long answer.
#[tokio::test]
async fn the_healing_of_a_view_counts_against_its_writer() {
    let limits = unlimited_rate().bytes_per_second(20_000).byte_burst(40_000).value_bytes(10_000);
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let long = "v".repeat(10_000);
    let mut ann = server.join("room", "ann", &[("x", &long), ("end", "")]).await;
    let mut ben = server.join("room", "ben", &[("x", &long), ("end", "")]).await;
    ben.frame().await;
    let began = Instant::now();
    for _ in 0..8 {
        ann.set("x", &"v".repeat(10_001)).await;
        ann.until("x", &long).await;
    }
    ann.set("end", "1").await;
    ben.until("end", "1").await;
    // It wrote 80,000 bytes and received as many that healed it, without the burst.
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_that_is_put_out_has_written_all_that_it_had() {
    let server = Server::with(axum_cloud_variables::RoomRegistry::builder()).await;
    let (mut writer, listener) = pair(&server.url(), Dialect::Spec, "room", 1).await;
    for n in 1..=5_000 {
        writer.set(&name(0), &n.to_string()).await;
    }
    // Its session has read everything and still holds the last value when the next message ends it.
    writer.sync().await;
    writer.send("no JSON").await;
    assert_eq!(writer.closed().await.0, 4000);
    let room = server.rooms.room("room").unwrap();
    common::eventually("the last value", || room.get("☁ v0").as_deref() == Some("5000")).await;
    drop(listener);
}

#[tokio::test]
async fn over_its_rate_a_client_writes_no_more_than_the_room_has_place_for() {
    let limits = common::unlimited_rate().messages_per_second(1).message_burst(1);
    let builder = axum_cloud_variables::RoomRegistry::builder()
        .limits(limits.variables_per_room(3).value_bytes(10));
    let server = Server::with(builder).await;
    let mut cat = server.join_in(Dialect::Scratch, "1", "cat", &[]).await;
    let mut cow = server.join_in(Dialect::Scratch, "1", "cow", &[]).await;
    // The first set passes. Two of those after it have a place, and a value that is too long heals its
    // writer.
    for (name, value) in [
        ("☁ a", "1"),
        ("☁ b", "2"),
        ("☁ a", "3"),
        ("☁ a", "12345678901"),
        ("☁ c", "4"),
        ("☁ d", "5"),
        ("☁ b", "6"),
    ] {
        cat.set(name, value).await;
    }
    let seen = cow.until("☁ b", "6").await;
    let expected = [("☁ a", "1"), ("☁ a", "3"), ("☁ c", "4"), ("☁ b", "6")];
    assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(cat.until("☁ a", "3").await, [("☁ a".into(), "3".into())], "P5");
    // A name that a fixed room does not have ends the session, also over the rate.
    let mut ann = server.join("2", "ann", &[("x", "")]).await;
    ann.set("x", "1").await;
    ann.set("y", "1").await;
    assert_eq!(ann.closed().await.0, 4000);
}

/// The rate of all members of a room together: one writes as fast as it can, another like a game.
#[tokio::test]
async fn the_heaviest_writer_in_a_room_waits_and_the_rest_do_not() {
    let limits = unlimited_rate().room_bytes_per_second(20_000);
    let server = Server::with(RoomRegistry::builder().limits(limits)).await;
    let variables = &[("loud", ""), ("calm", "")];
    let mut listener = server.join("room", "listener", variables).await;
    let mut calm = server.join("room", "calm", variables).await;
    let mut loud = server.join("room", "loud", variables).await;
    let long = "9".repeat(2_000);
    for n in 1..=200 {
        loud.set("loud", &format!("{n}{long}")).await;
        if n % 10 == 0 {
            calm.set("calm", &n.to_string()).await;
        }
    }
    let began = Instant::now();
    let seen = listener.until("loud", &format!("200{long}")).await;
    // 400 KB would take 20 s.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let count = |name: &str| seen.iter().filter(|(set, _)| set == name).count();
    assert_eq!(count("calm"), 20, "each of its writes arrives");
    assert!(count("loud") < 40, "{}", count("loud"));
}

/// The clients send as fast as their sockets accept it, in a room of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_costs_a_game_beside_it_nothing() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let server = Process::standalone(&[]);
    let url = server.url();
    let seconds = count(3, 15) as u32;
    for flood in ["sets", "pings"] {
        let mut floods = Vec::new();
        for n in 0..3 {
            let mut client =
                Client::join(&url, flood, &format!("flood{n}"), &[("x", ""), ("y", "")]).await;
            let text = common::set(["x", "y"][n % 2], "1");
            floods.push(tokio::spawn(async move {
                loop {
                    match flood {
                        "sets" => client.send(&text).await,
                        _ => client.ping().await,
                    }
                    _ = client.close_if_there().await;
                }
            }));
        }
        let before = server.processor();
        let room = format!("beside a flood of {flood}");
        let p99 = game(&url, (Dialect::Spec, &room), (10, 30), seconds).await;
        let used = (server.processor() - before) / f64::from(seconds);
        println!("three floods of {flood}: p99 of a game {p99:?}, {used:.2} of a core");
        assert!(p99 < Duration::from_millis(500), "{flood}: {p99:?}");
        floods.iter().for_each(|flood| flood.abort());
    }
}
