//! A bot that keeps a room of `examples/first_game` company: `cargo run --example bot --features client`,
//! beside `cargo run --example first_game`.
//!
//! It walks to the star and catches it, a bit more slowly than people do.

use std::{error::Error, time::Duration};

use axum_cloud_variables::client::{Client, ClientEvent, UpdateError};
use clap::Parser;
use tokio::time::{MissedTickBehavior, interval};

/// Plays the first game.
#[derive(Parser)]
struct Args {
    /// Address of the rooms: `ws:`, `wss:`, `http:` or `https:`.
    #[arg(long, default_value = "ws://127.0.0.1:3000/cloud")]
    url: String,
    /// Name of the bot.
    #[arg(long, default_value = "bot")]
    name: String,
}

/// The length of the bot's steps, and the time between them.
const STEP: f64 = 12.0;
const EVERY: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Args { url, name } = Args::parse();
    let own = format!("p_{name}");
    let variables = [(own.as_str(), "0 0"), ("star", "0 0"), ("score", "0")];
    let bot = Client::connect(&url, "meadow", &name, variables).await?;
    println!("{name} is in the room");
    let mut events = bot.events();
    let mut steps = interval(EVERY);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut place = (0.0, 0.0);
    loop {
        tokio::select! {
            _ = steps.tick() => {
                let star = point(&bot.get("star").unwrap_or_default());
                let (x, y) = (star.0 - place.0, star.1 - place.1);
                let distance = x.hypot(y);
                if distance < STEP {
                    let add = |old: &str| old.parse().unwrap_or(0) + 1;
                    match bot.update("score", add).await {
                        Err(UpdateError::Ended(error)) => return Err(error.into()),
                        // Somebody else was faster, or the connection broke. There will be another star.
                        Ok(_) | Err(_) => continue,
                    }
                }
                place.0 += x / distance * STEP;
                place.1 += y / distance * STEP;
                bot.set(&own, format!("{:.0} {:.0}", place.0, place.1));
            }
            event = events.next() => match event {
                Some(ClientEvent::Set { name, value }) if &*name == "score" => {
                    println!("{value} stars were caught");
                }
                Some(ClientEvent::Left { error, returns: None }) => return Err(error.into()),
                Some(ClientEvent::Left { error, .. }) => println!("{error}; it comes back"),
                _ => {}
            },
        }
    }
}

fn point(text: &str) -> (f64, f64) {
    let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or(0.0));
    (numbers.next().unwrap_or(0.0), numbers.next().unwrap_or(0.0))
}
