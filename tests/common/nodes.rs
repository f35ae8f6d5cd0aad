//! Properties of a room on several nodes, with any broker.

use std::time::Duration;

#[cfg(feature = "redis")]
use axum_cloud_variables::{RoomRegistry, relay::RedisRelay};

#[cfg(feature = "redis")]
use super::{Redis, unlimited_rate};
use super::{Server, within};

const X: &[(&str, &str)] = &[("x", "0")];

/// Starts a node that uses the Redis at this address.
#[cfg(feature = "redis")]
pub async fn redis_node(url: &str) -> Server {
    let relay = RedisRelay::new(url).unwrap();
    Server::with(RoomRegistry::builder().limits(unlimited_rate()).relay(relay)).await
}

#[cfg(feature = "redis")]
pub async fn redis_nodes(redis: &Redis, count: usize) -> Vec<Server> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(redis_node(&redis.url()).await);
    }
    nodes
}

/// Lets all members write one variable at the same moments, `rounds` times, and checks that they agree
/// after each.
pub async fn contested(nodes: &[Server], members: usize, rounds: usize) {
    let mut players = Vec::new();
    for n in 0..members {
        let node = &nodes[n % nodes.len()];
        players.push(node.join("arena", &format!("p{n}"), X).await);
    }
    for round in 0..rounds {
        for (n, player) in players.iter_mut().enumerate() {
            player.set("x", &format!("{round} {n}")).await;
        }
        let agree = async {
            loop {
                for player in &mut players {
                    player.sync().await;
                    player.apply_waiting();
                }
                let first = players[0].view["x"].clone();
                let is_nodes = |node: &Server| {
                    node.rooms.room("arena").unwrap().get("x").as_ref() == Some(&first)
                };
                if players.iter().all(|player| player.view["x"] == first)
                    && nodes.iter().all(is_nodes)
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within("all see the same", agree).await;
        if round % 10 == 9 {
            // They still agree when everything in flight has arrived.
            tokio::time::sleep(Duration::from_millis(80)).await;
            let value = nodes[0].rooms.room("arena").unwrap().get("x");
            for player in &mut players {
                player.sync().await;
                player.apply_waiting();
                assert_eq!(player.view.get("x"), value.as_ref(), "in round {round}");
            }
        }
    }
}

/// Checks that exactly one client wins if two create a room with different variables, or want the same
/// name.
pub async fn one_of_two_wins(nodes: &[Server], rounds: usize) {
    for n in 0..rounds {
        let room = format!("room {n}");
        let (a, b) = tokio::join!(
            nodes[0].refusal_or_join(&room, "ann", X),
            nodes[1].refusal_or_join(&room, "bob", &[("y", "0")]),
        );
        assert!([(None, Some(4001)), (Some(4001), None)].contains(&(a, b)), "{a:?} {b:?}");
        let (winner, name) = if a.is_none() { (&nodes[0], "x") } else { (&nodes[1], "y") };
        let there = winner.rooms.room(&room).unwrap().variables();
        assert_eq!(there, [(name.to_owned(), "0".to_owned())]);
        let room = format!("names {n}");
        let (mut a, mut b) = (nodes[0].connect().await, nodes[1].connect().await);
        tokio::join!(a.handshake(&room, "ann", X), b.handshake(&room, "ann", X));
        // Both answer the server's pings until one is closed.
        let (loser, mut winner) = tokio::select! {
            (code, _) = a.closed() => (code, b),
            (code, _) = b.closed() => (code, a),
        };
        assert_eq!(loser, 4002);
        winner.ping().await;
        assert_eq!(winner.next_is_close().await, None);
    }
}
