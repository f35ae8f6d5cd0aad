//! Who yields a name that somebody on another node wants.

use std::sync::Arc;

use tokio::time::timeout;

use super::node::Holder;
use crate::{
    close::Close,
    registry::{Inner, RoomError},
    relay::RelayNews,
    room::{Challenged, Link, MemberId, Shared, Wish},
};

impl Inner {
    /// Hears what a node has told of a room, beside its order.
    pub(super) fn hear_news(self: &Arc<Self>, room: &Arc<Shared>, news: RelayNews) {
        match news {
            RelayNews::Wanted { node, session, person, replaces } => {
                let challenged = room.change(|state, now| {
                    let is_here = state.node().is_some_and(|here| **here == *node);
                    is_here.then(|| state.challenge(session, (person.as_deref(), replaces), now))
                });
                if let Some(Challenged::Asked(member, link)) = challenged {
                    let holder = Holder { room: room.id().clone(), node, session };
                    let probe = Probe { room: room.clone(), member, link };
                    let answering = yield_or_answer(self.clone(), holder, probe);
                    self.tasks.spawn(answering);
                }
            }
            RelayNews::Kept { node, session } => {
                if let Some(here) = &self.node {
                    _ = here.kept.send(Holder { room: room.id().clone(), node, session });
                }
            }
            RelayNews::Removed { .. } => {}
        }
    }

    /// Has the broker of a room do something, if there is one.
    pub(in crate::registry) async fn at_broker(
        &self,
        room: &Arc<Shared>,
        wish: Wish,
    ) -> Result<(), RoomError> {
        let Some(node) = &self.node else { return Ok(()) };
        match node.wish(room, wish).await {
            Ok(crate::relay::RelayAnswer::Done { .. }) => Ok(()),
            Ok(crate::relay::RelayAnswer::Nowhere) => Err(RoomError::Gone),
            _ => Err(RoomError::Unreachable),
        }
    }
}

/// Whether a member still answers is being asked; that ends with this.
struct Probe {
    room: Arc<Shared>,
    member: MemberId,
    link: Arc<Link>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.room.unchallenge(self.member);
    }
}

/// Puts a member out that gives no sign of life; otherwise says that it keeps its name.
async fn yield_or_answer(registry: Arc<Inner>, holder: Holder, probe: Probe) {
    let Probe { room, member, link } = &probe;
    let asked = tokio::time::Instant::now().into_std();
    match timeout(registry.rules.limits.takeover_probe, link.probe(asked)).await {
        Err(_) if link.is_silent(asked) => {
            registry.put_out(room, *member, &Close::protocol("you gave no sign of life"));
        }
        // It has left; or what came may have been on its way from a connection that is gone, and then
        // whoever wants the name is to try again.
        Ok(false) | Err(_) => {}
        Ok(true) => {
            let Holder { node, session, .. } = holder;
            let news = RelayNews::Kept { node, session };
            _ = registry.at_broker(room, Wish::Tell(news)).await;
        }
    }
}
