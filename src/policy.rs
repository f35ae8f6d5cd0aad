//! The host's rules: who may join, and what may be written.

mod guard;
mod rights;

use std::{borrow::Cow, fmt, future::Future, pin::Pin, sync::Arc};

use axum::http::request::Parts;

pub(crate) use guard::Judging;
pub(crate) use rights::OwnerPattern;
pub use rights::Rights;

use crate::{
    close::{Close, CloseCode},
    host_data::HostData,
    identity::Identity,
    redacted::Redacted,
    wire::{Dialect, Json, Text},
};

/// What a host decides about joins and writes. Both methods have a default that allows all.
///
/// ```
/// use axum_cloud_variables::{Identity, RoomRegistry, policy::{Join, Policy, Rejection, Verdict, Write}};
///
/// struct Referee;
///
/// impl Policy for Referee {
///     async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
///         // Here: ask a database.
///         match join.room().starts_with("arena-") {
///             true => Ok(join.identity().clone()),
///             false => Err(Rejection::permanent("there is no such arena")),
///         }
///     }
///
///     fn write(&self, write: &Write<'_>) -> Verdict {
///         let number = |text: &str| text.parse::<f64>().unwrap_or(0.0);
///         let before = write.get(write.name()).map_or(0.0, |value| number(&value));
///         match (number(write.value()) - before).abs() <= 10.0 {
///             true => Verdict::Accept,
///             false => Verdict::Ignore, // and the player sees the room's value again
///         }
///     }
/// }
///
/// let rooms = RoomRegistry::builder().policy(Referee).build()?;
/// # Ok::<(), axum_cloud_variables::BuildError>(())
/// ```
pub trait Policy: Send + Sync + 'static {
    /// Decides about a handshake that passed the protocol's own checks up to the username. What it
    /// returns is the member's identity, whose username, rooms and access then hold. Default: the
    /// request's.
    ///
    /// If it panics, or takes longer than
    /// [`Limits::admit_timeout`](crate::Limits#structfield.admit_timeout), the session is closed
    /// with 1011.
    ///
    /// # Errors
    ///
    /// A [`Rejection`], which the client is told.
    fn admit(&self, join: &Join<'_>) -> impl Future<Output = Result<Identity, Rejection>> + Send {
        let identity = join.identity().clone();
        async { Ok(identity) }
    }

    /// Judges each `set` of a member. Default: [`Verdict::Accept`].
    ///
    /// It runs under the room's lock, so that 'only if it is empty' is no race. It must be quick: it
    /// cannot be timed out, and the room waits for it. It must not call the registry: that panics.
    /// If it panics, the writer's session is closed with 1011 and the room goes on.
    fn write(&self, write: &Write<'_>) -> Verdict {
        let _ = write;
        Verdict::Accept
    }
}

/// A host may keep a handle on its policy.
impl<P: Policy> Policy for Arc<P> {
    fn admit(&self, join: &Join<'_>) -> impl Future<Output = Result<Identity, Rejection>> + Send {
        (**self).admit(join)
    }

    fn write(&self, write: &Write<'_>) -> Verdict {
        (**self).write(write)
    }
}

impl<P: Policy> Policy for &'static P {
    fn admit(&self, join: &Join<'_>) -> impl Future<Output = Result<Identity, Rejection>> + Send {
        (**self).admit(join)
    }

    fn write(&self, write: &Write<'_>) -> Verdict {
        (**self).write(write)
    }
}

/// Somebody who wants to join, as their handshake and their request have it.
pub struct Join<'a> {
    pub(crate) room: &'a str,
    pub(crate) username: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) variables: &'a [(Json<'a>, Json<'a>)],
    pub(crate) identity: &'a Identity,
    pub(crate) parts: &'a Parts,
    pub(crate) data: HostData,
    pub(crate) exists: bool,
}

impl Join<'_> {
    /// The id of the room.
    #[must_use]
    pub fn room(&self) -> &str {
        self.room
    }

    /// The username that the handshake claims.
    #[must_use]
    pub fn username(&self) -> &str {
        self.username
    }

    /// The field names that the client uses.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The variables that the handshake brings, names and values; none in [`Dialect::Scratch`]. A
    /// lone surrogate, which no Rust string can hold, is replaced.
    pub fn variables(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.variables.iter().map(|(name, value)| (name.lossy(), value.lossy()))
    }

    /// What a layer of the host's put into the request, or a guest's.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.identity
    }

    /// The request that was upgraded: its headers, its path and query, its extensions.
    #[must_use]
    pub fn request(&self) -> &Parts {
        self.parts
    }

    /// What [`OpenRoom::with`](crate::OpenRoom::with) put into the room, if it is in memory.
    #[must_use]
    pub fn room_data<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.data.get()
    }

    /// Whether the room is there, in memory or in the store. That may change until the join is over.
    #[must_use]
    pub fn room_exists(&self) -> bool {
        self.exists
    }
}

