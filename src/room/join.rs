//! The admission of a newcomer to a room, or its refusal.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::{
    event::RoomEvent,
    intake::Quota,
    life::Life,
    members::{Member, MemberId},
    mismatch::Mismatch,
    order::{Author, Source},
    replica::Wish,
    session_handle::{Outlet, SessionHandle},
    state::{Start, State},
    takeover::{Holder, Ousted, Outlived, yields_name},
};
use crate::{
    ban,
    close::Close,
    identity::Identity,
    limits,
    names::{DuplicateNames, NameKey},
    policy::Verdict,
    relay::RelaySession,
    store::StoredSchema,
    wire::{Dialect, Json},
};

/// A client that wants to join, as the handshake and the host's rules describe it.
#[derive(Debug, Clone)]
pub(crate) struct Newcomer<'a> {
    pub(crate) dialect: Dialect,
    /// `None` if its handshake brings no variables and therefore matches every room.
    pub(crate) variables: Option<&'a [(Json<'a>, Json<'a>)]>,
    pub(crate) name: &'a str,
    pub(crate) key: NameKey,
    /// The rule for a name that a member already has.
    pub(crate) duplicates: DuplicateNames,
    pub(crate) identity: Identity,
    /// The secret by which it may get its own name back: see [`Handshake`](crate::wire::Handshake).
    pub(crate) resume: Option<Arc<str>>,
    /// Its session number at the broker, if there is one.
    pub(crate) session: Option<u64>,
    pub(crate) handle: Arc<SessionHandle>,
    pub(crate) outlet: Arc<dyn Outlet>,
    /// The holders of the name that were probed before and did not answer.
    pub(crate) outlived: Option<Outlived>,
}

/// The outlet of a member that reads its own outbox without a push.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Looked;

#[cfg(test)]
impl Outlet for Looked {
    fn push(&self) {}
}

#[cfg(test)]
impl<'a> Newcomer<'a> {
    /// Creates a guest called ann. Any number of guests may share the name.
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
            resume: None,
            session: None,
            handle: Arc::new(SessionHandle::new(now)),
            outlet: Arc::new(Looked),
            outlived: None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) id: MemberId,
    pub(crate) handle: Arc<SessionHandle>,
    /// `None` if the member still has to be sent all values.
    pub(crate) start: Option<Start>,
    /// Whether the room exists because of this member, which knows all values.
    pub(crate) created: bool,
}

#[derive(Debug)]
pub(crate) enum JoinError {
    /// The room is gone: start over at the registry.
    Evicted,
    NoBudget,
    Refused(Refusal),
}

/// The reason why a room does not admit a newcomer.
#[derive(Debug)]
pub(crate) enum Refusal {
    NamesDiffer(Mismatch),
    TooManyVariables,
    /// These members have the name. The list is empty if one of them is known to be there.
    NameInUse(Vec<Holder>),
    /// Another newcomer is already probing this holder.
    NameInDoubt(Arc<SessionHandle>),
    /// A newer connection has the name, which this newcomer would otherwise have taken.
    Overtaken,
    Full,
    Locked,
    Banned,
}

impl From<Refusal> for JoinError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl State {
    /// Admits a newcomer, with a snapshot and a receiver of everything after it. The newcomer's variables
    /// must match. If the host allows new ones, they are created.
    pub(crate) fn join(
        &mut self,
        newcomer: Newcomer<'_>,
        now: Instant,
    ) -> Result<Joined, JoinError> {
        self.refound(&newcomer, now);
        let ousted = self.check(&newcomer)?;
        if self.is_locked {
            return Err(Refusal::Locked.into());
        }
        if self.members.len() - ousted.len() >= self.max_members {
            return Err(Refusal::Full.into());
        }
        self.admit(newcomer, ousted, now)
    }

    /// Returns the request to the broker for a newcomer. Nothing has changed in the room yet, because the
    /// broker knows whether the room is full or locked, and whether other members have the name.
    pub(crate) fn reserve(
        &mut self,
        newcomer: &Newcomer<'_>,
        session: u64,
    ) -> Result<Wish, JoinError> {
        let ousted = self.check(newcomer)?;
        let session_of = |ousted: &Ousted| self.members.get(ousted.member)?.session;
        let replaces = ousted.iter().filter_map(session_of).collect();
        let session = RelaySession {
            number: session,
            name: newcomer.key.as_str().to_owned(),
            shares: newcomer.duplicates == DuplicateNames::Allow,
            who: ban::keys_of(&newcomer.identity, &newcomer.key).collect(),
        };
        Ok(Wish::Join { session, replaces })
    }

    /// Admits a newcomer to which the broker has given a place. The creator of the room knows all values as
    /// long as nothing has been ordered.
    pub(crate) fn join_reserved(
        &mut self,
        newcomer: Newcomer<'_>,
        session: u64,
        is_creator: bool,
        now: Instant,
    ) -> Result<Joined, JoinError> {
        let replica = self.replica.as_ref().filter(|replica| replica.has_session(session));
        // Without the session, all members were removed since the broker gave the place.
        let Some(replica) = replica else { return Err(JoinError::Evicted) };
        if replica.has_banned(session, now) {
            return Err(Refusal::Banned.into());
        }
        if let Some(brought) = newcomer.variables {
            self.check_variables(brought)?;
        }
        let newcomer = Newcomer { session: Some(session), ..newcomer };
        if is_creator && self.position == 0 {
            return Ok(self.enter_first(newcomer));
        }
        let replaced = self.replaced(session).into_iter();
        let ousted = replaced.map(|member| {
            let close = self.members.get(member).and_then(|holder| yields_name(holder, &newcomer));
            Ousted { member, close: close.unwrap_or_else(Close::another_tab) }
        });
        let ousted = ousted.collect();
        let joined = self.admit(newcomer, ousted, now)?;
        self.forget_replaced(session);
        Ok(joined)
    }

