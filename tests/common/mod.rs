//! A host's app to test against, and a client that checks every frame it receives.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_debug_implementations,
    reason = "each test uses a part"
)]

mod broker;
mod browser;
mod client;
mod folder;
pub mod nodes;
mod process;
mod proxy;
mod raw;
mod redis;
mod seeds;
pub mod siege;
mod store;

use std::{future::Future, net::SocketAddr, time::Duration};

use axum::{Router, serve::ListenerExt};
use axum_cloud_variables::{Dialect, Limits, RoomRegistry, RoomRegistryBuilder};
use tokio::net::TcpListener;

pub use broker::ShakyBroker;
pub use browser::{Browser, Driver};
pub use client::{Client, Frame, handshake, set};
pub use folder::Folder;
#[cfg(feature = "redis")]
pub use nodes::{redis_node, redis_nodes};
pub use process::{Process, example_path};
pub use proxy::{Cable, WiFi, delayed, inflating};
pub use raw::{inflated, masked, page, read_frame};
pub use redis::{Redis, certify};
pub use seeds::play_seeds;
pub use store::ShakyStore;

/// A time longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A host's app with one registry, mounted at `/cloud`.
pub struct Server {
    pub addr: SocketAddr,
    pub rooms: RoomRegistry,
}

impl Server {
    /// Starts a server without a rate limit, because tests send as fast as they can.
    pub async fn start() -> Self {
        Self::with(RoomRegistry::builder().limits(unlimited_rate())).await
    }

    pub async fn with(builder: RoomRegistryBuilder) -> Self {
        let rooms = builder.build().unwrap();
        let app = Router::new().merge(rooms.mount("/cloud"));
        Self { addr: serve(app).await, rooms }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/cloud", self.addr)
    }

    /// Connects without a handshake.
    pub async fn connect(&self) -> Client {
        Client::connect(&self.url()).await
    }

    /// Joins as a member, whose handshake has been processed.
    pub async fn join(&self, room: &str, name: &str, variables: &[(&str, &str)]) -> Client {
        Client::join(&self.url(), room, name, variables).await
    }

    /// Joins as a member that speaks another dialect.
    pub async fn join_in(
        &self,
        dialect: Dialect,
        room: &str,
        name: &str,
        variables: &[(&str, &str)],
    ) -> Client {
        let mut client = self.connect().await;
        client.handshake_in(dialect, room, name, variables).await;
        client.sync().await;
        client
    }

    /// Returns the code and the reason of a refused handshake.
    pub async fn refusal(
        &self,
        room: &str,
        name: &str,
        variables: &[(&str, &str)],
    ) -> (u16, String) {
        let mut client = self.connect().await;
        client.handshake(room, name, variables).await;
        client.closed().await
    }

    /// Returns the code of a refusal like [`refusal`](Self::refusal), or `None` if the client is let in.
    pub async fn refusal_or_join(
        &self,
        room: &str,
        name: &str,
        variables: &[(&str, &str)],
    ) -> Option<u16> {
        let mut client = self.connect().await;
        client.handshake(room, name, variables).await;
        client.ping().await;
        client.next_is_close().await
    }

    /// Waits until the registry has `count` members.
    pub async fn members(&self, count: usize) {
        eventually("member count", || self.rooms.stats().members == count).await;
    }
}

/// Returns the long count under `tests/run --long`, and otherwise the small one.
pub fn count(small: usize, long: usize) -> usize {
    if std::env::var_os("CLOUD_VARIABLES_LONG").is_some() { long } else { small }
}

pub fn unlimited_rate() -> Limits {
    Limits::default().messages_per_second(0).bytes_per_second(0).room_bytes_per_second(0)
}

pub async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
    addr
}

/// Waits for a condition that nothing announces.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, wait).await;
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("waited too long for: {what}"),
    }
}
