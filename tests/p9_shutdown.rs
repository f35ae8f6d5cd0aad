//! P9: a shutdown notifies everyone, ends in time, and leaves nothing behind. The test is alone in its
//! process, because it counts the process's sockets.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use axum_cloud_variables::RoomRegistry;
use common::{Client, eventually, unlimited_rate, within};

const VARIABLES: &[(&str, &str)] = &[("x", "0")];

/// Returns the number of sockets of this process.
fn sockets() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let is_socket = |file: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_link(file.unwrap().path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    files.map(is_socket).filter(|is_socket| *is_socket).count()
}

/// A shutdown under load, together with axum's.
#[test]
fn nothing_is_left_after_a_shutdown_under_load() {
    let members = common::count(100, 1_000);
    let sets = common::count(1_000, 10_000) / members;
    let grace = Duration::from_secs(10);
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (host, clients) = (runtime(), runtime());
    let (tasks, sockets_before) = (host.metrics().num_alive_tasks(), sockets());

    let limits = unlimited_rate().members_per_room(members);
    let rooms = RoomRegistry::builder().limits(limits).build().unwrap();
    let app = axum::Router::new().merge(rooms.mount("/cloud"));
    let listener = host.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("ws://{}/cloud", listener.local_addr().unwrap());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let all_gone = Arc::new(AtomicBool::new(false));
    let serving = {
        let (rooms, all_gone) = (rooms.clone(), all_gone.clone());
        let shutdown = async move {
            _ = ended.await;
            all_gone.store(rooms.shutdown(grace).await.is_complete(), SeqCst);
        };
        host.spawn(async move {
            axum::serve(listener, app).with_graceful_shutdown(shutdown).await.unwrap();
        })
    };
    let players = clients.block_on(async {
        let mut players = Vec::new();
        for i in 0..members {
            let room = format!("room {}", i % 10);
            let mut client = Client::join(&url, &room, &format!("p{i}"), VARIABLES).await;
            players.push(tokio::spawn(async move {
                let mut n = 0;
                loop {
                    if let Some(close) = client.set_or_closed("x", &n.to_string()).await {
                        return close;
                    }
                    n += 1;
                    tokio::time::sleep(Duration::from_secs(1) / sets as u32).await;
                }
            }));
        }
        players
    });
    std::thread::sleep(Duration::from_millis(500));
    let began = std::time::Instant::now();
    end.send(()).unwrap();
    let codes = clients.block_on(async {
        let mut codes = Vec::new();
        for player in players {
            codes.push(within("close", player).await.unwrap());
        }
        codes
    });
    assert!(codes.iter().all(|code| *code == 1001), "{codes:?}");
    host.block_on(async { within("axum::serve", serving).await.unwrap() });
    println!("{members} members: axum::serve returned after {:?}", began.elapsed());
    assert!(all_gone.load(SeqCst) && began.elapsed() < grace);
    let nothing_left = || host.metrics().num_alive_tasks() == tasks && sockets() == sockets_before;
    host.block_on(eventually("no task and no socket is left", nothing_left));
    assert_eq!(rooms.stats().sessions, 0);
}
