//! Events of a client.

use std::{fmt, sync::Arc, time::Duration};

use super::error::ClientError;
use crate::redacted::Redacted;

/// An event of a client.
///
/// `Debug` shows the length of a value, and not the value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// Another member set a variable, or the room's value differs from the shown one.
    Set {
        /// The variable's name. A lone surrogate, which no Rust string can hold, is replaced.
        name: Arc<str>,
        /// Its value; surrogates are replaced here too.
        value: Arc<str>,
    },
    /// The client is in the room again after it was away, and has its values.
    Joined,
    /// The client is no longer in the room.
    Left {
        /// The reason.
        error: ClientError,
        /// After how long it tries to come back, if it does.
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
