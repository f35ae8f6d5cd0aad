//! A view of a room for the inspector: everything that there is to see at one moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    MemberInfo, RoomSummary, Shared,
    session_handle::{Outlet, SessionHandle},
    state::State,
};
use crate::wire::Text;

#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) summary: RoomSummary,
    pub(crate) members: Vec<MemberLook>,
    pub(crate) variables: Vec<VariableLook>,
}

#[derive(Debug)]
pub(crate) struct MemberLook {
    pub(crate) info: MemberInfo,
    handle: Arc<SessionHandle>,
    outlet: Arc<dyn Outlet>,
}

#[derive(Debug)]
pub(crate) struct VariableLook {
    name: Text,
    value: Text,
    pub(crate) by: LastWriter,
    /// The time since the last write; `None` if there was none.
    pub(crate) age: Option<Duration>,
}

/// The last writer of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LastWriter {
    Member(Arc<str>),
    /// A member that has left.
    Left,
    /// The host, the room's creator, or somebody on another node.
    Other,
}

impl VariableLook {
    /// Returns its name and value. Must not be called under the room's lock, because they may be long.
    pub(crate) fn texts(&self) -> (String, String) {
        (self.name.lossy(), self.value.lossy())
    }
}

impl MemberLook {
    /// Returns how long ago it connected.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.handle.age(now)
    }

    /// Returns how long its last answer to a ping took.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.handle.round_trip()
    }

    /// Returns how many batches wait for it. Must not be called under the room's lock.
    pub(crate) fn waiting(&self) -> usize {
        self.outlet.waiting()
    }
}

impl Shared {
    /// Adds its members' last round trips to a sum, and their number to a count.
    pub(crate) fn add_round_trips(&self, (sum, count): &mut (Duration, u32)) {
        self.read(|state| {
            for time in state.members.iter().filter_map(|(_, member)| member.handle.round_trip()) {
                *sum += time;
                *count += 1;
            }
        });
    }

    pub(crate) fn look(&self, now: Instant) -> Look {
        let (members, mut variables) = self.read(|state| state.look(now));
        variables.sort_unstable_by(|a, b| a.name.as_json().cmp(b.name.as_json()));
        Look { summary: self.summary(), members, variables }
    }
}

impl State {
    fn look(&self, now: Instant) -> (Vec<MemberLook>, Vec<VariableLook>) {
        let members = self.members.iter().map(|(id, member)| MemberLook {
            info: member.info(id),
            handle: member.handle.clone(),
            outlet: member.outlet.clone(),
        });
        let variables = self.variables.iter().map(|(name, variable)| VariableLook {
            name: name.clone(),
            value: variable.value.clone(),
            by: match variable.writer.map(|id| self.members.get(id)) {
                Some(Some(member)) => LastWriter::Member(member.name.clone()),
                Some(None) => LastWriter::Left,
                None => LastWriter::Other,
            },
            age: (variable.last > 0).then(|| now.saturating_duration_since(variable.written)),
        });
        (members.collect(), variables.collect())
    }
}
