//! The cost of the inspector with many rooms and players:
//! `cargo bench --features inspector --bench inspector`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime, task::LocalSet};

mod load;

use load::{
    Server, median,
    player::{Pace, Player, Reading, Seen},
    quantile,
};

const ROOMS: usize = 16_384;
const PLAYERS: usize = 10_000;
/// The number of players of a room.
const TOGETHER: usize = 20;
const TABS: usize = 3;
const TIME: Duration = Duration::from_secs(15);

fn main() {
    load::begin();
    let server = Server::start(&format!("ours:rooms:{ROOMS}:10:20"));
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = LocalSet::new();
    let players = local.block_on(&runtime, join(server.address));
    println!("{ROOMS} rooms, {} members", players.len());
    // From the first request on, the server samples the rooms once a second.
    _ = get(server.address, "rooms");
    share("nobody looks at the page", &server);
    for query in
        ["rooms", "rooms?sort=id&page=300", "rooms?sort=writes_per_second", "rooms?search=99"]
    {
        let mut times: Vec<_> = (0..50).map(|_| time(server.address, query)).collect();
        println!(
            "{query:>30}: p50 {:.2} ms, p99 {:.2} ms",
            median(times.clone()),
            quantile(&mut times, 0.99)
        );
    }
    for _ in 0..TABS {
        let mut stream = ask(server.address, "rooms/live");
        thread::spawn(
            move || while stream.read(&mut [0; 65_536]).is_ok_and(|length| length > 0) {},
        );
    }
    share(&format!("{TABS} tabs show all rooms"), &server);
    drop(players);
}

async fn join(server: SocketAddr) -> Vec<Player> {
    let (epoch, seen) = (Instant::now(), Rc::new(Seen::default()));
    let mut players = Vec::new();
    for n in 0..PLAYERS {
        let (room, name) = (format!("room{}", n / TOGETHER), format!("player{n}"));
        let joined = Player::join(
            server,
            (&room, &name),
            10,
            Reading { epoch, seen: &seen, pace: Pace::AtOnce, deflate: false },
        );
        players.push(joined.await.expect("a place"));
    }
    players
}

/// Prints how much of a core the server needs.
fn share(what: &str, server: &Server) {
    let (began, before) = (Instant::now(), server.cpu());
    thread::sleep(TIME);
    let used = (server.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("{what}: {:.1} % of a core", used * 100.0);
}

fn ask(server: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).expect("a connection");
    let request =
        format!("GET /inspector/api/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    stream
}

fn get(server: SocketAddr, path: &str) -> String {
    let mut answer = String::new();
    ask(server, path).read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// Returns the milliseconds from the request to the end of its answer.
fn time(server: SocketAddr, path: &str) -> f64 {
    let began = Instant::now();
    get(server, path);
    began.elapsed().as_secs_f64() * 1e3
}
