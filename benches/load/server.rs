//! The servers: this crate's, and fifty lines written by hand instead.

use std::{
    collections::HashMap,
    io::{BufRead, stdin},
    process::exit,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    routing::get,
    serve::ListenerExt,
};
use axum_cloud_variables::{
    Limits, RoomRegistry, RoomRegistryBuilder,
    policy::{Policy, Verdict, Write},
};
use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpListener, sync::broadcast};

/// Serves until the process that asked for the server is gone.
pub(crate) fn serve(kind: &str) -> ! {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let (app, rooms) = runtime.block_on(app(kind));
    runtime.spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        let listener = listener.tap_io(|socket| _ = socket.set_nodelay(true));
        axum::serve(listener, app).await.expect("it serves");
    });
    for line in stdin().lock().lines().map_while(Result::ok) {
        if line == "close" {
            runtime.block_on(async {
                for room in rooms.rooms("", usize::MAX) {
                    if let Some(room) = rooms.room(&room.id) {
                        _ = room.close().await;
                    }
                }
            });
        }
    }
    exit(0);
}

/// Returns the app of a kind: `naive`, `nodes:COUNT:PORT` with a broker at that port, `ours`,
/// `ours:tick0`, `ours:policy`, `ours:limited`, `ours:tick50`, `ours:deflate`, or `ours:rooms:COUNT:VARIABLES:BYTES`.
async fn app(kind: &str) -> (Router, RoomRegistry) {
    let words: Vec<_> = kind.split(':').collect();
    let limits = Limits::default().members_per_room(2_000).state_bytes(1 << 30);
    let unlimited =
        limits.clone().messages_per_second(0).bytes_per_second(0).room_bytes_per_second(0);
    let limits = if words.contains(&"limited") { limits } else { unlimited };
    #[cfg(feature = "redis")]
    if let ["nodes", count, port] = words[..] {
        let url = format!("redis://127.0.0.1:{port}/");
        let relay = || axum_cloud_variables::relay::RedisRelay::new(&url).expect("an address");
        let node = |_| build(RoomRegistry::builder().limits(limits.clone()).relay(relay()));
        let nodes: Vec<_> = (0..count.parse().expect("a number")).map(node).collect();
        return (balanced(&nodes), nodes[0].clone());
    }
    let builder = RoomRegistry::builder().limits(limits);
    let rooms = match words[..] {
        ["ours", "tick0"] => build(builder.tick(Duration::ZERO)),
        ["ours", "tick50", ..] => build(builder.tick(Duration::from_millis(50))),
        ["ours", "policy"] => build(builder.policy(Rule)),
        _ => build(builder),
    };
    if let ["ours", "rooms", count, variables, bytes] = words[..] {
        let number = |text: &str| text.parse::<usize>().expect("a number");
        for room in 0..number(count) {
            let value = "v".repeat(number(bytes));
            let variables = (0..number(variables)).map(|i| (format!("v{i}"), value.clone()));
            let opened = rooms.open(format!("room{room}")).variables(variables).await;
            opened.expect("there is memory");
        }
    }
    let app = match words[0] {
        "naive" => Router::new().route("/cloud", get(upgrade)).with_state(Naive::default()),
        #[cfg(feature = "deflate")]
        _ if words.contains(&"deflate") => {
            rooms.mount("/cloud").compression(axum_cloud_variables::Compression::From(64)).into()
        }
        _ => rooms.mount("/cloud").into(),
    };
    #[cfg(feature = "inspector")]
    let app = app.nest("/inspector", rooms.inspector().into());
    (app, rooms)
}

/// Sends each connection to the next node, as a load balancer does.
#[cfg(feature = "redis")]
fn balanced(nodes: &[RoomRegistry]) -> Router {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tower::{ServiceExt, service_fn};

    let nodes: Arc<[Router]> = nodes.iter().map(|rooms| rooms.mount("/cloud").into()).collect();
    let next = Arc::new(AtomicUsize::new(0));
    let service = service_fn(move |request| {
        let node = next.fetch_add(1, Relaxed) % nodes.len();
        nodes[node].clone().oneshot(request)
    });
    Router::new().route_service("/cloud", service)
}

fn build(builder: RoomRegistryBuilder) -> RoomRegistry {
    builder.build().expect("valid limits")
}

/// A policy that looks at each write, as a host with a rule would.
struct Rule;

impl Policy for Rule {
    fn write(&self, write: &Write<'_>) -> Verdict {
        match write.value().len() {
            0..=1_000 => Verdict::Accept,
            _ => Verdict::Ignore,
        }
    }
}

type Naive = Arc<Mutex<HashMap<String, broadcast::Sender<(u64, Utf8Bytes)>>>>;

async fn upgrade(
    State(rooms): State<Naive>,
    upgrade: WebSocketUpgrade,
) -> axum::response::Response {
    upgrade.on_upgrade(|socket| async move { _ = play(socket, rooms).await })
}

/// Passes each set on as it came, through a broadcast channel per room. Reading and writing are separate
/// tasks, which costs a third of one task for both.
async fn play(mut socket: WebSocket, rooms: Naive) -> Option<()> {
    let Message::Text(handshake) = socket.recv().await?.ok()? else { return None };
    let handshake: serde_json::Value = serde_json::from_str(&handshake).ok()?;
    let room = handshake["room"].as_str()?.to_owned();
    let me: u64 = handshake["username"].as_str()?.trim_start_matches("player").parse().ok()?;
    let channel = || broadcast::channel(4_096).0;
    let sender = rooms.lock().ok()?.entry(room).or_insert_with(channel).clone();
    let mut receiver = sender.subscribe();
    let (mut sink, mut stream) = socket.split();
    let writer = tokio::spawn(async move {
        loop {
            match receiver.recv().await {
                Ok((from, _)) if from == me => {}
                Ok((_, set)) => sink.send(Message::Text(set)).await.ok()?,
                // The missed messages are lost.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Some(()),
            }
        }
    });
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Text(set) = message {
            _ = sender.send((me, set));
        }
    }
    writer.abort();
    Some(())
}
