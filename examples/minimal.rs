//! The minimal host: `cargo run --example minimal`, then connect to ws://127.0.0.1:3000/cloud.

use axum::Router;
use axum_cloud_variables::{RoomRegistry, serve};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let rooms = RoomRegistry::new();
    let app = Router::new().merge(rooms.mount("/cloud"));
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    serve(listener, app).await
}
