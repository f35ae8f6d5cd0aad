//! A game that the server runs: the host owns the ball and the score, and checks every input.
//! `cargo run --example host_authority`, then open http://127.0.0.1:3000 in some tabs, and keep the ball
//! up together. With `--features redis` and `--redis redis://127.0.0.1/`, several servers share one court,
//! and one of them moves the ball. If you kill it, another one takes over.

use std::{error::Error, net::SocketAddr, time::Duration};

use axum::{Router, response::Html, routing::get};
use axum_cloud_variables::{
    Room, RoomError, RoomRegistry, Schema, SetError,
    events::RoomEvent,
    policy::{Policy, Rights, Verdict, Write},
    serve,
};
use clap::Parser;
use tokio::{
    net::TcpListener,
    time::{interval, sleep},
};

/// A ball game in which the server decides.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Address of a Redis or Valkey, through which several servers share one court.
    #[cfg(feature = "redis")]
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 400.0;
/// Half the width of a paddle.
const REACH: f64 = 60.0;
/// The longest way that a paddle may move in one write.
const STEP: f64 = 80.0;
const FRAME: Duration = Duration::from_micros(1_000_000 / 30);

/// The policy: players write only their own paddle, within the field and without leaps.
struct Umpire {
    rights: Rights,
}

impl Policy for Umpire {
    fn write(&self, write: &Write<'_>) -> Verdict {
        if self.rights.write(write) != Verdict::Accept {
            return Verdict::Ignore;
        }
        let Some(asked) = coordinate(write.value()) else { return Verdict::Ignore };
        // A paddle that is new or was put away may begin anywhere.
        let from = write.get(write.name()).and_then(|x| coordinate(&x)).unwrap_or(asked);
        let allowed = asked.clamp(from - STEP, from + STEP).clamp(0.0, WIDTH);
        match allowed == asked {
            true => Verdict::Accept,
            false => Verdict::Replace(allowed.to_string()),
        }
    }
}

fn coordinate(text: &str) -> Option<f64> {
    text.parse().ok().filter(|x: &f64| x.is_finite())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let rights = Rights::new()
        .host_only("ball_*")
        .host_only("score")
        .host_only("best")
        .owner_only("p_{name}");
    let builder = RoomRegistry::builder();
    #[cfg(feature = "redis")]
    let builder = match &args.redis {
        Some(url) => builder.relay(axum_cloud_variables::relay::RedisRelay::new(url)?),
        None => builder,
    };
    let rooms = builder
        .policy(Umpire { rights })
        .schema(Schema::Growing) // one paddle for each player
        .coalesce(true) // only the last position in a tick matters
        .build()?;
    tokio::spawn(keep_court(rooms.clone()));

    let app = Router::new()
        .route("/", get(async || Html(include_str!("host_authority/index.html"))))
        .merge(rooms.mount("/cloud"));
    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async { _ = tokio::signal::ctrl_c().await };
    serve(listener, app).shutdown_on(&rooms, stop).await?;
    Ok(())
}

/// Keeps the court open, even if the broker starts later or the other servers continued without this one.
async fn keep_court(rooms: RoomRegistry) {
    while !rooms.is_draining() {
        let court = rooms
            .open("court")
            .variables([("ball_x", "400"), ("ball_y", "0"), ("score", "0"), ("best", "0")])
            .max_members(16);
        match court.await {
            Ok(court) => _ = tokio::join!(put_away(court.clone()), play(court)),
            Err(error) => {
                eprintln!("there is no court: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Clears the paddles of players that leave.
async fn put_away(court: Room) {
    let mut events = court.events();
    while let Some(event) = events.next().await {
        if let RoomEvent::Left { member, .. } = event {
            // This fails if the player never had a paddle.
            _ = court.set(&format!("p_{}", member.username), "");
        }
    }
}

/// Plays on the one server that leads, until the room is gone.
async fn play(court: Room) -> Result<(), RoomError> {
    loop {
        let lead = court.lead().await?;
        tokio::select! {
            () = lead.lost() => {}
            _ = move_ball(&court) => {}
        }
    }
}

/// Moves the ball from its present position, 30 times a second.
async fn move_ball(court: &Room) -> Result<(), SetError> {
    let number = |name| court.get(name).and_then(|value| coordinate(&value)).unwrap_or_default();
    let (mut x, mut y, mut dx, mut dy) = (number("ball_x"), number("ball_y"), 6.0, 7.0);
    let (mut score, mut best) = (number("score") as u32, number("best") as u32);
    let mut frame = interval(FRAME);
    loop {
        frame.tick().await;
        if paddles(court).is_empty() {
            continue;
        }
        (x, y) = (x + dx, y + dy);
        if !(0.0..=WIDTH).contains(&x) {
            (x, dx) = (x.clamp(0.0, WIDTH), -dx);
        }
        if y < 0.0 {
            (y, dy) = (0.0, -dy);
        }
        if y > HEIGHT {
            (score, dy) = match is_caught(court, x) {
                true => (score + 1, -dy * 1.03),
                false => (0, -7.0),
            };
            y = HEIGHT;
            best = best.max(score);
        }
        // Set together, so that nobody sees the ball of one frame and the score of another.
        court.set_all([
            ("ball_x", x.round().to_string()),
            ("ball_y", y.round().to_string()),
            ("score", score.to_string()),
            ("best", best.to_string()),
        ])?;
    }
}

fn is_caught(court: &Room, x: f64) -> bool {
    paddles(court).iter().any(|place| (place - x).abs() <= REACH)
}

/// Returns the positions of the paddles of players on all servers.
fn paddles(court: &Room) -> Vec<f64> {
    let variables = court.variables();
    let paddles = variables.iter().filter(|(name, _)| name.starts_with("p_"));
    paddles.filter_map(|(_, place)| coordinate(place)).collect()
}
