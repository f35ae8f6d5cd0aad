//! A registry's end of its broker.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, broadcast, oneshot},
    time::{Instant, sleep, timeout},
};

use super::{RelayStats, health::Health, left::LeftRooms};
use crate::{
    metrics,
    registry::{
        Inner, RoomError, Update, UpdateError,
        id_locks::{IdLock, IdLocks},
        tasks::Spawned,
    },
    relay::{Relay, RelayAnswer, RelayError, RelayMessages, RelayNews, RelayNode, RelayRequest},
    room::{Caller, Outcome, Pace, Reply, SetError, Shared, State, Wish},
    store::bytes_of,
};

#[derive(Debug)]
pub(in crate::registry) struct Node {
    relay: Box<dyn Relay>,
    /// No other registry has this name.
    name: String,
    id_locks: IdLocks,
    /// Bytes of rooms that are being read or created for joiners. A room may be a megabyte, and what members
    /// write goes by the same connection.
    entering: Semaphore,
    /// What was numbered last: a ticket, or the entering of a room.
    numbered: AtomicU64,
    /// Who waits for the outcome of a wish, by its ticket.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
    /// Sessions that keep a name which somebody here may want.
    pub(super) kept: broadcast::Sender<Holder>,
    /// The task that hears what other nodes announce.
    pub(super) hearing: Mutex<Spawned>,
    pub(super) left: LeftRooms,
    pub(super) health: Health,
}

/// A session that has a name which somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) room: Arc<str>,
    pub(super) node: String,
    pub(super) session: u64,
}

/// How often whoever waits looks whether the room's task comes.
const LOOK: Duration = Duration::from_millis(300);

/// How often it is looked whether what was set is in the room's order.
const SETTLING: Duration = Duration::from_millis(5);

/// How many bytes of rooms are read or created for joiners at once, and what each counts at least.
const ENTERING: usize = 512 << 10;
const LEAST: usize = 1 << 10;

/// How many names may be kept at once before somebody waits for longer to be told so.
const KEPT: usize = 256;

impl Node {
    pub(in crate::registry) fn new(relay: Box<dyn Relay>) -> Self {
        Self {
            relay,
            name: unique(),
            id_locks: IdLocks::default(),
            entering: Semaphore::new(ENTERING),
            numbered: AtomicU64::new(0),
            waiting: Mutex::default(),
            kept: broadcast::channel(KEPT).0,
            hearing: Mutex::default(),
            left: LeftRooms::default(),
            health: Health::default(),
        }
    }

    /// Ends what the relay has going on.
    pub(in crate::registry) fn end(&self) {
        self.relay.end();
    }

    /// What this registry is called beside rooms.
    pub(super) fn registry(&self) -> &str {
        &self.name
    }

    /// What this registry is called in a room that it enters: anew each time, so that nothing counts
    /// any more that it sent when it was there before.
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
        self.health.note(answer.as_ref().err());
        answer
    }

    /// Reads or creates a room for a joiner, after those that came before.
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
        self.health.note(subscribed.as_ref().err());
        subscribed
    }

    pub(super) async fn announce(&self, news: &RelayNews) -> Result<(), RelayError> {
        let announced = timeout(self.relay.timeout(), self.relay.announce(news));
        let announced = announced.await.unwrap_or_else(|_| Err(RelayError::late()));
        self.health.note(announced.as_ref().err());
        announced
    }

    /// Has the room's task ask the broker for something, after all that was asked for before it. If the
    /// future is dropped, or the broker does not answer in time, the wish is given up.
    pub(super) async fn wish(
        &self,
        room: &Arc<Shared>,
        wish: Wish,
    ) -> Result<RelayAnswer, RelayError> {
        let ticket = self.number();
        let given_up = GivenUp { node: self, room, ticket, is_over: false };
        self.outcome(given_up, wish).await.map(|(answer, _)| answer)
    }

    /// As [`Inner::set_if`], by way of the broker.
    pub(in crate::registry) async fn update(
        &self,
        room: &Arc<Shared>,
        update: &Update<'_>,
    ) -> Result<Outcome, UpdateError> {
        let ticket = self.number();
        // Its writes wait in the room, not here: only the answer is given up.
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

    /// Waits for what comes of a room's wish or write, but no longer than for an answer of the broker.
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
                // If the room's task does not come, another begins.
                () = sleep(LOOK) => room.change(|_, _| ()),
            }
        }
    }

    /// As [`wish`](Self::wish), of a session that wants to join; if it did, it is given back unless the
    /// reservation is kept.
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
            return Err(RelayError("the room is gone".into()));
        }
        let Reply::Broker(answer) = self.reply(room, came).await? else {
            return Err(RelayError::late());
        };
        given_up.is_over = !is_join;
        Ok((answer, given_up))
    }

    /// Hands an outcome to whoever waits for it.
    pub(super) fn deliver(&self, ticket: u64, outcome: Reply) {
        if let Some(waiting) = self.waiting.lock().remove(&ticket) {
            _ = waiting.send(outcome);
        }
    }

    /// Waits until nobody else here loads or creates the room of this id, but no longer than for an
    /// answer: those before wait for the broker.
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

    /// Waits until all that was set here is in the room's order, but no longer than for an answer of the
    /// broker: so that members who are put out next have seen it.
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

/// Gives a wish up when it is dropped.
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

/// A session that the broker has taken in. It leaves when this is dropped, unless it has become a member.
pub(super) struct Reservation<'a>(GivenUp<'a>);

impl Reservation<'_> {
    /// The session is a member's now.
    pub(super) fn keep(mut self) {
        self.0.is_over = true;
    }
}

/// A text that no other process, and no other call, makes: of two keys of 64 random bits.
pub(super) fn unique() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
