//! A builder of clients.

use std::{fmt, future::Future, io, sync::Arc};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Client, Member,
    error::ClientError,
    transport::{AnyStream, Opener, Transport},
};
use crate::wire::{self, Json};

/// A client that is not connected yet, created by [`Client::builder`].
#[must_use = "a client is made by `connect`"]
pub struct ClientBuilder {
    address: String,
    room: String,
    username: String,
    resume: Option<String>,
    variables: Vec<(Json<'static>, Json<'static>)>,
    headers: Vec<(String, String)>,
    opener: Option<Opener>,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("room", &self.room)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl ClientBuilder {
    pub(super) fn new(address: String, room: String, username: String) -> Self {
        Self {
            address,
            room,
            username,
            resume: None,
            variables: Vec::new(),
            headers: Vec::new(),
            opener: None,
        }
    }

    /// Sets the room's variables and their first values. Default: none.
    pub fn variables<I, N, V>(mut self, variables: I) -> Self
    where
        I: IntoIterator<Item = (N, V)>,
        N: AsRef<str>,
        V: fmt::Display,
    {
        self.variables = wire::entries(variables);
        self
    }

    /// Adds a header to the request, such as a cookie or a token.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the secret of 16 to 128 bytes by which the server recognizes the client when it comes back, even
    /// after a restart of the program. [`connect`](Self::connect) fails if it is shorter or longer. Default: a
    /// random one.
    pub fn resume(mut self, secret: impl Into<String>) -> Self {
        self.resume = Some(secret.into());
        self
    }

    /// Sets the function that opens the client's streams: through a proxy, a Unix socket, or a pipe to a
    /// server in the same process. The client then adds no TLS of its own. Default: TCP, to the address.
    pub fn over<F, S>(mut self, open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        self.opener = Some(Arc::new(move || {
            let opening = open();
            async move { Ok(Box::pin(Box::pin(opening.await?)) as AnyStream) }.boxed()
        }));
        self
    }

    /// Connects and joins the room. The connection and its upgrade may take 10 s, and a server that then stays
    /// silent is given up after a minute.
    ///
    /// # Errors
    ///
    /// Returns [`ClientError`] if the first attempt fails.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside a tokio runtime.
    pub async fn connect(self) -> Result<Client, ClientError> {
        let mut transport = Transport::new(&self.address)?;
        for (name, value) in &self.headers {
            transport.header(name, value)?;
        }
        transport.opener = self.opener;
        let resume = self.resume.map_or_else(secret, Ok)?;
        if !wire::RESUME_BYTES.contains(&Json::from_plain(&resume).byte_len()) {
            return Err(ClientError::Secret);
        }
        let member = Member { room: self.room, username: self.username, resume };
        Client::start(member, &self.variables, transport).await
    }
}

/// Returns a secret that cannot be guessed.
fn secret() -> Result<String, ClientError> {
    let mut bytes = [0; 16];
    let unable = |error: getrandom::Error| ClientError::Unreachable(error.to_string());
    getrandom::fill(&mut bytes).map_err(unable)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
