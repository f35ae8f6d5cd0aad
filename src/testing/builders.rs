//! Builds the arguments of a policy.

use std::fmt;

use axum::http::{HeaderName, HeaderValue, Request, Uri, request::Parts};

use crate::{
    host_data::HostData,
    identity::Identity,
    policy::{Join, Write},
    wire::{self, Dialect, Json, Text},
};

/// A join, as an argument for [`Policy::admit`](crate::policy::Policy::admit).
///
/// ```
/// use axum_cloud_variables::{Identity, testing::JoinBuilder, policy::{Join, Policy, Rejection}};
///
/// struct Doors;
///
/// impl Policy for Doors {
///     async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
///         match join.request().uri.query() {
///             Some("token=7") => Ok(join.identity().clone()),
///             _ => Err(Rejection::permanent("you need a ticket")),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let join = JoinBuilder::new("arena", "ann");
/// assert!(Doors.admit(&join.build()).await.is_err());
/// let join = join.uri("/cloud?token=7");
/// assert!(Doors.admit(&join.build()).await.is_ok());
/// # }
/// ```
#[must_use]
pub struct JoinBuilder {
    room: String,
    username: String,
    dialect: Dialect,
    variables: Vec<(Json<'static>, Json<'static>)>,
    identity: Identity,
    parts: Parts,
    data: HostData,
    exists: bool,
}

impl fmt::Debug for JoinBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinBuilder").field(&self.build()).finish()
    }
}

impl JoinBuilder {
    /// Creates the join of a guest of [`Dialect::Spec`] that brings no variables, by a request for `/`, to a
    /// room that does not exist.
    pub fn new(room: impl Into<String>, username: impl Into<String>) -> Self {
        Self {
            room: room.into(),
            username: username.into(),
            dialect: Dialect::Spec,
            variables: Vec::new(),
            identity: Identity::new(),
            parts: Request::new(()).into_parts().0,
            data: HostData::default(),
            exists: false,
        }
    }

    /// Sets the field names that the client uses.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets the variables that the handshake brings.
    pub fn variables<I, N, V>(mut self, variables: I) -> Self
    where
        I: IntoIterator<Item = (N, V)>,
        N: AsRef<str>,
        V: fmt::Display,
    {
        self.variables = wire::entries(variables);
        self
    }

    /// Sets the identity that one of the host's layers has added to the request.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Sets the request's path and query.
    ///
    /// # Panics
    ///
    /// Panics if it is not a valid URI.
    pub fn uri(mut self, uri: &str) -> Self {
        self.parts.uri = uri.parse::<Uri>().unwrap();
        self
    }

    /// Adds a header to the request.
    ///
    /// # Panics
    ///
    /// Panics if it is not a valid header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).unwrap();
        self.parts.headers.append(name, HeaderValue::try_from(value).unwrap());
        self
    }

    /// Adds an extension to the request, as a layer does.
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.parts.extensions.insert(value);
        self
    }

    /// Puts a value into the room, as [`OpenRoom::data`](crate::OpenRoom::data) does.
    pub fn room_data<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.data.insert(value);
        self
    }

    /// Sets whether the room exists.
    pub fn room_exists(mut self, exists: bool) -> Self {
        self.exists = exists;
        self
    }

    /// Returns the join.
    #[must_use]
    pub fn build(&self) -> Join<'_> {
        Join {
            room: &self.room,
            username: &self.username,
            dialect: self.dialect,
            variables: &self.variables,
            identity: &self.identity,
            parts: &self.parts,
            data: self.data.clone(),
            exists: self.exists,
        }
    }
}

/// A write, as an argument for [`Policy::write`](crate::policy::Policy::write).
///
/// ```
/// use axum_cloud_variables::{testing::WriteBuilder, policy::{Policy, Rights, Verdict}};
///
/// let rights = Rights::new().host_only("star").owner_only("p_{name}");
/// let verdict = |name| rights.write(&WriteBuilder::new("arena", "ann", name, "1").build());
/// assert_eq!(verdict("p_ann"), Verdict::Accept);
/// assert_eq!(verdict("p_bob"), Verdict::Ignore);
/// assert_eq!(verdict("star"), Verdict::Ignore);
/// ```
#[must_use]
pub struct WriteBuilder {
    room: String,
    username: String,
    name: String,
    value: String,
    identity: Identity,
    data: HostData,
    look_up: Box<LookUp>,
}

/// Finds the room's value of a variable.
type LookUp = dyn Fn(&str) -> Option<Text> + Send + Sync;

impl fmt::Debug for WriteBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteBuilder").field(&self.build()).finish()
    }
}

impl WriteBuilder {
    /// Creates a guest's write, in a room without values.
    pub fn new(
        room: impl Into<String>,
        username: impl Into<String>,
        name: impl Into<String>,
        value: impl fmt::Display,
    ) -> Self {
        Self {
            room: room.into(),
            username: username.into(),
            name: name.into(),
            value: value.to_string(),
            identity: Identity::new(),
            data: HostData::default(),
            look_up: Box::new(|_| None),
        }
    }

    /// Sets the identity of the member that writes.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Puts a value into the room, as [`OpenRoom::data`](crate::OpenRoom::data) does.
    pub fn room_data<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.data.insert(value);
        self
    }

    /// Sets the values that the room has.
    pub fn values<I, N, V>(mut self, values: I) -> Self
    where
        I: IntoIterator<Item = (N, V)>,
        N: AsRef<str>,
        V: fmt::Display,
    {
        let values = wire::entries(values);
        self.look_up = Box::new(move |name| {
            let name = Json::from_plain(name);
            let found = values.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_text())
        });
        self
    }

    /// Returns the write.
    #[must_use]
    pub fn build(&self) -> Write<'_> {
        Write {
            room: &self.room,
            username: &self.username,
            identity: &self.identity,
            data: &self.data,
            name: self.name.as_str().into(),
            value: self.value.as_str().into(),
            look_up: &self.look_up,
        }
    }
}
