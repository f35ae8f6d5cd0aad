//! Several brokers as one, each with its own rooms.

use std::{future::Future, time::Duration};

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
    fn of(&self, room: &str) -> &R {
        // There is at least one broker.
        &self.0[(fnv(room) % self.0.len() as u64) as usize]
    }
}

impl<R: Relay> Relay for Sharded<R> {
    fn request(
        &self,
        room: &str,
        node: RelayNode<'_>,
        request: &RelayRequest,
    ) -> impl Future<Output = Result<RelayAnswer, RelayError>> + Send {
        self.of(room).request(room, node, request)
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

    fn announce(&self, news: &RelayNews) -> impl Future<Output = Result<(), RelayError>> + Send {
        // Nodes subscribe to the empty id, so its broker announces.
        self.of("").announce(news)
    }

    fn subscribe(
        &self,
        room: &str,
    ) -> impl Future<Output = Result<RelayMessages, RelayError>> + Send {
        self.of(room).subscribe(room)
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
        let shards = Sharded(vec![0, 1, 2]);
        let counts = (0..1_000).fold([0; 3], |mut counts, n| {
            counts[*shards.of(&format!("room {n}"))] += 1;
            counts
        });
        assert!(counts.iter().all(|count| (280..390).contains(count)), "{counts:?}");
    }
}
