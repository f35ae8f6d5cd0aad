//! Whom a ban is for.

use crate::{identity::Identity, names::NameKey};

/// A person whom the host knows, or a username.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum BanTarget {
    Person(String),
    Name(NameKey),
}

impl BanTarget {
    /// Returns the person, or the name if the host knows no person.
    pub(crate) fn of(identity: &Identity, key: &NameKey) -> Self {
        identity.person().map_or_else(|| Self::Name(key.clone()), |id| Self::Person(id.into()))
    }

    /// Returns every target by which a member may be banned.
    pub(crate) fn all_of(identity: &Identity, key: &NameKey) -> impl Iterator<Item = Self> {
        let person = identity.person().map(|id| Self::Person(id.into()));
        person.into_iter().chain([Self::Name(key.clone())])
    }

    pub(crate) fn is(&self, identity: &Identity, key: &NameKey) -> bool {
        match self {
            Self::Person(id) => identity.person() == Some(id),
            Self::Name(name) => name == key,
        }
    }

    /// Returns the target in the broker's spelling.
    pub(crate) fn at_broker(&self) -> String {
        match self {
            Self::Person(id) => format!("person:{id}"),
            Self::Name(key) => format!("name:{}", key.as_str()),
        }
    }
}
