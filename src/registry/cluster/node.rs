//! A registry's side of the connection to its broker.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, broadcast, oneshot},
    time::{Instant, sleep, timeout},
};

use super::{
    RelayStats,
    health::{Health, Service},
    left::LeftRooms,
};
use crate::{
    metrics,
    registry::{
        Inner, RoomError, Update, UpdateError,
        id_locks::{IdLock, IdLocks},
    },
    relay::{
        ErasedRelay, RelayAnswer, RelayError, RelayMessages, RelayNews, RelayNode, RelayRequest,
    },
    room::{Caller, Outcome, Pace, Reply, SetError, Shared, State, Wish},
    store::bytes_of,
};

#[derive(Debug)]
pub(in crate::registry) struct Node {
    relay: Box<dyn ErasedRelay>,
    /// A name that no other registry has.
    name: String,
    id_locks: IdLocks,
    /// Bounds the bytes of rooms that are being read or created for joiners. A room may be a megabyte, and
    /// members' writes use the same connection.
    entering: Semaphore,
    /// The last number that was given, to a ticket or to the entering of a room.
    numbered: AtomicU64,
    /// The callers that wait for the outcome of a wish, by its ticket.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
    /// Reports the sessions that keep a name which a newcomer here may want.
    pub(super) kept: broadcast::Sender<Holder>,
    /// Whether a task receives the announcements of other nodes.
    pub(super) hears: AtomicBool,
    pub(super) left: LeftRooms,
    pub(super) health: Health,
}

/// A session that has a name which a newcomer wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) room: Arc<str>,
    pub(super) node: String,
    pub(super) session: u64,
}

/// How often a caller that waits checks whether the room's task runs.
const LOOK: Duration = Duration::from_millis(300);

/// How often a caller that waits checks whether the values set here are in the room's order.
const SETTLING: Duration = Duration::from_millis(5);

/// How many bytes of rooms are read or created for joiners at once, and the least that a room counts.
const ENTERING: usize = 512 << 10;
const LEAST: usize = 1 << 10;

/// How many names may be kept at once before a newcomer waits longer to be notified.
const KEPT: usize = 256;

impl Node {
    pub(in crate::registry) fn new(relay: Box<dyn ErasedRelay>) -> Self {
        Self {
            relay,
            name: unique(),
            id_locks: IdLocks::default(),
            entering: Semaphore::new(ENTERING),
            numbered: AtomicU64::new(0),
            waiting: Mutex::default(),
            kept: broadcast::channel(KEPT).0,
            hears: AtomicBool::new(false),
            left: LeftRooms::default(),
            health: Health::default(),
        }
    }

    /// Ends the relay's work.
    pub(in crate::registry) fn end(&self) {
        self.relay.end();
    }

    /// Returns the name of this registry outside rooms.
    pub(super) fn registry(&self) -> &str {
        &self.name
    }

    /// Returns a name of this registry for a room that it enters. It is new each time, so that nothing that
    /// the registry sent when it was there before counts any more.
    pub(super) fn name(&self) -> Arc<str> {
        format!("{}.{}", self.name, self.number()).into()
    }

    pub(in crate::registry) fn stats(&self) -> RelayStats {
        self.health.stats()
    }

    pub(super) fn lease(&self) -> Duration {
        self.relay.lease()
    }

    pub(super) fn pace(&self, tick: Duration) -> Pace {
        Pace { tick, lease: self.relay.lease() }
    }

    pub(super) async fn request(
        &self,
        room: &str,
        node: RelayNode<'_>,
        request: &RelayRequest,
    ) -> Result<RelayAnswer, RelayError> {
        let began = Instant::now();
        let answer = timeout(self.relay.timeout(), self.relay.request(room, node, request));
        let answer = answer.await.unwrap_or_else(|_| Err(RelayError::late()));
        metrics::asked(began.elapsed(), answer.is_ok());
        self.health.note(Service::Requests, answer.as_ref().err());
        answer
    }

