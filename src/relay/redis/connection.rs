//! The connection for commands, which is replaced after a failure.

use std::{mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::{
    Cmd, Pipeline, PushInfo, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
    from_redis_value,
};
use tokio::{sync::Mutex as AsyncMutex, time::timeout};

use super::address::{self, Address};
use crate::relay::RelayError;

pub(super) struct Commands {
    address: Arc<Address>,
    current: Mutex<Current>,
    /// Locked while connecting, so that callers do not all connect at once.
    connecting: AsyncMutex<()>,
}

/// The connection, and how many came before it.
#[derive(Default)]
struct Current {
    link: Option<Link>,
    count: u64,
    /// Whether the server's settings have been looked at since the last failure.
    is_known: bool,
}

/// A connection to a server, or to all servers of a cluster.
#[derive(Clone)]
pub(super) enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Commands {
    pub(super) fn new(address: Arc<Address>) -> Self {
        Self { address, current: Mutex::default(), connecting: AsyncMutex::new(()) }
    }

    /// Returns the connection and its number. Connects if there is none.
    pub(super) async fn link(&self, patience: Duration) -> Result<(u64, Link), RelayError> {
        if let Some(current) = self.current() {
            return Ok(current);
        }
        // The caller that has the lock may belong to a runtime that no longer runs it.
        let _connecting = timeout(patience / 2, self.connecting.lock()).await;
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let link = self.connect(patience).await?;
        let mut current = self.current.lock();
        current.link = Some(link.clone());
        Ok((current.count, link))
    }

    fn current(&self) -> Option<(u64, Link)> {
        let current = self.current.lock();
        current.link.clone().map(|link| (current.count, link))
    }

    /// Connects within this time.
    async fn connect(&self, patience: Duration) -> Result<Link, RelayError> {
        if self.address.is_cluster() {
            // This connection has no subscriptions.
            let deaf = |_: PushInfo| Ok::<_, ()>(());
            return self.address.cluster(patience, deaf).await.map(Link::Cluster);
        }
        let connecting = async {
            let server = self.address.server(patience).await?;
            address::connect(&server, patience).await.map(Link::Server)
        };
        timeout(patience, connecting).await.map_err(|_| RelayError::late())?
    }

    /// Has later commands use another connection than this one, which failed.
    pub(super) async fn give_up(&self, count: u64, patience: Duration) {
        if !self.address.is_cluster() {
            return self.replace(count, None);
        }
        // Most servers of the cluster may answer, so commands use this connection until there is another. Callers
        // need not wait for one that already connects.
        let Ok(_connecting) = self.connecting.try_lock() else { return };
        if self.current.lock().count != count {
            return;
        }
        if let Ok(link) = self.connect(patience).await {
            self.replace(count, Some(link));
        }
    }

    fn replace(&self, count: u64, link: Option<Link>) {
        let mut current = self.current.lock();
        // Many calls may fail on one connection: only the first of them replaces it.
        if current.count == count {
            *current = Current { link, count: count + 1, is_known: false };
        }
    }

    /// Closes the connection.
    pub(super) fn end(&self) {
        self.current.lock().link = None;
    }

    /// Returns `true` once for each connection.
    pub(super) fn is_new(&self) -> bool {
        !mem::replace(&mut self.current.lock().is_known, true)
    }
}

impl Link {
    /// Returns a server's description of itself; in a cluster, that of one of the primaries.
    pub(super) async fn info(&mut self) -> RedisResult<String> {
        let info = redis::cmd("INFO");
        match self {
            Self::Server(server) => info.query_async(server).await,
            Self::Cluster(cluster) => {
                let one = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
                Ok(from_redis_value(cluster.route_command(info, one).await?)?)
            }
        }
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(server) => server.req_packed_command(command),
            Self::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(server) => server.req_packed_commands(commands, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(server) => server.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}
