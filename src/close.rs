//! Why a connection ends: every close code, what it means and whether clients come back.

use std::{borrow::Cow, fmt};

/// The status codes with which a session is closed: those of the protocol (4000 to 4004) and those
/// of RFC 6455, section 7.4.1.
///
/// ```
/// use axum_cloud_variables::CloseCode;
///
/// assert_eq!(CloseCode::Overloaded.code(), 4003);
/// assert!(CloseCode::Overloaded.reconnects());
/// assert!(!CloseCode::Username.reconnects());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// 1001: the server shuts down.
    GoingAway,
    /// 1002: broken framing (RFC 6455).
    Framing,
    /// 1003: a binary frame; the protocol knows JSON texts only.
    Unsupported,
    /// 1007: a text that is not UTF-8.
    InvalidText,
    /// 1009: a message over [`Limits::message_bytes`](crate::Limits#structfield.message_bytes).
    TooLarge,
    /// 1011: a fault on the server's side.
    Internal,
    /// 4000: the client violated the protocol.
    Protocol,
    /// 4001: what the client brings does not match the room.
    Incompatible,
    /// 4002: a problem with the username that another name solves.
    Username,
    /// 4003: the server or the room is full.
    Overloaded,
    /// 4004: kicked by the host. Kept for the host's use: nothing sends it yet.
    Kicked,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::Framing => 1002,
            Self::Unsupported => 1003,
            Self::InvalidText => 1007,
            Self::TooLarge => 1009,
            Self::Internal => 1011,
            Self::Protocol => 4000,
            Self::Incompatible => 4001,
            Self::Username => 4002,
            Self::Overloaded => 4003,
            Self::Kicked => 4004,
        }
    }

    /// Whether a client of the protocol reconnects by itself ('Autoreconnect').
    #[must_use]
    pub const fn reconnects(self) -> bool {
        !matches!(self, Self::Incompatible | Self::Username)
    }
}

/// A close frame to send: a code and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: CloseCode,
    reason: Cow<'static, str>,
}

/// RFC 6455, section 5.5: a control frame carries 125 bytes, two of them the code.
const REASON_BYTES: usize = 123;

impl Close {
    pub(crate) fn new(code: CloseCode, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        if reason.len() > REASON_BYTES {
            let cut = (0..=REASON_BYTES).rev().find(|&at| reason.is_char_boundary(at));
            reason = reason[..cut.unwrap_or(0)].to_owned().into();
        }
        Self { code, reason }
    }

    pub(crate) fn protocol(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(CloseCode::Protocol, reason)
    }

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.code(), self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let close = Close::protocol("ü".repeat(100));
        assert_eq!(close.reason(), "ü".repeat(61));
        assert_eq!(Close::protocol("short").reason(), "short");
    }
}
