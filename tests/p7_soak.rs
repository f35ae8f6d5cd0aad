//! P7 and P3 in the long run: players come, play, stall, disconnect and come back. Memory, tasks and open
//! files do not grow, and whenever all calm down, the members of each room see the same values.
//!
//! Half of the rooms are on a server in this process, whose tasks can be counted, half on one with a
//! process and memory of its own, where half of the players are sent compressed messages. `CLOUD_VARIABLES_SEED` repeats the choices of players in a run, but not
//! their timing.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    env,
    fmt::Debug,
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::Router;
use axum_cloud_variables::{Dialect, Limits, RoomRegistry};
use common::{Client, PATIENCE, Process, count, inflating, within};
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

/// A few variables, so that they are contested, with names and values that all dialects allow.
const VARIABLES: &[(&str, &str)] = &[("☁ x", "0"), ("☁ y", "0"), ("☁ z", "0")];

/// Frames of one byte, and the codes of their closes: no message, binary, an unknown kind, not UTF-8.
const JUNK: &[(u8, u8, u16)] =
    &[(0x81, b'{', 4000), (0x82, b'{', 1003), (0x83, b'{', 1002), (0x81, 0xff, 1007)];

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Play,
    Calm,
    Leave,
}

#[derive(Default)]
struct Board {
    /// The views of members, by room and name; `None` for a member that is not calm.
    views: BTreeMap<(String, String), Option<HashMap<String, String>>>,
    /// The number of times that players did each thing.
    did: BTreeMap<&'static str, usize>,
}

/// A player's place in a room, to which it comes back.
struct Seat {
    url: String,
    dialect: Dialect,
    room: String,
    name: String,
    rng: Rng,
    board: Arc<Mutex<Board>>,
}

impl Seat {
    fn did(&self, what: &'static str) {
        *self.board.lock().unwrap().did.entry(what).or_default() += 1;
    }

    fn show(&self, me: Option<&Client>) {
        let whose = (self.room.clone(), self.name.clone());
        self.board.lock().unwrap().views.insert(whose, me.map(|me| me.view.clone()));
    }

    async fn join(&mut self) -> Client {
        loop {
            let mut me = Client::connect(&self.url).await;
            me.handshake_in(self.dialect, &self.room, &self.name, VARIABLES).await;
            self.did("connect");
            if self.rng.bool() {
                // This set crosses the snapshot.
                self.set(&mut me, 0).await;
            }
            me.ping().await;
            let Some(code) = me.next_is_close().await else {
                me.apply_waiting();
                return me;
            };
            // The server takes its ghost for alive, because bytes that it sent, or was sent, went
            // through.
            assert!([4002, 4003].contains(&code), "{code}");
            self.did("come too early");
        }
    }

    async fn set(&mut self, me: &mut Client, zeros: usize) {
        let (name, _) = VARIABLES[self.rng.usize(..VARIABLES.len())];
        let value = format!("{}{}", self.rng.u32(1..), "0".repeat(zeros));
        me.set(name, &value).await;
        self.did("set");
    }

    /// Disconnects in one way or another, and comes back.
    async fn come_again(&mut self, mut me: Client) -> Client {
        let ways = ["drop", "close", "cut", "half a frame", "junk", "ghost"];
        let way = ways[self.rng.usize(..ways.len())];
        self.did(way);
        match way {
            "close" => me.socket.close(None).await.unwrap(),
            "cut" => tcp(&mut me).set_zero_linger().unwrap(),
            "half a frame" => tcp(&mut me).write_all(&[0x81, 0xfe, 0xff]).await.unwrap(),
            "junk" => {
                // For Scratch's dialect, a binary frame is not junk.
                let junk: Vec<_> = JUNK
                    .iter()
                    .filter(|(.., code)| (self.dialect, *code) != (Dialect::Scratch, 1003))
                    .collect();
                let (opcode, byte, code) = *junk[self.rng.usize(..junk.len())];
                tcp(&mut me).write_all(&[opcode, 0x81, 0, 0, 0, 0, byte]).await.unwrap();
                assert_eq!(me.closed().await.0, code);
            }
            "drop" => {}
            // The old client becomes a ghost: it stays until the new one is in, and answers nothing.
            _ => return (self.join().await, me).0,
        }
        drop(me);
        self.join().await
    }

