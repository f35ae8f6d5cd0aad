//! P1: a room has one order of writes, and nobody sees it go backwards.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;

use crate::common::{Client, Frame, Server, within};

/// Returns the numbers written to a variable, in the order in which they came.
fn numbers(sets: &Frame, name: &str) -> Vec<u64> {
    let values = sets.iter().filter(|(n, _)| n == name);
    values.filter_map(|(_, value)| value.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sets_of_one_member_arrive_at_all_others_in_order() {
    let server = Server::start().await;
    let variables = &[("x", "start")];
    let mut writer = server.join("room", "writer", variables).await;
    let mut readers = Vec::new();
    for i in 0..5 {
        let mut reader = server.join("room", &format!("reader{i}"), variables).await;
        assert_eq!(reader.frame().await, [("x".into(), "start".into())]);
        readers.push(reader);
    }
    for i in 0..1000 {
        writer.set("x", &i.to_string()).await;
    }
    for mut reader in readers {
        let sets = reader.until("x", "999").await;
        assert_eq!(numbers(&sets, "x"), (0..1000).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_writers_at_once_keep_their_order_and_agree() {
    let server = Server::start().await;
    let variables: Vec<_> = ["a", "b", "c", "last"].map(|name| (name, "0")).into();
    let mut members = Vec::new();
    for name in ["ann", "ben", "cem"] {
        members.push(server.join("room", name, &variables).await);
    }
    let writers = members.into_iter().zip(["a", "b", "c"]).map(|(mut member, own)| {
        tokio::spawn(async move {
            let others: Vec<_> = ["a", "b", "c"].into_iter().filter(|n| *n != own).collect();
            for i in 1..=1000 {
                member.set(own, &i.to_string()).await;
                member.set("last", &format!("{own}{i}")).await;
            }
            let mut seen = Frame::new();
            while others.iter().any(|name| member.view[*name] != "1000") {
                seen.extend(member.frame().await);
            }
            for name in others {
                let came = numbers(&seen, name);
                let written: Vec<_> = (1..=1000).collect();
                assert_eq!(came[came.len() - 1000..], written, "{name}");
            }
            member
        })
    });
    let mut members = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        members.push(within("writers", writer).await.unwrap());
    }
    // A fourth client receives the room's values, and the others end up with the same (P3).
    let mut fresh = server.join("room", "dan", &variables).await;
    fresh.frame().await;
    for mut member in members {
        while member.view != fresh.view {
            member.frame().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_gets_all_values_in_one_frame_and_never_goes_back() {
    let server = Server::start().await;
    let variables: Vec<_> = (0..100).map(|i| (format!("v{i}"), format!("value {i}"))).collect();
    let variables: Vec<_> = variables.iter().map(|(n, v)| (&**n, &**v)).collect();
    let mut writer = server.join("room", "writer", &variables).await;
    let writing = tokio::spawn(async move {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(1));
        for i in 0..2000 {
            tick.tick().await;
            writer.set("v0", &i.to_string()).await;
        }
        writer
    });
    let mut joiners = Vec::new();
    for i in 0..20 {
        let mut joiner = server.join("room", &format!("joiner{i}"), &variables).await;
        let first: HashMap<_, _> = joiner.frame().await.into_iter().collect();
        assert_eq!(first.len(), 100, "all values, each once, in one frame");
        assert!((1..100).all(|i| first[&format!("v{i}")] == format!("value {i}")));
        let at_join = first["v0"].parse().ok();
        joiners.push(tokio::spawn(follow(joiner, at_join)));
    }
    let _writer = within("writer", writing).await.unwrap();
    for joiner in joiners {
        within("joiner", joiner).await.unwrap();
    }
}

/// Checks that each number that comes is the next one.
async fn follow(mut joiner: Client, mut last: Option<u64>) {
    while last != Some(1999) {
        for number in numbers(&joiner.frame().await, "v0") {
            assert_eq!(number, last.map_or(0, |last| last + 1));
            last = Some(number);
        }
    }
}

#[tokio::test]
async fn values_that_fit_no_frame_come_in_several() {
    let server = Server::start().await;
    let long = "v".repeat(30_000);
    let variables = &[("a", &*long), ("b", &*long), ("c", &*long)];
    let _creator = server.join("room", "ann", variables).await;
    let mut joiner = server.join("room", "ben", variables).await;
    assert_eq!(joiner.frame().await.len() + joiner.frame().await.len(), 3);
}
