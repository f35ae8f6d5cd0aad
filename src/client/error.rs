//! Why a client is in no room.

use std::fmt;

/// Why a client did not join, or is in its room no more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is none with `ws:`, `wss:`, `http:` or `https:`, or a header is none.
    Address(String),
    /// There is no server at the address, or the connection broke.
    Unreachable(String),
    /// The server, or something before it, has refused the upgrade.
    Refused {
        /// The status of its answer.
        status: u16,
        /// The answer's text.
        reason: String,
    },
    /// The server closed the connection.
    Closed {
        /// The code of the close, as [`CloseCode`](crate::CloseCode) has it; 1006 if it came without one.
        code: u16,
        /// A sentence for the player; may be empty.
        reason: String,
    },
    /// The program has [closed](super::Client::close) the client.
    Left,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(what) => write!(f, "the address cannot be used: {what}"),
            Self::Unreachable(what) => write!(f, "the server cannot be reached: {what}"),
            Self::Refused { status, reason } => {
                write!(f, "the server refused the upgrade with {status}: {reason}")
            }
            Self::Closed { code, reason } => {
                write!(f, "the server closed the connection with {code}: {reason}")
            }
            Self::Left => f.write_str("the client has left the room"),
        }
    }
}

impl std::error::Error for ClientError {}

/// Why an update came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError {
    /// The client is in its room no more.
    Ended(ClientError),
    /// The connection broke before the server had answered: the value may be the room's.
    Unknown,
    /// Others set the variable all the time.
    Contested,
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(error) => error.fmt(f),
            Self::Unknown => {
                f.write_str("the connection broke: whether the value was set is not known")
            }
            Self::Contested => f.write_str("others set the variable all the time"),
        }
    }
}

impl std::error::Error for UpdateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Ended(error) => Some(error),
            Self::Unknown | Self::Contested => None,
        }
    }
}
