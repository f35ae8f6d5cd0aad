//! Who the host says that a request comes from.

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc};

use crate::{close::Close, host_data::HostData};

/// What the host's auth layer knows about a player, put into the request's extensions before it
/// reaches the mount; or what [`Policy::admit`](crate::policy::Policy::admit) says about them.
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
///         let identity = Identity::new().id("account 7").username("ann").with(User { level: 3 });
///         request.extensions_mut().insert(identity);
///         next.run(request).await
///     }));
/// ```
///
/// `Debug` shows none of it but what it allows.
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
    /// Whatever the handshake's is, the player is called so.
    Given(String),
}

impl Identity {
    /// An identity about which nothing is known but that the host let it in.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What makes two connections the same person, such as an account's number. Default: none.
    ///
    /// A newcomer with the id of the member that holds its username takes the name over at once;
    /// the older connection is closed with 4002.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        self.knowing(|known| known.id = Some(id.into()))
    }

    /// The only username under which this player may join; a handshake with another is refused with
    /// 4002. Default: any that the rules allow. A name that the host knows need not pass
    /// [`UsernameRules`](crate::UsernameRules).
    #[must_use]
    pub fn username(self, name: impl Into<String>) -> Self {
        self.knowing(|known| known.username = Some(Username::Required(name.into())))
    }

    /// The username that this player has, whatever the handshake's is. Default: the handshake's.
    #[must_use]
    pub fn overrule_username(self, name: impl Into<String>) -> Self {
        self.knowing(|known| known.username = Some(Username::Given(name.into())))
    }

    /// The ids of the rooms that this player may join; another is refused with 4001. Default: any.
    #[must_use]
    pub fn rooms<I>(self, ids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.knowing(|known| known.rooms = Some(ids.into_iter().map(Into::into).collect()))
    }

    /// The id of the room that this player joins, whichever the handshake names. Default: the handshake's.
    /// So one project with one id can serve many groups. [`rooms`](Self::rooms) is not asked, and no
    /// [`Mount::rooms_in`](crate::Mount::rooms_in) stands before it.
    #[must_use]
    pub fn with_room(self, id: impl Into<String>) -> Self {
        self.knowing(|known| known.room = Some(id.into()))
    }

    /// Whether this player only watches: what it writes is ignored, and its view healed. Default
    /// `false`.
    #[must_use]
    pub fn read_only(self, read_only: bool) -> Self {
        self.knowing(|known| known.read_only = read_only)
    }

    /// Anything that the host wants to find again, by its type, in [`Write`](crate::policy::Write) and
    /// wherever else it meets this identity; one value of each type.
    #[must_use]
    pub fn with<T: Clone + Send + Sync + 'static>(self, value: T) -> Self {
        self.knowing(|known| known.data.insert(value))
    }

    /// What [`with`](Self::with) put there.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.as_ref()?.data.get()
    }

    /// Whether [`read_only`](Self::read_only) was set.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.0.as_ref().is_some_and(|known| known.read_only)
    }

    fn knowing(mut self, change: impl FnOnce(&mut Known)) -> Self {
        change(Arc::make_mut(self.0.get_or_insert_default()));
        self
    }

    /// The room that the host has said this player joins.
    pub(crate) fn room(&self) -> Option<&str> {
        self.0.as_ref()?.room.as_deref()
    }

    pub(crate) fn person(&self) -> Option<&str> {
        self.0.as_ref()?.id.as_deref()
    }

    pub(crate) fn is_same_person(&self, other: &Self) -> bool {
        self.person().is_some() && self.person() == other.person()
    }

    /// Whether the host itself has said that this is the player's name, so no rule need judge it.
    pub(crate) fn vouches_for(&self, claimed: &str) -> bool {
        match self.claim() {
            Some(Username::Required(name)) => name == claimed,
            Some(Username::Given(_)) => true,
            None => false,
        }
    }

    /// What a player is called that claims this name.
    pub(crate) fn name<'a>(&'a self, claimed: &'a str) -> Result<Cow<'a, str>, Close> {
        match self.claim() {
            Some(Username::Required(name)) if name != claimed => Err(Close::another_name()),
            Some(Username::Given(name)) => Ok(name.into()),
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
