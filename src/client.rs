//! A client in Rust: for bots, tools and tests. (The feature `client`.)
//!
//! It does the same as [`client.js`](crate::RoomRegistry::mount) in a browser: it joins a room, keeps a copy
//! of its values, reconnects by itself if the protocol's status codes say so, and sends lost sets again. It
//! works with any server that speaks the protocol.
//!
//! ```no_run
//! use axum_cloud_variables::client::{Client, ClientEvent};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "wss://example.org/cloud";
//! let bot = Client::connect(url, "lobby", "bot", [("score", "0"), ("greeting", "")]).await?;
//! let mut events = bot.events();
//! bot.set("greeting", "hello");
//! while let Some(event) = events.next().await {
//!     if let ClientEvent::Set { name, value } = event {
//!         println!("{name} is {value}");
//!         bot.update("score", |old| old.parse().unwrap_or(0) + 1).await?;
//!     }
//! }
//! # Ok(()) }
//! ```

mod builder;
mod connection;
mod driver;
mod error;
mod event;
mod message;
mod reconnect;
mod transport;
mod values;

use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, broadcast, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    room::Events,
    wire::{Json, Text},
};
pub use builder::ClientBuilder;
use connection::{Asked, Happened, State};
pub use error::{ClientError, UpdateError};
pub use event::ClientEvent;
use transport::Transport;
use values::Changed;

/// A member of a room on some server. Cheap to clone. When the last clone is dropped, the connection ends.
///
/// See the [module](self) for an example.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    _handle: Arc<Handle>,
}

/// How many events wait for a slow program.
const EVENTS: usize = 1_024;

/// How many attempts an update makes while others set the variable.
const MOST_ATTEMPTS: usize = 1_000;

/// How often an update is refused in a row, by a room that has the value it builds on, before it gives up.
const MOST_REFUSALS: u32 = 3;

/// How long an update waits when the queue of frames is full.
const BUSY: Duration = Duration::from_millis(10);

/// The state that a client and its task share.
struct Shared {
    member: Member,
    state: Mutex<State>,
    status: watch::Sender<Status>,
    /// `None` once there are no more.
    events: Mutex<Option<broadcast::Sender<ClientEvent>>>,
    /// When the client last received anything from the server.
    heard: Mutex<tokio::time::Instant>,
    /// Notifies the task that there is something to send.
    stirred: Notify,
    /// Notifies the task that the next due time has changed.
    rescheduled: Notify,
    /// Cancelled when the program closes the client.
    leaving: CancellationToken,
}

/// The identity of the client: its room, its username and its secret.
struct Member {
    room: String,
    username: String,
    /// The secret by which the server recognizes the client when it comes back.
    resume: String,
}

#[derive(Debug, Clone)]
enum Status {
    Away,
    Joined,
    Ended(ClientError),
}

/// Has the task end when the last handle is gone.
struct Handle(CancellationToken);

impl Drop for Handle {
    fn drop(&mut self) {
        // Not aborted: it sends the rest first, and a close.
        self.0.cancel();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("room", &self.shared.member.room)
            .field("username", &self.shared.member.username)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to a server and joins a room. The address is that of a mount, with `ws`, `wss`, `http` or
    /// `https`; the variables are the room's, with their first values. If the room exists, its values take
    /// precedence, and its names must be these, unless it grows.
    ///
    /// # Errors
    ///
    /// Returns [`ClientError`] if the first attempt fails: see [`ClientBuilder::connect`]. Once it has joined,
    /// the client reconnects by itself.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside a tokio runtime.
    pub async fn connect<I, N, V>(
        url: &str,
        room: &str,
        username: &str,
        variables: I,
    ) -> Result<Self, ClientError>
    where
        I: IntoIterator<Item = (N, V)>,
        N: AsRef<str>,
        V: fmt::Display,
    {
        Self::builder(url, room, username).variables(variables).connect().await
    }

    /// Returns a builder of a client with settings.
    pub fn builder(
        url: impl Into<String>,
        room: impl Into<String>,
        username: impl Into<String>,
    ) -> ClientBuilder {
        ClientBuilder::new(url.into(), room.into(), username.into())
    }

    async fn start(
        member: Member,
        variables: &[(Json<'_>, Json<'_>)],
        transport: Transport,
    ) -> Result<Self, ClientError> {
        let shared = Arc::new(Shared {
            member,
            state: Mutex::new(State::new(variables)),
            status: watch::Sender::new(Status::Away),
            events: Mutex::new(Some(broadcast::Sender::new(EVENTS))),
            heard: Mutex::new(tokio::time::Instant::now()),
            stirred: Notify::new(),
            rescheduled: Notify::new(),
            leaving: CancellationToken::new(),
        });
        // Panics here, and not in the task, if the runtime has no timers.
        drop(sleep(Duration::ZERO));
        let handle = Arc::new(Handle(shared.leaving.clone()));
        tokio::spawn(driver::run(shared.clone(), transport));
        let client = Self { shared, _handle: handle };
        client.joined().await?;
        Ok(client)
    }

    /// Returns the value of a variable as the client shows it, or `None` if there is no such variable. While
    /// the client is away, this is the last known value. A lone surrogate is replaced.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        Some(self.shared.state.lock().values().shown().get(&text(name))?.lossy())
    }

