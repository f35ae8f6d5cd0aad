//! Identities: the person from whom a request comes, according to the host.

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc};

use crate::{close::Close, host_data::HostData};

/// A player, as the host's auth layer knows them. The layer puts it into the request's extensions before the
/// request reaches the mount; or [`Policy::admit`](crate::policy::Policy::admit) returns it.
///
/// Without one a player is a guest: any username that the rules allow, any room, read and write.
/// [`Mount::require_identity`](crate::Mount::require_identity) refuses guests.
///
/// ```
/// use axum::{Router, extract::Request, middleware::{self, Next}};
/// use axum_cloud_variables::{Identity, RoomRegistry};
///
/// #[derive(Clone)]
/// struct User { level: u32 }
///
/// let rooms = RoomRegistry::new();
/// let app: Router = Router::new()
///     .merge(rooms.mount("/cloud").require_identity(true))
///     .layer(middleware::from_fn(async |mut request: Request, next: Next| {
///         // Here: after looking at a cookie or a token.
///         let identity = Identity::new().with_id("account 7").with_username("ann").with_data(User { level: 3 });
///         request.extensions_mut().insert(identity);
///         next.run(request).await
///     }));
/// ```
///
/// `Debug` shows neither the id nor the data.
#[derive(Clone, Default)]
pub struct Identity(
    /// Guests cost nothing.
    Option<Arc<Known>>,
);

#[derive(Clone, Default)]
struct Known {
    id: Option<String>,
    username: Option<Username>,
    rooms: Option<HashSet<String>>,
    /// The room that the player joins, whichever the handshake names.
    room: Option<String>,
    read_only: bool,
    data: HostData,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(known) = &self.0 else { return f.write_str("Identity(guest)") };
        f.debug_struct("Identity")
            .field("has_id", &known.id.is_some())
            .field("read_only", &known.read_only)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
enum Username {
    /// The handshake's must be this one.
    Required(String),
    /// The player's name, in place of the one in the handshake.
    Assigned(String),
}

impl Identity {
    /// An identity about which nothing is known but that the host let it in.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the id of the person, such as an account's number. Two connections with one id are the same person.
    /// Default: none.
    ///
    /// A newcomer with the id of the member that holds its username takes the name over at once;
    /// the older connection is closed with 4002.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        self.knowing(|known| known.id = Some(id.into()))
    }

    /// Sets the only username under which this player may join. A handshake with another is refused with
    /// 4002. Default: any that the rules allow. A name that the host knows need not pass
    /// [`UsernameRules`](crate::UsernameRules).
    #[must_use]
    pub fn with_username(self, name: impl Into<String>) -> Self {
        self.knowing(|known| known.username = Some(Username::Required(name.into())))
    }

    /// Sets the username that this player gets, in place of the one in the handshake. Default: the handshake's.
    #[must_use]
    pub fn with_assigned_username(self, name: impl Into<String>) -> Self {
        self.knowing(|known| known.username = Some(Username::Assigned(name.into())))
    }

    /// Sets the ids of the rooms that this player may join. Another is refused with 4001. Default: any.
    #[must_use]
    pub fn with_rooms<I>(self, ids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.knowing(|known| known.rooms = Some(ids.into_iter().map(Into::into).collect()))
    }

    /// Sets the id of the room that this player joins, whichever the handshake names. Default: the
    /// handshake's. So one project with one id can serve many groups. [`with_rooms`](Self::with_rooms) is not
    /// asked, and no [`Mount::rooms_in`](crate::Mount::rooms_in) stands before it.
    #[must_use]
    pub fn with_assigned_room(self, id: impl Into<String>) -> Self {
        self.knowing(|known| known.room = Some(id.into()))
    }

    /// Sets whether this player only watches: its writes are ignored, and its view is healed. Default
    /// `false`.
    #[must_use]
    pub fn with_read_only(self, read_only: bool) -> Self {
        self.knowing(|known| known.read_only = read_only)
    }

    /// Adds a value of the host's, to find again by its type in [`Write`](crate::policy::Write) and
    /// wherever else the host meets this identity; one value of each type.
    #[must_use]
    pub fn with_data<T: Clone + Send + Sync + 'static>(self, value: T) -> Self {
        self.knowing(|known| known.data.insert(value))
    }

    /// Returns the id that [`with_id`](Self::with_id) has set.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.0.as_ref()?.id.as_deref()
    }

    /// Returns the username that the host has said the player has, by
    /// [`with_username`](Self::with_username) or [`with_assigned_username`](Self::with_assigned_username).
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match self.claim()? {
            Username::Required(name) | Username::Assigned(name) => Some(name),
        }
    }

    /// Returns the ids of the rooms that this player may join, in no particular order; `None` if any.
    pub fn rooms(&self) -> Option<impl Iterator<Item = &str>> {
        Some(self.0.as_ref()?.rooms.as_ref()?.iter().map(String::as_str))
    }

    /// Returns the id that [`with_assigned_room`](Self::with_assigned_room) has set.
    #[must_use]
    pub fn assigned_room(&self) -> Option<&str> {
        self.0.as_ref()?.room.as_deref()
    }

    /// Returns whether this player only watches.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.0.as_ref().is_some_and(|known| known.read_only)
    }

    /// Returns the value of this type that [`with_data`](Self::with_data) has added.
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.as_ref()?.data.get()
    }

    fn knowing(mut self, change: impl FnOnce(&mut Known)) -> Self {
        change(Arc::make_mut(self.0.get_or_insert_default()));
        self
    }

    pub(crate) fn is_same_person(&self, other: &Self) -> bool {
        self.id().is_some() && self.id() == other.id()
    }

    /// Whether the host itself has said that this is the player's name, so no rule need judge it.
    pub(crate) fn vouches_for(&self, claimed: &str) -> bool {
        match self.claim() {
            Some(Username::Required(name)) => name == claimed,
            Some(Username::Assigned(_)) => true,
            None => false,
        }
    }

    /// Returns the username of a player that claims this one.
    pub(crate) fn name<'a>(&'a self, claimed: &'a str) -> Result<Cow<'a, str>, Close> {
        match self.claim() {
            Some(Username::Required(name)) if name != claimed => Err(Close::another_name()),
            Some(Username::Assigned(name)) => Ok(name.into()),
            Some(Username::Required(_)) | None => Ok(claimed.into()),
        }
    }

    pub(crate) fn check_room(&self, id: &str) -> Result<(), Close> {
        match self.0.as_ref().and_then(|known| known.rooms.as_ref()) {
            Some(rooms) if !rooms.contains(id) => Err(Close::another_room()),
            _ => Ok(()),
        }
    }

    fn claim(&self) -> Option<&Username> {
        self.0.as_ref()?.username.as_ref()
    }
}
