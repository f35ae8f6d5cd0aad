//! A client's side of one connection, from its opening to its end, and the values that it carries.
//!
//! It uses neither sockets nor clocks: the caller passes frames and the time in, and takes frames out.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    message::{self, ServerMessage},
    values::{Changed, End, Values},
};
use crate::wire::{Json, Text};

/// If a server acknowledges nothing, the client counts as joined this long after the first answered ping,
const SILENT_JOIN: Duration = Duration::from_secs(5);
/// or this long after the first of the room's values.
const LAST_VALUE: Duration = Duration::from_millis(500);
/// A connection is stalled if its handshake has no result within this time.
const STALLED: Duration = Duration::from_secs(10);
/// It is too if the server then says that it acknowledges, and for this long nothing else.
const STALLED_JOIN: Duration = Duration::from_secs(60);

/// How many frames may wait for the socket. Beyond that, a later set of a variable replaces an earlier one.
const WAITING: usize = 1_024;

/// A client's state: its values, and its current connection.
#[derive(Debug)]
pub(super) struct State {
    values: Values,
    connection: Option<Connection>,
    /// Whether the server acknowledged on the last connection that received anything.
    acknowledged: bool,
}

#[derive(Debug, Default)]
struct Connection {
    is_joined: bool,
    /// Whether the server has said that it acknowledges.
    acknowledges: bool,
    /// When the client counts as joined, if the server does not say.
    join_at: Option<Instant>,
    /// When the connection counts as lost, if the server does not say that it acknowledges.
    stalled_at: Option<Instant>,
    /// When the numbers of sets count as taken, if the server does not say.
    taken_at: VecDeque<(Instant, u64)>,
    waiting: VecDeque<String>,
    /// The updates that wait for an answer, by number.
    asked: HashMap<u64, oneshot::Sender<Option<bool>>>,
    numbered: u64,
}

impl Connection {
    /// Lets the client count as joined by this time, if that has to be guessed. If the server says that it
    /// acknowledges, or is known to, there is no guess: the client would mistake refused updates for silence.
    fn may_be_in(&mut self, is_guessed: bool, by: Instant) {
        if is_guessed && !self.is_joined && !self.acknowledges {
            self.join_at = Some(self.join_at.map_or(by, |at| at.min(by)));
        }
    }
}

/// A change of a client's state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Joined,
    Changed(Changed),
}

/// The result of an attempt to update.
#[derive(Debug)]
pub(super) enum Asked {
    /// The client is in no room now, or the queue of frames is full.
    NotNow,
    /// The server will answer, unless the connection ends first.
    Answer(oneshot::Receiver<Option<bool>>),
    /// The server does not support such sets, and treats it as an ordinary one.
    Stands,
}

impl State {
    pub(super) fn new(declared: &[(Json<'_>, Json<'_>)]) -> Self {
        Self { values: Values::new(declared), connection: None, acknowledged: false }
    }

    pub(super) fn values(&self) -> &Values {
        &self.values
    }

