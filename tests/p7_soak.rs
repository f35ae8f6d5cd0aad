//! P7 and P3 in the long run: members come, play, stall, break off and come back, for half an hour.
//! Memory, tasks and open files do not drift, and whenever all have calmed down, the members of each
//! room see the same.
//!
//! Half of the rooms are on a server in this process, whose tasks and values can be looked at, half on
//! one of its own, whose memory is its own. `CLOUD_VARIABLES_SEED` has the players choose as in an
//! earlier run, if not at the same moments.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    env,
    fmt::Debug,
    process::id,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, serve::ListenerExt};
use axum_cloud_variables::{Dialect, Limits, RoomRegistry};
use common::{Client, PATIENCE, Process, count, files, memory, within};
use fastrand::Rng;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    runtime::Runtime,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_tungstenite::MaybeTlsStream;

/// Few, so that they are contested; names and values are such that all dialects have them.
const VARIABLES: &[(&str, &str)] = &[("☁ x", "0"), ("☁ y", "0"), ("☁ z", "0")];

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Play,
    Calm,
    Leave,
}

type View = HashMap<String, String>;

#[derive(Default)]
struct Board {
    /// What members see, by room and name; `None` for one that is not calm.
    views: Mutex<BTreeMap<(String, String), Option<View>>>,
    /// How often they did what.
    did: Mutex<BTreeMap<&'static str, usize>>,
}

/// A player's place in a room, to which it comes back.
struct Seat {
    url: String,
    dialect: Dialect,
    room: String,
    name: String,
    /// Pause between two sets, in ms.
    pace: u64,
    rng: Rng,
    board: Arc<Board>,
}

impl Seat {
    fn did(&self, what: &'static str) {
        *self.board.did.lock().unwrap().entry(what).or_default() += 1;
    }

    fn show(&self, view: Option<&View>) {
        let whose = (self.room.clone(), self.name.clone());
        self.board.views.lock().unwrap().insert(whose, view.cloned());
    }

    async fn join(&mut self) -> Client {
        loop {
            let mut me = Client::connect(&self.url).await;
            me.handshake_in(self.dialect, &self.room, &self.name, VARIABLES).await;
            self.did("connect");
            if self.rng.bool() {
                // It crosses the snapshot.
                self.set(&mut me, 0).await;
            }
            me.ping().await;
            match me.next_is_close().await {
                None => {
                    me.apply_waiting();
                    return me;
                }
                // Its ghost has not died yet, and what it had sent is still being read.
                Some(code) => assert_eq!(code, 4002),
            }
            self.did("come back too early");
        }
    }

    async fn set(&mut self, me: &mut Client, zeros: usize) {
        let (name, _) = VARIABLES[self.rng.usize(..VARIABLES.len())];
        let value = format!("{}{}", self.rng.u32(1..), "0".repeat(zeros));
        me.set(name, &value).await;
        self.did("set");
    }

    /// One of the ways in which a connection goes wrong, and then a good one.
    async fn misbehave(&mut self, mut me: Client) -> Client {
        let ways = ["drop", "close", "cut", "half a frame", "junk", "ghost", "stall", "flood"];
        let way = ways[self.rng.usize(..ways.len())];
        self.did(way);
        match way {
            "drop" => drop(me),
            "close" => me.close().await,
            "cut" => tcp(&mut me).set_zero_linger().unwrap(),
            "half a frame" => tcp(&mut me).write_all(&[0x81, 0xfe, 0xff]).await.unwrap(),
            "junk" => {
                // Text that is no message, a binary frame, one of no known kind, text that is not UTF-8.
                let junk = [
                    (0x81, b'{', 4000),
                    (0x82, b'{', 1003),
                    (0x83, b'{', 1002),
                    (0x81, 0xff, 1007),
                ];
                let (kind, byte, code) = junk[self.rng.usize(..junk.len())];
                tcp(&mut me).write_all(&[kind, 0x81, 0, 0, 0, 0, byte]).await.unwrap();
                assert_eq!(me.closed().await.0, code);
            }
            // The old connection stays, and answers nothing.
            "ghost" => {
                let new = self.join().await;
                drop(me);
                return new;
            }
            "stall" => {
                sleep(Duration::from_millis(self.rng.u64(..count(1_000, 5_000) as u64))).await;
                return me;
            }
            // More than waits for a reader that has stopped.
            _ => {
                for _ in 0..10 {
                    self.set(&mut me, 40_000).await;
                }
                return me;
            }
        }
        self.join().await
    }

