//! A member's place in a room, held by its session.

use std::sync::Arc;

use crate::{
    close::LeaveCause,
    room::{MemberId, Outlook, Shared, Write, WriteCost, WriteError},
    session::{Conflation, Submission},
};

/// A member's place in a room. The member leaves when this is dropped, however its session ends.
#[derive(Debug)]
pub(crate) struct Membership {
    room: Arc<Shared>,
    member: MemberId,
    /// The cause of the leave, if the session gives no other.
    cause: LeaveCause,
}

impl Membership {
    pub(super) fn new(room: Arc<Shared>, member: MemberId) -> Self {
        Self { room, member, cause: LeaveCause::Lost }
    }

    /// Has the member leave for this cause.
    pub(crate) fn end(mut self, cause: LeaveCause) {
        self.cause = cause;
    }

    pub(crate) fn room(&self) -> &Arc<Shared> {
        &self.room
    }

    /// Submits a write.
    pub(crate) fn write(&self, write: &Submission<'_>) -> Result<WriteCost, WriteError> {
        let Submission { base, name, value, terms } = write;
        self.room.submit(&Write {
            member: self.member,
            base: *base,
            name,
            value: value.as_ref(),
            was: terms.was.as_ref(),
            ack: terms.ack,
        })
    }

    /// Returns how the room would answer a write on top of the writes that the member's session holds.
    pub(crate) fn outlook(
        &self,
        write: &Submission<'_>,
        held: &Conflation,
    ) -> Result<Outlook, WriteError> {
        let created = held.creates_beside(&write.name);
        self.room.read(|state| state.outlook(&write.name, write.value.as_ref(), created))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.room.leave(self.member, self.cause);
    }
}
