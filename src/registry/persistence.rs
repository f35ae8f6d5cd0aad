//! Rooms and their store: what is loaded, created, saved and forgotten.

mod health;
mod load;
mod persister;

pub use health::StoreStats;
pub(super) use load::{Kept, Loaded};
pub(super) use persister::{Expiry, Persister, seconds_since_1970};
