//! What a program can watch of its client.

use std::{fmt, sync::Arc, time::Duration};

use super::error::ClientError;
use crate::redacted::Redacted;

/// What happened to a client.
///
/// `Debug` shows the length of a value, and not the value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// Somebody else set a variable, or the room has another value than was shown.
    Set {
        /// The variable's name. A lone surrogate, which no Rust string can hold, is replaced.
        name: Arc<str>,
        /// Its value; the same.
        value: Arc<str>,
    },
    /// The client is in the room, and has its values. It was in the room before, and comes back.
    Joined,
    /// The client is in the room no more.
    Left {
        /// Why.
        error: ClientError,
        /// When it tries to come back, if it does.
        returns: Option<Duration>,
    },
    /// The program was too slow for this many events.
    Missed(u64),
}

impl fmt::Debug for ClientEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { name, value } => {
                f.debug_struct("Set").field("name", name).field("value", &Redacted(value)).finish()
            }
            Self::Joined => f.write_str("Joined"),
            Self::Left { error, returns } => {
                f.debug_struct("Left").field("error", error).field("returns", returns).finish()
            }
            Self::Missed(count) => f.debug_tuple("Missed").field(count).finish(),
        }
    }
}
