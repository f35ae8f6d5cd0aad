//! How a newcomer gets into a room, or why not.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::{
    event::RoomEvent,
    link::{Link, Outlet},
    members::{Member, MemberId},
    order::Author,
    state::{Schema, Start, State},
};
use crate::{
    close::{Close, CloseCode},
    identity::Identity,
    names::{DuplicateNames, NameKey},
    policy::Verdict,
    wire::{Dialect, Json},
};

/// Who wants to join, as far as the handshake and the host's rules have shown.
#[derive(Debug, Clone)]
pub(crate) struct Newcomer<'a> {
    pub(crate) dialect: Dialect,
    /// `None` where its handshake brings no variables, and so matches every room.
    pub(crate) variables: Option<&'a [(Json<'a>, Json<'a>)]>,
    pub(crate) name: &'a str,
    pub(crate) key: NameKey,
    /// What happens where a member has that name.
    pub(crate) duplicates: DuplicateNames,
    pub(crate) identity: Identity,
    /// Its number at the broker, where there is one.
    pub(crate) session: Option<u64>,
    pub(crate) link: Arc<Link>,
    pub(crate) outlet: Arc<dyn Outlet>,
    /// The holders of the name that were asked then, and did not answer.
    pub(crate) outlived: Option<(Vec<Arc<Link>>, Instant)>,
}

/// The outlet of a member that looks into its outbox by itself.
#[cfg(test)]
#[derive(Debug)]
struct Looked;

#[cfg(test)]
impl Outlet for Looked {
    fn push(&self) {}
}

#[cfg(test)]
impl<'a> Newcomer<'a> {
    /// A guest called ann, as many as want to.
    pub(crate) fn guest(
        dialect: Dialect,
        variables: Option<&'a [(Json<'a>, Json<'a>)]>,
        now: Instant,
    ) -> Self {
        Self {
            dialect,
            variables,
            name: "ann",
            key: NameKey::new("ann"),
            duplicates: DuplicateNames::Allow,
            identity: Identity::new(),
            session: None,
            link: Arc::new(Link::new(now)),
            outlet: Arc::new(Looked),
            outlived: None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) id: MemberId,
    pub(crate) start: Start,
    /// The room is there because of this member, which knows all values.
    pub(crate) created: bool,
}

#[derive(Debug)]
pub(crate) enum JoinError {
    /// The room is gone: start over at the registry.
    Evicted,
    NoBudget,
    Refused(Refusal),
}

/// Why a room does not let a newcomer in.
#[derive(Debug)]
pub(crate) enum Refusal {
    NamesDiffer,
    TooManyVariables,
    /// By these members; none if one of them is known to be there.
    NameInUse(Vec<(MemberId, Arc<Link>)>),
    /// Another newcomer waits already whether its holders answer.
    NameInDoubt,
    Full,
    Locked,
}

impl From<Refusal> for JoinError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl State {
    /// Lets a newcomer in, with a snapshot and a receiver of all that comes after it. Its variables
    /// match, or, where the host has it so, those that are new are created.
    pub(crate) fn join(
        &mut self,
        newcomer: Newcomer<'_>,
        now: Instant,
    ) -> Result<Joined, JoinError> {
        if self.evicted {
            return Err(JoinError::Evicted);
        }
        if let Some(brought) = newcomer.variables {
            self.check_variables(brought)?;
        }
        let ousted = self.check_name(&newcomer)?;
        let members = self.members.len() - ousted.len();
        // A broker knows better, and is asked next.
        if self.is_locked && self.relayed.is_none() {
            return Err(Refusal::Locked.into());
        }
        if members >= self.max_members {
            return Err(Refusal::Full.into());
        }
        let snapshot = match self.variables.len() {
            0 => None,
            _ => Some(self.snapshot(newcomer.dialect).ok_or(JoinError::NoBudget)?),
        };
        // A policy may panic: up to here nothing has changed.
        // A broker may still refuse who comes; then nothing is to have changed.
        let created = match self.relayed {
            Some(_) => Vec::new(),
            None => self.created_by(&newcomer),
        };
        let cost = created.iter().map(|(name, value, _)| self.cost(name, value)).sum();
        // Given back at once: nobody takes it meanwhile but another room.
        drop(self.budget.charge(cost).ok_or(JoinError::NoBudget)?);
        for (ousted, close) in ousted {
            if let Some(member) = self.members.remove(ousted) {
                self.hand_over_end(member.session);
                member.link.stop(close);
                self.observers.tell(|| RoomEvent::Left(member.info(ousted)));
            }
        }
        let id = self.enter(newcomer, snapshot.is_some());
        let start = Start { snapshot, ..self.start() };
        self.create(id, created, now);
        Ok(Joined { id, start, created: false })
    }

    /// Creates the variables that somebody brought whom the broker has let in.
    pub(crate) fn bring(&mut self, id: MemberId, newcomer: &Newcomer<'_>, now: Instant) {
        if self.members.get(id).is_some() {
            self.create(id, self.created_by(newcomer), now);
        }
    }

