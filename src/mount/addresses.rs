//! Limits on the sessions and upgrades of each client's address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use axum::{extract::ConnectInfo, http::request::Parts};
use parking_lot::Mutex;

use crate::rate::Bucket;

/// The address of a client, for [`Mount::sessions_per_address`](super::Mount::sessions_per_address) and
/// [`Mount::upgrades_per_minute`](super::Mount::upgrades_per_minute). Behind a proxy, a layer of the host inserts it
/// into the request's extensions, from a header that the proxy sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "an address is all that it has")]
pub struct ClientAddress(pub IpAddr);

/// The limits of each address, and its current use of them, which clones of a mount share.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    /// Zero for no limit, as in the next field.
    pub(super) sessions: usize,
    pub(super) upgrades_per_minute: u32,
    known: Arc<Mutex<HashMap<IpAddr, Known>>>,
}

#[derive(Debug)]
struct Known {
    sessions: usize,
    upgrades: Bucket,
}

/// The place of a session among those of its address.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    known: Arc<Mutex<HashMap<IpAddr, Known>>>,
}

/// The tokens that an upgrade takes. A bucket earns this many in a minute for each upgrade allowed.
const UPGRADE: usize = 60;
/// The number of known addresses from which unused ones are removed.
const MANY: usize = 16_384;

impl Addresses {
    /// Takes a place for a new session. The error is the answer to a client whose address has reached a
    /// limit. A client whose address is not known has no limits.
    pub(super) fn enter(&self, parts: &Parts, now: Instant) -> Result<Option<Place>, &'static str> {
        if (self.sessions, self.upgrades_per_minute) == (0, 0) {
            return Ok(None);
        }
        let Some(address) = address_of(parts) else { return Ok(None) };
        let per_minute = self.upgrades_per_minute;
        let burst = per_minute.saturating_mul(UPGRADE as u32);
        let mut all = self.known.lock();
        if all.len() >= MANY && !all.contains_key(&address) {
            all.retain(|_, known| known.is_in_use(burst, now));
        }
        let known = all.entry(address).or_insert_with(|| Known {
            sessions: 0,
            upgrades: Bucket::new(per_minute, burst, now),
        });
        if self.sessions > 0 && known.sessions >= self.sessions {
            return Err("Your address has as many connections as one may have: close one first.\n");
        }
        if per_minute > 0 && known.upgrades.has(UPGRADE, now) > now {
            return Err("Your address connects too often: wait a minute.\n");
        }
        known.upgrades.take(UPGRADE, now);
        known.sessions += 1;
        Ok(Some(Place { address, known: self.known.clone() }))
    }
}

impl Known {
    /// Returns whether it has sessions, or has not yet earned back its upgrades.
    fn is_in_use(&mut self, burst: u32, now: Instant) -> bool {
        self.sessions > 0 || self.upgrades.has(burst as usize, now) > now
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(known) = self.known.lock().get_mut(&self.address) {
            known.sessions -= 1;
        }
    }
}

/// Returns the address that the limits apply to. For an IPv6 address, this is its network of 64 bits, because
/// a household has such a network to itself.
fn address_of(parts: &Parts) -> Option<IpAddr> {
    let named = parts.extensions.get().map(|ClientAddress(address)| *address);
    let peer =
        || parts.extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
    Some(match named.or_else(peer)?.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn from(address: &str) -> Parts {
        let mut request = axum::http::Request::new(());
        request.extensions_mut().insert(ClientAddress(address.parse().expect("an address")));
        request.into_parts().0
    }

    #[test]
    fn an_address_has_so_many_sessions_at_once() {
        let addresses = Addresses { sessions: 2, ..Addresses::default() };
        let now = Instant::now();
        let enter = |address| addresses.enter(&from(address), now);
        let first = enter("192.0.2.1").expect("a place");
        let _second = enter("::ffff:192.0.2.1").expect("the same one's");
        assert!(enter("192.0.2.1").is_err());
        assert!(enter("192.0.2.2").is_ok(), "another's");
        drop(first);
        assert!(enter("192.0.2.1").is_ok());
        // A household has a network of 64 bits.
        let _six = ["2001:db8::1", "2001:db8::2"].map(|address| enter(address).expect("a place"));
        assert!(enter("2001:db8::3").is_err());
        assert!(enter("2001:db8:0:1::3").is_ok());
    }

    #[test]
    fn an_address_connects_so_often_in_a_minute() {
        let addresses = Addresses { upgrades_per_minute: 3, ..Addresses::default() };
        let start = Instant::now();
        let enter = |seconds| {
            let now = start + Duration::from_secs(seconds);
            addresses.enter(&from("192.0.2.1"), now).is_ok()
        };
        assert!((0..3).all(|_| enter(0)));
        assert!(!enter(19));
        assert!(enter(20), "a third of a minute later");
        assert!(!enter(21));
        assert!((0..3).all(|_| enter(120)));
        assert!(!enter(120));
    }

    #[test]
    fn addresses_that_use_nothing_are_forgotten() {
        let addresses = Addresses { sessions: 1, upgrades_per_minute: 60, ..Addresses::default() };
        let start = Instant::now();
        let _stays = addresses.enter(&from("192.0.2.1"), start).expect("a place");
        for n in 0..3 * MANY as u32 {
            let address = IpAddr::V4((0x0a00_0000 + n).into()).to_string();
            let now = start + Duration::from_millis(n.into());
            _ = addresses.enter(&from(&address), now).expect("a place");
        }
        assert!(addresses.known.lock().len() <= MANY + 1_024);
        assert!(addresses.enter(&from("192.0.2.1"), start).is_err());
    }

    #[test]
    fn without_limits_or_an_address_everyone_may_come() {
        let now = Instant::now();
        assert!(matches!(Addresses::default().enter(&from("192.0.2.1"), now), Ok(None)));
        let addresses = Addresses { sessions: 1, ..Addresses::default() };
        let unknown = axum::http::Request::new(()).into_parts().0;
        assert!((0..3).all(|_| matches!(addresses.enter(&unknown, now), Ok(None))));
    }
}
