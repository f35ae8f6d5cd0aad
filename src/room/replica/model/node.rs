//! One node: a room, its players, and the work that a registry does around them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use tokio::sync::broadcast;

use crate::{
    budget::Budget,
    close::Close,
    identity::Identity,
    names::{DuplicateNames, NameKey},
    relay::RelayAnswer,
    room::{
        AtBroker, MemberId, Newcomer, Outcome, Pace, RoomEvent, Rules, SessionHandle, State, Wish,
        event::Watchers, join::Looked,
    },
    wire::{Dialect, Json},
};

/// A player on a node.
#[derive(Debug, Default)]
pub(super) enum Player {
    #[default]
    Away,
    /// The player waits for its place.
    Joining,
    Playing {
        member: MemberId,
        handle: Arc<SessionHandle>,
        /// The node's name when it joined, and its session.
        session: (Arc<str>, u64),
    },
}

/// The caller that waits for the outcome of a wish.
#[derive(Debug)]
pub(super) enum Waiting {
    Player(usize, Arc<SessionHandle>),
    Host(Wish),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) rules: Arc<Rules>,
    pub(super) budget: Budget,
    pub(super) state: Option<State>,
    pub(super) players: Vec<Player>,
    pub(super) waiting: HashMap<u64, Waiting>,
    /// Whether a request to enter the room for the first time is under way.
    pub(super) is_entering: bool,
    /// The numbers of the newest request, stream and alarm.
    pub(super) asked: u64,
    pub(super) stream: u64,
    pub(super) alarm: u64,
    /// The moment until which the node stands still.
    pub(super) frozen: Instant,
    pub(super) vacated: Option<Instant>,
    /// The values that its members were sent of each variable.
    pub(super) seen: Option<broadcast::Receiver<RoomEvent>>,
    pub(super) history: BTreeMap<String, Vec<String>>,
}

const NAMES: [&str; 4] = ["ann", "ben", "eve", "sue"];

impl Node {
    pub(super) fn new(rules: Arc<Rules>, players: usize, now: Instant) -> Self {
        Self {
            rules,
            budget: Budget::new(usize::MAX),
            state: None,
            players: std::iter::repeat_with(Player::default).take(players).collect(),
            waiting: HashMap::new(),
            is_entering: false,
            asked: 0,
            stream: 0,
            alarm: 0,
            frozen: now,
            vacated: None,
            seen: None,
            history: BTreeMap::new(),
        }
    }

    /// Loads the room that has come from the broker.
    pub(super) fn load(&mut self, name: &Arc<str>, there: AtBroker<'_>, pace: Pace, now: Instant) {
        let stored = there.room.stored.variables.iter();
        let variables: Vec<_> = stored
            .map(|(name, value)| (Json::stored(name).unwrap(), Json::stored(value).unwrap()))
            .collect();
        let watchers = Arc::new(Watchers::default());
        let mut state =
            State::new(&self.rules, &"room".into(), Some(&variables), &self.budget, &watchers, now)
                .unwrap();
        state.replicate(name, there, pace, now);
        state.revive(&there.room.stored, now);
        self.seen = Some(state.observers.subscribe());
        self.state = Some(state);
    }

    /// Asks the broker for a place for a player. Returns `false` if the room refuses one.
    pub(super) fn reserve(&mut self, player: usize, session: u64, now: Instant) -> bool {
        let handle = Arc::new(SessionHandle::new(now));
        let newcomer = newcomer(player, &handle);
        let Some(state) = &mut self.state else { return false };
        let Ok(wish) = state.reserve(&newcomer, session) else { return false };
        assert!(state.wish(session, wish));
        self.players[player] = Player::Joining;
        self.waiting.insert(session, Waiting::Player(player, handle));
        true
    }

    /// Handles the outcome of a wish. Returns the session whose name a player wants, and its node.
    pub(super) fn outcome(
        &mut self,
        ticket: u64,
        outcome: &RelayAnswer,
        now: Instant,
    ) -> Option<(String, u64)> {
        let waiting = self.waiting.remove(&ticket)?;
        let state = self.state.as_mut()?;
        let is_done = matches!(outcome, RelayAnswer::Done { .. });
        match waiting {
            Waiting::Player(player, handle) => {
                self.players[player] = Player::Away;
                let newcomer = newcomer(player, &handle);
                if is_done && let Ok(joined) = state.join_reserved(newcomer, ticket, false, now) {
                    let session = (state.node().unwrap().clone(), ticket);
                    self.players[player] = Player::Playing { member: joined.id, handle, session };
                } else {
                    state.give_up(ticket, now);
                }
                if let RelayAnswer::NameInUse { node, session } = outcome {
                    return Some((node.clone(), *session));
                }
            }
            Waiting::Host(Wish::Remove) if is_done => self.forget(Close::room_closed(), now),
            Waiting::Host(_) => {}
        }
        None
    }

    /// Gives up a wish, because nobody waits for it any longer.
    pub(super) fn give_up(&mut self, ticket: u64, now: Instant) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        if let Waiting::Player(player, _) = waiting {
            self.players[player] = Player::Away;
        }
        if let Some(state) = &mut self.state {
            state.give_up(ticket, now);
        }
    }

    /// Forgets the room, because it is gone here.
    pub(super) fn forget(&mut self, close: Close, now: Instant) {
        if let Some(mut state) = self.state.take() {
            state.remove(&close, now);
        }
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            if let Waiting::Player(player, _) = waiting {
                self.players[player] = Player::Away;
            }
        }
        (self.vacated, self.seen) = (None, None);
    }

    /// Returns the outcomes that players received for their writes that add one, by number. The caller
    /// knows their room.
    pub(super) fn told(&mut self) -> Vec<(u64, Outcome)> {
        let mut told = Vec::new();
        for player in &self.players {
            let Player::Playing { handle, .. } = player else { continue };
            while let Some(ack) = handle.acks().take_due(u64::MAX) {
                told.push((ack.number, ack.outcome));
            }
        }
        told
    }

    /// Records the values that members were sent.
    pub(super) fn observe(&mut self) {
        while let Some(Ok(event)) = self.seen.as_mut().map(broadcast::Receiver::try_recv) {
            if let RoomEvent::Wrote { name, value, .. } = event {
                self.history.entry(name.to_string()).or_default().push(value.to_string());
            }
        }
    }
}

pub(super) fn duplicates(player: usize) -> DuplicateNames {
    match player % 5 {
        0 => DuplicateNames::Allow,
        1 => DuplicateNames::Replace,
        _ => DuplicateNames::Reject,
    }
}

/// Creates a newcomer. Some newcomers are the same person in two tabs, and some share their name with
/// anyone.
fn newcomer(player: usize, handle: &Arc<SessionHandle>) -> Newcomer<'static> {
    let name = NAMES[player % NAMES.len()];
    let identity = match player % 3 {
        0 => Identity::new().with_id(name),
        _ => Identity::new(),
    };
    Newcomer {
        dialect: Dialect::Scratch,
        variables: None,
        name,
        key: NameKey::new(name),
        duplicates: duplicates(player),
        identity,
        resume: None,
        session: None,
        handle: handle.clone(),
        outlet: Arc::new(Looked),
        outlived: None,
    }
}
