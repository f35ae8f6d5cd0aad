//! P11 with nodes of different versions at one broker: those of one format play together, and no node touches the
//! rooms of another format.

#![allow(clippy::unwrap_used, reason = "a test")]

use crate::common::{Redis, redis_nodes, within};

const X: &[(&str, &str)] = &[("x", "0")];

async fn connect(redis: &Redis) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// A room that nodes of another version have changed waits until they are gone, and keeps its members.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_of_another_version_is_left_alone() {
    let redis = Redis::start("versions");
    let nodes = redis_nodes(&redis, 2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut broker = connect(&redis).await;
    let set_version = async |broker: &mut _, version: u64| {
        let mut set = redis::cmd("HSET");
        let () =
            set.arg("cv:{arena}:m").arg("version").arg(version).query_async(broker).await.unwrap();
    };
    set_version(&mut broker, 2).await;
    assert_eq!(nodes[1].refusal("arena", "bob", X).await.0, 4003);
    let (_, error) = nodes[1].rooms.relay_stats().unwrap().last_error.unwrap();
    assert!(error.to_string().contains("nodes of another version, whose format 2"), "{error}");
    ann.set("x", "1").await;
    ann.sync().await;
    let mut read = redis::cmd("HGET");
    let there: String = read.arg("cv:{arena}:v").arg("x").query_async(&mut broker).await.unwrap();
    assert_eq!(there, "0", "the room was changed");
    set_version(&mut broker, 1).await;
    let join = async { while nodes[1].refusal_or_join("arena", "bob", X).await.is_some() {} };
    ann.reading_until(within("bob is let in", join)).await;
    let mut sue = nodes[1].join("arena", "sue", X).await;
    sue.until("x", "1").await;
}

/// A later version of the same format may send more: the rest is ignored, and the room is read again if a step of
/// its order was not understood.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_adds_is_ignored() {
    let redis = Redis::start("later");
    let nodes = redis_nodes(&redis, 2).await;
    let mut ann = nodes[0].join("arena", "ann", X).await;
    let mut bob = nodes[1].join("arena", "bob", X).await;
    let mut broker = connect(&redis).await;
    for message in [
        r#"{"v":1,"told":{"Applause":{"by":"eve"}}}"#,
        r#"{"v":2,"told":{"Removed":{"room":"any"}}}"#,
        r#"{"v":1,"room":"r","epoch":"e","number":1,"node":"n","at":1,"change":{"Colour":"red"}}"#,
        "nonsense",
    ] {
        let mut publish = redis::cmd("PUBLISH");
        let heard: u64 =
            publish.arg("cv:{arena}:c0").arg(message).query_async(&mut broker).await.unwrap();
        assert_eq!(heard, 2);
    }
    // A step of the order, for which this version has no name, has also changed a value.
    let mut change = redis::pipe();
    let (meta, values) = ("cv:{arena}:m", "cv:{arena}:v");
    change.atomic().cmd("HINCRBY").arg(meta).arg("revision").arg(1).ignore();
    change.cmd("HSET").arg(meta).arg("colour").arg("red").ignore();
    change.cmd("HSET").arg(values).arg("x").arg("red").ignore();
    let () = change.query_async(&mut broker).await.unwrap();
    ann.set("x", "1").await;
    bob.until("x", "1").await;
    bob.set("x", "2").await;
    ann.until("x", "2").await;
    assert!(!nodes[0].rooms.relay_stats().unwrap().is_failing);
}
