//! Who the host says that a request comes from.

/// What the host's auth layer knows about a player, put into the request's extensions before it
/// reaches the mount.
///
/// Without one a player is a guest; [`Mount::require_identity`](crate::Mount::require_identity)
/// refuses guests.
///
/// ```
/// use axum::{Router, extract::Request, middleware::{self, Next}};
/// use axum_cloud_variables::{Identity, RoomRegistry};
///
/// let rooms = RoomRegistry::new();
/// let app: Router = Router::new()
///     .merge(rooms.mount("/cloud").require_identity(true))
///     .layer(middleware::from_fn(async |mut request: Request, next: Next| {
///         // Here: after looking at a cookie or a token.
///         request.extensions_mut().insert(Identity::new().id("account 7"));
///         next.run(request).await
///     }));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    id: Option<String>,
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
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    pub(crate) fn is_same_person(&self, other: &Self) -> bool {
        self.id.is_some() && self.id == other.id
    }
}
