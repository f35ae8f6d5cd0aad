//! P10: the state after a server's crash, or its shutdown, under load.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use axum_cloud_variables::store::{Change, RedbStore, RoomStore, StoredSchema};
use common::{Client, Folder, Process, within};
use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// The default of `--flush-ms`, plus time for a commit and a busy machine.
const WINDOW: Duration = Duration::from_millis(100 + 900);

const ROOMS: usize = 8;
const X: &[(&str, &str)] = &[("x", "0")];

/// Returns a long value of one number, so that a mix of two would be visible.
fn value(n: u64) -> String {
    format!("{n:08}").repeat(64)
}

fn number(value: &str) -> u64 {
    if value == "0" {
        return 0;
    }
    let n = value.get(..8).and_then(|digits| digits.parse().ok()).expect("a number");
    assert_eq!(value, self::value(n), "a mix");
    n
}

/// The writes of one writer in one room, as clients know them.
#[derive(Default)]
struct Writes {
    /// The last number that was sent. Each round continues from the room's number.
    sent: u64,
    /// The numbers that were surely the room's, because another client saw them, and the times of that.
    seen: Vec<(u64, Instant)>,
}

/// Writes until the connection breaks; a second client reads.
async fn play(url: String, room: usize, from: u64) -> Writes {
    let room = format!("room {room}");
    let first = if from == 0 { "0".into() } else { value(from) };
    let variables = [("x", &*first)];
    let mut writer = Client::join(&url, &room, "writer", &variables).await;
    let mut reader = Client::join(&url, &room, "reader", &variables).await;
    let mut writes = Writes { sent: from, seen: Vec::new() };
    let pause = Duration::from_millis(3);
    let mut tick = tokio::time::interval(pause);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let set = common::set("x", &value(writes.sent + 1));
                // A set counts even if it is not known whether it arrived.
                writes.sent += 1;
                if writer.socket.send(Message::text(set)).await.is_err() {
                    return writes;
                }
            }
            message = reader.socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    for line in text.lines() {
                        let set: serde_json::Value = serde_json::from_str(line).unwrap();
                        let n = number(set["value"].as_str().unwrap());
                        writes.seen.push((n, Instant::now()));
                    }
                }
                Some(Ok(_)) => {}
                _ => return writes,
            },
            message = writer.socket.next() => match message {
                Some(Ok(_)) => {}
                _ => return writes,
            },
        }
    }
}

