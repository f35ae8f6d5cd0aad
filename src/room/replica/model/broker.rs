//! The broker of the docs, with a clock and a memory that can fail.

#![allow(dead_code, unreachable_pub, reason = "the model has a room, and no relay")]

use std::collections::{BTreeSet, VecDeque};

include!("../../../relay/memory.rs");

/// The state that a broker that saves every second has on its disk.
#[derive(Debug, Clone)]
struct Saved {
    room: Option<Room>,
    removed: Vec<String>,
    bans: BTreeMap<String, (String, Instant)>,
}

#[derive(Debug)]
pub(super) struct Broker {
    kept: Kept,
    messages: broadcast::Receiver<RelayMessage>,
    saves: bool,
    saved: VecDeque<(Instant, Saved)>,
    /// How far the clock was set forward.
    ahead: Duration,
    /// The times at which everyone was put out.
    pub(super) closed: Vec<Instant>,
    /// The time at which each session began.
    pub(super) joined: HashMap<(String, u64), Instant>,
    /// The place of each value in the order.
    pub(super) order: HashMap<String, usize>,
}

/// The age from which saved state survives a crash.
const SAVED: Duration = Duration::from_secs(1);

impl Broker {
    /// Creates a broker. `saves` is whether it is to come back with the state that it had a second ago.
    pub(super) fn new(saves: bool) -> Self {
        let kept = Kept::new();
        Self {
            messages: kept.messages.subscribe(),
            kept,
            saves,
            saved: VecDeque::new(),
            ahead: Duration::ZERO,
            closed: Vec::new(),
            joined: HashMap::new(),
            order: HashMap::new(),
        }
    }

    /// Makes a step, and returns the answer and the message that all nodes receive.
    pub(super) fn step(
        &mut self,
        node: RelayNode<'_>,
        request: &RelayRequest,
        now: Instant,
    ) -> (RelayAnswer, Option<RelayMessage>) {
        let answer = self.kept.step(node, request, now + self.ahead);
        let message = self.messages.try_recv().ok();
        if let (RelayRequest::Join { session, .. }, RelayAnswer::Done { .. }) = (request, &answer) {
            self.joined.entry((node.name.into(), session.number)).or_insert(now);
        }
        match &message {
            Some(RelayMessage::Changed { change: RelayChange::Closed, .. })
            | Some(RelayMessage::Told(RelayNews::Removed { .. })) => self.closed.push(now),
            Some(RelayMessage::Wrote(wrote)) => {
                for RelayWrite { value, .. } in &wrote.writes {
                    let Some(value) = value else { continue };
                    if let Some((room, _)) = value.split_once('|') {
                        assert_eq!(room, wrote.revision.room, "a value of another room");
                    }
                    let place = self.order.len();
                    self.order.entry(value.clone()).or_insert(place);
                }
            }
            _ => {}
        }
        if self.saves {
            self.save(now);
        }
        (answer, message)
    }

    fn save(&mut self, now: Instant) {
        let Kept { room, removed, bans, .. } = &self.kept;
        let saved = Saved { room: room.clone(), removed: removed.clone(), bans: bans.clone() };
        self.saved.push_back((now, saved));
        while self.saved.get(1).is_some_and(|(time, _)| now - *time > SAVED) {
            self.saved.pop_front();
        }
    }

    /// Restores the state of a second ago.
    pub(super) fn lose_last(&mut self, now: Instant) {
        let mut saved = self.saved.iter().filter(|(time, _)| now - *time > SAVED);
        let Some((_, saved)) = saved.next_back().cloned() else { return self.lose_all() };
        (self.kept.room, self.kept.removed, self.kept.bans) =
            (saved.room, saved.removed, saved.bans);
    }

    pub(super) fn lose_all(&mut self) {
        self.kept.room = None;
        self.kept.removed.clear();
        self.kept.bans.clear();
    }

    pub(super) fn set_clock_forward(&mut self, time: Duration) {
        self.ahead += time;
    }

    /// Returns the room as a node that is not in it reads it.
    pub(super) fn room(&mut self, now: Instant) -> Option<(RelayRevision, RelayRoom)> {
        if let Some(room) = &mut self.kept.room {
            room.expire(now + self.ahead);
        }
        match self.kept.read("", false, now + self.ahead) {
            RelayAnswer::Room { revision, room, .. } => Some((revision, room)),
            _ => None,
        }
    }

    /// Returns the sessions, by node and number.
    pub(super) fn sessions(&self) -> BTreeSet<(String, u64)> {
        let sessions = self.kept.room.iter().flat_map(|room| room.sessions.keys());
        sessions.cloned().collect()
    }
}
