//! A node that is not in a room any more, and its members.

use tracing::warn;

use super::{Gone, Line};
use crate::{
    close::{Close, CloseCode},
    relay::{RelayAnswer, RelayNews, RelayRequest, RelaySession, hub::unique},
};

impl Line {
    /// The node is not in the room any more: it was away for too long, or the broker has lost the room,
    /// or the last of it.
    pub(super) async fn come_back(&self) -> Result<(), Gone> {
        let here = self.revision()?;
        if let RelayAnswer::Room { revision, .. } = self.ask(&RelayRequest::Read).await?
            && revision.epoch == here.epoch
            && revision.number >= here.number
        {
            warn!(room = &*self.id, "the other nodes went on without this one");
            let close = Close::new(CloseCode::Restart, "the server was away: come back");
            if let Some(registry) = self.registry.upgrade() {
                registry.put_all_out(&self.room()?, &close);
            }
            return Err(Gone);
        }
        warn!(room = &*self.id, "the broker lost the room");
        let create = Some(self.room()?.read(|state| state.stored()));
        let lost = here.epoch;
        let enter = RelayRequest::Enter { create, epoch: unique(), lost: Some(lost.clone()) };
        let node = self.hub.node();
        let answer = self.ask_as(&enter, Some(&node)).await?;
        let room = self.room()?;
        let RelayAnswer::Room { revision, room: there, written, .. } = answer else {
            // It was removed, and this node was not told.
            if let Some(registry) = self.registry.upgrade() {
                registry.hear_news(&room, RelayNews::Removed { epoch: lost });
            }
            return Err(Gone);
        };
        let there = (&revision, &there);
        let emptied = room.change(|state, now| state.reenter(node, there, written, now));
        self.queue(&room, emptied);
        for (member, session) in room.read(|state| state.sessions()) {
            // They had their names side by side before.
            let session = RelaySession { shares: true, ..session };
            let join = RelayRequest::Join { session: session.clone(), left: Vec::new() };
            let reason = match self.ask(&join).await? {
                RelayAnswer::Full => (CloseCode::Overloaded, "the room is full"),
                _ => {
                    // It may have left meanwhile, and the broker may have heard that first.
                    room.change(|state, _| state.end_ghost(session.number));
                    continue;
                }
            };
            if let Some(registry) = self.registry.upgrade() {
                registry.put_out(&room, member, &Close::new(reason.0, reason.1));
            }
        }
        Ok(())
    }
}