    /// Fails if a broker does not answer.
    pub(in crate::registry) async fn probe(&self) -> Result<(), RelayError> {
        let probed = timeout(self.relay.timeout(), self.relay.probe());
        let probed = probed.await.unwrap_or_else(|_| Err(RelayError::late()));
        self.health.note(Service::Requests, probed.as_ref().err());
        probed
    }

    /// Reads or creates a room for a joiner, after the joiners that came before.
    pub(super) async fn enter(
        &self,
        room: &str,
        request: &RelayRequest,
    ) -> Result<(Arc<str>, RelayAnswer), RelayError> {
        let bytes = match request {
            RelayRequest::Enter { create: Some(room), .. } => bytes_of(&room.stored.variables),
            _ => 0,
        };
        let bytes = bytes.clamp(LEAST, ENTERING) as u32;
        let turn = timeout(self.relay.timeout(), self.entering.acquire_many(bytes));
        let _turn = turn.await.map_err(|_| RelayError::late())?;
        let name = self.name();
        let answer = self.request(room, Caller::new(&name).as_node(), request).await?;
        Ok((name, answer))
    }

    pub(super) async fn subscribe(&self, room: &str) -> Result<RelayMessages, RelayError> {
        let subscribed = timeout(self.relay.timeout(), self.relay.subscribe(room));
        let subscribed = subscribed.await.unwrap_or_else(|_| Err(RelayError::late()));
        self.health.note(Service::Messages, subscribed.as_ref().err());
        subscribed
    }

    pub(super) async fn announce(&self, news: &RelayNews) -> Result<(), RelayError> {
        let announced = timeout(self.relay.timeout(), self.relay.announce(news));
        let announced = announced.await.unwrap_or_else(|_| Err(RelayError::late()));
        self.health.note(Service::Announcements, announced.as_ref().err());
        announced
    }

    /// Has the room's task ask the broker for something, after all earlier wishes. If the future is dropped,
    /// or the broker does not answer in time, the wish is given up.
    pub(super) async fn wish(
        &self,
        room: &Arc<Shared>,
        wish: Wish,
    ) -> Result<RelayAnswer, RelayError> {
        let ticket = self.number();
        let given_up = GivenUp { node: self, room, ticket, is_over: false };
        self.outcome(given_up, wish).await.map(|(answer, _)| answer)
    }

    /// Sets a value by way of the broker, as [`Inner::set_if`] does.
    pub(in crate::registry) async fn update(
        &self,
        room: &Arc<Shared>,
        update: &Update<'_>,
    ) -> Result<Outcome, UpdateError> {
        let ticket = self.number();
        // The write waits in the room, not here, so that only its answer is given up.
        let mut given_up = GivenUp { node: self, room, ticket, is_over: false };
        let came = self.await_reply(ticket);
        let Update { name, was, value } = update;
        room.change(|state, now| state.set_if(ticket, name, was.as_ref(), value, now))?;
        let reply = self.reply(room, came).await;
        given_up.is_over = reply.is_ok();
        match reply {
            Ok(Reply::Update(outcome)) => Ok(outcome),
            Ok(Reply::Broker(_)) => Err(SetError::Gone.into()),
            Err(_) => Ok(Outcome::Unknown),
        }
    }

    fn await_reply(&self, ticket: u64) -> oneshot::Receiver<Reply> {
        let (outcome, came) = oneshot::channel();
        self.waiting.lock().insert(ticket, outcome);
        came
    }

    /// Waits for the outcome of a room's wish or write, but no longer than for an answer of the broker.
    async fn reply(
        &self,
        room: &Arc<Shared>,
        came: oneshot::Receiver<Reply>,
    ) -> Result<Reply, RelayError> {
        let late = sleep(self.relay.timeout());
        tokio::pin!(late, came);
        loop {
            tokio::select! {
                reply = &mut came => return reply.map_err(|_| RelayError::late()),
                () = &mut late => return Err(RelayError::late()),
                // If the room's task does not run, this starts another.
                () = sleep(LOOK) => room.change(|_, _| ()),
            }
        }
    }

