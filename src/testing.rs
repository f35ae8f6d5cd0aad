//! A kit for a host's own tests. (The feature `testing`, for `dev-dependencies`.)
//!
//! - [`client`] creates a player whose connection is a pipe into the app: no port and no network. With paused
//!   time an hour is over in a millisecond.
//! - [`JoinBuilder`] and [`WriteBuilder`] build the arguments of a [`Policy`](crate::policy::Policy), without
//!   a room.
//! - [`store_contract`] and [`relay_contract`] check that a [`RoomStore`](crate::store::RoomStore) and a
//!   [`Relay`](crate::relay::Relay) meet the requirements of this crate.
//!
//! ```
//! use axum::Router;
//! use axum_cloud_variables::{RoomRegistry, testing};
//!
//! // In a test: `#[tokio::test(start_paused = true)]`.
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rooms = RoomRegistry::new();
//! let app = Router::new().merge(rooms.mount("/cloud"));
//! let player = async |name: &str| {
//!     testing::client(&app, "/cloud", "lobby", name).variables([("score", "0")]).connect().await
//! };
//! let (ann, bob) = (player("ann").await?, player("bob").await?);
//! ann.update("score", |old| old.parse().unwrap_or(0) + 1).await?;
//! bob.wait_for("score", |score| score == "1").await?;
//! # Ok(()) }
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod builders;
mod pipe;
mod relay_contract;
mod store_contract;

pub use builders::{JoinBuilder, WriteBuilder};
pub use pipe::{client, connect};
pub use relay_contract::relay_contract;
pub use store_contract::store_contract;
