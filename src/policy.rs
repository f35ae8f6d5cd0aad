//! The host's rules for joins and writes.

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

/// Decides about joins and writes. Both methods have a default that allows everything.
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
    /// Decides about a handshake that has passed the protocol's own checks up to the username. Returns the
    /// identity of the member; its username, rooms and access then hold. Default: the request's identity.
    ///
    /// If it panics, or takes longer than
    /// [`Limits::admit_timeout`](crate::Limits#structfield.admit_timeout), the session is closed
    /// with 1011.
    ///
    /// # Errors
    ///
    /// A [`Rejection`], whose reason the client receives.
    fn admit(&self, join: &Join<'_>) -> impl Future<Output = Result<Identity, Rejection>> + Send {
        let identity = join.identity().clone();
        async { Ok(identity) }
    }

    /// Judges each `set` of a member. Default: [`Verdict::Accept`].
    ///
    /// It runs under the room's lock, so a rule such as 'only if it is empty' has no race. It must be quick,
    /// because the room waits for it and there is no timeout. It must not call the registry: that panics.
    /// If it panics, the writer's session is closed with 1011, and the room goes on.
    fn write(&self, write: &Write<'_>) -> Verdict {
        let _ = write;
        Verdict::Accept
    }
}

/// The host may keep a handle on its policy.
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

/// A client that wants to join, with its handshake and its request.
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
    /// Returns the id of the room.
    #[must_use]
    pub fn room(&self) -> &str {
        self.room
    }

    /// Returns the username that the handshake claims.
    #[must_use]
    pub fn username(&self) -> &str {
        self.username
    }

    /// Returns the dialect of the client.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns the names and values that the handshake brings; none in [`Dialect::Scratch`]. A
    /// lone surrogate, which no Rust string can hold, is replaced.
    pub fn variables(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.variables.iter().map(|(name, value)| (name.lossy(), value.lossy()))
    }

    /// Returns the identity that a layer of the host has put into the request, or that of a guest.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.identity
    }

    /// Returns the request that was upgraded: its headers, path, query and extensions.
    #[must_use]
    pub fn request(&self) -> &Parts {
        self.parts
    }

    /// Returns a value that [`OpenRoom::data`](crate::OpenRoom::data) has put into the room, if it is in memory.
    #[must_use]
    pub fn room_data<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.data.get()
    }

    /// Returns whether the room exists, in memory or in the store. That may change until the join is over.
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

/// A `set` of a member that the policy judges.
pub struct Write<'a> {
    pub(crate) room: &'a str,
    pub(crate) username: &'a str,
    pub(crate) identity: &'a Identity,
    pub(crate) data: &'a HostData,
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: Cow<'a, str>,
    pub(crate) look_up: &'a (dyn Fn(&str) -> Option<Text> + Sync),
}

impl Write<'_> {
    /// Returns the id of the room.
    #[must_use]
    pub fn room(&self) -> &str {
        self.room
    }

    /// Returns the username of the member that writes.
    #[must_use]
    pub fn username(&self) -> &str {
        self.username
    }

    /// Returns the identity of the member that writes.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.identity
    }

    /// Returns a value that [`OpenRoom::data`](crate::OpenRoom::data) has put into the room.
    #[must_use]
    pub fn room_data<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.data.get()
    }

    /// Returns the variable's name. A lone surrogate, which no Rust string can hold, is replaced.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value that is to be set; a lone surrogate is replaced.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns the current value of a variable; `None` if there is no such variable.
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

/// The decision about a write.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It counts.
    Accept,
    /// This value counts instead, and the writer receives it.
    Replace(String),
    /// It does not count, and the writer receives the room's value.
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

/// Why the host refuses a client, and whether the client reconnects by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection(pub(crate) Close);

impl Rejection {
    /// Refuses for good, with 4001 (4004 in [`Dialect::Scratch`]). Clients do not reconnect. The
    /// reason is a sentence for the player, of which up to 123 bytes are sent.
    #[must_use]
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self(Close::new(CloseCode::Incompatible, reason.into()))
    }

    /// Refuses the username, with 4002. Clients do not reconnect by themselves; their players may choose
    /// another name.
    #[must_use]
    pub fn username(reason: impl Into<String>) -> Self {
        Self(Close::new(CloseCode::Username, reason.into()))
    }

    /// Refuses for now, with 4003 (1013 in [`Dialect::Scratch`]). Clients reconnect after a while.
    #[must_use]
    pub fn try_later(reason: impl Into<String>) -> Self {
        Self(Close::new(CloseCode::Unavailable, reason.into()))
    }

    /// Disconnects the client, with 4004 (4000 in [`Dialect::Scratch`]). It may try again.
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
