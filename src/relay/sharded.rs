//! Several brokers as one, each with its own rooms.

use std::time::Duration;

use super::{Relay, RelayAnswer, RelayError, RelayMessages, RelayNews, RelayNode, RelayRequest};

/// Several brokers as one: the id of a room decides which broker has it. All nodes must have the same brokers
/// in the same order; otherwise they look for a room at different brokers.
///
/// ```
/// use axum_cloud_variables::{RoomRegistry, relay::{MemoryRelay, Sharded}};
///
/// let relay = Sharded::new([MemoryRelay::default(), MemoryRelay::default()]).expect("there are two");
/// let rooms = RoomRegistry::builder().relay(relay).build();
/// assert!(rooms.is_ok());
/// ```
#[derive(Debug)]
pub struct Sharded<R>(Vec<R>);

impl<R: Relay> Sharded<R> {
    /// Returns `None` if there is no broker.
    pub fn new(relays: impl IntoIterator<Item = R>) -> Option<Self> {
        let relays = Vec::from_iter(relays);
        (!relays.is_empty()).then_some(Self(relays))
    }
}

impl<R> Sharded<R> {
    /// Returns the number of a room's broker.
    fn of(&self, room: &str) -> usize {
        (fnv(room) % self.0.len() as u64) as usize
    }

    /// Adds the number of the broker to its error, if there are several.
    fn numbered<T>(&self, at: usize, result: Result<T, RelayError>) -> Result<T, RelayError> {
        let count = self.0.len();
        result.map_err(|RelayError(reason)| match count {
            1 => RelayError(reason),
            _ => RelayError(format!("{reason} (broker {} of {count})", at + 1)),
        })
    }
}

impl<R: Relay> Relay for Sharded<R> {
    async fn request(
        &self,
        room: &str,
        node: RelayNode<'_>,
        request: &RelayRequest,
    ) -> Result<RelayAnswer, RelayError> {
        let at = self.of(room);
        self.numbered(at, self.0[at].request(room, node, request).await)
    }

    async fn probe(&self) -> Result<(), RelayError> {
        for (at, relay) in self.0.iter().enumerate() {
            self.numbered(at, relay.probe().await)?;
        }
        Ok(())
    }

    fn end(&self) {
        self.0.iter().for_each(Relay::end);
    }

    /// Returns the shortest lease.
    fn lease(&self) -> Duration {
        self.0.iter().map(Relay::lease).min().unwrap_or(Duration::from_secs(10))
    }

    /// Returns the longest timeout.
    fn timeout(&self) -> Duration {
        self.0.iter().map(Relay::timeout).max().unwrap_or_default()
    }

    async fn announce(&self, news: &RelayNews) -> Result<(), RelayError> {
        // Nodes subscribe to the empty id, so its broker announces.
        let at = self.of("");
        self.numbered(at, self.0[at].announce(news).await)
    }

    async fn subscribe(&self, room: &str) -> Result<RelayMessages, RelayError> {
        let at = self.of(room);
        self.numbered(at, self.0[at].subscribe(room).await)
    }
}

/// Hashes by FNV-1a, which is the same in every process and in every version of this crate.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// Checks values of FNV's own table, because the brokers of existing rooms depend on them.
    #[test]
    fn ids_are_where_they_always_were() {
        assert_eq!(fnv(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv("foobar"), 0x8594_4171_f739_67e8);
        let shards = Sharded(vec![(), (), ()]);
        let counts = (0..1_000).fold([0; 3], |mut counts, n| {
            counts[shards.of(&format!("room {n}"))] += 1;
            counts
        });
        assert!(counts.iter().all(|count| (280..390).contains(count)), "{counts:?}");
    }
}
