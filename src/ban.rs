//! Bans of people and names from a room for a while.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{identity::Identity, names::NameKey, redacted::Redacted};

/// Whom a ban is for.
///
/// `Debug` shows no person's id.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(Serialize), serde(rename_all = "snake_case"))]
pub enum BanTarget {
    /// Everyone with this [`Identity::id`](crate::Identity::id).
    Person(String),
    /// Everyone with this username, or one that looks like it.
    Name(String),
}

/// A ban of a room, as [`Room::bans`](crate::Room::bans) lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(Serialize))]
pub struct Ban {
    /// Whom it is for.
    pub target: BanTarget,
    /// How much longer it holds.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub left: Duration,
}

/// A ban, as a [`RoomStore`](crate::store::RoomStore) keeps it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "stores outside this crate make them")]
pub struct StoredBan {
    /// The key of a person or a username; one ban has it.
    pub who: String,
    /// The username, as it was written; empty for a person.
    pub name: String,
    /// When it is over, in milliseconds since the beginning of 1970.
    pub until: u64,
}

impl fmt::Debug for BanTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(id) => f.debug_tuple("Person").field(&Redacted(id)).finish(),
            Self::Name(name) => f.debug_tuple("Name").field(name).finish(),
        }
    }
}

impl fmt::Debug for StoredBan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredBan")
            .field("who", &Redacted(&self.who))
            .field("name", &self.name)
            .field("until", &self.until)
            .finish()
    }
}

const PERSON: &str = "person:";

impl BanTarget {
    /// Returns the person, or the name if the host knows no person.
    pub(crate) fn of(identity: &Identity, name: &str) -> Self {
        identity.id().map_or_else(|| Self::Name(name.into()), |id| Self::Person(id.into()))
    }

    /// Returns the key by which stores, brokers and sessions know it. Names that look alike have one.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Person(id) => format!("{PERSON}{id}"),
            Self::Name(name) => key_of_name(&NameKey::new(name)),
        }
    }

    /// Returns the name to keep beside the key, from which it cannot be read.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Person(_) => "",
            Self::Name(name) => name,
        }
    }

    pub(crate) fn kept(key: &str, name: &str) -> Self {
        key.strip_prefix(PERSON)
            .map_or_else(|| Self::Name(name.into()), |id| Self::Person(id.into()))
    }
}

impl StoredBan {
    /// Returns how much longer it holds.
    pub(crate) fn left(&self, now: SystemTime) -> Duration {
        let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.until));
        until.and_then(|until| until.duration_since(now).ok()).unwrap_or_default()
    }

    pub(crate) fn new(Ban { target, left }: &Ban, now: SystemTime) -> Self {
        let until = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + *left;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        Self { who: target.key(), name: target.name().into(), until }
    }
}

/// Returns every key by which a member may be banned.
pub(crate) fn keys_of(identity: &Identity, name: &NameKey) -> impl Iterator<Item = String> {
    let person = identity.id().map(|id| format!("{PERSON}{id}"));
    person.into_iter().chain([key_of_name(name)])
}

fn key_of_name(name: &NameKey) -> String {
    format!("name:{}", name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_comes_back_from_its_key_and_name() {
        for target in [BanTarget::Person("name:7".into()), BanTarget::Name("person:Max".into())] {
            assert_eq!(BanTarget::kept(&target.key(), target.name()), target);
        }
        let (max, look_alike) = (BanTarget::Name("Max".into()), BanTarget::Name("rnax".into()));
        assert_eq!(max.key(), look_alike.key());
    }

    #[test]
    fn a_stored_ban_ends_when_the_ban_would() {
        let (now, left) = (SystemTime::now(), Duration::from_secs(60));
        let ban = StoredBan::new(&Ban { target: BanTarget::Name("ann".into()), left }, now);
        assert!(ban.left(now) > left - Duration::from_millis(2));
        assert!(ban.left(now + left / 2) <= left / 2);
        assert_eq!(ban.left(now + left), Duration::ZERO);
    }
}