    async fn play(mut self, mut phase: watch::Receiver<Phase>) {
        let mut me = self.join().await;
        while *phase.borrow() == Phase::Play {
            let mut up_to = |most| Duration::from_millis(self.rng.u64(..most as u64));
            let (pause, stall) = (up_to(count(200, 800)), up_to(count(1_000, 5_000)));
            // All are woken at once when they must calm down. Each makes a last write, and these cross.
            _ = me.reading_until(timeout(pause, phase.changed())).await;
            me.apply_waiting();
            match self.rng.u32(..50) {
                0 => sleep(stall).await,
                // A few of these are more than the server queues for a member that stalls.
                1..=2 => self.set(&mut me, 89_000).await,
                3..=5 => me = self.come_again(me).await,
                _ => self.set(&mut me, 0).await,
            }
        }
        loop {
            self.show(Some(&me));
            tokio::select! {
                () = me.any_frame() => {}
                _ = phase.wait_for(|phase| *phase == Phase::Leave) => break,
            }
        }
        me.sync().await;
        me.apply_waiting();
        self.show(Some(&me));
        me.close().await;
    }
}

fn tcp(client: &mut Client) -> &mut TcpStream {
    let MaybeTlsStream::Plain(stream) = client.socket.get_mut() else { unreachable!() };
    stream
}

struct Servers {
    process: Process,
    here: Runtime,
    rooms: RoomRegistry,
    urls: [String; 2],
    /// The address of the other server for players that are sent compressed messages.
    compressed: String,
}

impl Servers {
    async fn start() -> Self {
        let process = Process::standalone(&["--empty-room-ttl", "1"]);
        let limits = Limits::default().empty_room_ttl(Duration::from_secs(1));
        let rooms = RoomRegistry::builder().limits(limits).build().unwrap();
        let app = Router::new().merge(rooms.mount("/"));
        let here = Runtime::new().unwrap();
        let url = here.spawn(async {
            // Accepted sockets inherit these options. With such a short buffer, a member that stalls soon
            // lags.
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_send_buffer_size(16 * 1024).unwrap();
            socket.set_nodelay(true).unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(1024).unwrap();
            let addr = listener.local_addr().unwrap();
            tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
            format!("ws://{addr}/")
        });
        let compressed = format!("ws://{}/", inflating(process.addr.clone()).await);
        Self { urls: [url.await.unwrap(), process.url()], compressed, process, here, rooms }
    }

    /// Counts tasks, rooms, members and sessions here, and open files here and there.
    fn held(&self) -> [usize; 6] {
        let stats = self.rooms.stats();
        let tasks = self.here.metrics().num_alive_tasks();
        let files = fs::read_dir("/proc/self/fd").unwrap().count();
        [tasks, stats.rooms, stats.members, stats.sessions, files, self.process.files()]
    }

    /// Returns the variables of which not all members see the same value, with the room's value if the
    /// room is in this process.
    fn apart(&self, board: &Mutex<Board>) -> Vec<String> {
        let mut seen = BTreeMap::<_, BTreeSet<_>>::new();
        for ((room, member), view) in &board.lock().unwrap().views {
            let Some(view) = view else { return vec![format!("{member} of {room} is not calm")] };
            for (name, value) in view {
                let in_room = self.rooms.room(room).and_then(|room| room.get(name));
                let values = seen.entry((room.clone(), name.clone())).or_default();
                let shortened = |value: &String| format!("{value:.10} of {} bytes", value.len());
                values.extend(in_room.iter().chain([value]).map(shortened));
            }
        }
        seen.retain(|_, values| values.len() > 1);
        seen.into_iter().map(|apart| format!("{apart:?}")).collect()
    }

