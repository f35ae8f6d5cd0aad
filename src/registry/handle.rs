//! A room as the host has it: read, written and watched from outside any request.

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

/// The host's handle on a room. Cheap to clone; keeps no room alive: where the room is gone, reading
/// finds nothing and all else is an error.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum_cloud_variables::{RoomRegistry, events::{RoomEvent, Writer}};
///
/// let rooms = RoomRegistry::new();
/// let arena = rooms.open("arena").variables([("ball", "0"), ("score", "0")]).await?;
/// let mut events = arena.subscribe();
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
    /// Outlives the room, which may only have left the memory.
    was_removed: Arc<AtomicBool>,
    registry: Weak<Inner>,
}

/// The room is no more: it was removed, or it was empty for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomError {
    /// The room is no more.
    Gone,
    /// The room has no such member any more.
    NoSuchMember,
    /// The room is gone, but the store failed and still keeps it: it will be there again for whoever
    /// joins or opens it, and can be removed then.
    Kept,
    /// The relay's broker does not answer: nothing has changed here, and perhaps there.
    Unreachable,
    /// The ban holds, or is over, for as long as the process runs, but the store failed to keep that.
    NotSaved,
}

impl fmt::Display for RoomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the room is gone",
            Self::NoSuchMember => "the room has no such member",
            Self::Kept => "the store failed to forget the room",
            Self::Unreachable => "the broker does not answer",
            Self::NotSaved => "the store failed to keep the room's bans",
        })
    }
}

impl std::error::Error for RoomError {}

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

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A variable's value; `None` where there is no such variable, or the room is gone. A lone
    /// surrogate, which no Rust string can hold, is replaced.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        let name = Json::from_plain(name);
        // Read under the lock, converted behind it.
        Some(self.there()?.read(|state| state.value(&name))?.lossy())
    }

    /// A variable's value, if it is there and of this type.
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

    /// All variables, names and values, of one moment; none where the room is gone.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let values = self.there().map_or_else(Vec::new, |room| room.read(State::values));
        values.iter().map(|(name, value)| (name.lossy(), value.lossy())).collect()
    }

    /// Who is there, in the order in which they came.
    #[must_use]
    pub fn members(&self) -> Vec<MemberInfo> {
        self.there().map_or_else(Vec::new, |room| room.read(State::member_infos))
    }

    /// How many members are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.there().map_or(0, |room| room.member_count())
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives a variable a value, as a member's `set` would, and sends it to every member. Never
    /// waits. In a room that grows a variable that is not there is created.
    ///
    /// # Errors
    ///
    /// [`SetError`], and nothing has changed.
    pub fn set(&self, name: &str, value: impl fmt::Display) -> Result<(), SetError> {
        self.set_all([(name, value)])
    }

    /// As [`set`](Self::set), for several: members get them in one frame, if they fit 64 KiB.
    ///
    /// # Errors
    ///
    /// [`SetError`], and nothing has changed; but with [`SetError::NoMemory`] those before the one
    /// for which there was no memory stand.
    pub fn set_all<I, N, V>(&self, values: I) -> Result<(), SetError>
    where
        I: IntoIterator<Item = (N, V)>,
        N: AsRef<str>,
        V: fmt::Display,
    {
        let values = wire::entries(values);
        self.there().ok_or(SetError::Gone)?.change(|state, now| state.set_all(&values, now))
    }

    /// Removes a variable of a growing room. Members see the empty value, because no kind of client has a word
    /// for a variable that is no more; later ones do not see it, and its place is free.
    ///
    /// # Errors
    ///
    /// [`SetError`]: [`FixedNames`](SetError::FixedNames) if the room does not grow.
    pub fn unset(&self, name: &str) -> Result<(), SetError> {
        let name = Json::from_plain(name);
        self.there().ok_or(SetError::Gone)?.change(|state, now| state.unset(&name, now))
    }

    /// Who wrote what when, the oldest first: as many writes as
    /// [`RoomRegistryBuilder::history`](crate::RoomRegistryBuilder::history) says, or none.
    #[must_use]
    pub fn history(&self) -> Vec<PastWrite> {
        let (now, today) = (Instant::now().into_std(), SystemTime::now());
        self.past(usize::MAX).iter().map(|entry| entry.look(now, today)).collect()
    }

    /// What happens in the room from now on. Up to 256 events wait for an observer; one that is
    /// slower is told how many it missed.
    #[must_use]
    pub fn subscribe(&self) -> Events<RoomEvent> {
        match self.there().and_then(|room| room.subscribe()) {
            Some(receiver) => Events::new(receiver, RoomEvent::Missed),
            None => Events::none(),
        }
    }

    /// Returns what [`OpenRoom::with`](crate::OpenRoom::with) put into the room.
    #[must_use]
    pub fn data<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        // Cloned once the room is free: that is the host's code.
        self.there()?.read(State::data).get().cloned()
    }

    /// Puts all members out with 1001. The room's variables stay, as those of any emptied room; one
    /// that the host opened is kept no longer than that.
    ///
    /// # Errors
    ///
    /// [`RoomError::Gone`] and [`RoomError::Unreachable`].
    pub async fn close(&self) -> Result<(), RoomError> {
        let (room, registry) = self.both()?;
        registry.close(&room).await
    }

    /// Puts all members out with 1001, and forgets the room; with a store or a relay, so do they, also
    /// if the room has left the memory meanwhile because it was empty for long.
    ///
    /// # Errors
    ///
    /// [`RoomError::Gone`], [`RoomError::Kept`] and [`RoomError::Unreachable`].
    pub async fn remove(&self) -> Result<(), RoomError> {
        self.forget(Close::room_closed()).await
    }

    /// As [`remove`](Self::remove), with this code and a sentence for the players, on all nodes: a match is
    /// over. With [`CloseCode::Incompatible`] their clients do not come back. A node that does not hear of
    /// it tells its members what [`remove`](Self::remove) does.
    ///
    /// # Errors
    ///
    /// As [`remove`](Self::remove).
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
                // It has left the memory in between.
                Err(RoomError::Gone) if room.read(State::is_unloaded) => {}
                done => {
                    // The next of its id is another, also if this one was loaded again meanwhile.
                    self.was_removed.fetch_or(done.is_ok(), Relaxed);
                    return done;
                }
            }
        }
    }

    /// Waits until this node leads the room, which one at a time does: at once where there is no relay.
    /// A game that the server runs moves its ball on the node that leads.
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

    /// As [`history`](Self::history), of the newest so many at most.
    pub(crate) fn past(&self, most: usize) -> Vec<PastEntry> {
        self.there().map_or_else(Vec::new, |room| room.read(|state| state.history(most)))
    }

    /// All there is to see.
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
