//! Why a session ends: every close code, its meaning, and whether clients reconnect.

mod reasons;

use std::{borrow::Cow, fmt};

use crate::wire::Dialect;

/// Why a session is closed. On the wire it is a status code of the protocol (4000 to 4004), or of
/// RFC 6455, section 7.4.1.
///
/// The clients of [`Dialect::Scratch`] give some codes another meaning, so they receive a few
/// by other numbers:
///
/// | | `Spec`, `Forkphorus2020` | `Scratch` | why |
/// |---|---|---|---|
/// | [`Incompatible`](Self::Incompatible) | 4001 | 4004 | there 4001 is unknown, so they would come back for ever; 4004 is 'project unavailable' |
/// | [`Overloaded`](Self::Overloaded), [`Unavailable`](Self::Unavailable) | 4003 | 1013 | TurboWarp's clients never come back after 4003 |
/// | [`Kicked`](Self::Kicked) | 4004 | 4000 | after 4004 they never come back |
///
/// (Scratch's own player looks at no code: it comes back after all of them.)
///
/// ```
/// use axum_cloud_variables::{CloseCode, Dialect};
///
/// assert_eq!(CloseCode::Kicked.code(Dialect::Spec), 4004);
/// assert_eq!(CloseCode::Kicked.code(Dialect::Scratch), 4000);
/// assert!(CloseCode::Kicked.reconnects(Dialect::Scratch));
/// assert!(!CloseCode::Username.reconnects(Dialect::Spec));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// 1001: the server shuts down, or the host closed the room.
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
    /// 1012: this node of several was away for too long and starts over: come back.
    Restart,
    /// 4000: the client violated the protocol.
    Protocol,
    /// 4001: the client's variables do not match the room, or the client may not join it for good.
    Incompatible,
    /// 4002: a problem with the username that another name solves.
    Username,
    /// 4003 (1013 for Scratch clients): the server or the room is full.
    Overloaded,
    /// 4003 (1013 for Scratch clients): not now, but soon again: the room is locked, or the server is shutting down.
    Unavailable,
    /// 4004: kicked by the host.
    Kicked,
}

impl CloseCode {
    /// All codes; of two with one number, the one that is meant more often comes first.
    const ALL: [Self; 13] = [
        Self::GoingAway,
        Self::Framing,
        Self::Unsupported,
        Self::InvalidText,
        Self::TooLarge,
        Self::Internal,
        Self::Restart,
        Self::Protocol,
        Self::Incompatible,
        Self::Username,
        Self::Overloaded,
        Self::Unavailable,
        Self::Kicked,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn code(self, dialect: Dialect) -> u16 {
        match (self, dialect) {
            (Self::GoingAway, _) => 1001,
            (Self::Framing, _) => 1002,
            (Self::Unsupported, _) => 1003,
            (Self::InvalidText, _) => 1007,
            (Self::TooLarge, _) => 1009,
            (Self::Internal, _) => 1011,
            (Self::Restart, _) => 1012,
            (Self::Overloaded | Self::Unavailable, Dialect::Scratch) => 1013,
            (Self::Protocol, _) | (Self::Kicked, Dialect::Scratch) => 4000,
            (Self::Incompatible, Dialect::Spec | Dialect::Forkphorus2020) => 4001,
            (Self::Username, _) => 4002,
            (Self::Overloaded | Self::Unavailable, _) => 4003,
            (Self::Kicked, _) | (Self::Incompatible, Dialect::Scratch) => 4004,
        }
    }

    /// Returns every number on the wire, each once.
    #[cfg(feature = "metrics")]
    pub(crate) fn numbers() -> impl Iterator<Item = u16> {
        let numbers = |dialect| Self::ALL.into_iter().map(move |code| code.code(dialect));
        let numbers: std::collections::BTreeSet<_> =
            numbers(Dialect::Spec).chain(numbers(Dialect::Scratch)).collect();
        numbers.into_iter()
    }

    /// Returns the code that has this number in this dialect, or `None` if none has. Some codes share a number:
    /// 4003 is [`Overloaded`](Self::Overloaded), not [`Unavailable`](Self::Unavailable), and a Scratch client's
    /// 4000 is [`Protocol`](Self::Protocol), not [`Kicked`](Self::Kicked).
    ///
    /// ```
    /// use axum_cloud_variables::{CloseCode, Dialect};
    ///
    /// assert_eq!(CloseCode::from_number(4004, Dialect::Spec), Some(CloseCode::Kicked));
    /// assert_eq!(CloseCode::from_number(4004, Dialect::Scratch), Some(CloseCode::Incompatible));
    /// assert_eq!(CloseCode::from_number(1006, Dialect::Spec), None);
    /// ```
    #[must_use]
    pub fn from_number(number: u16, dialect: Dialect) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.code(dialect) == number)
    }

    /// Whether clients reconnect by themselves ('Autoreconnect'): those of the protocol by its
    /// rules; in the Scratch dialect all known ones.
    #[must_use]
    pub const fn reconnects(self, dialect: Dialect) -> bool {
        !matches!(
            (dialect, self.code(dialect)),
            (Dialect::Spec | Dialect::Forkphorus2020, 4001 | 4002)
                | (Dialect::Scratch, 4002 | 4004)
        )
    }
}

/// Why somebody is a member no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum LeaveCause {
    /// The client closed its connection.
    Closed,
    /// The connection broke, its client gave no sign of life, or, with a relay, this node was away from the
    /// broker for too long.
    Lost,
    /// Another connection has the name now.
    TakenOver,
    /// The host put it out: [`Room::kick`](crate::Room::kick), or a policy that rejects a write.
    Kicked,
    /// The host banned it.
    Banned,
    /// The host closed or removed the room, or opened it for a version of the game that has other variables.
    RoomClosed,
    /// The client violated the protocol or a limit.
    Protocol,
    /// The server shuts down.
    Shutdown,
}

/// A close frame to send: a code and a sentence for people; and the cause that the host sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: CloseCode,
    reason: Cow<'static, str>,
    pub(crate) cause: LeaveCause,
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
        Self { code, reason, cause: LeaveCause::Protocol }
    }

    /// Sets the cause for which the member leaves. Without it, the cause is a fault of the client.
    pub(crate) fn because(mut self, cause: LeaveCause) -> Self {
        self.cause = cause;
        self
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
        write!(f, "{:?}: {}", self.code, self.reason)
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
