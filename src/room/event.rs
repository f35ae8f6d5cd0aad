//! Events of a room that a host can observe: joins, leaves and writes.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use futures_util::{Stream, stream::FusedStream};
use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};
use tokio_util::sync::ReusableBoxFuture;

use super::members::MemberId;
use crate::{close::LeaveCause, identity::Identity, redacted::Redacted, sync::Held, wire::Dialect};

/// A member of a room, as the host sees it. Cheap to clone.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MemberInfo {
    /// The id of the member within its room. No id is used twice there.
    pub id: MemberId,
    /// The username that the member plays under.
    pub username: Arc<str>,
    /// The field names that its client uses.
    pub dialect: Dialect,
    /// The identity of the member, according to the host. With the feature `serde`, this field is left out,
    /// because it may hold data that the host would not write down.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub identity: Identity,
}

/// An event in a room, as [`Room::events`](crate::Room::events) reports it.
///
/// `Debug` shows the length of a value instead of the value.
#[derive(Clone)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum RoomEvent {
    /// A member joined.
    Joined(MemberInfo),
    /// A member left.
    Left {
        /// The member that left.
        member: MemberInfo,
        /// The reason why it left.
        cause: LeaveCause,
    },
    /// A variable has a new value.
    Wrote {
        /// The variable's name. A lone surrogate, which no Rust string can hold, is replaced.
        name: Arc<str>,
        /// Its value, with lone surrogates replaced as well.
        value: Arc<str>,
        /// The writer of the value.
        by: Writer,
    },
    /// The last member left. The room is kept for
    /// [`Limits::empty_room_ttl`](crate::Limits#structfield.empty_room_ttl).
    Emptied,
    /// The room is gone, and its events end. A store still keeps it, unless it was
    /// [removed](crate::Room::remove).
    Closed,
    /// The observer was too slow and missed this many events.
    Missed(u64),
}

/// An event of any room of a registry, as [`RoomRegistry::events`](crate::RoomRegistry::events) reports it.
/// Writes are only in the events of their [room](RoomEvent::Wrote).
#[derive(Debug, Clone)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum RegistryEvent {
    /// The room exists now: it is new, or was loaded from the store. This is the first event of each room.
    Created {
        /// The room's id.
        room: Arc<str>,
    },
    /// A member joined.
    Joined {
        /// The room's id.
        room: Arc<str>,
        /// The member that joined.
        member: MemberInfo,
    },
    /// A member left.
    Left {
        /// The room's id.
        room: Arc<str>,
        /// The member that left.
        member: MemberInfo,
        /// The reason why it left.
        cause: LeaveCause,
    },
    /// The last member left: see [`RoomEvent::Emptied`].
    Emptied {
        /// The room's id.
        room: Arc<str>,
    },
    /// The room is gone: see [`RoomEvent::Closed`].
    Closed {
        /// The room's id.
        room: Arc<str>,
    },
    /// The observer was too slow and missed this many events.
    Missed(u64),
}

impl RegistryEvent {
    /// Returns the event of a room as an event of its registry, unless only the room reports it.
    fn of(room: &Arc<str>, event: &RoomEvent) -> Option<Self> {
        let room = room.clone();
        Some(match event.clone() {
            RoomEvent::Joined(member) => Self::Joined { room, member },
            RoomEvent::Left { member, cause } => Self::Left { room, member, cause },
            RoomEvent::Emptied => Self::Emptied { room },
            RoomEvent::Closed => Self::Closed { room },
            RoomEvent::Wrote { .. } | RoomEvent::Missed(_) => return None,
        })
    }

    /// Returns the id of the room; `None` for [`Missed`](Self::Missed).
    #[must_use]
    pub fn room(&self) -> Option<&str> {
        match self {
            Self::Created { room }
            | Self::Joined { room, .. }
            | Self::Left { room, .. }
            | Self::Emptied { room }
            | Self::Closed { room } => Some(room),
            Self::Missed(_) => None,
        }
    }
}

/// The writer of a value.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Writer {
    /// The host, on this node or another.
    Host,
    /// A member of this node.
    Member(MemberInfo),
    /// A member of another node, or one that left before its write came back from the broker. This occurs
    /// only with a relay.
    Remote {
        /// The username that it plays under.
        username: Arc<str>,
    },
    /// The writer is not known: this node missed the write, and read the value from the broker. This occurs
    /// only with a relay.
    Unknown,
}

impl Writer {
    /// Returns the username of the member, whichever node it is on; `None` if the writer is the host or is
    /// not known.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Member(member) => Some(&member.username),
            Self::Remote { username } => Some(username),
            Self::Host | Self::Unknown => None,
        }
    }

    /// Returns the member, if it is a member of this node.
    #[must_use]
    pub fn member(&self) -> Option<&MemberInfo> {
        match self {
            Self::Member(member) => Some(member),
            Self::Host | Self::Remote { .. } | Self::Unknown => None,
        }
    }
}

