//! P3 over real sockets: clients that write the same variables at the same moment end up with the same
//! values, without any effort of their own.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{collections::HashMap, time::Duration};

use axum_cloud_variables::Dialect;
use common::{Client, Process, count, delayed};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

type View = HashMap<String, String>;

const END: &str = "☁ end";

/// A request of the test to a client that reads all the time.
enum Ask {
    Write(Write),
    /// A request for its view once it has seen this value of [`END`].
    View(String, oneshot::Sender<View>),
}

struct Write {
    at: Instant,
    name: String,
    value: String,
    done: oneshot::Sender<()>,
}

async fn play(mut client: Client, mut asks: mpsc::Receiver<Ask>) {
    let mut write: Option<Write> = None;
    let mut awaited: Option<(String, oneshot::Sender<View>)> = None;
    loop {
        if awaited.as_ref().is_some_and(|(end, _)| client.view[END] == *end) {
            let (_, reply) = awaited.take().unwrap();
            reply.send(client.view.clone()).unwrap();
        }
        let next = write.as_ref().map_or_else(Instant::now, |write| write.at);
        tokio::select! {
            ask = asks.recv() => match ask {
                Some(Ask::Write(asked)) => write = Some(asked),
                Some(Ask::View(end, reply)) => awaited = Some((end, reply)),
                None => return,
            },
            () = sleep_until(next), if write.is_some() => {
                let Write { name, value, done, .. } = write.take().unwrap();
                client.set(&name, &value).await;
                done.send(()).unwrap();
            }
            () = client.any_frame() => {}
        }
    }
}

/// Plays rounds in a room. Returns how many there were, and how many left its members with different
/// values.
async fn contest(url: String, room: usize, rounds: usize, quiet: Duration) -> (usize, usize) {
    let (writers, names) = [(2, 1), (5, 2), (20, 3)][room % 3];
    // Every second room has members of all dialects.
    let dialects = match room % 2 {
        0 => &[Dialect::Spec][..],
        _ => &[Dialect::Spec, Dialect::Forkphorus2020, Dialect::Scratch],
    };
    let mut variables: Vec<_> = (0..names).map(|i| (format!("☁ {i}"), String::new())).collect();
    variables.push((END.into(), String::new()));
    let variables: Vec<_> = variables.iter().map(|(n, v)| (&**n, &**v)).collect();
    let room = format!("room {room}");
    // The judge creates the room, and writes nothing that is contested.
    let mut judge = Client::join(&url, &room, "judge", &variables).await;
    let mut members = Vec::new();
    for i in 0..writers {
        let mut client = Client::connect(&url).await;
        let dialect = dialects[i % dialects.len()];
        client.handshake_in(dialect, &room, &format!("member{i}"), &variables).await;
        client.sync().await;
        let (asks, asked) = mpsc::channel(8);
        tokio::spawn(play(client, asked));
        members.push(asks);
    }
    let mut diverged = 0;
    for round in 0..rounds {
        let began = Instant::now();
        let mut written = Vec::new();
        for (i, member) in members.iter().enumerate() {
            let at = began + Duration::from_micros(fastrand::u64(0..20_000));
            let name = format!("☁ {}", fastrand::usize(0..names));
            let (done, is_done) = oneshot::channel();
            let value = format!("{round}.{i}");
            member.send(Ask::Write(Write { at, name, value, done })).await.unwrap();
            written.push(is_done);
        }
        // The promise holds once nobody has written for `settle`, and everything is delivered.
        let settled = async {
            for written in written {
                written.await.unwrap();
            }
            sleep(quiet).await;
        };
        judge.reading_until(settled).await;
        let end = round.to_string();
        judge.set(END, &end).await;
        let mut views = Vec::new();
        for member in &members {
            let (reply, view) = oneshot::channel();
            member.send(Ask::View(end.clone(), reply)).await.unwrap();
            views.push(common::within("view", view).await.unwrap());
        }
        judge.sync().await;
        judge.apply_waiting();
        diverged += usize::from(views.iter().any(|view| *view != judge.view));
    }
    (rounds, diverged)
}

/// Each test needs the machine for itself, because its rounds depend on time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Runs contests in many rooms at once, each through `url`.
async fn contests(url: String, rooms: usize, rounds: usize, quiet: Duration) -> (usize, usize) {
    let _turn = ONE_AT_A_TIME.lock().await;
    let rooms = (0..rooms).map(|room| tokio::spawn(contest(url.clone(), room, rounds, quiet)));
    let (mut all, mut diverged) = (0, 0);
    for room in rooms.collect::<Vec<_>>() {
        let (rounds, apart) = room.await.unwrap();
        (all, diverged) = (all + rounds, diverged + apart);
    }
    println!("{diverged} of {all} rounds diverged");
    (all, diverged)
}

const SETTLE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn contested_rounds_converge() {
    let server = Process::standalone(&["--messages-per-second", "0"]);
    let quiet = SETTLE + Duration::from_millis(400);
    let (_, diverged) = contests(server.url(), 100, count(5, 100), quiet).await;
    assert_eq!(diverged, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_rule_more_than_half_diverge() {
    let server = Process::standalone(&["--messages-per-second", "0", "--settle-ms", "0"]);
    let quiet = Duration::from_millis(150);
    let (all, diverged) = contests(server.url(), 60, count(5, 50), quiet).await;
    assert!(diverged * 2 > all, "{diverged} of {all}: the contest is too easy");
}

#[tokio::test(flavor = "multi_thread")]
async fn contested_rounds_converge_through_slow_links() {
    let server = Process::standalone(&["--messages-per-second", "0"]);
    let most = Duration::from_millis(200);
    let proxy = delayed(server.addr.clone(), most).await;
    let quiet = SETTLE + 3 * most;
    let url = format!("ws://{proxy}/");
    let (_, diverged) = contests(url, 100, count(5, 100), quiet).await;
    assert_eq!(diverged, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_writer_is_never_corrected() {
    let server = Process::standalone(&["--messages-per-second", "0"]);
    let variables = &[("x", "0"), ("end", "")];
    let mut ann = Client::join(&server.url(), "room", "ann", variables).await;
    let mut ben = Client::join(&server.url(), "room", "ben", variables).await;
    ben.frame().await;
    for i in 0..20 {
        ann.set("x", &i.to_string()).await;
        sleep(Duration::from_millis(20)).await;
    }
    sleep(2 * SETTLE).await;
    ben.set("end", "1").await;
    assert_eq!(ann.frame().await, [("end".into(), "1".into())], "nothing before it");
}
