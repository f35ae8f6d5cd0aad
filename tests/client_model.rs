//! `client.js`, unchanged, against the real server in simulated time, over links that delay and break and
//! leave ghosts behind. The server is slow, refuses clients, and closes rooms.
//!
//! - A player's last value that nobody overwrote is the room's in the end.
//! - No view shows a value that the room never had, except those that its player has set.
//! - `x += 1`, by one player at a time that sees the room's value, is never lost.
//! - Updates that succeeded count once, and those with an unknown outcome no more than once.
//!
//! A failing seed is printed. To replay it: `CLOUD_VARIABLES_SEED=<seed> cargo test --test client_model`.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use axum::{Router, body::Body};
use axum_cloud_variables::{
    Identity, Limits, Room, RoomRegistry,
    events::RoomEvent,
    policy::{Join, Policy, Rejection},
};
use fastrand::Rng;
use futures_util::{FutureExt, SinkExt, StreamExt, future::pending};
use hyper::{Request, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rquickjs::{Context, Ctx, Function, Runtime};
use tokio::{
    io::duplex,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use tower::ServiceExt;

const BROWSER: &str = include_str!("client_model/browser.js");
const CLIENT: &str = include_str!("../src/client/client.js");

const TABS: usize = 3;
/// The time for which things go wrong, and the time after that for everything to come to rest, which is
/// longer than any ghost is kept, and than `client.js` ever waits.
const TROUBLE: u64 = 25_000;
const REST: u64 = 45_000;

const NAMES: [&str; 5] = ["x", "u", "p0", "p1", "p2"];

/// An event of a page's socket.
struct Event {
    socket: usize,
    what: &'static str,
    code: u16,
    text: String,
}

/// A request of a page to its socket, or a fault.
enum Order {
    Send(String),
    Close,
    /// The page's side breaks. The server notices after this time.
    Break(Duration),
}

/// A policy that takes its time, and does not admit everyone at once.
struct Moody;

impl Policy for Moody {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        if fastrand::u8(0..4) == 0 {
            sleep(Duration::from_millis(fastrand::u64(0..4_500))).await;
        }
        match fastrand::u8(0..8) {
            0 => Err(Rejection::try_later("not now")),
            _ => Ok(join.identity().clone()),
        }
    }
}

/// A browser for all pages.
struct Browser {
    context: Context,
    runtime: Runtime,
}

impl Browser {
    fn new(seed: u64) -> Self {
        let runtime = Runtime::new().unwrap();
        let context = Context::full(&runtime).unwrap();
        let browser = Self { context, runtime };
        let random = Rng::with_seed(seed);
        browser.context.with(|ctx| {
            let random = std::cell::RefCell::new(random);
            let random = Function::new(ctx.clone(), move || random.borrow_mut().f64()).unwrap();
            let math: rquickjs::Object<'_> = ctx.globals().get("Math").unwrap();
            math.set("random", random).unwrap();
            let client = CLIENT.replace("export function", "function");
            ctx.eval::<(), _>(format!("{client}\n{BROWSER}")).unwrap();
        });
        browser
    }

    /// Runs a function of the page's, and everything that follows from it.
    fn call<A, T>(&self, function: &str, arguments: A) -> T
    where
        A: for<'js> rquickjs::function::IntoArgs<'js>,
        T: for<'js> rquickjs::FromJs<'js>,
    {
        let answer = self.context.with(|ctx: Ctx<'_>| {
            let of: Function<'_> = ctx.globals().get(function).unwrap();
            of.call(arguments).unwrap_or_else(|error| panic!("{error}: {:?}", ctx.catch()))
        });
        while self.runtime.execute_pending_job().unwrap() {}
        answer
    }
}

