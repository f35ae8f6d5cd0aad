//! The host's handle on a room, to read, write and watch it from outside any request.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use tokio::time::Instant;

use super::{Inner, Lead};
#[cfg(feature = "inspector")]
use crate::room::Look;
use crate::{
    close::{Close, CloseCode, LeaveCause},
    policy::Judging,
    room::{Events, MemberInfo, PastEntry, PastWrite, RoomEvent, SetError, Shared, State},
    wire::{self, Json},
};

/// The host's handle on a room. Cheap to clone. It does not keep the room alive: once the room is gone, reads
/// find nothing and all other calls return an error.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum_cloud_variables::{RoomRegistry, events::{RoomEvent, Writer}};
///
/// let rooms = RoomRegistry::new();
/// let arena = rooms.open("arena").variables([("ball", "0"), ("score", "0")]).await?;
/// let mut events = arena.events();
/// arena.set("ball", 42.5)?;
/// arena.set_all([("ball", "0"), ("score", "1")])?; // nobody sees half of it
/// assert_eq!(arena.get("score").as_deref(), Some("1"));
/// let Some(RoomEvent::Wrote { name, value, by: Writer::Host }) = events.next().await else { panic!() };
/// assert_eq!((&*name, &*value), ("ball", "42.5"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Room {
    id: Arc<str>,
    shared: Weak<Shared>,
    /// Outlives the room in memory, because a room that has left the memory may still exist in the store or
    /// at the broker.
    was_removed: Arc<AtomicBool>,
    registry: Weak<Inner>,
}

/// The reason why a call on a [`Room`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The room no longer exists: it was removed, or it was empty for long.
    #[error("the room is gone")]
    Gone,
    /// The room no longer has this member.
    #[error("the room has no such member")]
    NoSuchMember,
    /// The room is gone, but the store failed to remove it and still keeps it. It will be there again for
    /// anyone who joins or opens it, and can be removed then.
    #[error("the store failed to forget the room")]
    Kept,
    /// The relay's broker or, before a room is removed, the store does not answer. Nothing has changed on this
    /// node, but the broker may have made the change.
    #[error("the broker or the store does not answer")]
    Unreachable,
    /// The ban holds, or is over, on this node, but the store failed to save that. The registry goes on trying.
    #[error("the store failed to keep the room's bans")]
    NotSaved,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Room").field(&self.id).finish()
    }
}

impl Room {
    pub(crate) fn new(shared: &Arc<Shared>, registry: &Arc<Inner>) -> Self {
        Self {
            id: shared.id().clone(),
            shared: Arc::downgrade(shared),
            was_removed: shared.was_removed().clone(),
            registry: Arc::downgrade(registry),
        }
    }

