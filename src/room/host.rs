//! The host's own operations on a room.

use std::{collections::HashSet, time::Instant};

use super::{
    event::{MemberInfo, RoomEvent},
    life::End,
    members::{Member, MemberId},
    order::Source,
    state::State,
};
use crate::{
    ban::{self, BanTarget},
    close::Close,
    identity::Identity,
    wire::{self, Json, Text},
};

/// The reason why a value from the host did not become the room's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// The room no longer exists.
    #[error("the room is gone")]
    Gone,
    /// The room's names are fixed, and this name is not one of them.
    #[error("the room has no variable of that name")]
    UnknownVariable,
    /// The room's names are fixed, so none of them can be removed.
    #[error("the names of the room's variables are fixed")]
    FixedNames,
    /// A name or a value exceeds its limit, or a name is empty.
    #[error("a name or a value is longer than it may be, or a name is empty")]
    TooLong,
    /// The room has as many variables, or as many bytes, as a room may have.
    #[error("the room has no place for that")]
    RoomFull,
    /// All rooms together have as many bytes as
    /// [`Limits::state_bytes`](crate::Limits#structfield.state_bytes) allows.
    #[error("there is no memory left for rooms")]
    NoMemory,
}

impl State {
    /// Sets variables to the host's values, in one batch if they fit in a frame. If one value is not
    /// possible, none is set, except that memory may run out before the last of them.
    pub(crate) fn set_all(
        &mut self,
        values: &[(Json<'_>, Json<'_>)],
        now: Instant,
    ) -> Result<(), SetError> {
        if self.is_gone() {
            return Err(SetError::Gone);
        }
        let mut created = HashSet::new();
        for (name, value) in values {
            let is_new = !self.variables.contains(name.as_json());
            if is_new && !self.grows() {
                return Err(SetError::UnknownVariable);
            }
            self.fits(name, value)?;
            if is_new {
                created.insert(name.as_json());
            }
        }
        let count = self.variables.len() + created.len();
        if !created.is_empty() && count > self.max_variables {
            return Err(SetError::RoomFull);
        }
        if let Some(handed) = self.hand_over_all(values) {
            return handed;
        }
        let len =
            values.iter().map(|(name, value)| wire::set_len(name.as_json(), value.as_json())).sum();
        self.broadcast.make_room(len, now);
        for (name, value) in values {
            self.accept(Source::Host, name, value, now)?;
        }
        self.broadcast.depart(now);
        Ok(())
    }

    /// Removes a member and closes its session with the reason. Returns false if there is no such member.
    pub(crate) fn put_out(&mut self, id: MemberId, close: &Close, now: Instant) -> bool {
        self.say_last(now);
        let Some(member) = self.members.get(id) else { return false };
        member.handle.stop(close.clone());
        self.leave(id, close.cause, now);
        true
    }

    /// Sends the batch that waits for the next tick, before members are removed. Returns the room's last
    /// position.
    pub(crate) fn say_last(&mut self, now: Instant) -> u64 {
        self.broadcast.send(now);
        self.position
    }

    pub(crate) fn value(&self, name: &Json<'_>) -> Option<Text> {
        self.variables.get(name.as_json()).map(|variable| variable.value.clone())
    }

    pub(crate) fn values(&self) -> Vec<(Text, Text)> {
        self.variables.values()
    }

    /// Removes all members, and lets the room be evicted like any other.
    pub(crate) fn close(&mut self, close: &Close, now: Instant) {
        for id in self.member_ids() {
            self.put_out(id, close, now);
        }
        self.let_go(now);
    }

    /// Removes all members, and then the room.
    pub(crate) fn remove(&mut self, close: &Close, now: Instant) {
        self.close(close, now);
        self.forget(End::Removed);
    }

    pub(crate) fn set_locked(&mut self, is_locked: bool) {
        self.is_locked = is_locked;
    }

    /// Returns the target of a ban of this member.
    pub(crate) fn ban_target(&self, id: MemberId) -> Option<BanTarget> {
        let member = self.members.get(id)?;
        Some(BanTarget::of(&member.identity, &member.name))
    }

    /// Gives a member another identity. Returns the old identity, to be dropped once the room's lock is free.
    /// If there is no such member, returns the new one.
    pub(crate) fn set_identity(
        &mut self,
        id: MemberId,
        identity: Identity,
    ) -> Result<Identity, Identity> {
        match self.members.get_mut(id) {
            Some(member) => Ok(std::mem::replace(&mut member.identity, identity)),
            None => Err(identity),
        }
    }

    /// Returns every member that the host identifies as this person.
    pub(crate) fn members_of_person(&self, person: &str) -> Vec<MemberId> {
        let members = self.members.iter();
        members
            .filter(|(_, member)| member.identity.id() == Some(person))
            .map(|(id, _)| id)
            .collect()
    }

    /// Removes the members that this key bans.
    pub(crate) fn put_out_banned(&mut self, key: &str, now: Instant) {
        let is_banned =
            |member: &Member| ban::keys_of(&member.identity, &member.key).any(|of| of == key);
        let members = self.members.iter();
        let banned: Vec<_> =
            members.filter(|(_, member)| is_banned(member)).map(|(id, _)| id).collect();
        for member in banned {
            self.put_out(member, &Close::banned(), now);
        }
    }

    pub(crate) fn member_ids(&self) -> Vec<MemberId> {
        self.members.iter().map(|(id, _)| id).collect()
    }

    pub(crate) fn member_infos(&self) -> Vec<MemberInfo> {
        let mut infos: Vec<_> = self.members.iter().map(|(id, member)| member.info(id)).collect();
        infos.sort_unstable_by_key(|info| info.id);
        infos
    }

    pub(super) fn tell_joined(&self, id: MemberId) {
        if let Some(member) = self.members.get(id) {
            self.observers.tell(|| RoomEvent::Joined(member.info(id)));
        }
    }
}
