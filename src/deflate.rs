//! Compression of messages: permessage-deflate (RFC 7692).
//!
//! Compressed messages of a client refer to nothing before them, and the server's refer at most to the message
//! before. So no connection keeps a window on the server.
//!
//! Without the feature `deflate` the same code is compiled over an agreement that no client can have.

#[cfg_attr(not(feature = "deflate"), path = "deflate/without.rs")]
mod zlib;

use bytes::Bytes;

#[cfg(not(feature = "deflate"))]
pub(crate) use zlib::Compression;
#[cfg(feature = "deflate")]
pub use zlib::Compression;
pub(crate) use zlib::{AVAILABLE, Deflate};

/// The window of a client that asks for no other: 32 KiB.
pub(crate) const WINDOW_BITS: u8 = 15;
/// The smallest window for which the compressor can compress.
pub(crate) const LEAST_WINDOW_BITS: u8 = 9;

/// A message of a room to which the next may refer.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) number: u64,
    pub(crate) text: Bytes,
}

/// The last compressed message that a client was sent, and which its window ends with: the number of a room's
/// message, or `None` for any other.
#[derive(Debug, Default)]
pub(crate) struct Window(pub(crate) Option<u64>);

impl Window {
    pub(crate) fn ends_with(&self, message: &Message, deflate: Deflate) -> bool {
        deflate.keeps() && self.0 == Some(message.number)
    }
}

/// The reason why a message cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InflateError {
    /// It would have more bytes than allowed.
    #[error("a message must have at most {limit} bytes")]
    TooLong { limit: usize },
    /// It is not compressed as RFC 7692 has it.
    #[cfg_attr(not(feature = "deflate"), expect(dead_code, reason = "nothing is inflated"))]
    #[error("a compressed message cannot be inflated")]
    Invalid,
    /// It begins while another message is not complete.
    #[error("a message began within another")]
    Interleaved,
}
