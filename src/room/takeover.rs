//! The rules that decide whether a member gives up its username to a newcomer or keeps it.

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

/// A member that has a name which a newcomer wants.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) member: MemberId,
    pub(crate) handle: Arc<SessionHandle>,
}

/// Holders of a name that were probed at the time `asked` and gave no sign of life.
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

    /// Returns whether this session is among them and is still silent.
    pub(super) fn has(&self, handle: &Arc<SessionHandle>) -> bool {
        let is_it = |holder: &Holder| Arc::ptr_eq(&holder.handle, handle);
        self.holders.iter().any(is_it) && handle.is_silent(self.asked)
    }
}

/// A member that gives its name to a newcomer, and the close that it receives.
#[derive(Debug)]
pub(super) struct Ousted {
    pub(super) member: MemberId,
    pub(super) close: Close,
}

/// A request for a name by a newcomer on another node.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The newcomer's person, if the host knows one.
    pub(crate) person: Option<&'a str>,
    /// The secret by which the newcomer resumes its name.
    pub(crate) resume: Option<&'a str>,
    /// Whether the newcomer gets the name in any case.
    pub(crate) replaces: bool,
    /// The age of its connection.
    pub(crate) age: Duration,
}

/// The outcome of a challenge to a member's name.
#[derive(Debug)]
pub(crate) enum Challenged {
    /// No member here has the name, or a probe is already under way.
    Nobody,
    Yielded,
    /// The member is being probed.
    Asked(Holder),
}

impl State {
    /// Returns the members that lose the name to the newcomer, with the closes that they receive.
    pub(super) fn check_name(&mut self, newcomer: &Newcomer<'_>) -> Result<Vec<Ousted>, Refusal> {
        let (mut ousted, mut asked) = (Vec::new(), Vec::new());
        for member in self.members.holders(&newcomer.key) {
            let Some(holder) = self.members.get(member) else { continue };
            // Sharing needs the consent of both.
            if holder.shares && newcomer.duplicates == DuplicateNames::Allow {
                continue;
            }
            match yields_name(holder, newcomer) {
                // A join may take some time. If the client of a connection that broke meanwhile has come
                // back, the old connection must not take the name from the new one.
                Some(_)
                    if is_same_client(holder, newcomer)
                        && holder.handle.is_newer_than(&newcomer.handle) =>
                {
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
        // Probes begin only now, because a holder later in the loop could have ended the join.
        asked.iter().for_each(|holder| holder.handle.begin_probe());
        Err(Refusal::NameInUse(asked))
    }

    /// Decides about a member whose name a newcomer on another node wants. The member yields the name to the
    /// same person, or to a newcomer that gets it in any case, unless the member's own connection was made
    /// later. Otherwise, the member is probed.
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
        if wanted.replaces {
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

/// Returns the close for a member that gives its name to a newcomer, or `None` if the member keeps it.
pub(super) fn yields_name(holder: &Member, newcomer: &Newcomer<'_>) -> Option<Close> {
    if is_same_client(holder, newcomer) {
        return Some(Close::another_tab());
    }
    if newcomer.duplicates == DuplicateNames::Replace {
        return Some(Close::name_taken());
    }
    let is_outlived = newcomer.outlived.as_ref()?.has(&holder.handle);
    is_outlived.then(Close::name_outlived)
}

/// Returns whether both are the same person, or have the same secret.
fn is_same_client(holder: &Member, newcomer: &Newcomer<'_>) -> bool {
    let is_resumed = holder.resume.is_some() && holder.resume == newcomer.resume;
    is_resumed || holder.identity.is_same_person(&newcomer.identity)
}
