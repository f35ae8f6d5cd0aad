//! Rooms and their store: loading, creating, saving and removing.

mod health;
mod load;
mod persister;

pub use health::StoreStats;
pub(super) use load::{Kept, Loaded};
pub(super) use persister::{Expiry, Persister, seconds_since_1970};
