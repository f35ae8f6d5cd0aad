//! Who is in a room, under which name.

use std::{collections::HashMap, sync::Arc};

use super::link::Link;
use crate::{identity::Identity, names::NameKey, wire::Text};

/// Numbers a member; never used twice in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MemberId(pub(super) u64);

#[derive(Debug)]
pub(super) struct Member {
    /// `None` where names may be used twice.
    pub(super) key: Option<NameKey>,
    pub(super) identity: Identity,
    pub(super) link: Arc<Link>,
    /// The position of the last snapshot it was given; 0 is none.
    pub(super) snapshot: u64,
    /// The corrections it was sent that its base does not cover yet.
    pub(super) corrections: HashMap<Text, u64>,
    /// Somebody waits whether this member still answers.
    pub(super) challenged: bool,
}

#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: HashMap<MemberId, Member>,
    by_key: HashMap<NameKey, MemberId>,
    last: u64,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&mut self, id: MemberId) -> Option<&mut Member> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn holder(&mut self, key: &NameKey) -> Option<(MemberId, &mut Member)> {
        let id = *self.by_key.get(key)?;
        self.by_id.get_mut(&id).map(|member| (id, member))
    }

    pub(super) fn insert(&mut self, member: Member) -> MemberId {
        self.last += 1;
        let id = MemberId(self.last);
        if let Some(key) = &member.key {
            self.by_key.insert(key.clone(), id);
        }
        self.by_id.insert(id, member);
        id
    }

    pub(super) fn remove(&mut self, id: MemberId) -> Option<Member> {
        let member = self.by_id.remove(&id)?;
        member.link.leave();
        if let Some(key) = &member.key
            && self.by_key.get(key) == Some(&id)
        {
            self.by_key.remove(key);
        }
        Some(member)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }
}
