//! A room's end of its broker: it decides on the next request to the broker, and applies the answers.
//!
//! This is a state machine without a task, a channel or a clock of its own. Its driver asks for the next
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
    relay::{RelayAnswer, RelayBan, RelayNews, RelayNode, RelayRequest, RelayRevision, RelayRoom},
    room::terms::Outcome,
};
use pending::{Ask, Pending, Taken};
use sessions::Sessions;

/// The next step of the driver of a room's end of the broker.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this request to the broker, as this node, and hand in the answer.
    Ask(Caller, Box<RelayRequest>),
    /// Enter the room again, as a node with a new name.
    Enter,
    /// Subscribe to the room's messages, and hand in whether that succeeded.
    Subscribe,
    /// Call again when something has happened, or at this moment.
    Wait(Option<Instant>),
    /// There is no more to do, because the room is gone.
    Over,
}

/// The node that sends a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) name: Arc<str>,
    /// See [`RelayNode::acknowledged`].
    acknowledged: u64,
}

impl Caller {
    /// Creates a caller that knows of no number that the broker has taken.
    pub(crate) fn new(name: &Arc<str>) -> Self {
        Self { name: name.clone(), acknowledged: 0 }
    }

    pub(crate) fn as_node(&self) -> RelayNode<'_> {
        RelayNode { name: &self.name, acknowledged: self.acknowledged }
    }
}

/// The state of this node in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The node receives every step.
    Live,
    /// The node may have missed steps, and reads the room.
    CatchingUp,
    /// The broker does not know the node in the room, so the node enters again.
    Entering(Cause),
    /// The node is out for good.
    Out,
}

/// The reason why a node enters a room again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The broker says that the node is not in the room: its lease has expired, or the broker has lost the
    /// room.
    Fenced,
    /// The broker has lost something that it had taken.
    Lost,
}

/// The stream of the room's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Flows,
    /// The stream ended, and is requested again at this moment.
    Ended(Instant),
    /// The stream was requested.
    Asked,
}

/// The request under way.
#[derive(Debug)]
struct Asking {
    what: What,
    /// The revision that the node had when it sent the request.
    at: RelayRevision,
    /// Nobody waits for the outcome any more.
    is_given_up: bool,
    /// The lease may have become shorter since the request was sent.
    is_before_news: bool,
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

/// The pause between two attempts to reach the broker: the first one, and the longest one.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How late a driver may be before another one begins.
const STALLED: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Replica {
    node: Arc<str>,
    /// The revision that was applied last.
    revision: RelayRevision,
    /// The number that was assigned last.
    numbered: u64,
    /// The highest number that the broker has confirmed as taken.
    acknowledged: u64,
    pending: Pending,
    sessions: Sessions,
    phase: Phase,
    stream: Stream,
    asking: Option<Asking>,
    /// The pause before the next attempt, if the broker does not answer.
    away: Option<Duration>,
    /// The moment before which no request is sent.
    not_before: Instant,
    /// The moment before which no write is sent, so that a node sends one request a tick.
    write_at: Instant,
    renew_at: Instant,
    /// The broker's revision at the last renewal.
    renewed: Option<RelayRevision>,
    pace: Pace,
    /// The bans, and the moment at which each of them ends.
    bans: Vec<(RelayBan, Instant)>,
    /// The outcomes of wishes, by their tickets.
    outcomes: Vec<(u64, Reply)>,
    /// The close that everyone here receives, if the node is out.
    ended: Option<Close>,
    /// Whether there is something new to do.
    is_stirred: bool,
    /// The moment since which the driver has been due to come.
    waits_since: Option<Instant>,
    /// The number of the current driver. Another driver no longer has any effect.
    driver: u64,
}

/// The intervals at which a node sends requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The time between two requests with writes.
    pub(crate) tick: Duration,
    /// How long a node stays in a room without renewing.
    pub(crate) lease: Duration,
}

impl Pace {
    /// Returns the time between two renewals. A lease may become as short as the time to renew, and the news of
    /// that may be lost.
    fn renewal(self) -> Duration {
        (self.lease * 3 / 10).min(RelayNews::TIME_TO_RENEW * 3 / 4)
    }
}

/// A room as the broker has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtBroker<'a> {
    pub(crate) revision: &'a RelayRevision,
    pub(crate) room: &'a RelayRoom,
    /// The last number that the broker has taken from this node.
    pub(crate) taken: u64,
}

/// The changes at a room's end of the broker since the last call.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) outcomes: Vec<(u64, Reply)>,
    /// Whether the broker is away.
    pub(crate) is_away: bool,
    /// The close with which everyone is to be put out, after which the room is to be forgotten here.
    pub(crate) ended: Option<Close>,
}

/// The outcome of a request of this node.
#[derive(Debug)]
pub(crate) enum Reply {
    Broker(RelayAnswer),
    /// The outcome of a write that has terms.
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

    /// Returns the revision that was applied last.
    pub(super) fn revision(&self) -> &RelayRevision {
        &self.revision
    }

    /// Returns `true` once after a change that the driver does not know of.
    pub(super) fn take_stirred(&mut self, now: Instant) -> bool {
        let is_stirred = std::mem::take(&mut self.is_stirred);
        if is_stirred {
            self.waits_since.get_or_insert(now);
        }
        is_stirred
    }

