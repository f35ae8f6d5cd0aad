//! P11: a broker that cannot work is distinguished from one that is away, and the reason names the remedy.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, process::Command};

use crate::common::{Folder, Redis};
use axum_cloud_variables::{RoomRegistry, relay::RedisRelay};

/// Returns the reason why a room cannot be opened, from the host's stats.
async fn reason(url: &str) -> String {
    let relay = RedisRelay::new(url).unwrap();
    let rooms = RoomRegistry::builder().relay(relay).build().unwrap();
    assert!(rooms.open("arena").variables([("x", "0")]).await.is_err());
    let stats = rooms.relay_stats().unwrap();
    assert!(stats.is_failing, "{stats:?}");
    // The success of another service does not count as a recovery.
    _ = rooms.kick_person("7", axum_cloud_variables::CloseCode::Kicked, "out").await;
    assert!(rooms.relay_stats().unwrap().is_failing);
    let (_, error) = stats.last_error.unwrap();
    assert!(rooms.readiness().await.is_err());
    error.to_string()
}

fn cli(redis: &Redis, words: &[&str]) {
    let done =
        Command::new("redis-cli").args(["-p", &redis.port().to_string()]).args(words).output();
    assert!(done.unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_broker_that_cannot_work_says_why() {
    let redis = Redis::start("acl");
    // `ann` may do everything except run scripts. `ben` may do everything, but only with other keys.
    cli(&redis, &["ACL", "SETUSER", "ann", "on", ">secret", "~cv:*", "&*", "+@all", "-@scripting"]);
    cli(&redis, &["ACL", "SETUSER", "ben", "on", ">secret", "~other:*", "&*", "+@all"]);
    let as_user = |user: &str| redis.url().replace("redis://", &format!("redis://{user}@"));
    let error = reason(&as_user("ann:secret")).await;
    assert!(error.contains("its user may not do this"), "{error}");
    let error = reason(&as_user("ben:secret")).await;
    assert!(error.contains("its user may not do this"), "{error}");
    let error = reason(&as_user("ann:wrong")).await;
    assert!(error.contains("a wrong one"), "{error}");

    let options = ["--replicaof", "127.0.0.1", &redis.port().to_string()];
    let replica = Redis::with("replica", &options);
    let error = reason(&replica.url()).await;
    assert!(error.contains("it is a replica"), "{error}");

    let cluster = Redis::cluster("cluster");
    let error = reason(&cluster.url()).await;
    assert!(error.contains("a node of a cluster"), "{error}");

    let full = Redis::with("full", &["--maxmemory", "1"]);
    let rooms =
        RoomRegistry::builder().relay(RedisRelay::new(full.url()).unwrap()).build().unwrap();
    let error = rooms.open("arena").variables([("x", "0")]).await.unwrap_err();
    assert_eq!(error, axum_cloud_variables::OpenError::Full);

    let folder = Folder::new("sentinel");
    let file = folder.file("sentinel.conf");
    fs::write(&file, format!("sentinel monitor main 127.0.0.1 {} 1\n", redis.port())).unwrap();
    let sentinel = Redis::sentinel("sentinel_port", &file);
    let error = reason(&sentinel.url()).await;
    assert!(error.contains("it may be a Sentinel"), "{error}");
}
