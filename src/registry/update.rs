//! Updates by the host: values that build on those that a room has.

use std::{fmt, sync::Arc};

use super::{Inner, Room};
use crate::{
    room::{Outcome, SetError, Shared},
    wire::{Json, Text},
};

/// The reason why the host's update of a value failed. Updates by a client have [an error of their
/// own](crate::client::UpdateError).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The room does not accept the value.
    #[error(transparent)]
    Set(#[from] SetError),
    /// Somebody else's write came in between at every attempt.
    #[error("others set the variable all the time")]
    Contested,
    /// The broker has not answered. The value may be the room's already, or may still become it.
    #[error("the broker does not answer: the value may be set")]
    Unknown,
}

/// A value that is to be set if the room still has the one that it builds on.
#[derive(Debug)]
pub(super) struct Update<'a> {
    pub(super) name: &'a Json<'a>,
    pub(super) was: Option<Text>,
    pub(super) value: &'a Json<'a>,
}

/// How often an update is tried when other writes come first.
const ATTEMPTS: usize = 1_000;

impl Room {
    /// Sets a variable to the value that `change` makes of the present one, and returns it. No write comes in
    /// between: if somebody else's does, `change` is called again, with the new value. So two callers that
    /// each add one add two in all. In a growing room, a variable that does not exist has the empty value,
    /// and is created.
    ///
    /// With a relay, this returns when the value is in the room's order, and it holds on all nodes.
    ///
    /// # Errors
    ///
    /// [`UpdateError`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum_cloud_variables::RoomRegistry;
    ///
    /// let rooms = RoomRegistry::new();
    /// let arena = rooms.open("arena").variables([("score", "41")]).await?;
    /// let score = arena.update("score", |old| old.parse().unwrap_or(0) + 1).await?;
    /// assert_eq!(score, "42");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn update<T: fmt::Display>(
        &self,
        name: &str,
        mut change: impl FnMut(&str) -> T,
    ) -> Result<String, UpdateError> {
        let (room, registry) = self.both().map_err(|_| SetError::Gone)?;
        let name = Json::from_plain(name);
        for _ in 0..ATTEMPTS {
            let was = room.read(|state| state.value(&name));
            let old = was.as_ref().map(Text::lossy).unwrap_or_default();
            // Called under no lock, because it is the host's code.
            let value = change(&old).to_string();
            let update = Update { name: &name, was, value: &Json::from_plain(&value) };
            match registry.set_if(&room, &update).await? {
                Outcome::Stands => return Ok(value),
                Outcome::Refused => {}
                Outcome::Unknown => return Err(UpdateError::Unknown),
            }
        }
        Err(UpdateError::Contested)
    }
}

impl Inner {
    /// Sets a variable for the host, if it still has the value that the update builds on.
    async fn set_if(
        &self,
        room: &Arc<Shared>,
        update: &Update<'_>,
    ) -> Result<Outcome, UpdateError> {
        if let Some(node) = &self.node {
            return node.update(room, update).await;
        }
        let Update { name, was, value } = update;
        let set = room.change(|state, now| state.set_if(0, name, was.as_ref(), value, now))?;
        Ok(set.unwrap_or(Outcome::Unknown))
    }
}