/// Creates rooms until the connection breaks, and returns those that it joined.
async fn create(url: String, round: usize) -> Vec<String> {
    let mut created = Vec::new();
    loop {
        let name = format!("new {round} {}", created.len());
        let handshake = common::handshake(&name, "ann", X);
        let Ok((mut socket, _)) = tokio_tungstenite::connect_async(&url).await else {
            return created;
        };
        _ = socket.send(Message::text(handshake)).await;
        _ = socket.send(Message::Ping(vec![1].into())).await;
        match socket.next().await {
            Some(Ok(Message::Pong(_))) => created.push(name),
            _ => return created,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_every_room_is_there_with_a_value_of_its_last_moments() {
    let folder = Folder::new("crash");
    let file = folder.file("rooms.redb");
    let args = ["--store", &file, "--messages-per-second", "0"];
    let mut random = fastrand::Rng::with_seed(8);
    let mut values = [0; ROOMS];
    let (mut rooms, mut worst) = (0, Duration::ZERO);
    for round in 0..common::count(5, 200) {
        let server = Process::standalone(&args);
        let mut playing = JoinSet::new();
        for (room, from) in values.iter().copied().enumerate() {
            let url = server.url();
            playing.spawn(async move { (room, play(url, room, from).await) });
        }
        let creating = tokio::spawn(create(server.url(), round));
        tokio::time::sleep(Duration::from_millis(random.u64(100..900))).await;
        let crash = Instant::now();
        server.crash();
        let crashed = Instant::now();
        let created = within("the end", creating).await.unwrap();
        let played = within("the end", playing.join_all()).await;

        let store = RedbStore::open(&file).unwrap();
        for name in &created {
            let room = store.load(name).unwrap().expect("a room that was joined");
            assert_eq!(room.variables, [("x".into(), "0".into())]);
        }
        rooms += created.len();
        for (room, writes) in played {
            let stored = store.load(&format!("room {room}")).unwrap().unwrap();
            assert_eq!(stored.variables.len(), 1);
            let n = number(&stored.variables[0].1);
            assert!(n <= writes.sent, "{n} of {}", writes.sent);
            // A value was overwritten at the latest when somebody had seen a later one.
            let later = writes.seen.iter().find(|(seen, _)| *seen > n);
            if let Some((_, seen)) = later {
                let age = crash.saturating_duration_since(*seen);
                assert!(age < WINDOW, "round {round}: the value of {age:?} before the crash");
                worst = worst.max(age);
            }
            values[room] = n;
        }
        assert!(crashed - crash < WINDOW);
    }
    assert!(rooms > 0);
    println!("{rooms} rooms created; at most, a value had been overwritten for {worst:?}");
    assert!(values.iter().all(|n| *n > 0), "{values:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_under_load_loses_nothing() {
    let folder = Folder::new("shutdown");
    let file = folder.file("rooms.redb");
    let args = ["--store", &file, "--messages-per-second", "0", "--flush-ms", "10000"];
    for round in 0..common::count(3, 50) {
        let server = Process::standalone(&args);
        let mut playing = JoinSet::new();
        for room in 0..ROOMS {
            let url = server.url();
            playing.spawn(async move {
                let room = format!("room {round} {room}");
                let variables = &[("a", "0"), ("b", "0"), ("c", "0")];
                let mut members = JoinSet::new();
                let mut sent = 0;
                for name in ["a", "b", "c"] {
                    let mut client = Client::join(&url, &room, name, variables).await;
                    members.spawn(async move {
                        loop {
                            sent += 1;
                            let value = sent.to_string();
                            if client.set_and_apply_until_close(name, &value).await {
                                return (name, client.view);
                            }
                            tokio::time::sleep(Duration::from_millis(3)).await;
                        }
                    });
                }
                (room, members.join_all().await)
            });
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.ask_to_end();
        let rooms = within("the end", playing.join_all()).await;
        assert!(server.ended_well());
        let store = RedbStore::open(&file).unwrap();
        for (room, members) in rooms {
            let stored = store.load(&room).unwrap().unwrap().variables;
            for (name, value) in stored {
                let value: u64 = value.parse().unwrap();
                for (member, view) in &members {
                    let seen: u64 = view[&name].parse().unwrap();
                    // A value that the other client saw was the room's. The writer's own last values may
                    // not have arrived.
                    let is_right = if *member == name { seen >= value } else { seen <= value };
                    assert!(is_right, "{member} saw {seen} of {name}, which is {value}");
                }
                assert!(value > 0);
            }
        }
    }
}

#[tokio::test]
async fn a_file_is_one_servers_and_its_rooms_can_be_moved() {
    let folder = Folder::new("moved");
    let [file, copy, lines] = ["rooms.redb", "copy.redb", "rooms.jsonl"].map(|f| folder.file(f));
    let server = Process::standalone(&["--store", &file]);
    for n in 0..3 {
        let mut ann = Client::join(&server.url(), &format!("room {n}"), "ann", X).await;
        ann.set("x", &format!("\"{n}\n")).await;
        ann.sync().await;
    }
    let (ended_well, said) = Process::run(&["--store", &file]);
    assert!(!ended_well && said.contains("another process uses the store"), "{said}");
    server.ask_to_end();
    assert!(server.ended_well());

    let run = |args: &[&str]| {
        let (ended_well, said) = Process::run(args);
        assert!(ended_well, "{said}");
        said
    };
    assert_eq!(run(&["--store", &file, "--export", &lines]), "3 rooms exported\n");
    let import = ["--store", &copy, "--import", &lines];
    assert_eq!(run(&import), "3 rooms imported, 0 were there\n");
    assert_eq!(run(&import), "0 rooms imported, 3 were there\n");
    let copy = RedbStore::open(&copy).unwrap();
    let room = copy.load("room 1").unwrap().unwrap();
    assert_eq!(room.variables, [("x".into(), "\\\"1\\n".into())]);

    fs::write(&lines, "{\"room\":1}\n").unwrap();
    let (ended_well, said) = Process::run(&["--store", &file, "--import", &lines]);
    assert!(!ended_well && said.contains("line 1 is no room"), "{said}");
    let (ended_well, said) = Process::run(&["--store", &lines]);
    assert!(!ended_well && said.contains("cannot be read"), "{said}");
}

/// A crash has left a file with many rooms.
#[tokio::test]
async fn a_file_of_many_rooms_opens_after_a_crash() {
    let folder = Folder::new("many");
    let file = folder.file("rooms.redb");
    let count = common::count(2_000, 100_000);
    {
        let store = RedbStore::open(&file).unwrap();
        let ids: Vec<_> = (0..count).collect();
        for ids in ids.chunks(10_000) {
            let values = |id| (0..10).map(|v| (format!("v{v}"), format!("{id} {v}"))).collect();
            let put = |id: &usize| Change::Put {
                room: format!("many {id}"),
                schema: StoredSchema::Fixed,
                used: 0,
                values: values(*id),
                dropped: Vec::new(),
            };
            store.commit(&ids.iter().map(put).collect::<Vec<_>>()).unwrap();
        }
    }
    let server = Process::standalone(&["--store", &file]);
    let playing = tokio::spawn(play(server.url(), 0, 0));
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.crash();
    playing.await.unwrap();
    let began = Instant::now();
    let server = Process::standalone(&["--store", &file]);
    println!("{count} rooms: ready {:?} after a crash", began.elapsed());
    let url = server.url();
    let names: Vec<_> = (0..10).map(|v| format!("v{v}")).collect();
    let variables: Vec<_> = names.iter().map(|name| (&**name, "0")).collect();
    let mut ann = Client::join(&url, &format!("many {}", count - 1), "ann", &variables).await;
    ann.until("v9", &format!("{} 9", count - 1)).await;
}