    pub(super) fn is_joined(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_joined)
    }

    /// Begins a connection, whose next frame is the handshake.
    pub(super) fn begin(&mut self, handshake: String, now: Instant) {
        self.values.begin();
        self.connection = Some(Connection {
            stalled_at: Some(now + STALLED),
            waiting: [handshake].into(),
            ..Connection::default()
        });
    }

    /// Notes that the server has answered a ping that was sent after the handshake.
    pub(super) fn answered(&mut self, now: Instant) {
        if let Some(connection) = &mut self.connection {
            connection.may_be_in(!self.acknowledged, now + SILENT_JOIN);
        }
    }

    /// Ends the connection. Returns whether the client was in the room.
    pub(super) fn end(&mut self, end: End) -> bool {
        self.values.end(end);
        self.connection.take().is_some_and(|connection| connection.is_joined)
    }

    /// Sets a variable.
    pub(super) fn set(&mut self, name: Text, value: Text, now: Instant) {
        self.values.set(name, value);
        self.send(now);
    }

    /// Sets a variable if the room has the value `was`, which must be the one that is shown.
    pub(super) fn set_if(&mut self, changed: &Changed, was: &Text, now: Instant) -> Asked {
        // Earlier sets go first.
        self.send(now);
        let has_place = |connection: &&mut Connection| {
            connection.is_joined && connection.waiting.len() < WAITING
        };
        let Some(connection) = self.connection.as_mut().filter(has_place) else {
            return Asked::NotNow;
        };
        self.values.update(changed.name.clone(), changed.value.clone());
        connection.numbered += 1;
        let number = connection.numbered;
        connection.waiting.push_back(message::set_if(changed, was, number));
        if !connection.acknowledges {
            return Asked::Stands;
        }
        let (answer, came) = oneshot::channel();
        connection.asked.insert(number, answer);
        Asked::Answer(came)
    }

    /// Takes the next frame to send.
    pub(super) fn next_frame(&mut self, now: Instant) -> Option<String> {
        self.send(now);
        self.connection.as_mut()?.waiting.pop_front()
    }

    /// Handles a frame from the server.
    pub(super) fn receive(&mut self, frame: &str, now: Instant) -> Vec<Happened> {
        let mut happened = Vec::new();
        for message in frame.split('\n').filter_map(message::parse) {
            self.obey(message, now, &mut happened);
        }
        happened
    }

    fn obey(&mut self, message: ServerMessage, now: Instant, happened: &mut Vec<Happened>) {
        let Some(connection) = &mut self.connection else { return };
        match message {
            ServerMessage::Set(Changed { name, value }) => {
                let changed = self.values.receive(name, value, connection.is_joined);
                happened.extend(changed.map(Happened::Changed));
                connection.may_be_in(!self.acknowledged, now + LAST_VALUE);
            }
            ServerMessage::Joining => {
                (connection.acknowledges, self.acknowledged) = (true, true);
                // The server will say when the client has joined, so silence says nothing; but a join that takes
                // longer than this will not come.
                (connection.join_at, connection.stalled_at) = (None, Some(now + STALLED_JOIN));
            }
            ServerMessage::Joined { created } => self.join(true, created, now, happened),
            ServerMessage::Taken { sets } => self.values.taken(sets),
            ServerMessage::Ack { number, ok } => {
                if let Some(answer) = connection.asked.remove(&number) {
                    // Fails if the update is no longer waiting.
                    _ = answer.send(ok);
                }
            }
        }
    }

    /// Returns when the next timed event is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let connection = self.connection.as_ref()?;
        let taken_at = connection.taken_at.front().map(|(at, _)| *at);
        [connection.join_at, connection.stalled_at, taken_at].into_iter().flatten().min()
    }

    /// Returns whether the server does not answer the handshake. If so, forgets that servers acknowledge,
    /// because the next connection may be to a server of another kind.
    pub(super) fn is_stalled(&mut self, now: Instant) -> bool {
        let connection = self.connection.as_ref();
        let is_stalled =
            connection.and_then(|connection| connection.stalled_at).is_some_and(|at| at <= now);
        self.acknowledged &= !is_stalled;
        is_stalled
    }

    /// Performs the events that are due.
    pub(super) fn pass(&mut self, now: Instant) -> Vec<Happened> {
        let mut happened = Vec::new();
        let Some(connection) = &mut self.connection else { return happened };
        while let Some((at, sets)) = connection.taken_at.front()
            && *at <= now
        {
            self.values.taken(*sets);
            connection.taken_at.pop_front();
        }
        if connection.join_at.is_some_and(|at| at <= now) {
            self.join(false, false, now, &mut happened);
        }
        happened
    }

    fn join(&mut self, is_known: bool, is_new: bool, now: Instant, happened: &mut Vec<Happened>) {
        let Some(connection) = self.connection.as_mut().filter(|connection| !connection.is_joined)
        else {
            return;
        };
        connection.is_joined = true;
        (connection.join_at, connection.stalled_at) = (None, None);
        happened.extend(self.values.join(is_known, is_new).into_iter().map(Happened::Changed));
        happened.push(Happened::Joined);
        self.send(now);
    }

    /// Moves unsent sets into the queue of frames, as far as there is space.
    fn send(&mut self, now: Instant) {
        let has_place = |state: &Self| {
            state.connection.as_ref().is_some_and(|connection| connection.waiting.len() < WAITING)
        };
        while has_place(self) && self.send_one() {}
        self.note_sent(now);
    }

    fn send_one(&mut self) -> bool {
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.is_joined)
        else {
            return false;
        };
        let next = self.values.next_unsent();
        connection.waiting.extend(next.as_ref().map(message::set));
        next.is_some()
    }

    fn note_sent(&mut self, now: Instant) {
        let sent = self.values.sent();
        if let Some(connection) = &mut self.connection
            && !connection.acknowledges
            && connection.taken_at.back().map_or(0, |(_, sets)| *sets) < sent
        {
            connection.taken_at.push_back((now + SILENT_JOIN, sent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Json::from_plain(text).to_text()
    }

    fn changed(name: &str, value: &str) -> Changed {
        Changed { name: text(name), value: text(value) }
    }

    fn opened(now: Instant) -> State {
        let mut state = State::new(&[(Json::from_plain("x"), Json::from_plain("0"))]);
        state.begin("handshake".into(), now);
        assert_eq!(state.next_frame(now).as_deref(), Some("handshake"));
        state
    }

    const SET: &str = r#"{"kind":"set","variable":"x","value":"1"}"#;

    #[test]
    fn a_server_that_acknowledges_says_when_the_client_is_in() {
        let now = Instant::now();
        let mut state = opened(now);
        state.set(text("x"), text("mine"), now);
        assert_eq!(state.receive(r#"{"kind":"joining"}"#, now), []);
        assert_eq!(state.due(), Some(now + STALLED_JOIN));
        assert_eq!(state.next_frame(now), None, "not before it is in");
        let joined = r#"{"kind":"joined","created":false}"#;
        let happened = state.receive(&format!("{SET}\n{joined}"), now);
        assert_eq!(happened, [Happened::Joined], "its own value is shown");
        assert_eq!(state.next_frame(now), Some(message::set(&changed("x", "mine"))));
    }

    #[test]
    fn of_other_servers_a_client_is_in_when_values_or_time_have_come() {
        let now = Instant::now();
        let mut state = opened(now);
        assert_eq!(state.due(), Some(now + STALLED));
        state.answered(now);
        assert_eq!(state.due(), Some(now + SILENT_JOIN));
        state.receive(SET, now);
        assert_eq!(state.due(), Some(now + LAST_VALUE));
        assert_eq!(state.pass(now), []);
        assert_eq!(state.pass(now + LAST_VALUE), [Happened::Joined]);
        assert!(state.is_joined());
        // Its sets count as taken after a while, and its updates at once.
        state.set(text("x"), text("2"), now);
        let was = text("2");
        assert!(matches!(state.set_if(&changed("x", "3"), &was, now), Asked::Stands));
        assert_eq!(state.due(), Some(now + SILENT_JOIN));
        state.pass(now + SILENT_JOIN);
        assert_eq!(state.due(), None);
    }

    #[test]
    fn a_connection_of_which_nothing_comes_is_stalled() {
        let now = Instant::now();
        let mut state = opened(now);
        assert!(!state.is_stalled(now));
        assert!(state.is_stalled(now + STALLED));
        // The client never guesses that a server that acknowledges has let it in.
        state.begin("handshake".into(), now);
        state.receive(r#"{"kind":"joining"}"#, now);
        assert!(!state.is_stalled(now + STALLED), "a join may take its time");
        state.end(End::Broken);
        state.begin("handshake".into(), now);
        state.answered(now);
        state.receive(SET, now);
        assert_eq!(state.due(), Some(now + STALLED));
        assert!(state.is_stalled(now + STALLED));
        // But the next server may be of another kind.
        state.begin("handshake".into(), now);
        state.answered(now);
        assert_eq!(state.due(), Some(now + SILENT_JOIN));
    }

    #[test]
    fn sets_that_wait_are_conflated_beyond_a_bound() {
        let now = Instant::now();
        let mut state = opened(now);
        state.receive("{\"kind\":\"joining\"}\n{\"kind\":\"joined\"}", now);
        for value in 0..3_000 {
            state.set(text("x"), text(&value.to_string()), now);
        }
        let sent: Vec<_> = std::iter::from_fn(|| state.next_frame(now)).collect();
        assert_eq!(sent.len(), WAITING + 1);
        assert_eq!(sent.last(), Some(&message::set(&changed("x", "2999"))));
    }

    #[test]
    fn an_update_is_answered_or_its_connection_ends() {
        let now = Instant::now();
        let mut state = opened(now);
        let (set, was) = (changed("x", "1"), text("0"));
        assert!(matches!(state.set_if(&set, &was, now), Asked::NotNow));
        state.receive("{\"kind\":\"joining\"}\n{\"kind\":\"joined\"}", now);
        let Asked::Answer(mut first) = state.set_if(&set, &was, now) else { panic!() };
        let Asked::Answer(mut second) = state.set_if(&set, &was, now) else { panic!() };
        state.receive(r#"{"kind":"ack","ack":1,"ok":false}"#, now);
        assert_eq!(first.try_recv(), Ok(Some(false)));
        assert!(state.end(End::Broken));
        assert_eq!(second.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
