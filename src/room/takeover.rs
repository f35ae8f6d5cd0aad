//! Who gives a username up to a newcomer, and who keeps it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    join::{Newcomer, Refusal},
    members::{Member, MemberId},
    session_handle::SessionHandle,
    state::State,
};
use crate::{close::Close, names::DuplicateNames};

/// A member that has a name which somebody wants.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) member: MemberId,
    pub(crate) handle: Arc<SessionHandle>,
}

/// Holders of a name that were asked for a sign of life, and had given none at that time.
#[derive(Debug, Clone)]
pub(crate) struct Outlived {
    pub(crate) holders: Vec<Holder>,
    pub(crate) asked: Instant,
}

impl Outlived {
    #[cfg(all(test, not(shuttle)))]
    pub(super) fn alone(handle: Arc<SessionHandle>, asked: Instant) -> Self {
        Self { holders: vec![Holder { member: MemberId(1), handle }], asked }
    }

    /// Whether this session is among them, and still silent.
    pub(super) fn has(&self, handle: &Arc<SessionHandle>) -> bool {
        let is_it = |holder: &Holder| Arc::ptr_eq(&holder.handle, handle);
        self.holders.iter().any(is_it) && handle.is_silent(self.asked)
    }
}

/// A member that gives its name to a newcomer, and what it is told.
#[derive(Debug)]
pub(super) struct Ousted {
    pub(super) member: MemberId,
    pub(super) close: Close,
}

/// Who on another node wants a name.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The person, if the host knows one.
    pub(crate) person: Option<&'a str>,
    /// What the newcomer resumes by.
    pub(crate) resume: Option<&'a str>,
    /// It gets the name in any case.
    pub(crate) replaces: bool,
    /// How long ago its connection was made.
    pub(crate) age: Duration,
}

/// What came of a challenge to a member's name.
#[derive(Debug)]
pub(crate) enum Challenged {
    /// Nobody has it here, or it is being found out already.
    Nobody,
    Yielded,
    /// The member is asked whether it still answers.
    Asked(Holder),
}

impl State {
    /// Whom the newcomer takes the name from, and what those members are told.
    pub(super) fn check_name(&mut self, newcomer: &Newcomer<'_>) -> Result<Vec<Ousted>, Refusal> {
        let (mut ousted, mut asked) = (Vec::new(), Vec::new());
        for member in self.members.holders(&newcomer.key) {
            let Some(holder) = self.members.get(member) else { continue };
            // Sharing needs the leave of both.
            if holder.shares && newcomer.duplicates == DuplicateNames::Allow {
                continue;
            }
            match yields_name(holder, newcomer) {
                // A join may take its time. If the client of a connection that broke meanwhile has come back, the
                // one that is left must not take the name from it.
                Some(_) if holder.handle.is_newer_than(&newcomer.handle) => {
                    return Err(Refusal::Overtaken);
                }
                Some(close) => ousted.push(Ousted { member, close }),
                None if holder.handle.is_probed() => {
                    return Err(Refusal::NameInDoubt(holder.handle.clone()));
                }
                None => asked.push(Holder { member, handle: holder.handle.clone() }),
            }
        }
        if asked.is_empty() {
            return Ok(ousted);
        }
        asked.iter().for_each(|holder| holder.handle.begin_probe());
        Err(Refusal::NameInUse(asked))
    }

    /// What becomes of a member whose name somebody on another node wants: it yields it to the same
    /// person, or to one that gets it in any case, unless its own connection was made later; otherwise it is
    /// asked whether it still answers.
    pub(crate) fn challenge(
        &mut self,
        session: u64,
        wanted: &Wanted<'_>,
        now: Instant,
    ) -> Challenged {
        let is_it = |(_, member): &(_, &Member)| member.session == Some(session);
        let Some((id, member)) = self.members.iter().find(is_it) else { return Challenged::Nobody };
        let is_person = wanted.person.is_some() && wanted.person == member.identity.id();
        let is_resumed = wanted.resume.is_some() && wanted.resume == member.resume.as_deref();
        let is_newer = member.handle.age(now) < wanted.age;
        if (is_person || is_resumed) && !is_newer {
            self.put_out(id, &Close::another_tab(), now);
            return Challenged::Yielded;
        }
        if wanted.replaces && !is_newer {
            self.put_out(id, &Close::name_taken(), now);
            return Challenged::Yielded;
        }
        if member.handle.is_probed() {
            return Challenged::Nobody;
        }
        member.handle.begin_probe();
        Challenged::Asked(Holder { member: id, handle: member.handle.clone() })
    }
}

/// What a member is told that gives its name to a newcomer; `None` where it keeps it.
pub(super) fn yields_name(holder: &Member, newcomer: &Newcomer<'_>) -> Option<Close> {
    let is_resumed = holder.resume.is_some() && holder.resume == newcomer.resume;
    if is_resumed || holder.identity.is_same_person(&newcomer.identity) {
        return Some(Close::another_tab());
    }
    if newcomer.duplicates == DuplicateNames::Replace {
        return Some(Close::name_taken());
    }
    let is_outlived = newcomer.outlived.as_ref()?.has(&holder.handle);
    is_outlived.then(Close::name_outlived)
}
