//! News of a room from other nodes, for example that a newcomer there wants a member's name.

use std::{sync::Arc, time::Duration};

use super::node::Holder;
use crate::{
    close::{Close, CloseCode, LeaveCause},
    registry::Inner,
    relay::RelayNews,
    room::{Challenged, MemberId, Shared, Wanted, Wish},
    session::{Probe, Probed},
    wire::Dialect,
};

impl Inner {
    /// Handles the news of a room that a node has sent outside the room's order.
    pub(super) fn hear_news(self: &Arc<Self>, room: &Arc<Shared>, news: RelayNews) {
        match news {
            RelayNews::Wanted { node, session, person, resume, replaces, age } => {
                let challenged = room.change(|state, now| {
                    let is_here = state.node().is_some_and(|here| **here == *node);
                    let (person, resume) = (person.as_deref(), resume.as_deref());
                    let age = Duration::from_millis(age);
                    let wanted = Wanted { person, resume, replaces, age };
                    is_here.then(|| state.challenge(session, &wanted, now))
                });
                if let Some(Challenged::Asked(holder)) = challenged {
                    let member = holder.member;
                    let asking = Asking {
                        room: room.clone(),
                        member,
                        probe: Probe::new(vec![holder]),
                        kept: RelayNews::Kept { node, session },
                    };
                    self.tasks.spawn(yield_or_answer(self.clone(), asking));
                }
            }
            RelayNews::Kept { node, session } => {
                if let Some(here) = &self.node {
                    _ = here.kept.send(Holder { room: room.id().clone(), node, session });
                }
            }
            RelayNews::Ending { code, reason } => {
                let code =
                    CloseCode::from_number(code, Dialect::Spec).unwrap_or(CloseCode::GoingAway);
                let close = Close::new(code, reason).because(LeaveCause::RoomClosed);
                room.change(|state, now| state.close(&close, now));
            }
            RelayNews::Removed { .. } | RelayNews::Kick { .. } => {}
        }
    }
}

/// A member here whose name a newcomer on another node wants.
struct Asking {
    room: Arc<Shared>,
    member: MemberId,
    probe: Probe,
    /// The news for other nodes if the member keeps its name.
    kept: RelayNews,
}

/// Disconnects a member that gives no sign of life. Otherwise announces that it keeps its name.
async fn yield_or_answer(registry: Arc<Inner>, asking: Asking) {
    let Asking { room, member, probe, kept } = asking;
    match probe.ask(registry.rules.limits.takeover_probe).await {
        Probed::Outlived(_) => {
            registry.put_out(&room, member, &Close::name_outlived());
        }
        // The newcomer that wants the name is to try again.
        Probed::Left | Probed::InDoubt => {}
        Probed::Answered => _ = registry.at_broker(&room, Wish::Tell(kept)).await,
    }
}
