//! A room's end of its broker: what the broker is asked next, and what its answers mean.
//!
//! A state machine without a task, a channel or a clock of its own: whoever drives it asks for the next
//! [`Step`], and hands in answers, messages and the time.

mod apply;
mod drive;
#[cfg(all(test, not(shuttle)))]
mod model;
mod pending;
mod sessions;
mod submit;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) use apply::Heard;
pub(super) use pending::PendingWrite;
pub(crate) use pending::Wish;

use crate::{
    budget::Charge,
    close::Close,
    relay::{RelayAnswer, RelayBan, RelayNode, RelayRequest, RelayRevision, RelayRoom},
    room::terms::Outcome,
};
use pending::{Ask, Pending, Taken};
use sessions::Sessions;

/// What a room's end of the broker waits for, or wants to have done.
#[derive(Debug)]
pub(crate) enum Step {
    /// Ask the broker this, as this node, and hand in the answer.
    Ask(Caller, Box<RelayRequest>),
    /// Enter the room again, as a node of a new name.
    Enter,
    /// Subscribe to the room's messages, and hand in whether that is done.
    Subscribe,
    /// Come again when something has happened, or at this moment.
    Wait(Option<Instant>),
    /// There is no more to do: the room is gone.
    Over,
}

/// The node, as it asks for something.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) name: Arc<str>,
    /// See [`RelayNode::acknowledged`].
    acknowledged: u64,
}

impl Caller {
    /// One that knows of nothing that was taken.
    pub(crate) fn new(name: &Arc<str>) -> Self {
        Self { name: name.clone(), acknowledged: 0 }
    }

    pub(crate) fn as_node(&self) -> RelayNode<'_> {
        RelayNode { name: &self.name, acknowledged: self.acknowledged }
    }
}

/// How far this node is in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It hears every step.
    Live,
    /// It may have missed steps, and reads the room.
    CatchingUp,
    /// The broker does not know it in the room, and it enters again.
    Entering(Cause),
    /// It is out for good.
    Out,
}

/// Why a node enters a room again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The broker says that it is not there: its lease was over, or the broker has lost the room.
    Fenced,
    /// The broker has lost something that it had taken.
    Lost,
}

/// The messages of the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Flows,
    /// It ended, and is asked for again at this moment.
    Ended(Instant),
    /// It was asked for.
    Asked,
}

/// The request under way.
#[derive(Debug)]
struct Asking {
    what: What,
    /// The revision at which the node had the room when it asked.
    at: RelayRevision,
    /// Nobody waits for the outcome any more.
    is_given_up: bool,
}

#[derive(Debug)]
enum What {
    Enter(Arc<str>),
    Rejoin(u64),
    Read,
    Renew,
    Leave(Vec<u64>),
    Writes,
    Ask(Ask),
    /// A change whose message came before its answer.
    Settled,
}

/// Between two attempts to reach the broker: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How late a driver may be, until another one begins.
const STALLED: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Replica {
    node: Arc<str>,
    /// The revision that was applied last.
    revision: RelayRevision,
    /// The number that was given last.
    numbered: u64,
    /// The highest number that the broker has said that it has taken.
    acknowledged: u64,
    pending: Pending,
    sessions: Sessions,
    phase: Phase,
    stream: Stream,
    asking: Option<Asking>,
    /// The broker does not answer: the pause before the next attempt.
    away: Option<Duration>,
    /// Nothing is asked before it.
    not_before: Instant,
    /// No write is sent before it, so that a node sends one request a tick.
    write_at: Instant,
    renew_at: Instant,
    /// The broker's revision at the last renewal.
    renewed: Option<RelayRevision>,
    pace: Pace,
    /// And until when.
    bans: Vec<(RelayBan, Instant)>,
    /// What came of wishes, by their tickets.
    outcomes: Vec<(u64, Reply)>,
    /// What everyone here is told, if the node is out.
    ended: Option<Close>,
    /// There is something new to do.
    is_stirred: bool,
    /// Since when its driver has been asked to come.
    waits_since: Option<Instant>,
    /// Which driver it has: what another does has no effect any more.
    driver: u64,
}