impl fmt::Debug for RoomEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined(member) => f.debug_tuple("Joined").field(member).finish(),
            Self::Left { member, cause } => {
                f.debug_struct("Left").field("member", member).field("cause", cause).finish()
            }
            Self::Wrote { name, value, by } => f
                .debug_struct("Wrote")
                .field("name", name)
                .field("value", &Redacted(value))
                .field("by", by)
                .finish(),
            Self::Emptied => f.write_str("Emptied"),
            Self::Closed => f.write_str("Closed"),
            Self::Missed(count) => f.debug_tuple("Missed").field(count).finish(),
        }
    }
}

/// Events as they happen. They can be read as a [`FusedStream`], or one by one with `next`. A slow observer
/// misses events and receives their number, but slows nobody down. Once the events have ended, each further
/// poll yields `None` again.
pub struct Events<T> {
    /// The next event or the end, and the receiver of those behind it; `None` once there are no more.
    next: Option<ReusableBoxFuture<'static, Received<T>>>,
    missed: fn(u64) -> T,
}

type Received<T> = (Result<T, RecvError>, Receiver<T>);

async fn receive<T: Clone>(mut receiver: Receiver<T>) -> Received<T> {
    (receiver.recv().await, receiver)
}

impl<T: Clone + Send + 'static> Events<T> {
    pub(crate) fn new(receiver: Receiver<T>, missed: fn(u64) -> T) -> Self {
        Self { next: Some(ReusableBoxFuture::new(receive(receiver))), missed }
    }

    pub(crate) fn none(missed: fn(u64) -> T) -> Self {
        Self { next: None, missed }
    }

    /// Returns the next event, or `None` if no more will come. This method is cancel safe: if the future is
    /// dropped before it ends, as in `tokio::select!`, no event is lost.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<T: Clone + Send + 'static> Stream for Events<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // The last observer of an event drops it while the event's slot in the channel is locked.
        let _held = Held::begin();
        let missed = self.missed;
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let (received, receiver) = ready!(next.poll(cx));
        let event = match received {
            Ok(event) => event,
            Err(RecvError::Lagged(count)) => missed(count),
            Err(RecvError::Closed) => {
                self.next = None;
                return Poll::Ready(None);
            }
        };
        next.set(receive(receiver));
        Poll::Ready(Some(event))
    }
}

impl<T: Clone + Send + 'static> FusedStream for Events<T> {
    fn is_terminated(&self) -> bool {
        self.next.is_none()
    }
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// The number of events that wait for a slow observer of a room.
const ROOM_EVENTS: usize = 256;

/// The number of events that wait for a slow observer of all rooms.
const REGISTRY_EVENTS: usize = 4_096;

/// The observers of all rooms of a registry. They cost nothing until there is one.
#[derive(Debug, Default)]
pub(crate) struct Watchers(OnceLock<Sender<RegistryEvent>>);

impl Watchers {
    pub(crate) fn subscribe(&self) -> Receiver<RegistryEvent> {
        self.0.get_or_init(|| Sender::new(REGISTRY_EVENTS)).subscribe()
    }
}

/// The observers of a room's events.
#[derive(Debug)]
pub(super) struct Observers {
    id: Arc<str>,
    room: Option<Sender<RoomEvent>>,
    all: Arc<Watchers>,
}

impl Observers {
    pub(super) fn new(id: Arc<str>, all: &Arc<Watchers>) -> Self {
        Self { id, room: None, all: all.clone() }
    }

    pub(super) fn subscribe(&mut self) -> Receiver<RoomEvent> {
        self.room.get_or_insert_with(|| Sender::new(ROOM_EVENTS)).subscribe()
    }

    /// Notifies the observers of all rooms that this one exists. It has none of its own yet.
    pub(super) fn created(&self) {
        if let Some(all) = self.all.0.get() {
            // Sending fails if there is no observer any more.
            let _ = all.send(RegistryEvent::Created { room: self.id.clone() });
        }
    }

    /// Notifies the observers of this room and those of all rooms. The caller holds the room's lock, so
    /// that the events arrive in the order in which they happened.
    pub(super) fn tell(&self, event: impl FnOnce() -> RoomEvent) {
        let all = self.all.0.get();
        if self.room.is_none() && all.is_none() {
            return;
        }
        let event = event();
        // Sending fails if there is no observer any more.
        if let Some((all, event)) = all.zip(RegistryEvent::of(&self.id, &event)) {
            let _ = all.send(event);
        }
        if let Some(room) = &self.room {
            let _ = room.send(event);
        }
    }

    pub(super) fn tell_room(&self, event: impl FnOnce() -> RoomEvent) {
        if let Some(room) = self.room.as_ref().filter(|room| room.receiver_count() > 0) {
            let _ = room.send(event());
        }
    }

    /// Notifies the observers that the room is gone, and ends its events.
    pub(super) fn close(&mut self) {
        self.tell(|| RoomEvent::Closed);
        self.room = None;
    }
}