    /// Returns the seats of players, and those of keepers in half of the rooms. The rooms without a
    /// keeper are forgotten whenever all have left.
    fn seats(&self, board: &Arc<Mutex<Board>>, rng: &mut Rng) -> (Vec<Seat>, Vec<Seat>) {
        let (mut players, mut keepers) = (vec![], vec![]);
        for room in 0..count(8, 32) {
            // A room that a Scratch client creates does not have the variables that the others bring.
            let dialects = match room / 2 % 4 {
                0 => &[Dialect::Spec, Dialect::Forkphorus2020][..],
                1 => &[Dialect::Scratch],
                _ => &[Dialect::Spec, Dialect::Forkphorus2020, Dialect::Scratch],
            };
            let mut seat = |i: usize| Seat {
                url: match (room % 2, i % 2) {
                    (1, 1) => self.compressed.clone(),
                    (server, _) => self.urls[server].clone(),
                },
                dialect: dialects[i % dialects.len()],
                room: room.to_string(),
                name: format!("member{i}"),
                rng: rng.fork(),
                board: board.clone(),
            };
            keepers.extend((dialects.len() == 3).then(|| seat(0)));
            players.extend((1..=count(8, 10)).map(seat));
        }
        (players, keepers)
    }
}

/// Waits until `now` returns the wanted value. A steady writer is corrected after 10 s at the latest.
async fn becomes<T: PartialEq + Debug>(wanted: T, now: impl Fn() -> T) {
    let since = Instant::now();
    while now() != wanted && since.elapsed() < 2 * PATIENCE {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(now(), wanted);
}

async fn soak(servers: Servers, rng: &mut Rng) {
    let board = Arc::default();
    let alone = servers.held();
    let keepers = servers.seats(&board, rng).1;
    // A member on this server is one task and two open files, a member on the other one open file on
    // either side.
    let here = keepers.len() / 2;
    let mut kept = alone;
    (0..6).for_each(|i| kept[i] += [here, here, here, here, 3 * here, here][i]);
    let (dismiss, calm) = watch::channel(Phase::Calm);
    let mut keeping = JoinSet::new();
    keepers.into_iter().for_each(|keeper| _ = keeping.spawn(keeper.play(calm.clone())));
    becomes(kept, || servers.held()).await;

    let mut memory = Vec::new();
    for round in 0..count(3, 30) {
        let (tell, phase) = watch::channel(Phase::Play);
        let mut playing = JoinSet::new();
        for player in servers.seats(&board, rng).0 {
            player.show(None);
            playing.spawn(player.play(phase.clone()));
        }
        sleep(Duration::from_secs(count(2, 60) as u64)).await;
        tell.send(Phase::Calm).unwrap();
        let calmed = Instant::now();
        becomes(vec![], || servers.apart(&board)).await;
        let calmed = calmed.elapsed();
        tell.send(Phase::Leave).unwrap();
        within("all to leave", playing.join_all()).await;
        assert_eq!(servers.apart(&board), [""; 0], "they stay so");
        becomes(kept, || servers.held()).await;
        memory.push(servers.process.memory().0);
        println!("round {round}: at one after {calmed:.1?}, {} KiB", memory[round]);
    }
    println!("{:?}", board.lock().unwrap().did);
    dismiss.send(Phase::Leave).unwrap();
    within("keepers to leave", keeping.join_all()).await;
    becomes(alone, || servers.held()).await;
    assert_eq!(servers.rooms.stats().state_bytes, 0);
    servers.here.shutdown_background();
    // The first third is a warm-up. In the long run, 4 MiB between the other thirds are less than 1 KiB
    // per session.
    let most = |third| memory.chunks(memory.len() / 3).nth(third).unwrap().iter().max().unwrap();
    let (early, late) = (most(1), most(2));
    assert!(*late <= early + 4 * 1024, "{early} KiB, then {late}");
}

#[test]
fn nothing_drifts_and_all_are_at_one() {
    let seed = env::var("CLOUD_VARIABLES_SEED");
    let seed = seed.map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("CLOUD_VARIABLES_SEED={seed}");
    let clients = Runtime::new().unwrap();
    clients.block_on(async { soak(Servers::start().await, &mut Rng::with_seed(seed)).await });
}
