//! A member's place in a room, held by its session.

use std::sync::Arc;

use super::Inner;
use crate::room::{MemberId, Shared, Write, WriteError};
use crate::wire::Json;

/// The member leaves when this is dropped, however its session ends.
#[derive(Debug)]
pub(crate) struct Seat {
    registry: Arc<Inner>,
    room: Arc<Shared>,
    member: MemberId,
}

impl Seat {
    pub(super) fn new(registry: &Arc<Inner>, room: Arc<Shared>, member: MemberId) -> Self {
        Self { registry: registry.clone(), room, member }
    }

    pub(crate) fn member(&self) -> MemberId {
        self.member
    }

    pub(crate) fn room(&self) -> &Arc<Shared> {
        &self.room
    }

    /// Submits a write and gives the bytes that heal its writer's view; `base` is the position up to which this member has surely seen all.
    pub(crate) fn write(
        &self,
        base: u64,
        name: &Json<'_>,
        value: Option<&Json<'_>>,
    ) -> Result<usize, WriteError> {
        self.room.submit(&Write { member: self.member, base, name, value })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.leave(&self.room, self.member);
    }
}
