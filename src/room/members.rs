//! The members of a room, and their names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use super::{
    event::{MemberInfo, Writer},
    intake::Quota,
    order::Source,
    session_handle::{Outlet, SessionHandle},
    variables::Told,
};
use crate::{
    identity::Identity,
    names::NameKey,
    wire::{Dialect, Text},
};

/// The id of a member within its room. No id is used twice there. It is displayed and, with the feature
/// `serde`, serialized as a number, which means nothing to another room or process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct MemberId(pub(super) u64);

impl From<MemberId> for u64 {
    fn from(id: MemberId) -> Self {
        id.0
    }
}

impl From<u64> for MemberId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) key: NameKey,
    pub(super) dialect: Dialect,
    pub(super) identity: Identity,
    /// Whether others may have its name too, if they also share.
    pub(super) shares: bool,
    /// The amount that it has written beyond its share.
    pub(super) quota: Quota,
    /// The secret by which it may get its own name back.
    pub(super) resume: Option<Arc<str>>,
    /// Its session number at the broker, if there is one.
    pub(super) session: Option<u64>,
    pub(super) handle: Arc<SessionHandle>,
    pub(super) outlet: Arc<dyn Outlet>,
    /// The position at which it joined. Earlier writes were never sent to it as such.
    pub(super) joined: u64,
    /// The position of the last snapshot it was given; 0 if none.
    pub(super) snapshot: u64,
    /// The values that were sent to it alone and that its base does not cover yet: corrections, and the
    /// values of its snapshot that it has overwritten.
    pub(super) told: HashMap<Text, Told>,
}

impl Member {
    pub(super) fn info(&self, id: MemberId) -> MemberInfo {
        MemberInfo {
            id,
            username: self.name.clone(),
            dialect: self.dialect,
            identity: self.identity.clone(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<MemberId, Member>,
    /// Several members may have one name if the host allows it.
    by_key: BTreeSet<(NameKey, MemberId)>,
    by_dialect: [usize; Dialect::COUNT],
    last: u64,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: MemberId) -> Option<&Member> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        self.by_id.get_mut(&id)
    }

    /// Returns the name of the member that made the write, if a member did.
    pub(super) fn username(&self, source: &Source) -> Option<Arc<str>> {
        match source {
            Source::Remote(username) => Some(username.clone()),
            _ => Some(self.get(source.member()?)?.name.clone()),
        }
    }

    /// Returns the writer of a write, as the host observes it.
    pub(super) fn writer(&self, source: &Source) -> Writer {
        let info = |id| Some(self.get(id)?.info(id));
        match source {
            Source::Host => Writer::Host,
            Source::Remote(username) => Writer::Remote { username: username.clone() },
            Source::Member(_) | Source::Told(_) | Source::Unknown => {
                source.member().and_then(info).map_or(Writer::Unknown, Writer::Member)
            }
        }
    }

    /// Returns the members that have this name.
    pub(super) fn holders(&self, key: &NameKey) -> Vec<MemberId> {
        let all = (key.clone(), MemberId(0))..=(key.clone(), MemberId(u64::MAX));
        self.by_key.range(all).map(|(_, id)| *id).collect()
    }

    /// Returns how many dialects are spoken in the room.
    pub(super) fn dialects(&self) -> usize {
        self.by_dialect.iter().filter(|count| **count > 0).count()
    }

    pub(super) fn insert(&mut self, member: Member) -> MemberId {
        self.last += 1;
        let id = MemberId(self.last);
        self.by_key.insert((member.key.clone(), id));
        self.by_dialect[member.dialect.index()] += 1;
        self.by_id.insert(id, member);
        id
    }

    pub(super) fn remove(&mut self, id: MemberId) -> Option<Member> {
        let member = self.by_id.remove(&id)?;
        member.handle.leave();
        self.by_key.remove(&(member.key.clone(), id));
        self.by_dialect[member.dialect.index()] -= 1;
        Some(member)
    }

    /// Adds the outlets of the first members after `behind`, up to the capacity of `outlets`. Returns the
    /// last of these members if there may be more.
    pub(super) fn outlets(
        &self,
        behind: Option<MemberId>,
        outlets: &mut Vec<Arc<dyn Outlet>>,
    ) -> Option<MemberId> {
        let start = behind.map_or(Unbounded, Excluded);
        for (id, member) in self.by_id.range((start, Unbounded)) {
            outlets.push(member.outlet.clone());
            if outlets.len() == outlets.capacity() {
                return Some(*id);
            }
        }
        None
    }

    /// Iterates over the members in the order in which they joined.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.by_id.iter().map(|(id, member)| (*id, member))
    }
}
