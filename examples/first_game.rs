//! A whole game, short enough to read: `cargo run --example first_game`, then open http://127.0.0.1:3000.
//!
//! Everyone sees where everyone is, and a player that catches the star adds one to the score. The guide
//! 'Your first game' explains it; `tests/it/first_game.rs` tests it.

use axum::Router;
use axum_cloud_variables::{events::RoomEvent, policy::*, *};
use tower_http::services::ServeDir;

struct Referee;

impl Policy for Referee {
    fn write(&self, write: &Write<'_>) -> Verdict {
        let score = write.get("score").and_then(|score| score.parse().ok()).unwrap_or(0_u64);
        match (write.name(), write.value()) {
            ("score", value) if value == (score + 1).to_string() => Verdict::Accept,
            (name, _) if name == format!("p_{}", write.username()) => Verdict::Accept,
            _ => Verdict::Ignore,
        }
    }
}

/// The rooms and the page.
pub async fn game() -> Result<Router, Box<dyn std::error::Error>> {
    let rooms = RoomRegistry::builder().schema(Schema::Growing).leave_with("p_{name}");
    let rooms = rooms.policy(Referee).build()?;
    let meadow = rooms.open("meadow").variables([("star", "200 150"), ("score", "0")]).await?;
    tokio::spawn(async move {
        let mut events = meadow.events();
        while let Some(event) = events.next().await {
            let RoomEvent::Wrote { name, value, .. } = event else { continue };
            if let ("score", Ok(score)) = (&*name, value.parse::<u64>()) {
                _ = meadow.set("star", format!("{} {}", score * 137 % 400, score * 89 % 300));
            }
        }
    });
    let page = ServeDir::new("examples/first_game");
    Ok(Router::new().merge(rooms.mount("/cloud")).fallback_service(page))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(serve(listener, game().await?).await?)
}