    /// Returns the room's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns a variable's value, or `None` if there is no such variable or the room is gone. A lone
    /// surrogate, which no Rust string can hold, is replaced.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        let name = Json::from_plain(name);
        // Read under the room's lock, but converted after it is released.
        Some(self.there()?.read(|state| state.value(&name))?.lossy())
    }

    /// Returns a variable's value, if the variable exists and its value can be parsed as this type.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum_cloud_variables::RoomRegistry;
    ///
    /// let rooms = RoomRegistry::new();
    /// let arena = rooms.open("arena").variables([("ball", "4.5")]).await?;
    /// assert_eq!(arena.get_as::<f64>("ball"), Some(4.5));
    /// assert_eq!(arena.get_as::<u64>("ball"), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn get_as<T: FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    /// Returns the names and values of all variables at one moment, or none if the room is gone.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let values = self.there().map_or_else(Vec::new, |room| room.read(State::values));
        values.iter().map(|(name, value)| (name.lossy(), value.lossy())).collect()
    }

    /// Returns the members, in the order in which they joined.
    #[must_use]
    pub fn members(&self) -> Vec<MemberInfo> {
        self.there().map_or_else(Vec::new, |room| room.read(State::member_infos))
    }

    /// Returns the number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.there().map_or(0, |room| room.member_count())
    }

    /// Returns whether the room has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets a variable, as a member's `set` would, and sends the value to every member. Never waits. In a
    /// growing room, a variable that does not exist is created.
    ///
    /// # Errors
    ///
    /// [`SetError`], in which case nothing has changed.
    pub fn set(&self, name: &str, value: impl fmt::Display) -> Result<(), SetError> {
        self.set_all([(name, value)])
    }

    /// Sets several variables, as [`set`](Self::set) does. Members receive them in one frame, if they fit in
    /// 64 KiB.
    ///
    /// # Errors
    ///
    /// [`SetError`], in which case nothing has changed. The exception is [`SetError::NoMemory`]: the values
    /// before the one for which there was no memory stay set.
    pub fn set_all<I, N, V>(&self, values: I) -> Result<(), SetError>
    where
        I: IntoIterator<Item = (N, V)>,
        N: AsRef<str>,
        V: fmt::Display,
    {
        let values = wire::entries(values);
        self.there().ok_or(SetError::Gone)?.change(|state, now| state.set_all(&values, now))
    }

    /// Removes a variable of a growing room. Members see the empty value, because no kind of client has a
    /// message for a variable that no longer exists. Members that join later do not see the variable, and its
    /// place is free.
    ///
    /// # Errors
    ///
    /// [`SetError`]: [`FixedNames`](SetError::FixedNames) if the room does not grow.
    pub fn unset(&self, name: &str) -> Result<(), SetError> {
        let name = Json::from_plain(name);
        self.there().ok_or(SetError::Gone)?.change(|state, now| state.unset(&name, now))
    }

    /// Returns the past writes with their writers and times, the oldest first: no more than
    /// [`RoomRegistryBuilder::history`](crate::RoomRegistryBuilder::history) sets, or none.
    #[must_use]
    pub fn history(&self) -> Vec<PastWrite> {
        let (now, today) = (Instant::now().into_std(), SystemTime::now());
        self.past(usize::MAX).iter().map(|entry| entry.look(now, today)).collect()
    }

    /// Returns the events of the room from now on. Up to 256 events wait for an observer. A slower observer
    /// is notified of how many it missed.
    #[must_use]
    pub fn events(&self) -> Events<RoomEvent> {
        match self.there().and_then(|room| room.subscribe()) {
            Some(receiver) => Events::new(receiver, RoomEvent::Missed),
            None => Events::none(RoomEvent::Missed),
        }
    }

    /// Returns the value of this type that [`OpenRoom::data`](crate::OpenRoom::data) put into the room.
    #[must_use]
    pub fn data<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        // Cloned after the room's lock is released, because `Clone` is the host's code.
        self.there()?.read(State::data).get().cloned()
    }

    /// Disconnects all members with 1001. The room's variables stay for as long as those of any empty room,
    /// even if the host opened it.
    ///
    /// # Errors
    ///
    /// [`RoomError::Gone`] and [`RoomError::Unreachable`].
    pub async fn close(&self) -> Result<(), RoomError> {
        let (room, registry) = self.both()?;
        registry.close(&room).await
    }

    /// Disconnects all members with 1001 and removes the room, also from the store or the broker if there is
    /// one. It is removed there even if it has left the memory meanwhile because it was empty for long.
    ///
    /// # Errors
    ///
    /// [`RoomError::Gone`], [`RoomError::Kept`] and [`RoomError::Unreachable`].
    pub async fn remove(&self) -> Result<(), RoomError> {
        self.forget(Close::room_closed()).await
    }

    /// Removes the room as [`remove`](Self::remove) does, but disconnects members on all nodes with this code
    /// and a sentence for the players, for example when a match is over. With [`CloseCode::Incompatible`],
    /// their clients do not come back. A node that misses this news disconnects its members as
    /// [`remove`](Self::remove) does.
    ///
    /// # Errors
    ///
    /// The same as [`remove`](Self::remove).
    pub async fn end(&self, code: CloseCode, reason: impl Into<String>) -> Result<(), RoomError> {
        self.forget(Close::new(code, reason.into()).because(LeaveCause::RoomClosed)).await
    }

    async fn forget(&self, close: Close) -> Result<(), RoomError> {
        Judging::refuse();
        let registry = self.registry.upgrade().ok_or(RoomError::Gone)?;
        loop {
            let room = match self.there() {
                Some(room) => room,
                None if self.was_removed.load(Relaxed) => return Err(RoomError::Gone),
                None => registry.load(&self.id).await?,
            };
            match registry.remove(&room, &close).await {
                // The room has left the memory in between, so it is loaded again.
                Err(RoomError::Gone) if room.read(State::is_unloaded) => {}
                done => {
                    // The next room of this id is another one, even if this one was loaded again meanwhile.
                    self.was_removed.fetch_or(done.is_ok(), Relaxed);
                    return done;
                }
            }
        }
    }

    /// Waits until this node leads the room, which one node at a time does. Returns at once if there is no
    /// relay. A game that the server runs moves its ball on the node that leads.
    ///
    /// # Errors
    ///
    /// [`RoomError::Gone`].
    ///
    /// ```no_run
    /// use axum_cloud_variables::{Room, RoomError};
    ///
    /// async fn run(room: Room) -> Result<(), RoomError> {
    ///     loop {
    ///         let lead = room.lead().await?;
    ///         tokio::select! {
    ///             () = lead.lost() => {} // another node goes on
    ///             () = play(&room) => return Ok(()),
    ///         }
    ///     }
    /// }
    /// # async fn play(_: &Room) {}
    /// ```
    pub async fn lead(&self) -> Result<Lead, RoomError> {
        let (room, registry) = self.both()?;
        registry.lead(&room).await
    }

    /// Returns up to `most` of the newest writes of the [`history`](Self::history).
    pub(crate) fn past(&self, most: usize) -> Vec<PastEntry> {
        self.there().map_or_else(Vec::new, |room| room.read(|state| state.history(most)))
    }

    /// Returns the length of the [`history`](Self::history).
    #[cfg(feature = "inspector")]
    pub(crate) fn past_len(&self) -> usize {
        self.there().map_or(0, |room| room.read(State::history_len))
    }

    /// Returns everything that there is to see of the room.
    #[cfg(feature = "inspector")]
    pub(crate) fn look(&self, now: std::time::Instant) -> Option<Look> {
        Some(self.there()?.look(now))
    }

    fn there(&self) -> Option<Arc<Shared>> {
        Judging::refuse();
        self.shared.upgrade().filter(|room| !room.is_evicted())
    }

    pub(super) fn both(&self) -> Result<(Arc<Shared>, Arc<Inner>), RoomError> {
        self.there().zip(self.registry.upgrade()).ok_or(RoomError::Gone)
    }
}