    /// Returns whether the driver does not come, perhaps because its runtime does not run it.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.waits_since.is_some_and(|since| since + STALLED < now)
    }

    /// Returns whether the broker may lack something that happened here.
    pub(super) fn is_behind(&self) -> bool {
        let is_asking = self.asking.as_ref().is_some_and(|asking| {
            !matches!(asking.what, What::Read | What::Renew | What::Enter(_))
        });
        is_asking || !self.pending.is_empty()
    }

    /// Returns whether messages may be handed in. They may not while the whole room is on its way.
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

    /// Queues a wish. Returns `false` if the node is out of the room.
    pub(super) fn wish(&mut self, ticket: u64, wish: Wish) -> bool {
        if self.phase == Phase::Out {
            return false;
        }
        self.is_stirred = true;
        self.pending.ask(ticket, wish);
        true
    }

    /// Gives up a wish, because nobody waits for it any more. If the broker may have taken it, the effect
    /// is undone: a session leaves, or a lead is resigned.
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

    /// Ends a session.
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

    /// Returns whether a session was banned after it began. Bans that are older than the session are no bans of
    /// it, because the broker let it in.
    pub(super) fn has_banned(&self, session: u64, now: Instant) -> bool {
        let Some(who) = self.sessions.began_by(session, self.revision.number) else { return false };
        self.bans.iter().any(|(ban, until)| who.contains(&ban.who) && *until > now)
    }

    /// Replaces all bans by the broker's.
    pub(super) fn adopt_bans(&mut self, bans: &[RelayBan], now: Instant) {
        self.bans.clear();
        bans.iter().for_each(|ban| self.ban(ban.clone(), now));
    }

    pub(super) fn ban(&mut self, ban: RelayBan, now: Instant) {
        self.bans.retain(|(there, until)| there.who != ban.who && *until > now);
        // A moment that far ahead never comes.
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

    /// Returns the next step.
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

    /// Returns when there may be something to do that no other event announces.
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
        self.asking = Some(Asking {
            what,
            at: self.revision.clone(),
            is_given_up: false,
            is_before_news: false,
        });
    }

    /// Notes that the stream of messages has ended, or that a subscription has failed.
    pub(super) fn ended(&mut self, now: Instant) {
        let pause = if self.stream == Stream::Asked { RETRY.1 } else { Duration::ZERO };
        self.stream = Stream::Ended(now + pause);
    }

    /// Notes that messages come from now on. To catch up on earlier ones, the room is read.
    pub(super) fn subscribed(&mut self, now: Instant) {
        self.stream = Stream::Flows;
        self.catch_up();
        // One of the messages that were missed may have asked for a sign of life.
        self.renew_soon(now);
    }

    /// Has the node renew its lease next, because the lease may have become shorter.
    pub(super) fn renew_soon(&mut self, now: Instant) {
        self.renew_at = self.renew_at.min(now);
        if let Some(asking) = &mut self.asking {
            asking.is_before_news = true;
        }
    }

    fn catch_up(&mut self) {
        if self.phase == Phase::Live {
            self.phase = Phase::CatchingUp;
        }
    }

    /// Handles the failure of a request: it is not known whether the broker has taken it.
    fn failed(&mut self, asking: Asking, now: Instant) {
        let pause = self.away.map_or(RETRY.0, |pause| RETRY.1.min(2 * pause));
        self.away = Some(pause);
        self.not_before = now + pause;
        self.put_back(asking);
    }

    /// Puts a request back, so that it is sent again.
    fn put_back(&mut self, asking: Asking) {
        match asking.what {
            What::Leave(sessions) => self.pending.leave_again(sessions),
            What::Ask(ask) if asking.is_given_up => self.undo(ask),
            What::Ask(ask) => self.pending.ask_again(ask),
            // The broker may have taken in a session that has ended meanwhile.
            What::Rejoin(session) if !self.sessions.has(session) => self.leave_at_broker(session),
            // The state that caused these requests causes them again.
            What::Enter(_) | What::Rejoin(_) | What::Read | What::Renew => {}
            // The writes wait in `pending`, or have come back.
            What::Writes | What::Settled => {}
        }
    }

    fn done(&mut self, asking: Asking, revision: &RelayRevision, now: Instant) {
        match asking.what {
            What::Renew => {
                self.renew_at = match asking.is_before_news {
                    true => now,
                    false => now + self.pace.renewal(),
                };
                // Messages up to the revision of the last renewal have arrived since, or were lost.
                let is_behind = |last: RelayRevision| {
                    last.epoch == revision.epoch && last.number > asking.at.number
                };
                if self.renewed.replace(revision.clone()).is_some_and(is_behind) {
                    // A loss may be a sign that the connection is dead.
                    self.stream = Stream::Ended(now);
                }
            }
            What::Writes => {
                self.pending.answered();
                self.write_at = now + self.pace.tick;
            }
            What::Rejoin(session) => {
                if !self.sessions.rejoined(session, revision.number) {
                    // The session has ended meanwhile, for example by a close that the broker ordered
                    // before.
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
                    // A broker that lost the close may still have the session.
                    self.leave_at_broker(session.number);
                }
            }
            Wish::Change(_) => {
                let here = &self.revision;
                if here.epoch == revision.epoch && here.number >= revision.number {
                    // The change was taken before, and has been read since.
                    return self.fulfil(ask.ticket);
                }
                // The change is done here when it has come back.
                if let Some(number) = ask.attempt {
                    self.pending.changed(number, ask);
                }
                return;
            }
            Wish::Remove | Wish::Tell(_) | Wish::Lead { .. } | Wish::Resign(_) => {}
        }
        if is_given_up {
            match ask.wish {
                // `State::done` gives the membership back.
                Wish::Join { .. } => {}
                _ => self.undo(ask),
            }
        } else {
            self.fulfil(ask.ticket);
        }
    }

    /// Takes the node out of the room for good.
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
