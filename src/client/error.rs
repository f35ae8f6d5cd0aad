//! Errors of a client.

use std::fmt;

/// The reason why a client did not join, or is no longer in its room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not a valid one with `ws:`, `wss:`, `http:` or `https:`, or a header is invalid.
    Address(String),
    /// The [secret](super::ClientBuilder::resume) has fewer than 16 bytes, or more than 128.
    Secret,
    /// There is no server at the address, or the connection broke.
    Unreachable(String),
    /// The server, or a proxy or layer before it, has refused the upgrade.
    Refused {
        /// The status of the response.
        status: u16,
        /// The response's text.
        reason: String,
    },
    /// The server closed the connection.
    Closed {
        /// The close code, as [`CloseCode`](crate::CloseCode) has it; 1006 if the close had none.
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
            Self::Secret => f.write_str("the secret must have 16 to 128 bytes"),
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

/// The reason why an update by a client failed. Updates by the host have [an error of their
/// own](crate::UpdateError).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError {
    /// The client is no longer in its room.
    Ended(ClientError),
    /// The connection broke before the server answered: the room may or may not have the value.
    Unknown,
    /// Other members kept setting the variable.
    Contested,
    /// The room does not take the value: a policy refuses it, or it is over a limit.
    Refused,
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(error) => error.fmt(f),
            Self::Unknown => {
                f.write_str("the connection broke: whether the value was set is not known")
            }
            Self::Refused => f.write_str("the room does not take the value"),
            Self::Contested => f.write_str("others set the variable all the time"),
        }
    }
}

impl std::error::Error for UpdateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Ended(error) => Some(error),
            Self::Unknown | Self::Contested | Self::Refused => None,
        }
    }
}