/// How often a node asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Between two requests with writes.
    pub(crate) tick: Duration,
    /// How long a node is in a room without renewing.
    pub(crate) lease: Duration,
}

impl Pace {
    /// Between two renewals.
    fn renewal(self) -> Duration {
        self.lease * 3 / 10
    }
}

/// A room as the broker has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtBroker<'a> {
    pub(crate) revision: &'a RelayRevision,
    pub(crate) room: &'a RelayRoom,
    /// The number that it has taken last of this node.
    pub(crate) taken: u64,
}

/// What has become of a room's end of the broker since it was looked at last.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) outcomes: Vec<(u64, Reply)>,
    /// Whether the broker is away.
    pub(crate) is_away: bool,
    /// Everyone is to be put out with this, and the room forgotten here.
    pub(crate) ended: Option<Close>,
}

/// What came of something that the node asked for.
#[derive(Debug)]
pub(crate) enum Reply {
    Broker(RelayAnswer),
    /// Of a write that has terms.
    Update(Outcome),
}

impl Replica {
    pub(super) fn new(
        node: &Arc<str>,
        there: AtBroker<'_>,
        pace: Pace,
        charge: Charge,
        now: Instant,
    ) -> Self {
        Self {
            node: node.clone(),
            revision: there.revision.clone(),
            numbered: there.taken,
            acknowledged: there.taken,
            pending: Pending::new(charge),
            sessions: Sessions::default(),
            phase: Phase::Live,
            stream: Stream::Flows,
            asking: None,
            away: None,
            not_before: now,
            write_at: now,
            renew_at: now + pace.renewal(),
            renewed: None,
            pace,
            bans: Vec::new(),
            outcomes: Vec::new(),
            ended: None,
            is_stirred: false,
            waits_since: None,
            driver: 0,
        }
    }

    pub(super) fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// The revision that was applied last.
    pub(super) fn revision(&self) -> &RelayRevision {
        &self.revision
    }

    /// True once after something that its driver does not know of.
    pub(super) fn take_stirred(&mut self, now: Instant) -> bool {
        let is_stirred = std::mem::take(&mut self.is_stirred);
        if is_stirred {
            self.waits_since.get_or_insert(now);
        }
        is_stirred
    }