    /// Returns the value of a variable, if it exists and has this type.
    #[must_use]
    pub fn get_as<T: FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    /// Returns the names and values of all variables, as the client shows them.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let state = self.shared.state.lock();
        let shown = state.values().shown().iter();
        shown.map(|(name, value)| (name.lossy(), value.lossy())).collect()
    }

    /// Waits until the value of a variable, as the client shows it, satisfies the condition, and returns the
    /// value. Does not wait if it does already. A variable that does not exist has the empty value.
    ///
    /// ```no_run
    /// # use axum_cloud_variables::client::{Client, ClientError};
    /// # async fn wait(bob: Client) -> Result<(), ClientError> {
    /// bob.wait_for("score", |score| score == "1").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ClientError`] if the client leaves for good before.
    pub async fn wait_for(
        &self,
        name: &str,
        mut condition: impl FnMut(&str) -> bool,
    ) -> Result<String, ClientError> {
        // Subscribed before the value is read, so that no change is missed. Any event is a reason to look, and
        // so is the number of events that were missed.
        let mut events = self.events();
        loop {
            let value = self.get(name).unwrap_or_default();
            if condition(&value) {
                return Ok(value);
            }
            if events.next().await.is_none() {
                return Err(self.ended().await);
            }
        }
    }

    /// Sets a variable for everyone. The client shows the value at once. This never waits: while the client
    /// is away, the last value of each variable is kept, and sent when it is back. Once the client has left
    /// for good, only the client itself shows the value.
    ///
    /// If the connection breaks right after a set, the client cannot know whether the room took the set. It
    /// sends the set again if the room then has a value from before the set. So if another member has set
    /// the variable back to such a value in the meantime, as with a flag that is 0 or 1, this client
    /// overrules that member. [`update`](Self::update) never does.
    pub fn set(&self, name: &str, value: impl fmt::Display) {
        // Converted before the lock, because this runs the program's code.
        let (name, value) = (text(name), text(&value.to_string()));
        self.shared.state.lock().set(name, value, now());
        self.shared.stir();
    }

    /// Sets a variable to the result of `change` on its value, atomically: if another member sets the
    /// variable in between, `change` is called again with the new value. In a room that grows, a variable that
    /// does not exist has the empty value. Returns the resulting value. Waits until the client is in the room.
    ///
    /// A server that does not support conditional sets treats it as an ordinary set.
    ///
    /// # Errors
    ///
    /// Returns [`UpdateError`] if the update fails or its outcome is unknown.
    pub async fn update<V: fmt::Display>(
        &self,
        name: &str,
        mut change: impl FnMut(&str) -> V,
    ) -> Result<String, UpdateError> {
        let name = text(name);
        let (mut attempts, mut refused) = (0, 0);
        while attempts < MOST_ATTEMPTS {
            self.joined().await.map_err(UpdateError::Ended)?;
            let was = self.shown(&name);
            let value = change(&was.lossy()).to_string();
            let changed = Changed { name: name.clone(), value: text(&value) };
            let asked = self.shared.state.lock().set_if(&changed, &was, now());
            self.shared.stir();
            match asked {
                Asked::Stands => return Ok(value),
                Asked::NotNow => {
                    sleep(BUSY).await;
                    continue;
                }
                Asked::Answer(answer) => match answer.await {
                    Ok(Some(true)) => return Ok(value),
                    Ok(Some(false)) => {}
                    Ok(None) | Err(_) => return Err(UpdateError::Unknown),
                },
            }
            attempts += 1;
            // The room's value came before the answer. If it is the same, nobody else has set the variable.
            refused = if self.shown(&name) == was { refused + 1 } else { 0 };
            if refused == MOST_REFUSALS {
                return Err(UpdateError::Refused);
            }
        }
        Err(UpdateError::Contested)
    }

    fn shown(&self, name: &Text) -> Text {
        let state = self.shared.state.lock();
        state.values().shown().get(name).cloned().unwrap_or_else(|| text(""))
    }

    /// Returns whether the client is in the room, and has its values.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.shared.state.lock().is_joined()
    }

    /// Waits until the client is in the room.
    ///
    /// # Errors
    ///
    /// Returns [`ClientError`] if the client has left for good.
    pub async fn joined(&self) -> Result<(), ClientError> {
        let mut status = self.shared.status.subscribe();
        // The sender lives as long as the client.
        let status = status.wait_for(|status| !matches!(status, Status::Away)).await;
        match status.as_deref() {
            Ok(Status::Ended(error)) => Err(error.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(ClientError::Left),
        }
    }

    /// Waits until the client has left for good, and returns the reason.
    pub async fn ended(&self) -> ClientError {
        let mut status = self.shared.status.subscribe();
        let status = status.wait_for(|status| matches!(status, Status::Ended(_))).await;
        match status.as_deref() {
            Ok(Status::Ended(error)) => error.clone(),
            _ => ClientError::Left,
        }
    }

    /// Returns the events from now on, as a [`Stream`](futures_util::Stream) or one by one. Up to 1,024
    /// events wait for a program; a slower program receives the number that it missed.
    ///
    /// The first [`Joined`](ClientEvent::Joined) comes before [`connect`](Self::connect) returns, so it is
    /// not among them.
    #[must_use]
    pub fn events(&self) -> Events<ClientEvent> {
        let events = self.shared.events.lock();
        events.as_ref().map_or_else(
            || Events::none(ClientEvent::Missed),
            |events| Events::new(events.subscribe(), ClientEvent::Missed),
        )
    }

    /// Leaves the room and stays away. Returns when the connection has ended.
    pub async fn close(&self) {
        self.shared.leaving.cancel();
        self.ended().await;
    }
}

