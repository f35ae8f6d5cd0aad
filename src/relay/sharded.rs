//! Several brokers as one, each with its own rooms.

use std::time::Duration;

use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};

use super::{Relay, RelayAnswer, RelayError, RelayMessages, RelayNews, RelayNode, RelayRequest};

/// A room is at the broker that its id says. All nodes must have the same ones in the same order: where
/// they differ or change, rooms are looked for where they are not.
impl<R: Relay> Relay for Vec<R> {
    fn request<'a>(
        &'a self,
        room: &'a str,
        node: RelayNode<'a>,
        request: &'a RelayRequest,
    ) -> BoxFuture<'a, Result<RelayAnswer, RelayError>> {
        match shard(self, room) {
            Some(relay) => relay.request(room, node, request),
            None => none(),
        }
    }

    fn end(&self) {
        self.iter().for_each(Relay::end);
    }

    /// The shortest.
    fn lease(&self) -> Duration {
        self.iter().map(Relay::lease).min().unwrap_or(Duration::from_secs(10))
    }

    /// The longest.
    fn timeout(&self) -> Duration {
        self.iter().map(Relay::timeout).max().unwrap_or_default()
    }

    fn announce<'a>(&'a self, news: &'a RelayNews) -> BoxFuture<'a, Result<(), RelayError>> {
        // By the one whose messages the empty id has.
        match shard(self, "") {
            Some(relay) => relay.announce(news),
            None => none(),
        }
    }

    fn subscribe<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<RelayMessages, RelayError>> {
        match shard(self, room) {
            Some(relay) => relay.subscribe(room),
            None => none(),
        }
    }
}

fn none<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, RelayError>> {
    ready(Err(RelayError("there is none".into()))).boxed()
}

fn shard<'a, R>(relays: &'a [R], room: &str) -> Option<&'a R> {
    relays.get(usize::try_from(fnv(room) % u64::try_from(relays.len()).ok()?.max(1)).ok()?)
}

/// FNV-1a: the same in every process, and in every version of this crate.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// Of FNV's own table; rooms that are kept depend on it.
    #[test]
    fn ids_are_where_they_always_were() {
        assert_eq!(fnv(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv("foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(shard::<u8>(&[], "a"), None);
        let counts = (0..1_000).fold([0; 3], |mut counts, n| {
            counts[*shard(&[0, 1, 2], &format!("room {n}")).unwrap()] += 1;
            counts
        });
        assert!(counts.iter().all(|count| (280..390).contains(count)), "{counts:?}");
    }
}
