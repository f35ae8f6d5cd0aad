//! The sessions of a room as its broker and other nodes know them.

use std::collections::{BTreeMap, VecDeque};

use crate::relay::RelaySession;

/// A session that the broker has taken in: its newcomer is a member, or is about to become one.
#[derive(Debug)]
pub(super) struct Membership {
    session: RelaySession,
    /// The number of the revision at which it began. An earlier close does not end it.
    joined: u64,
    /// The sessions whose places it took, until their members are put out.
    replaced: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_session: BTreeMap<u64, Membership>,
    /// The sessions that must join again at the broker.
    rejoining: VecDeque<u64>,
    /// The revision at which everyone was put out last.
    closed: u64,
}

impl Sessions {
    /// Adds a session. Returns `false` if everyone was put out after it: the close arrived before the
    /// answer to the join.
    pub(super) fn insert(
        &mut self,
        session: RelaySession,
        joined: u64,
        replaced: Vec<u64>,
    ) -> bool {
        replaced.iter().for_each(|old| _ = self.remove(*old));
        let is_in = joined >= self.closed;
        if is_in {
            self.by_session.insert(session.number, Membership { session, joined, replaced });
        }
        is_in
    }

    pub(super) fn has(&self, session: u64) -> bool {
        self.by_session.contains_key(&session)
    }

    /// Returns the keys under which a session may be banned, if it began at this revision or before.
    pub(super) fn began_by(&self, session: u64, revision: u64) -> Option<&[String]> {
        let membership = self.by_session.get(&session)?;
        (membership.joined <= revision).then_some(&membership.session.who)
    }

    /// Removes a session, and returns whether it was there.
    pub(super) fn remove(&mut self, session: u64) -> bool {
        self.rejoining.retain(|waiting| *waiting != session);
        self.by_session.remove(&session).is_some()
    }

    /// Returns the sessions whose places a newcomer took.
    pub(super) fn replaced(&self, session: u64) -> &[u64] {
        self.by_session.get(&session).map_or(&[], |membership| &membership.replaced)
    }

    pub(super) fn forget_replaced(&mut self, session: u64) {
        if let Some(membership) = self.by_session.get_mut(&session) {
            membership.replaced = Vec::new();
        }
    }

    /// Makes all sessions join again, because the broker knows none of them any more. The broker put
    /// everyone out last at its revision `closed`.
    pub(super) fn rejoin_all(&mut self, closed: u64) {
        self.closed = closed;
        self.rejoining = self.by_session.keys().copied().collect();
    }

    /// Returns the next session that must join again. It shares its name, which it had beside others
    /// before.
    pub(super) fn next_rejoining(&self) -> Option<RelaySession> {
        let membership = self.by_session.get(self.rejoining.front()?)?;
        Some(RelaySession { shares: true, ..membership.session.clone() })
    }

    /// Notes that the broker knows a session again. Returns `false` if the session has ended meanwhile.
    pub(super) fn rejoined(&mut self, session: u64, revision: u64) -> bool {
        self.rejoining.retain(|waiting| *waiting != session);
        let membership = self.by_session.get_mut(&session);
        membership.map(|membership| membership.joined = revision).is_some()
    }

    /// Removes the sessions that began before this revision, and returns them.
    pub(super) fn close(&mut self, revision: u64) -> Vec<u64> {
        self.closed = revision;
        let is_before = |(session, membership): (&u64, &Membership)| {
            (membership.joined < revision).then_some(*session)
        };
        let closed: Vec<_> = self.by_session.iter().filter_map(is_before).collect();
        closed.iter().for_each(|session| _ = self.remove(*session));
        closed
    }

    #[cfg(all(test, not(shuttle)))]
    pub(super) fn sessions(&self) -> Vec<u64> {
        self.by_session.keys().copied().collect()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_close_that_is_heard_before_the_answer_to_a_join_ends_it() {
        let session =
            |number| RelaySession { number, name: "ann".into(), shares: false, who: Vec::new() };
        let mut sessions = Sessions::default();
        assert!(sessions.insert(session(1), 3, Vec::new()));
        assert_eq!(sessions.close(5), [1]);
        assert!(!sessions.insert(session(2), 4, Vec::new()));
        assert!(sessions.insert(session(3), 5, Vec::new()));
        assert_eq!(sessions.sessions(), [3]);
    }
}
