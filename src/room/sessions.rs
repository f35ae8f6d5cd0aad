//! The members of a room as its broker and other nodes know them.

use std::sync::Arc;

use super::{
    link::Link,
    members::{Member, MemberId},
    state::State,
};
use crate::{
    close::{Close, CloseCode},
    identity::Identity,
    names::NameKey,
    relay::RelaySession,
};

/// Under which somebody may be banned.
pub(crate) fn who(identity: &Identity, key: &NameKey) -> Vec<String> {
    let person = identity.person().map(|person| format!("person:{person}"));
    person.into_iter().chain([format!("name:{}", key.as_str())]).collect()
}

impl State {
    /// The sessions of the members.
    pub(crate) fn sessions(&self) -> Vec<(MemberId, RelaySession)> {
        let session = |(id, member): (MemberId, &Member)| {
            let most = self.max_members as u64;
            let (name, shares) = (member.key.as_str().to_owned(), !member.is_only);
            let who = who(&member.identity, &member.key);
            Some((id, RelaySession { number: member.session?, name, shares, who, most }))
        };
        self.members.iter().filter_map(session).collect()
    }

    /// Has the broker forget a session that is no member's.
    pub(crate) fn end_ghost(&mut self, session: u64) {
        if !self.members.iter().any(|(_, member)| member.session == Some(session)) {
            self.hand_over_end(Some(session));
        }
    }

    /// What becomes of a member whose name somebody on another node wants, who is that person, or has it
    /// in any case: it is told so, or asked whether it still answers; `None` where that is being done.
    pub(crate) fn yields_name(
        &mut self,
        session: u64,
        (person, replaces): (Option<&str>, bool),
    ) -> Option<(MemberId, Result<Close, Arc<Link>>)> {
        let is_it = |(_, member): &(_, &Member)| member.session == Some(session);
        let (id, member) = self.members.iter().find(is_it)?;
        if person.is_some() && person == member.identity.person() {
            return Some((id, Ok(Close::new(CloseCode::Username, "you went on in another tab"))));
        }
        if replaces {
            let reason = "somebody else took your username";
            return Some((id, Ok(Close::new(CloseCode::Username, reason))));
        }
        let member = self.members.get_mut(id)?;
        let is_asked = std::mem::replace(&mut member.challenged, true);
        (!is_asked).then(|| (id, Err(member.link.clone())))
    }
}
