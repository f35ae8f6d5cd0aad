//! Who is in a room, under which name.

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

/// Names a member within its room; never used twice there. A number, as it is shown and, with the feature
/// `serde`, written; it means nothing to another room or process.
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
    /// Others may have its name too, if they share as well.
    pub(super) shares: bool,
    /// What it has written beyond its share.
    pub(super) quota: Quota,
    /// What it may get its own name back by.
    pub(super) resume: Option<Arc<str>>,
    /// Its number at the broker, where there is one.
    pub(super) session: Option<u64>,
    pub(super) handle: Arc<SessionHandle>,
    pub(super) outlet: Arc<dyn Outlet>,
    /// The position at which it came: what was ordered before that, it was never sent as such.
    pub(super) joined: u64,
    /// The position of the last snapshot it was given; 0 is none.
    pub(super) snapshot: u64,
    /// What it alone was sent that its base does not cover yet: corrections, and the values of its
    /// snapshot that it has overwritten.
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
    /// Several may have one name where the host allows it.
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

    /// The name of the member whose write it is, if it is a member's.
    pub(super) fn username(&self, source: &Source) -> Option<Arc<str>> {
        match source {
            Source::Remote(username) => Some(username.clone()),
            _ => Some(self.get(source.member()?)?.name.clone()),
        }
    }

    /// Whose write it is, as the host is told.
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

    /// Who has this name.
    pub(super) fn holders(&self, key: &NameKey) -> Vec<MemberId> {
        let all = (key.clone(), MemberId(0))..=(key.clone(), MemberId(u64::MAX));
        self.by_key.range(all).map(|(_, id)| *id).collect()
    }

    /// How many dialects are spoken in the room.
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

    /// The outlets of the first members behind this one, as many as there are places for; the last of
    /// them, if there may be more.
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

    /// In the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.by_id.iter().map(|(id, member)| (*id, member))
    }
}
