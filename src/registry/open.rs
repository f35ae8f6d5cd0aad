//! Rooms that the host opens itself.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use super::{EnterError, Inner, Room, RoomRegistry, persistence::Loaded};
use crate::{
    policy::Judging,
    relay::RelayChange,
    room::{Opening, ReopenError, Schema, Shared, State, Wish},
    wire,
};

/// A room that is being opened: call the setters, then `.await` it. See [`RoomRegistry::open`].
#[must_use = "a room is opened by `.await`"]
pub struct OpenRoom {
    registry: RoomRegistry,
    id: String,
    opening: Opening,
}

impl fmt::Debug for OpenRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRoom").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The reason why a room was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The id is empty, or has more characters than
    /// [`Limits::room_id_chars`](crate::Limits#structfield.room_id_chars).
    #[error("the room's id is empty or too long")]
    InvalidId,
    /// There are more variables, or longer names or values, than [`Limits`](crate::Limits) allow.
    #[error("the variables are more, or longer, than the limits allow")]
    TooLarge,
    /// There is no place for another room, because all have members or are the host's, or there is no memory
    /// for it.
    #[error("there is no place for another room")]
    Full,
    /// The registry is shutting down.
    #[error("the registry is shutting down")]
    Draining,
    /// The store or the broker failed, or took longer than
    /// [`Limits::admit_timeout`](crate::Limits#structfield.admit_timeout); see
    /// [`RoomRegistry::store_stats`] and [`RoomRegistry::relay_stats`].
    #[error("the store or the broker does not answer")]
    Unreachable,
}

impl RoomRegistry {
    /// Opens a room, so that it has its variables before any player joins. It stays while it is empty, until
    /// [`Room::close`] or [`Room::remove`]. With a store, the room is loaded from there if the store keeps
    /// it, and is in the store when this returns.
    ///
    /// If the room exists already, this opens that room, and the given names become its names: new variables
    /// are created with their values, variables that it has already keep theirs, and others are removed.
    /// Members whose clients know other names are disconnected with 4001. A growing room only gets the new
    /// variables.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), axum_cloud_variables::OpenError> {
    /// use axum_cloud_variables::{Creators, RoomRegistry};
    ///
    /// // Players can join only rooms that the host opened.
    /// let rooms = RoomRegistry::builder().creators(Creators::Host).build().unwrap();
    /// let duel = rooms.open("duel 1").variables([("turn", "0")]).max_members(2).await?;
    /// assert!(duel.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(&self, id: impl Into<String>) -> OpenRoom {
        OpenRoom { registry: self.clone(), id: id.into(), opening: Opening::default() }
    }
}

impl OpenRoom {
    /// Sets the room's variables and their first values. Default: none, or those that the room has.
    pub fn variables<I, N, V>(mut self, variables: I) -> Self
    where
        I: IntoIterator<Item = (N, V)>,
        N: AsRef<str>,
        V: fmt::Display,
    {
        self.opening.variables = Some(wire::entries(variables));
        self
    }

    /// Sets whether new variables may be added to the room. Default: the registry's
    /// [`schema`](crate::RoomRegistryBuilder::schema), or unchanged.
    pub fn schema(mut self, schema: Schema) -> Self {
        self.opening.schema = Some(schema);
        self
    }

    /// Sets how many members the room may have. Default
    /// [`Limits::members_per_room`](crate::Limits#structfield.members_per_room), or unchanged.
    pub fn max_members(mut self, count: usize) -> Self {
        self.opening.max_members = Some(count);
        self
    }

    /// Sets how many variables the room may have. Default
    /// [`Limits::variables_per_room`](crate::Limits#structfield.variables_per_room), or unchanged. A
    /// handshake brings no more than that limit, so it cannot join a room with fixed names that has more.
    pub fn max_variables(mut self, count: usize) -> Self {
        self.opening.max_variables = Some(count);
        self
    }