    /// Checks whether a newcomer may join, as far as is known here. Returns the members that lose the name to
    /// it.
    fn check(&mut self, newcomer: &Newcomer<'_>) -> Result<Vec<Ousted>, JoinError> {
        if self.is_gone() {
            return Err(JoinError::Evicted);
        }
        if let Some(brought) = newcomer.variables {
            self.check_variables(brought)?;
        }
        Ok(self.check_name(newcomer)?)
    }

    fn admit(
        &mut self,
        newcomer: Newcomer<'_>,
        ousted: Vec<Ousted>,
        now: Instant,
    ) -> Result<Joined, JoinError> {
        // A policy may panic in this call, so nothing has been changed yet.
        let created = self.created_by(&newcomer);
        let cost = created.iter().map(|(name, value, _)| self.cost(name, value)).sum();
        // The charge only checks the budget and is given back at once: only another room could take the bytes
        // meanwhile.
        drop(self.share.charge(cost).ok_or(JoinError::NoBudget)?);
        if !ousted.is_empty() {
            self.say_last(now);
        }
        for Ousted { member: id, close } in ousted {
            if let Some(member) = self.members.remove(id) {
                let cause = close.cause;
                member.handle.stop(close);
                self.observers.tell(|| RoomEvent::Left { member: member.info(id), cause });
                self.depart_later(&member.name, now);
            }
        }
        let handle = newcomer.handle.clone();
        let id = self.enter(newcomer);
        // The snapshot does not include the variables that the newcomer itself creates. If there is no
        // snapshot now, the newcomer's outbox requests one later.
        let start = self.resync(id, now);
        self.claim();
        self.create(id, created, now);
        Ok(Joined { id, handle, start, created: false })
    }

    fn create(&mut self, id: MemberId, created: Vec<(&Json<'_>, Json<'_>, bool)>, now: Instant) {
        for (name, value, is_own) in created {
            // Each is a set of its own: one that exceeds a limit is ignored.
            let author = Author { member: id, base: self.position };
            _ = self.accept(Source::Member(author), name, &value, now);
            if !is_own && let Some(name) = self.variables.key(name.as_json()).cloned() {
                self.correct(id, &name, now);
            }
        }
        self.broadcast.depart(now);
    }

    /// Sets up a room that its creator is about to join.
    pub(crate) fn found_empty(&mut self, now: Instant) {
        self.tell_created();
        self.vacate(now);
    }

    /// Admits the creator, which knows all values.
    pub(crate) fn found(&mut self, creator: Newcomer<'_>) -> Joined {
        self.observers.created();
        // The host can be asked about a creator that it has identified.
        if creator.identity.id().is_some() {
            self.claim();
        }
        self.enter_first(creator)
    }

    /// Admits a newcomer that knows all values.
    fn enter_first(&mut self, newcomer: Newcomer<'_>) -> Joined {
        let handle = newcomer.handle.clone();
        let id = self.enter(newcomer);
        Joined { id, handle, start: Some(self.start()), created: true }
    }

    /// Returns the variables that a newcomer brings and the room does not have, as the host's policy leaves
    /// them. Each has its value, and whether that value is the newcomer's own.
    fn created_by<'a>(&self, newcomer: &Newcomer<'a>) -> Vec<(&'a Json<'a>, Json<'a>, bool)> {
        if self.schema != StoredSchema::Growing {
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

    fn enter(&mut self, newcomer: Newcomer<'_>) -> MemberId {
        if let Life::Vacant(_) = self.life {
            self.life = Life::Occupied;
        }
        let id = self.members.insert(Member {
            name: newcomer.name.into(),
            key: newcomer.key,
            dialect: newcomer.dialect,
            identity: newcomer.identity,
            shares: newcomer.duplicates == DuplicateNames::Allow,
            quota: Quota::default(),
            resume: newcomer.resume,
            session: newcomer.session,
            handle: newcomer.handle,
            outlet: newcomer.outlet,
            joined: self.position,
            snapshot: 0,
            told: HashMap::new(),
        });
        self.broadcast.speak(self.members.dialects());
        self.tell_joined(id);
        id
    }

    /// Returns whether a newcomer that brings these variables may join.
    pub(super) fn matches(&self, brought: &[(Json<'_>, Json<'_>)]) -> bool {
        self.check_variables(brought).is_ok()
    }

    fn check_variables(&self, brought: &[(Json<'_>, Json<'_>)]) -> Result<(), Refusal> {
        match self.schema {
            StoredSchema::Growing => {
                let is_new = |(name, _): &&(Json<'_>, _)| !self.variables.contains(name.as_json());
                let count = self.variables.len() + brought.iter().filter(is_new).count();
                let bytes = brought.iter().filter(is_new).map(limits::entry_cost).sum();
                let brings_new = count > self.variables.len();
                if brings_new && (count > self.max_variables || !self.has_place(bytes)) {
                    return Err(Refusal::TooManyVariables);
                }
                Ok(())
            }
            _ if self.variables.same_names(brought) => Ok(()),
            StoredSchema::Fixed | StoredSchema::Scratch => {
                Err(Refusal::NamesDiffer(Mismatch::of(&self.variables, brought)))
            }
        }
    }
}