    /// Asks for a session's join, as [`wish`](Self::wish) does. A session that has joined is given back
    /// unless the reservation is kept.
    pub(super) async fn reserve<'a>(
        &'a self,
        room: &'a Arc<Shared>,
        session: u64,
        wish: Wish,
    ) -> Result<(RelayAnswer, Reservation<'a>), RelayError> {
        let given_up = GivenUp { node: self, room, ticket: session, is_over: false };
        let (answer, given_up) = self.outcome(given_up, wish).await?;
        Ok((answer, Reservation(given_up)))
    }

    async fn outcome<'a>(
        &'a self,
        mut given_up: GivenUp<'a>,
        wish: Wish,
    ) -> Result<(RelayAnswer, GivenUp<'a>), RelayError> {
        let (GivenUp { room, ticket, .. }, is_join) =
            (&given_up, matches!(wish, Wish::Join { .. }));
        let came = self.await_reply(*ticket);
        if !room.change(|state, _| state.wish(*ticket, wish)) {
            return Err(RelayError::new("the room is gone"));
        }
        let Reply::Broker(answer) = self.reply(room, came).await? else {
            return Err(RelayError::late());
        };
        given_up.is_over = !is_join;
        Ok((answer, given_up))
    }

    /// Hands an outcome to the caller that waits for it.
    pub(super) fn deliver(&self, ticket: u64, outcome: Reply) {
        if let Some(waiting) = self.waiting.lock().remove(&ticket) {
            _ = waiting.send(outcome);
        }
    }

    /// Waits until nobody else here loads or creates the room of this id, but no longer than for an answer of
    /// the broker, because those that had the lock before wait for the broker too.
    pub(super) async fn id_lock(&self, id: &str) -> Result<IdLock, RelayError> {
        timeout(self.relay.timeout(), self.id_locks.take(id)).await.map_err(|_| RelayError::late())
    }

    pub(super) fn number(&self) -> u64 {
        self.numbered.fetch_add(1, Relaxed) + 1
    }
}

impl Inner {
    /// Has the broker of a room do something, if there is one.
    pub(in crate::registry) async fn at_broker(
        &self,
        room: &Arc<Shared>,
        wish: Wish,
    ) -> Result<(), RoomError> {
        let Some(node) = &self.node else { return Ok(()) };
        match node.wish(room, wish).await {
            Ok(RelayAnswer::Done { .. }) => Ok(()),
            Ok(RelayAnswer::Nowhere) => Err(RoomError::Gone),
            _ => Err(RoomError::Unreachable),
        }
    }

    /// Waits until all values that were set here are in the room's order, but no longer than for an answer of
    /// the broker, so that members that are disconnected next have seen them.
    pub(in crate::registry) async fn settled(&self, room: &Arc<Shared>) {
        let Some(node) = &self.node else { return };
        let handed_over = room.read(State::handed_over);
        let settled = async {
            while !room.read(|state| state.has_settled(handed_over)) {
                sleep(SETTLING).await;
            }
        };
        _ = timeout(node.relay.timeout(), settled).await;
    }
}

/// A guard that gives a wish up when it is dropped.
struct GivenUp<'a> {
    node: &'a Node,
    room: &'a Arc<Shared>,
    ticket: u64,
    is_over: bool,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.node.waiting.lock().remove(&self.ticket);
            self.room.change(|state, now| state.give_up(self.ticket, now));
        }
    }
}

/// A session that the broker has let in. It leaves when this is dropped, unless it has become a member.
pub(super) struct Reservation<'a>(GivenUp<'a>);

impl Reservation<'_> {
    /// Keeps the session, which is a member's now.
    pub(super) fn keep(mut self) {
        self.0.is_over = true;
    }
}

/// Returns a text that no other process and no other call makes, from two random numbers of 64 bits.
pub(super) fn unique() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
