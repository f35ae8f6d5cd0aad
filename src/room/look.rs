//! A room as one looks at it: all there is to see of one moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    MemberInfo, Shared,
    link::{Link, Outlet},
    state::State,
};
use crate::registry::RoomSummary;

#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) summary: RoomSummary,
    pub(crate) members: Vec<MemberLook>,
    pub(crate) variables: Vec<VariableLook>,
}

#[derive(Debug)]
pub(crate) struct MemberLook {
    pub(crate) info: MemberInfo,
    link: Arc<Link>,
    outlet: Arc<dyn Outlet>,
}

#[derive(Debug)]
pub(crate) struct VariableLook {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Who wrote it, if that is a member who is there.
    pub(crate) by: Option<Arc<str>>,
    /// How long ago; `None` where nobody has.
    pub(crate) age: Option<Duration>,
}

impl MemberLook {
    /// How long ago it connected.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.link.age(now)
    }

    /// How long its last answer to a ping took.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.link.round_trip()
    }

    /// Batches that wait for it. Not to be asked under the room's lock.
    pub(crate) fn waiting(&self) -> usize {
        self.outlet.waiting()
    }
}

impl Shared {
    pub(crate) fn look(&self, now: Instant) -> Look {
        let (members, mut variables) = self.read(|state| state.look(now));
        variables.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Look { summary: self.summary(), members, variables }
    }
}

impl State {
    fn look(&self, now: Instant) -> (Vec<MemberLook>, Vec<VariableLook>) {
        let members = self.members.iter().map(|(id, member)| MemberLook {
            info: member.info(id),
            link: member.link.clone(),
            outlet: member.outlet.clone(),
        });
        let variables = self.variables.iter().map(|(name, variable)| VariableLook {
            name: name.lossy(),
            value: variable.value.lossy(),
            by: variable.writer.and_then(|id| Some(self.members.get(id)?.name.clone())),
            age: (variable.last > 0).then(|| now.saturating_duration_since(variable.written)),
        });
        (members.collect(), variables.collect())
    }
}