struct World {
    rng: Rng,
    browser: Browser,
    app: Router,
    rooms: RoomRegistry,
    start: Instant,
    sockets: BTreeMap<usize, UnboundedSender<Order>>,
    events: (UnboundedSender<Event>, UnboundedReceiver<Event>),
    /// The tab of each socket.
    tab_of: BTreeMap<usize, String>,
    /// Tabs that know that the server acknowledges.
    knows_server: HashSet<String>,
    /// The longest delay of a message, in milliseconds.
    delay: u64,
    /// By variable: every value that the room had, and the last value that each tab set.
    had: BTreeMap<String, HashSet<String>>,
    set: [BTreeMap<String, String>; TABS],
    /// The last increment.
    count: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        fastrand::seed(rng.u64(..));
        let rooms = RoomRegistry::builder().policy(Moody).limits(Limits::default());
        let rooms = rooms.build().unwrap();
        let had = NAMES.map(|name| (name.into(), HashSet::from(["0".into()])));
        Self {
            browser: Browser::new(rng.u64(..)),
            app: Router::new().merge(rooms.mount("/cloud")),
            rooms,
            start: Instant::now(),
            sockets: BTreeMap::new(),
            tab_of: BTreeMap::new(),
            knows_server: HashSet::new(),
            events: unbounded_channel(),
            delay: *rng.choice(&[0, 20, 200, 1_000]).unwrap(),
            had: had.into(),
            set: Default::default(),
            count: 0,
            rng,
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    async fn run(&mut self) {
        let declared = BTreeMap::from(NAMES.map(|name| (name, "0")));
        for tab in 0..TABS {
            self.browser.call::<_, ()>("openTab", (format!("player{tab}"), declared.clone()));
        }
        let mut next = 0;
        while next < TROUBLE {
            next += self.rng.u64(1..800);
            self.pass_to(next).await;
            self.trouble();
        }
        let end = self.now() + REST;
        self.pass_to(end).await;
        self.check();
    }

    /// Plays a move, or causes a fault.
    fn trouble(&mut self) {
        let tab = self.rng.usize(0..TABS);
        match self.rng.u8(0..20) {
            0..7 => {
                let value = self.now().to_string();
                self.set(tab, &format!("p{tab}"), value);
            }
            7..13 => self.increment(tab),
            13..16 => self.browser.call::<_, ()>("addIn", (tab, "u")),
            16..19 => {
                // If a tab has no open socket, this may hit an earlier one.
                if let Some(order) = self.sockets.values().nth(self.rng.usize(0..TABS)) {
                    let ghost = *self.rng.choice(&[0, 500, 3_000, 20_000]).unwrap();
                    _ = order.send(Order::Break(Duration::from_millis(ghost)));
                }
            }
            _ => {
                // This is like a deploy, or a restart of a server that has kept its rooms.
                if let Some(room) = self.room() {
                    room.close().now_or_never().unwrap().unwrap();
                }
            }
        }
    }

    fn room(&self) -> Option<Room> {
        self.rooms.room("room")
    }

    fn set(&mut self, tab: usize, name: &str, value: String) {
        self.set[tab].insert(name.into(), value.clone());
        self.browser.call::<_, ()>("setIn", (tab, name, value));
    }

    /// Increments `x`, if no other increment is in flight and the tab sees the room's value.
    fn increment(&mut self, tab: usize) {
        let Some(there) = self.room().and_then(|room| room.get("x")) else { return };
        let seen = self.seen(tab);
        let is_idle = there == self.count.to_string();
        if is_idle && seen["x"] == there {
            self.count += 1;
            self.set(tab, "x", self.count.to_string());
        }
    }

    fn seen(&self, tab: usize) -> BTreeMap<String, String> {
        serde_json::from_str(&self.browser.call::<_, String>("seenBy", (tab,))).unwrap()
    }

    /// Lets everything happen that is due until `end`.
    async fn pass_to(&mut self, end: u64) {
        let end = self.start + Duration::from_millis(end);
        let mut heard = self.room().map(|room| room.events());
        loop {
            self.network();
            let timer = self.browser.call::<_, f64>("nextTimer", ());
            let timer = self.start + Duration::from_millis(timer.min(1e9).ceil() as u64);
            let write = async {
                match &mut heard {
                    Some(heard) => heard.next().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                write = write => match write {
                    Some(RoomEvent::Wrote { name, value, .. }) => {
                        self.had.get_mut(&*name).unwrap().insert(value.to_string());
                    }
                    Some(_) => {}
                    None => heard = self.room().map(|room| room.events()),
                },
                event = self.events.1.recv() => {
                    let Event { socket, what, code, text } = event.unwrap();
                    self.browser.call::<_, ()>("passTo", (self.now(),));
                    if text.contains("joining") {
                        self.knows_server.insert(self.tab_of[&socket].clone());
                    }
                    self.browser.call::<_, ()>("happen", (socket, what, code, text));
                    if heard.is_none() {
                        heard = self.room().map(|room| room.events());
                    }
                }
                () = sleep_until(timer.min(end)) => {
                    self.browser.call::<_, ()>("passTo", (self.now(),));
                }
            }
            self.look();
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// Runs the pages' requests to the network.
    fn network(&mut self) {
        let asked = self.browser.call::<_, String>("takeAsked", ());
        for (socket, what, text) in
            serde_json::from_str::<Vec<(usize, String, String)>>(&asked).unwrap()
        {
            match &*what {
                "open" => {
                    let (orders, ordered) = unbounded_channel();
                    self.sockets.insert(socket, orders);
                    self.tab_of.insert(socket, text.clone());
                    let link = Link {
                        socket,
                        events: self.events.0.clone(),
                        delay: self.delay,
                        may_stall: self.knows_server.contains(&text),
                        rng: self.rng.fork(),
                    };
                    tokio::spawn(link.run(self.app.clone(), ordered));
                }
                what => {
                    let order = if what == "send" { Order::Send(text) } else { Order::Close };
                    // Its connection may be gone, and the page not know it yet.
                    self.sockets.get(&socket).map(|orders| orders.send(order));
                }
            }
        }
        self.sockets.retain(|_, orders| !orders.is_closed());
    }

    /// Checks that no view shows a value that the room never had, except those that its player has set.
    fn look(&self) {
        let shown = self.browser.call::<_, String>("takeShown", ());
        for (tab, name, value) in
            serde_json::from_str::<Vec<(usize, String, String)>>(&shown).unwrap()
        {
            let was_there = self.had[&name].contains(&value);
            let is_own = self.set[tab].get(&name) == Some(&value);
            assert!(was_there || is_own, "player{tab} saw {name} = {value}, which never was");
        }
    }

    fn check(&mut self) {
        let room = self.room().expect("players keep it");
        let there: BTreeMap<_, _> = room.variables().into_iter().collect();
        for tab in 0..TABS {
            let is_in = self.browser.call::<_, bool>("isIn", (tab,));
            let closed = self.browser.call::<_, String>("closedLast", (tab,));
            assert!(is_in, "player{tab} is not back: {closed}");
            assert_eq!(self.seen(tab), there, "what player{tab} sees");
            let own = format!("p{tab}");
            if let Some(value) = self.set[tab].get(&own) {
                assert_eq!(there[&own], *value, "what player{tab} set last");
            }
        }
        assert_eq!(there["x"], self.count.to_string(), "increments");
        let updated = self.browser.call::<_, String>("takeUpdated", ());
        let updated: serde_json::Value = serde_json::from_str(&updated).unwrap();
        let [sure, unknown] = ["sure", "unknown"].map(|of| updated[of].as_u64().unwrap());
        let value = there["u"].parse::<u64>().unwrap();
        assert!((sure..=sure + unknown).contains(&value), "{value}: {updated}");
        assert_eq!(updated["other"], serde_json::json!([]));
    }
}

/// A connection from a page to the server.
struct Link {
    socket: usize,
    events: UnboundedSender<Event>,
    delay: u64,
    /// Whether the page knows that the server acknowledges. Without that, it could not distinguish a
    /// stall from the silence of another server.
    may_stall: bool,
    rng: Rng,
}

impl Link {
    async fn run(mut self, app: Router, mut orders: UnboundedReceiver<Order>) {
        sleep(self.some_time()).await;
        let Some(mut socket) = upgrade(app).await else {
            self.tell("close", 1006, String::new());
            return;
        };
        self.tell("open", 0, String::new());
        // Messages stay in order.
        let (mut up, mut down) = (Instant::now(), Instant::now());
        let (mut sent, mut heard) = (Vec::new(), Vec::new());
        let ghost = loop {
            let next_up = sent.first().map_or_else(never, |(at, _)| *at);
            let next_down = heard.first().map_or_else(never, |(at, _)| *at);
            tokio::select! {
                // The order is fixed, so that a seed means the same each time.
                biased;
                order = orders.recv() => match order {
                    Some(Order::Send(text)) => {
                        up = up.max(Instant::now() + self.some_time());
                        sent.push((up, Some(text)));
                    }
                    Some(Order::Close) => {
                        up = up.max(Instant::now() + self.some_time());
                        sent.push((up, None));
                    }
                    Some(Order::Break(ghost)) => break ghost,
                    None => return,
                },
                () = sleep_until(next_up) => match sent.remove(0).1 {
                    Some(text) => _ = socket.send(Message::text(text)).await,
                    None => _ = socket.close(None).await,
                },
                message = socket.next() => {
                    down = down.max(Instant::now() + self.some_time());
                    match message {
                        Some(Ok(Message::Text(text))) => heard.push((down, ("message", 0, text.to_string()))),
                        Some(Ok(Message::Close(close))) => {
                            let close = close.map_or((1006, String::new()), |close| {
                                (close.code.into(), close.reason.to_string())
                            });
                            heard.push((down, ("close", close.0, close.1)));
                            // The browser answers the close, and sends nothing after that.
                            sent.retain(|(_, text)| text.is_some());
                            _ = socket.flush().await;
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => {
                            let is_told = heard.iter().any(|(_, (what, ..))| *what == "close");
                            if !is_told {
                                heard.push((down, ("close", 1006, String::new())));
                            }
                            // Everything that is still in flight arrives.
                            for (at, (what, code, text)) in heard {
                                sleep_until(at).await;
                                self.tell(what, code, text);
                            }
                            return;
                        }
                    }
                }
                () = sleep_until(next_down) => {
                    let (what, code, text) = heard.remove(0).1;
                    self.tell(what, code, text);
                }
            }
        };
        // Usually the page notices at once. Otherwise it continues to send, and receives nothing.
        if self.may_stall && self.rng.u8(0..4) == 0 {
            let told = Instant::now() + ghost;
            let deaf = async {
                while let Some(order) = orders.recv().await {
                    match order {
                        Order::Send(text) => _ = socket.send(Message::text(text)).await,
                        Order::Close | Order::Break(_) => return,
                    }
                }
            };
            _ = timeout_at(told, deaf).await;
            self.tell("close", 1006, String::new());
            return;
        }
        self.tell("close", 1006, String::new());
        // Some of the messages in flight arrive, but the answers to pings do not.
        for (at, text) in sent {
            if let Some(text) = text
                && self.rng.bool()
            {
                sleep_until(at).await;
                _ = socket.send(Message::text(text)).await;
            } else {
                break;
            }
        }
        sleep(ghost).await;
    }

    fn some_time(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(0..=self.delay))
    }

    fn tell(&self, what: &'static str, code: u16, text: String) {
        _ = self.events.send(Event { socket: self.socket, what, code, text });
    }
}

fn never() -> Instant {
    Instant::now() + Duration::from_secs(1_000_000)
}

async fn upgrade(app: Router) -> Option<WebSocketStream<tokio::io::DuplexStream>> {
    let (client, server) = duplex(64 * 1024);
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            app.clone().oneshot(request.map(Body::new))
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        _ = connection.with_upgrades().await;
    });
    Some(client_async("ws://host/cloud", client).await.ok()?.0)
}

#[test]
fn a_page_keeps_its_players_values_and_shows_the_rooms() {
    common::play_seeds(500, 20_000, async |seed| World::new(seed).run().await);
}
