//! Errors of a client.

/// The reason why a client did not join, or is no longer in its room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not a valid one with `ws:`, `wss:`, `http:` or `https:`, or a header is invalid.
    #[error("the address cannot be used: {0}")]
    Address(String),
    /// The [secret](super::ClientBuilder::resume) has fewer than 16 bytes, or more than 128.
    #[error("the secret must have 16 to 128 bytes")]
    Secret,
    /// There is no server at the address, or the connection broke.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The server, or a proxy or layer before it, has refused the upgrade.
    #[error("the server refused the upgrade with {status}: {reason}")]
    Refused {
        /// The status of the response.
        status: u16,
        /// The response's text.
        reason: String,
    },
    /// The server closed the connection.
    #[error("the server closed the connection with {code}: {reason}")]
    Closed {
        /// The close code, as [`CloseCode`](crate::CloseCode) has it; 1006 if the close had none.
        code: u16,
        /// A sentence for the player; may be empty.
        reason: String,
    },
    /// The program has [closed](super::Client::close) the client.
    #[error("the client has left the room")]
    Left,
}

/// The reason why an update by a client failed. Updates by the host have [an error of their
/// own](crate::UpdateError).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The client is no longer in its room.
    #[error(transparent)]
    Ended(ClientError),
    /// The connection broke before the server answered: the room may or may not have the value.
    #[error("the connection broke: whether the value was set is not known")]
    Unknown,
    /// Other members kept setting the variable.
    #[error("others set the variable all the time")]
    Contested,
    /// The room does not take the value: a policy refuses it, or it is over a limit.
    #[error("the room does not take the value")]
    Refused,
}