impl Shared {
    fn handshake(&self, state: &State) -> String {
        let Member { room, username, resume } = &self.member;
        message::handshake(room, username, resume, state.values().declared().iter())
    }

    /// Wakes the task, so that it sends frames and checks the due times.
    fn stir(&self) {
        self.stirred.notify_one();
        self.rescheduled.notify_one();
    }

    fn announce(&self, happened: Happened) {
        let event = match happened {
            Happened::Joined => ClientEvent::Joined,
            Happened::Changed(Changed { name, value }) => {
                ClientEvent::Set { name: name.lossy().into(), value: value.lossy().into() }
            }
        };
        // Fails if there are no subscribers.
        if let Some(events) = &*self.events.lock() {
            _ = events.send(event);
        }
    }

    fn tell_left(&self, error: ClientError, returns: Option<Duration>) {
        let mut events = self.events.lock();
        // The first end counts, and no event follows it.
        let Some(sender) = &*events else { return };
        _ = sender.send(ClientEvent::Left { error: error.clone(), returns });
        let status = match returns {
            Some(_) => Status::Away,
            None => Status::Ended(error),
        };
        if returns.is_none() {
            *events = None;
        }
        self.status.send_replace(status);
    }
}

fn text(plain: &str) -> Text {
    Json::from_plain(plain).to_text()
}

/// Returns the time of the runtime's clock, which a test may pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