    fn create(&mut self, id: MemberId, created: Vec<(&Json<'_>, Json<'_>, bool)>, now: Instant) {
        for (name, value, is_own) in created {
            // As a set of its own: over a limit, it is ignored.
            let author = Author { member: id, base: self.position };
            _ = self.accept(Some(author), name, &value, now);
            if !is_own && let Some(name) = self.variables.key(name.as_json()).cloned() {
                self.correct(id, &name, now);
            }
        }
        self.outgoing.depart(now);
    }

    /// Lets the creator in, who knows all values.
    pub(crate) fn found(&mut self, creator: Newcomer<'_>) -> Joined {
        self.observers.tell(|| RoomEvent::Created);
        let id = self.enter(creator, false);
        Joined { id, start: self.start(), created: true }
    }

    /// The variables that a newcomer brings and the room does not have, as the host's rules leave
    /// them: with their value, and whether that is the newcomer's own.
    fn created_by<'a>(&self, newcomer: &Newcomer<'a>) -> Vec<(&'a Json<'a>, Json<'a>, bool)> {
        if self.schema == Schema::Fixed {
            return Vec::new();
        }
        let brought = newcomer.variables.unwrap_or_default().iter();
        let is_new = |(name, _): &&(Json<'_>, _)| !self.variables.contains(name.as_json());
        let judged = brought.filter(is_new).filter_map(|(name, value)| {
            match self.ask(newcomer.name, &newcomer.identity, name, value) {
                Verdict::Accept => Some((name, value.clone(), true)),
                Verdict::Replace(other) => Some((name, Json::from_plain(&other), false)),
                Verdict::Ignore | Verdict::Reject(_) => None,
            }
        });
        judged.collect()
    }

    fn enter(&mut self, newcomer: Newcomer<'_>, informed: bool) -> MemberId {
        let joined = self.position;
        self.position += u64::from(informed);
        let id = self.members.insert(Member {
            name: newcomer.name.into(),
            key: newcomer.key,
            dialect: newcomer.dialect,
            identity: newcomer.identity,
            session: newcomer.session,
            is_only: newcomer.duplicates != DuplicateNames::Allow,
            link: newcomer.link,
            outlet: newcomer.outlet,
            joined,
            snapshot: if informed { self.position } else { 0 },
            told: HashMap::new(),
            challenged: false,
        });
        self.outgoing.speak(self.members.dialects());
        self.tell_joined(id);
        id
    }

    fn check_variables(&self, brought: &[(Json<'_>, Json<'_>)]) -> Result<(), Refusal> {
        match self.schema {
            // A room that Scratch clients made grows, but what is there must match.
            Schema::Fixed if self.variables.same_names(brought) => Ok(()),
            Schema::Fixed => Err(Refusal::NamesDiffer),
            Schema::Growing => {
                let is_new = |(name, _): &&(Json<'_>, _)| !self.variables.contains(name.as_json());
                let count = self.variables.len() + brought.iter().filter(is_new).count();
                if count > self.rules.limits.variables_per_room {
                    return Err(Refusal::TooManyVariables);
                }
                Ok(())
            }
        }
    }

    /// Whom the newcomer takes the name from, and what those members are told.
    fn check_name(&mut self, newcomer: &Newcomer<'_>) -> Result<Vec<(MemberId, Close)>, Refusal> {
        if newcomer.duplicates == DuplicateNames::Allow {
            return Ok(Vec::new());
        }
        let (mut ousted, mut asked) = (Vec::new(), Vec::new());
        for id in self.members.holders(&newcomer.key) {
            let Some(holder) = self.members.get(id) else { continue };
            match yields_name(holder, newcomer) {
                Some(close) => ousted.push((id, close)),
                None if holder.challenged => return Err(Refusal::NameInDoubt),
                None => asked.push((id, holder.link.clone())),
            }
        }
        if asked.is_empty() {
            return Ok(ousted);
        }
        for (id, _) in &asked {
            if let Some(holder) = self.members.get_mut(*id) {
                holder.challenged = true;
            }
        }
        Err(Refusal::NameInUse(asked))
    }

    /// Ends what a refused newcomer began by asking whether the holder of its name still answers.
    pub(crate) fn unchallenge(&mut self, holder: MemberId) {
        if let Some(member) = self.members.get_mut(holder) {
            member.challenged = false;
            member.link.end_probe();
        }
    }
}

/// What a member is told that gives its name to a newcomer; `None` where it keeps it.
fn yields_name(holder: &Member, newcomer: &Newcomer<'_>) -> Option<Close> {
    if holder.identity.is_same_person(&newcomer.identity) {
        return Some(Close::new(CloseCode::Username, "you went on in another tab"));
    }
    if newcomer.duplicates == DuplicateNames::Replace {
        return Some(Close::new(CloseCode::Username, "somebody else took your username"));
    }
    let (links, asked) = newcomer.outlived.as_ref()?;
    let link = &holder.link;
    let is_silent =
        links.iter().any(|outlived| Arc::ptr_eq(outlived, link)) && link.is_silent(*asked);
    is_silent.then(|| Close::protocol("you gave no sign of life"))
}
