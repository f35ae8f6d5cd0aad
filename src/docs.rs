//! Guides.
//!
//! - [Your first game](first_game)
//! - [Hosting](hosting)
//! - [Policies and identities](policies)
//! - [Clients](clients)
//! - [Persistence](persistence)
//! - [Many nodes](nodes)
//! - [The server `cloud-variables`](server)
//! - [Operations](operations)
//! - [The wire](wire)
//! - [Limits](limits)
//! - [Testing your game](testing)

#[doc = include_str!("docs/clients.md")]
pub mod clients {}

#[doc = include_str!("docs/first_game.md")]
pub mod first_game {}

#[doc = include_str!("docs/hosting.md")]
pub mod hosting {}

#[doc = include_str!("docs/limits.md")]
pub mod limits {}

#[doc = include_str!("docs/nodes.md")]
pub mod nodes {}

#[doc = include_str!("docs/operations.md")]
pub mod operations {}

#[doc = include_str!("docs/persistence.md")]
pub mod persistence {}

#[doc = include_str!("docs/policies.md")]
pub mod policies {}

#[doc = include_str!("docs/server.md")]
pub mod server {}

#[doc = include_str!("docs/testing.md")]
pub mod testing {}

#[doc = include_str!("docs/wire.md")]
pub mod wire {}
