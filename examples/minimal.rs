//! The least that a host needs: `cargo run --example minimal`, then connect to ws://127.0.0.1:3000/cloud.

use axum::{Router, serve::ListenerExt};
use axum_cloud_variables::RoomRegistry;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let rooms = RoomRegistry::new();
    let app = Router::new().merge(rooms.mount("/cloud"));
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    // Without TCP_NODELAY a small frame may wait for the answer to the one before.
    axum::serve(listener.tap_io(|stream| _ = stream.set_nodelay(true)), app).await
}
