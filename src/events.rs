//! Events of a room that a host can observe: joins, leaves, and writes with their writers.

pub use crate::room::{Events, PastWrite, RegistryEvent, RoomEvent, Writer};