    /// Whether its driver does not come, as its runtime may not run it.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.waits_since.is_some_and(|since| since + STALLED < now)
    }

    /// Whether the broker may not have all that happened here.
    pub(super) fn is_behind(&self) -> bool {
        let is_asking = self.asking.as_ref().is_some_and(|asking| {
            !matches!(asking.what, What::Read | What::Renew | What::Enter(_))
        });
        is_asking || !self.pending.is_empty()
    }

    /// Whether messages may be handed in: not while the whole room is on its way.
    pub(super) fn listens(&self) -> bool {
        let is_reading = self
            .asking
            .as_ref()
            .is_some_and(|asking| matches!(asking.what, What::Read | What::Enter(_)));
        self.stream == Stream::Flows && !is_reading
    }

    pub(super) fn submit(&mut self, write: PendingWrite) -> bool {
        self.is_stirred = true;
        self.pending.submit(write, self.away.is_some())
    }

    /// Queues a wish; false if the node is out of the room.
    pub(super) fn wish(&mut self, ticket: u64, wish: Wish) -> bool {
        if self.phase == Phase::Out {
            return false;
        }
        self.is_stirred = true;
        self.pending.ask(ticket, wish);
        true
    }

    /// Nobody waits for a wish any more. If the broker may have taken it in, what it has taken in is
    /// given back: a session leaves, a lead is resigned.
    pub(super) fn give_up(&mut self, ticket: u64) {
        if let Some(asking) = &mut self.asking
            && let What::Ask(ask) = &asking.what
            && ask.ticket == ticket
        {
            asking.is_given_up = true;
        } else if let Some(ask) = self.pending.cancel(ticket)
            && ask.attempt.is_some()
        {
            self.undo(ask);
        }
    }

    fn undo(&mut self, ask: Ask) {
        match ask.wish {
            Wish::Join { session, .. } => self.leave_at_broker(session.number),
            Wish::Lead { lead, is_renewal: false } => {
                self.pending.ask(ask.ticket, Wish::Resign(lead));
            }
            Wish::Lead { is_renewal: true, .. } => {}
            Wish::Change(_) | Wish::Remove | Wish::Tell(_) | Wish::Resign(_) => {}
        }
    }

    fn leave_at_broker(&mut self, session: u64) {
        self.is_stirred = true;
        self.pending.leave(session);
    }

    /// A session is over.
    pub(super) fn end(&mut self, session: u64) {
        if self.sessions.remove(session) {
            self.leave_at_broker(session);
        }
    }

    pub(super) fn lease(&self) -> Duration {
        self.pace.lease
    }

    pub(super) fn has_session(&self, session: u64) -> bool {
        self.sessions.has(session)
    }

    pub(super) fn ban(&mut self, ban: RelayBan, now: Instant) {
        self.bans.retain(|(there, until)| there.who != ban.who && *until > now);
        // A moment that far ahead is never.
        if let Some(until) = now.checked_add(Duration::from_millis(ban.millis)) {
            self.bans.push((ban, until));
        }
    }

    pub(super) fn bans(&self, now: Instant) -> Vec<RelayBan> {
        let left = |(ban, until): &(RelayBan, Instant)| {
            let left = until.saturating_duration_since(now).as_millis();
            RelayBan { millis: u64::try_from(left).unwrap_or(u64::MAX), ..ban.clone() }
        };
        self.bans.iter().map(left).filter(|ban| ban.millis > 0).collect()
    }

    /// What is to be done next.
    pub(super) fn next(&mut self, most: u64, now: Instant) -> Step {
        self.waits_since = None;
        if self.phase == Phase::Out {
            return Step::Over;
        }
        if let Stream::Ended(at) = self.stream
            && at <= now
        {
            self.stream = Stream::Asked;
            return Step::Subscribe;
        }
        if self.asking.is_none() && self.not_before <= now {
            if matches!(self.phase, Phase::Entering(_)) {
                return Step::Enter;
            }
            if let Some(request) = self.next_request(most, now) {
                let (name, acknowledged) = (self.node.clone(), self.acknowledged);
                return Step::Ask(Caller { name, acknowledged }, Box::new(request));
            }
        }
        Step::Wait(self.wakes_at(now))
    }

    /// When there may be something to do that nothing else tells of.
    fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let asks = match self.asking {
            Some(_) => None,
            None if self.not_before > now => Some(self.not_before),
            None => {
                let write = self.pending.is_write_next().then_some(self.write_at);
                Some(write.map_or(self.renew_at, |write| write.min(self.renew_at)))
            }
        };
        let subscribes = match self.stream {
            Stream::Ended(at) => Some(at),
            Stream::Flows | Stream::Asked => None,
        };
        asks.into_iter().chain(subscribes).min()
    }

    fn next_request(&mut self, most: u64, now: Instant) -> Option<RelayRequest> {
        let (what, request) = if let Some(session) = self.sessions.next_rejoining() {
            self.numbered += 1;
            let (number, replaces) = (self.numbered, Vec::new());
            let what = What::Rejoin(session.number);
            (what, RelayRequest::Join { number, session, replaces })
        } else if self.phase == Phase::CatchingUp && self.stream == Stream::Flows {
            (What::Read, RelayRequest::Read)
        } else if self.renew_at <= now {
            (What::Renew, RelayRequest::Renew)
        } else {
            let may_write = self.write_at <= now;
            let (taken, request) = self.pending.take(&mut self.numbered, most, may_write)?;
            let what = match taken {
                Taken::Leave(sessions) => What::Leave(sessions),
                Taken::Writes => What::Writes,
                Taken::Ask(ask) => What::Ask(ask),
            };
            (what, request)
        };
        self.begin(what);
        Some(request)
    }

    fn begin(&mut self, what: What) {
        self.asking = Some(Asking { what, at: self.revision.clone(), is_given_up: false });
    }

    /// The stream of messages has ended, or was asked for in vain.
    pub(super) fn ended(&mut self, now: Instant) {
        let pause = if self.stream == Stream::Asked { RETRY.1 } else { Duration::ZERO };
        self.stream = Stream::Ended(now + pause);
    }

    /// Messages come from now on; what came before is read.
    pub(super) fn subscribed(&mut self) {
        self.stream = Stream::Flows;
        self.catch_up();
    }

    fn catch_up(&mut self) {
        if self.phase == Phase::Live {
            self.phase = Phase::CatchingUp;
        }
    }

    /// A request has failed: whether the broker has it is not known.
    fn failed(&mut self, asking: Asking, now: Instant) {
        let pause = self.away.map_or(RETRY.0, |pause| RETRY.1.min(2 * pause));
        self.away = Some(pause);
        self.not_before = now + pause;
        self.put_back(asking);
    }

    /// A request is to be made again.
    fn put_back(&mut self, asking: Asking) {
        match asking.what {
            What::Leave(sessions) => self.pending.leave_again(sessions),
            What::Ask(ask) if asking.is_given_up => self.undo(ask),
            What::Ask(ask) => self.pending.ask_again(ask),
            // The broker may have taken in one that has ended meanwhile.
            What::Rejoin(session) if !self.sessions.has(session) => self.leave_at_broker(session),
            // Asked again by what they stand for.
            What::Enter(_) | What::Rejoin(_) | What::Read | What::Renew => {}
            // They wait in `pending`, or have come back.
            What::Writes | What::Settled => {}
        }
    }

    fn done(&mut self, asking: Asking, revision: &RelayRevision, now: Instant) {
        match asking.what {
            What::Renew => {
                self.renew_at = now + self.pace.renewal();
                // What the broker had last time has come since, or was lost on its way.
                let is_behind = |last: RelayRevision| {
                    last.epoch == revision.epoch && last.number > asking.at.number
                };
                if self.renewed.replace(revision.clone()).is_some_and(is_behind) {
                    // That may be a sign of a connection that is none any more.
                    self.stream = Stream::Ended(now);
                }
            }
            What::Writes => {
                self.pending.answered();
                self.write_at = now + self.pace.tick;
            }
            What::Rejoin(session) => {
                if !self.sessions.rejoined(session, revision.number) {
                    // It has ended meanwhile, as by a close that the broker had before.
                    self.leave_at_broker(session);
                }
            }
            What::Ask(ask) => self.fulfilled(ask, asking.is_given_up, revision),
            What::Leave(_) | What::Enter(_) | What::Read | What::Settled => {}
        }
    }

    fn fulfilled(&mut self, ask: Ask, is_given_up: bool, revision: &RelayRevision) {
        match &ask.wish {
            Wish::Join { session, replaces } => {
                let replaces = replaces.clone();
                if !self.sessions.insert(session.clone(), revision.number, replaces) {
                    // A broker that lost the close may still have it.
                    self.leave_at_broker(session.number);
                }
            }
            Wish::Change(_) => {
                let here = &self.revision;
                if here.epoch == revision.epoch && here.number >= revision.number {
                    // It was taken before, and has been read since.
                    return self.fulfil(ask.ticket);
                }
                // It is done here when it has come back.
                if let Some(number) = ask.attempt {
                    self.pending.changed(number, ask);
                }
                return;
            }
            Wish::Remove | Wish::Tell(_) | Wish::Lead { .. } | Wish::Resign(_) => {}
        }
        if is_given_up {
            match ask.wish {
                // Its membership is given back with it.
                Wish::Join { .. } => {}
                _ => self.undo(ask),
            }
        } else {
            self.fulfil(ask.ticket);
        }
    }

    /// The node is out of the room for good.
    fn over(&mut self, close: Close) {
        self.phase = Phase::Out;
        self.ended = Some(close);
        let asked = self.asking.take().and_then(|asking| match asking.what {
            What::Ask(ask) => Some(ask.ticket),
            _ => None,
        });
        let tickets: Vec<_> = self.pending.tickets().chain(asked).collect();
        self.outcomes.extend(
            tickets.into_iter().map(|ticket| (ticket, Reply::Broker(RelayAnswer::Nowhere))),
        );
    }

    pub(super) fn progress(&mut self) -> Progress {
        Progress {
            outcomes: std::mem::take(&mut self.outcomes),
            is_away: self.away.is_some(),
            ended: self.ended.take(),
        }
    }
}
