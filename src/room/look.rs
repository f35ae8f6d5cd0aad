//! A room as one looks at it: all there is to see of one moment.

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
    /// How long ago; `None` where nobody has.
    pub(crate) age: Option<Duration>,
}

/// Who wrote a variable last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LastWriter {
    Member(Arc<str>),
    /// A member who is not there any more.
    Left,
    /// The host, the room's creator, or somebody on another node.
    Other,
}

impl VariableLook {
    /// Its name and value. Not to be asked under the room's lock: they may be long.
    pub(crate) fn texts(&self) -> (String, String) {
        (self.name.lossy(), self.value.lossy())
    }
}

impl MemberLook {
    /// How long ago it connected.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.handle.age(now)
    }

    /// How long its last answer to a ping took.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.handle.round_trip()
    }

    /// Batches that wait for it. Not to be asked under the room's lock.
    pub(crate) fn waiting(&self) -> usize {
        self.outlet.waiting()
    }
}

impl Shared {
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