impl fmt::Debug for Join<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No request: tokens and cookies stand in it.
        f.debug_struct("Join")
            .field("room", &self.room)
            .field("username", &self.username)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

/// A `set` of a member, before it counts.
pub struct Write<'a> {
    pub(crate) room: &'a str,
    pub(crate) username: &'a str,
    pub(crate) identity: &'a Identity,
    pub(crate) data: &'a HostData,
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: Cow<'a, str>,
    pub(crate) look_up: &'a dyn Fn(&str) -> Option<Text>,
}

impl Write<'_> {
    /// The id of the room.
    #[must_use]
    pub fn room(&self) -> &str {
        self.room
    }

    /// The username of the member that writes.
    #[must_use]
    pub fn username(&self) -> &str {
        self.username
    }

    /// The identity of the member that writes.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.identity
    }

    /// What [`OpenRoom::with`](crate::OpenRoom::with) put into the room.
    #[must_use]
    pub fn room_data<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.data.get()
    }

    /// The variable's name. A lone surrogate, which no Rust string can hold, is replaced.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value that is to be set; as [`name`](Self::name).
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The room's value of a variable now; `None` where there is no such variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        (self.look_up)(name).map(|value| value.lossy())
    }
}

impl fmt::Debug for Write<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No value: those are nobody's business but the players'.
        f.debug_struct("Write")
            .field("room", &self.room)
            .field("username", &self.username)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What becomes of a write.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It counts.
    Accept,
    /// This value counts instead; the writer is sent it.
    Replace(String),
    /// It does not count; the writer is sent the room's value.
    Ignore,
    /// It does not count, and its writer is closed.
    Reject(Rejection),
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("Accept"),
            Self::Replace(value) => f.debug_tuple("Replace").field(&Redacted(value)).finish(),
            Self::Ignore => f.write_str("Ignore"),
            Self::Reject(rejection) => f.debug_tuple("Reject").field(rejection).finish(),
        }
    }
}

/// Why the host turns somebody away, and whether their client comes back by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection(pub(crate) Close);

impl Rejection {
    /// Not here, and not later: 4001 (4004 in [`Dialect::Scratch`]). Clients do not come back. The
    /// reason is a sentence for the player, of which at most 123 bytes are sent.
    #[must_use]
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self(Close::new(CloseCode::Incompatible, reason.into()))
    }

    /// Not under this name: 4002. Clients do not come back by themselves, their players may choose
    /// another name.
    #[must_use]
    pub fn username(reason: impl Into<String>) -> Self {
        Self(Close::new(CloseCode::Username, reason.into()))
    }

    /// Not now: 4003 (1013 in [`Dialect::Scratch`]). Clients come back after a while.
    #[must_use]
    pub fn try_later(reason: impl Into<String>) -> Self {
        Self(Close::new(CloseCode::Unavailable, reason.into()))
    }

    /// Thrown out for what it did, but free to try again: 4004 (4000 in [`Dialect::Scratch`]).
    #[must_use]
    pub fn kick(reason: impl Into<String>) -> Self {
        Self(Close::new(CloseCode::Kicked, reason.into()))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.reason())
    }
}

impl std::error::Error for Rejection {}

type Admission<'a> = Pin<Box<dyn Future<Output = Result<Identity, Rejection>> + Send + 'a>>;

/// A [`Policy`] of any type.
pub(crate) trait AnyPolicy: Send + Sync {
    fn admit<'a>(&'a self, join: &'a Join<'a>) -> Admission<'a>;
    fn write(&self, write: &Write<'_>) -> Verdict;
}

impl<P: Policy> AnyPolicy for P {
    fn admit<'a>(&'a self, join: &'a Join<'a>) -> Admission<'a> {
        Box::pin(Policy::admit(self, join))
    }

    fn write(&self, write: &Write<'_>) -> Verdict {
        Policy::write(self, write)
    }
}

impl fmt::Debug for dyn AnyPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Policy")
    }
}