    /// Sets how many bytes the room's names and values may have. Default
    /// [`Limits::room_bytes`](crate::Limits#structfield.room_bytes), or unchanged.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.opening.max_bytes = Some(bytes);
        self
    }

    /// Sets the least time between two batches of the room. Default
    /// [`RoomRegistryBuilder::tick`](crate::RoomRegistryBuilder::tick), or unchanged.
    pub fn tick(mut self, tick: Duration) -> Self {
        self.opening.tick = Some(tick.min(super::builder::LONGEST));
        self
    }

    /// Attaches a value of the host's to the room, which is found again by its type in
    /// [`Write::room_data`](crate::policy::Write::room_data),
    /// [`Join::room_data`](crate::policy::Join::room_data) and [`Room::data`]. A room has one value of each
    /// type. Default: none, or the values that the room has. If the room exists already, the given values
    /// replace all that it had.
    ///
    /// The value is only in the memory of this registry, for as long as the room is.
    ///
    /// ```
    /// use axum_cloud_variables::{RoomRegistry, policy::{Policy, Rights, Verdict, Write}};
    ///
    /// /// Each room has rights of its own.
    /// struct ByRoom;
    ///
    /// impl Policy for ByRoom {
    ///     fn write(&self, write: &Write<'_>) -> Verdict {
    ///         write.room_data::<Rights>().map_or(Verdict::Accept, |rights| rights.write(write))
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms = RoomRegistry::builder().policy(ByRoom).build()?;
    /// let quiz = rooms.open("quiz").variables([("question", ""), ("answer", "")]);
    /// let quiz = quiz.data(Rights::new().host_only("question")).await?;
    /// assert!(quiz.data::<Rights>().is_some());
    /// # Ok(()) }
    /// ```
    pub fn data<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.opening.data.insert(value);
        self
    }
}

impl IntoFuture for OpenRoom {
    type Output = Result<Room, OpenError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            Judging::refuse();
            let inner = &self.registry.inner;
            inner.open(&self.id, &self.opening).await.map(|room| Room::new(&room, inner))
        })
    }
}

impl Inner {
    async fn open(self: &Arc<Self>, id: &str, opening: &Opening) -> Result<Arc<Shared>, OpenError> {
        if !self.rules.limits.allow_room_id(id) {
            return Err(OpenError::InvalidId);
        }
        let variables = opening.variables.as_deref().unwrap_or_default();
        let limits = &self.rules.limits;
        let room_bytes = opening.max_bytes.unwrap_or(limits.room_bytes);
        let count = opening.max_variables.unwrap_or(limits.variables_per_room);
        let limits = limits.clone().room_bytes(room_bytes).variables_per_room(count);
        limits.check_variables(variables).map_err(|_| OpenError::TooLarge)?;
        loop {
            let found = self.find(id)?;
            if let Some(room) = found {
                let opened = room.change(|state, now| state.reopen(opening, now));
                match opened {
                    Ok(()) => return self.opened(room, opening).await,
                    Err(ReopenError::Evicted) => {}
                    Err(ReopenError::NoMemory) if self.evict_longest_empty(Some(&room)) => {}
                    Err(ReopenError::NoMemory) => return Err(OpenError::Full),
                }
                continue;
            }
            let Loaded::Nowhere(id_lock) = self.load_room(id).await? else { continue };
            self.make_place()?;
            let now = tokio::time::Instant::now().into_std();
            let variables = opening.variables.as_deref().unwrap_or_default();
            let id: Arc<str> = id.into();
            let mut state =
                State::new(&self.rules, &id, Some(variables), &self.budget, &self.watchers, now);
            if let Some(state) = &mut state {
                state.settings(opening, now);
            }
            let Some(kept) = self.keep(id_lock, state.as_mut()).await? else { continue };
            if let Some((room, ())) = self.insert(id, state, |state| state.tell_created())? {
                kept.begin(self, &room);
                return Ok(room);
            }
        }
    }

    /// Sends the other settings that the host has asked for to the broker, if there is one.
    async fn opened(&self, room: Arc<Shared>, opening: &Opening) -> Result<Arc<Shared>, OpenError> {
        let schema = opening.schema.map(|schema| RelayChange::Schema(schema.into()));
        let most = opening.max_members.map(|count| RelayChange::MaxMembers(count as u64));
        let bytes = opening.max_bytes.map(|bytes| RelayChange::MaxBytes(bytes as u64));
        let count = opening.max_variables.map(|count| RelayChange::MaxVariables(count as u64));
        for change in schema.into_iter().chain(most).chain(count).chain(bytes) {
            let done = self.at_broker(&room, Wish::Change(change)).await;
            done.map_err(|_| OpenError::Unreachable)?;
        }
        Ok(room)
    }
}

impl From<EnterError> for OpenError {
    fn from(error: EnterError) -> Self {
        match error {
            EnterError::Draining => Self::Draining,
            EnterError::Unreachable => Self::Unreachable,
            EnterError::Full | EnterError::NoSuchRoom | EnterError::Refused(_) => Self::Full,
        }
    }
}
