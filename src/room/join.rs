//! How a newcomer gets into a room, or why not.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::{
    link::Link,
    members::{Member, MemberId},
    order::Write,
    state::{Schema, Start, State},
};
use crate::{
    close::{Close, CloseCode},
    identity::Identity,
    names::NameKey,
    wire::Json,
};

/// Who wants to join, as far as the handshake and the host's rules have shown.
#[derive(Debug, Clone)]
pub(crate) struct Newcomer<'a> {
    pub(crate) variables: &'a [(Json<'a>, Json<'a>)],
    /// `None` where names may be used twice.
    pub(crate) key: Option<NameKey>,
    pub(crate) identity: Identity,
    pub(crate) link: Arc<Link>,
    /// Takes the name from whoever holds it.
    pub(crate) replaces: bool,
    /// The holder of the name that was asked then, and did not answer.
    pub(crate) outlived: Option<(Arc<Link>, Instant)>,
}

#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) id: MemberId,
    pub(crate) start: Start,
}

#[derive(Debug)]
pub(crate) enum JoinError {
    /// The room is gone: start over at the registry.
    Evicted,
    NamesDiffer,
    TooManyVariables,
    /// By this member; `None` where another newcomer waits for it already.
    NameInUse(Option<(MemberId, Arc<Link>)>),
    Full,
    NoBudget,
}

impl State {
    /// Lets a newcomer in, with a snapshot and a receiver of all that comes after it. `schema`
    /// decides about its variables: they match, or those that are new are created.
    pub(crate) fn join(
        &mut self,
        newcomer: Newcomer<'_>,
        now: Instant,
    ) -> Result<Joined, JoinError> {
        if self.evicted {
            return Err(JoinError::Evicted);
        }
        self.check_variables(newcomer.variables)?;
        let ousted = self.check_name(&newcomer)?;
        let members = self.members.len() - usize::from(ousted.is_some());
        if members >= self.rules.limits.members_per_room {
            return Err(JoinError::Full);
        }
        let snapshot = match self.variables.len() {
            0 => None,
            _ => Some(self.snapshot().ok_or(JoinError::NoBudget)?),
        };
        if let Some((ousted, close)) = ousted
            && let Some(member) = self.members.remove(ousted)
        {
            member.link.stop(close);
        }
        let known = newcomer.variables;
        let id = self.enter(newcomer, true);
        let start = Start { snapshot, ..self.start() };
        if self.rules.schema == Schema::Growing {
            for (name, value) in known {
                if !self.variables.contains(name.as_json()) {
                    self.accept(&Write { member: id, base: self.position, name, value }, now);
                }
            }
        }
        Ok(Joined { id, start })
    }

    /// Lets the creator in, who knows all values.
    pub(crate) fn found(&mut self, creator: Newcomer<'_>) -> Joined {
        let id = self.enter(creator, false);
        Joined { id, start: self.start() }
    }

    fn enter(&mut self, newcomer: Newcomer<'_>, informed: bool) -> MemberId {
        self.position += u64::from(informed);
        self.members.insert(Member {
            key: newcomer.key,
            identity: newcomer.identity,
            link: newcomer.link,
            snapshot: if informed { self.position } else { 0 },
            corrections: HashMap::new(),
            challenged: false,
        })
    }

    fn check_variables(&self, brought: &[(Json<'_>, Json<'_>)]) -> Result<(), JoinError> {
        match self.rules.schema {
            Schema::Fixed if self.variables.same_names(brought) => Ok(()),
            Schema::Fixed => Err(JoinError::NamesDiffer),
            Schema::Growing => {
                let is_new = |(name, _): &&(Json<'_>, _)| !self.variables.contains(name.as_json());
                let count = self.variables.len() + brought.iter().filter(is_new).count();
                if count > self.rules.limits.variables_per_room {
                    return Err(JoinError::TooManyVariables);
                }
                Ok(())
            }
        }
    }

    /// Whom the newcomer takes the name from, and what that member is told.
    fn check_name(
        &mut self,
        newcomer: &Newcomer<'_>,
    ) -> Result<Option<(MemberId, Close)>, JoinError> {
        let Some((id, holder)) = newcomer.key.as_ref().and_then(|key| self.members.holder(key))
        else {
            return Ok(None);
        };
        if holder.identity.is_same_person(&newcomer.identity) {
            let told = Close::new(CloseCode::Username, "you went on in another tab");
            return Ok(Some((id, told)));
        }
        if newcomer.replaces {
            let told = Close::new(CloseCode::Username, "somebody else took your username");
            return Ok(Some((id, told)));
        }
        if let Some((link, asked)) = &newcomer.outlived
            && Arc::ptr_eq(link, &holder.link)
            && !link.is_paused()
            && link.heard_at() <= *asked
        {
            return Ok(Some((id, Close::protocol("you gave no sign of life"))));
        }
        if std::mem::replace(&mut holder.challenged, true) {
            return Err(JoinError::NameInUse(None));
        }
        Err(JoinError::NameInUse(Some((id, holder.link.clone()))))
    }

    /// Ends what a refused newcomer began by asking whether the holder of its name still answers.
    pub(crate) fn unchallenge(&mut self, holder: MemberId) {
        if let Some(member) = self.members.get(holder) {
            member.challenged = false;
            member.link.end_probe();
        }
    }
}