    async fn play(mut self, mut phase: watch::Receiver<Phase>) {
        let mut me = self.join().await;
        while *phase.borrow() == Phase::Play {
            let pause = Duration::from_millis(self.rng.u64(..2 * self.pace));
            // All are woken at once when they are to calm down: each has a last word, and these cross.
            _ = me.reading_until(timeout(pause, phase.changed())).await;
            me.apply_waiting();
            match self.rng.u32(..12) {
                0 => me = self.misbehave(me).await,
                _ => self.set(&mut me, 0).await,
            }
        }
        loop {
            self.show(Some(&me.view));
            tokio::select! {
                () = me.any_frame() => {}
                _ = phase.wait_for(|phase| *phase == Phase::Leave) => break,
            }
        }
        me.sync().await;
        me.apply_waiting();
        self.show(Some(&me.view));
        if self.rng.bool() {
            me.close().await;
        }
    }
}

fn tcp(client: &mut Client) -> &mut TcpStream {
    let MaybeTlsStream::Plain(stream) = client.socket.get_mut() else { unreachable!() };
    stream
}

/// Both servers.
struct Servers {
    process: Process,
    host: Runtime,
    rooms: RoomRegistry,
    url: String,
}

impl Servers {
    fn start() -> Self {
        let process = Process::standalone(&["--empty-room-ttl", "1"]);
        let limits = Limits::default().empty_room_ttl(Duration::from_secs(1));
        let rooms = RoomRegistry::builder().limits(limits).build().unwrap();
        let host = Runtime::new().unwrap();
        let _in_host = host.enter();
        let socket = TcpSocket::new_v4().unwrap();
        // Accepted ones have it too: who stalls here soon lags.
        socket.set_send_buffer_size(16 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        let app = Router::new().merge(rooms.mount("/"));
        host.spawn(async { axum::serve(listener, app).await.unwrap() });
        Self { process, host, rooms, url }
    }

    /// Tasks, rooms, members and sessions here; open files here and there.
    fn held(&self) -> [usize; 6] {
        let stats = self.rooms.stats();
        let tasks = self.host.metrics().num_alive_tasks();
        [tasks, stats.rooms, stats.members, stats.sessions, files(id()), files(self.process.id())]
    }

    /// A variable of which not all see the same, as the room has it where that can be asked.
    fn apart(&self, board: &Board) -> Vec<String> {
        let mut seen = BTreeMap::<_, BTreeSet<_>>::new();
        for ((room, member), view) in &*board.views.lock().unwrap() {
            let Some(view) = view else { return vec![format!("{member} of {room} is not calm")] };
            for (name, value) in view {
                let values = seen.entry((room.clone(), name.clone())).or_default();
                let in_room = self.rooms.room(room).and_then(|room| room.get(name));
                for value in in_room.iter().chain([value]) {
                    values.insert(format!("{:.12} of {} bytes", value, value.len()));
                }
            }
        }
        seen.retain(|_, values| values.len() > 1);
        seen.into_iter().map(|(what, values)| format!("{what:?}: {values:?}")).collect()
    }
}

/// Waits until `now` gives what is wanted; says what it gives instead.
async fn becomes<T: PartialEq + Debug>(wanted: T, now: impl Fn() -> T, what: &str) {
    let since = Instant::now();
    // A steady writer is corrected after 10 s at the latest.
    while now() != wanted && since.elapsed() < 2 * PATIENCE {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(now(), wanted, "{what}");
}

/// Where players sit, and in half of the rooms somebody who only looks on and keeps the room: the
/// others are forgotten whenever all have left.
fn seats(servers: &Servers, board: &Arc<Board>, rng: &mut Rng) -> (Vec<Seat>, Vec<Seat>) {
    let (mut players, mut keepers) = (Vec::new(), Vec::new());
    for room in 0..count(8, 32) {
        let url = [servers.url.clone(), servers.process.url()][room % 2].clone();
        // Whoever creates a room decides which dialects can come into it.
        let (dialects, is_kept) = match room / 2 % 4 {
            0 | 1 => (&[Dialect::Spec, Dialect::Forkphorus2020, Dialect::Scratch][..], true),
            2 => (&[Dialect::Spec, Dialect::Forkphorus2020][..], false),
            _ => (&[Dialect::Scratch][..], false),
        };
        let mut seat = |name: String, dialect| Seat {
            url: url.clone(),
            dialect,
            room: room.to_string(),
            name,
            pace: count(100, 400) as u64,
            rng: rng.fork(),
            board: board.clone(),
        };
        keepers.extend(is_kept.then(|| seat("keeper".into(), dialects[0])));
        let players_here = 0..count(8, 10);
        players.extend(players_here.map(|i| seat(format!("p{i}"), dialects[i % dialects.len()])));
    }
    (players, keepers)
}

async fn soak(servers: Servers, rng: &mut Rng) {
    let board = Arc::default();
    let alone = servers.held();
    let (_, keepers) = seats(&servers, &board, rng);
    let kept = keepers.len() / 2;
    // A member is one task. Here it is two open files, and each of the other server's one.
    let kept = [kept, kept, kept, kept, 3 * kept, kept];
    let with_keepers: [_; 6] = std::array::from_fn(|i| alone[i] + kept[i]);
    let (dismiss, keep) = watch::channel(Phase::Calm);
    let mut keeping = JoinSet::new();
    for keeper in keepers {
        keeping.spawn(keeper.play(keep.clone()));
    }
    becomes(with_keepers, || servers.held(), "tasks and so on with only keepers").await;

    let rounds = count(4, 32);
    let mut samples = Vec::new();
    for round in 1..=rounds {
        let (tell, phase) = watch::channel(Phase::Play);
        let mut playing = JoinSet::new();
        for player in seats(&servers, &board, rng).0 {
            player.show(None);
            playing.spawn(player.play(phase.clone()));
        }
        sleep(Duration::from_secs(count(2, 57) as u64)).await;
        tell.send(Phase::Calm).unwrap();
        let calmed = Instant::now();
        becomes(vec![], || servers.apart(&board), "what not all see the same").await;
        let calmed = calmed.elapsed();
        tell.send(Phase::Leave).unwrap();
        within("all to leave", playing.join_all()).await;
        assert_eq!(servers.apart(&board), [""; 0], "once at one, they stay so");
        becomes(with_keepers, || servers.held(), "tasks and so on with only keepers").await;
        let sample = [servers.process.memory().0, memory(id()).0];
        let state = servers.rooms.stats().state_bytes;
        println!("round {round}: at one after {calmed:.1?}; KiB {sample:?}, state {state} bytes");
        samples.push(sample);
    }
    println!("{:?}", board.did.lock().unwrap());

    dismiss.send(Phase::Leave).unwrap();
    within("keepers to leave", keeping.join_all()).await;
    becomes(alone, || servers.held(), "tasks and so on with nobody").await;
    assert_eq!(servers.rooms.stats().state_bytes, 0);
    servers.host.shutdown_background();

    // In half an hour some 50,000 connections and a million sets lie between these two quarters.
    let most = |quarter: usize, of: usize| {
        let samples = &samples[quarter * rounds / 4..(quarter + 1) * rounds / 4];
        samples.iter().map(|sample| sample[of]).max().unwrap()
    };
    for of in [0, 1] {
        let (early, late) = (most(1, of), most(3, of));
        assert!(late <= early + 8 * 1024, "{early} KiB, then {late}");
    }
}

#[test]
fn nothing_drifts_and_all_agree() {
    let seed =
        env::var("CLOUD_VARIABLES_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    println!("CLOUD_VARIABLES_SEED={seed}");
    let clients = Runtime::new().unwrap();
    clients.block_on(soak(Servers::start(), &mut Rng::with_seed(seed)));
}
