//! How a newcomer gets into a room, or why not.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::{
    event::RoomEvent,
    life::Life,
    link::{Link, Outlet},
    members::{Member, MemberId},
    order::Author,
    replica::Wish,
    state::{Schema, Start, State},
};
use crate::{
    close::{Close, CloseCode},
    identity::Identity,
    names::{DuplicateNames, NameKey},
    policy::Verdict,
    relay::RelaySession,
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
pub(super) struct Looked;

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

/// What came of a challenge to a member's name.
#[derive(Debug)]
pub(crate) enum Challenged {
    /// Nobody has it here, or it is being found out already.
    Nobody,
    Yielded,
    /// The member is asked whether it still answers.
    Asked(MemberId, Arc<Link>),
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
    /// match, or, if the host has it so, those that are new are created.
    pub(crate) fn join(
        &mut self,
        newcomer: Newcomer<'_>,
        now: Instant,
    ) -> Result<Joined, JoinError> {
        let ousted = self.check(&newcomer)?;
        if self.is_locked {
            return Err(Refusal::Locked.into());
        }
        if self.members.len() - ousted.len() >= self.max_members {
            return Err(Refusal::Full.into());
        }
        self.seat(newcomer, ousted, now)
    }

    /// What the broker is to be asked for a newcomer. Nothing has changed by it: whether the room is
    /// full or locked, and whether others have the name, the broker knows.
    pub(crate) fn reserve(
        &mut self,
        newcomer: &Newcomer<'_>,
        session: u64,
    ) -> Result<Wish, JoinError> {
        let ousted = self.check(newcomer)?;
        let session_of = |(id, _): &(MemberId, Close)| self.members.get(*id)?.session;
        let replaces = ousted.iter().filter_map(session_of).collect();
        let session = RelaySession {
            number: session,
            name: newcomer.key.as_str().to_owned(),
            shares: newcomer.duplicates == DuplicateNames::Allow,
            who: ban_keys(&newcomer.identity, &newcomer.key),
        };
        Ok(Wish::Join { session, replaces })
    }

    /// Lets a newcomer in to whom the broker has given a place. The creator of the room knows all values
    /// as long as there is no other.
    pub(crate) fn join_reserved(
        &mut self,
        newcomer: Newcomer<'_>,
        (session, is_creator): (u64, bool),
        now: Instant,
    ) -> Result<Joined, JoinError> {
        if !self.replica.as_ref().is_some_and(|replica| replica.has_seat(session)) {
            // Everyone was put out since.
            return Err(JoinError::Evicted);
        }
        if let Some(brought) = newcomer.variables {
            self.check_variables(brought)?;
        }
        let newcomer = Newcomer { session: Some(session), ..newcomer };
        if is_creator && self.position == 0 {
            let id = self.enter(newcomer, false);
            return Ok(Joined { id, start: self.start(), created: true });
        }
        let replaced = self.replaced(session).into_iter();
        let ousted = replaced.map(|id| {
            let close = self.members.get(id).and_then(|holder| yields_name(holder, &newcomer));
            (id, close.unwrap_or_else(another_tab))
        });
        let ousted = ousted.collect();
        let joined = self.seat(newcomer, ousted, now)?;
        self.forget_replaced(session);
        Ok(joined)
    }

    /// Whether a newcomer may join as far as is known here, and whom it takes the name from.
    fn check(&mut self, newcomer: &Newcomer<'_>) -> Result<Vec<(MemberId, Close)>, JoinError> {
        if self.is_gone() {
            return Err(JoinError::Evicted);
        }
        if let Some(brought) = newcomer.variables {
            self.check_variables(brought)?;
        }
        Ok(self.check_name(newcomer)?)
    }

    fn seat(
        &mut self,
        newcomer: Newcomer<'_>,
        ousted: Vec<(MemberId, Close)>,
        now: Instant,
    ) -> Result<Joined, JoinError> {
        let snapshot = match self.variables.len() {
            0 => None,
            _ => Some(self.snapshot(newcomer.dialect).ok_or(JoinError::NoBudget)?),
        };
        // A policy may panic: up to here nothing has changed.
        let created = self.created_by(&newcomer);
        let cost = created.iter().map(|(name, value, _)| self.cost(name, value)).sum();
        // Given back at once: nobody takes it meanwhile but another room.
        drop(self.budget.charge(cost).ok_or(JoinError::NoBudget)?);
        for (ousted, close) in ousted {
            if let Some(member) = self.members.remove(ousted) {
                member.link.stop(close);
                self.observers.tell(|| RoomEvent::Left(member.info(ousted)));
            }
        }
        let id = self.enter(newcomer, snapshot.is_some());
        let start = Start { snapshot, ..self.start() };
        self.create(id, created, now);
        Ok(Joined { id, start, created: false })
    }

    /// What becomes of a member whose name somebody on another node wants: it yields it to the same
    /// person, or to one that gets it in any case; otherwise it is asked whether it still answers.
    pub(crate) fn challenge(
        &mut self,
        session: u64,
        (person, replaces): (Option<&str>, bool),
        now: Instant,
    ) -> Challenged {
        let is_it = |(_, member): &(_, &Member)| member.session == Some(session);
        let Some((id, member)) = self.members.iter().find(is_it) else { return Challenged::Nobody };
        if person.is_some() && person == member.identity.person() {
            self.put_out(id, &another_tab(), now);
            return Challenged::Yielded;
        }
        if replaces {
            self.put_out(id, &replaced(), now);
            return Challenged::Yielded;
        }
        let Some(member) = self.members.get_mut(id) else { return Challenged::Nobody };
        if std::mem::replace(&mut member.challenged, true) {
            return Challenged::Nobody;
        }
        Challenged::Asked(id, member.link.clone())
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

    /// Begins a room that its creator is about to join.
    pub(crate) fn found_empty(&mut self, now: Instant) {
        self.tell_created();
        self.vacate(now);
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
        if let Life::Vacant(_) = self.life {
            self.life = Life::Occupied;
        }
        let joined = self.position;
        self.position += u64::from(informed);
        let id = self.members.insert(Member {
            name: newcomer.name.into(),
            key: newcomer.key,
            dialect: newcomer.dialect,
            identity: newcomer.identity,
            session: newcomer.session,
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

/// Under which a newcomer may be banned at the broker: as a person, if the host knows one, and by name.
pub(crate) fn ban_keys(identity: &Identity, key: &NameKey) -> Vec<String> {
    let person = identity.person().map(|person| format!("person:{person}"));
    person.into_iter().chain([format!("name:{}", key.as_str())]).collect()
}

pub(super) fn another_tab() -> Close {
    Close::new(CloseCode::Username, "you went on in another tab")
}

fn replaced() -> Close {
    Close::new(CloseCode::Username, "somebody else took your username")
}

/// What a member is told that gives its name to a newcomer; `None` where it keeps it.
fn yields_name(holder: &Member, newcomer: &Newcomer<'_>) -> Option<Close> {
    if holder.identity.is_same_person(&newcomer.identity) {
        return Some(another_tab());
    }
    if newcomer.duplicates == DuplicateNames::Replace {
        return Some(replaced());
    }
    let (links, asked) = newcomer.outlived.as_ref()?;
    let link = &holder.link;
    let is_silent =
        links.iter().any(|outlived| Arc::ptr_eq(outlived, link)) && link.is_silent(*asked);
    is_silent.then(|| Close::protocol("you gave no sign of life"))
}
