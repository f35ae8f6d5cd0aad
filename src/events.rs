//! What a host can watch: who comes and goes, what is written, and who wrote it.

pub use crate::room::{Events, PastWrite, RoomEvent, Writer};
