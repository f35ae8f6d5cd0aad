//! A registry as one of several nodes that share rooms.

mod announcements;
mod health;
mod join;
mod lead;
mod left;
mod news;
mod node;
mod sync_task;

pub use health::RelayStats;
pub use lead::Lead;
pub(super) use left::LeftRoom;
pub(super) use node::Node;
