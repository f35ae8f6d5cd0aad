//! Every reason that a player reads, but for those of names, limits and messages, which are with their
//! checks. Each says briefly what happened, and what to do.

use super::{Close, CloseCode, LeaveCause};
use crate::room::Mismatch;

impl Close {
    // A handshake is refused.

    pub(crate) fn no_handshake() -> Self {
        Self::protocol("no handshake came")
    }

    pub(crate) fn set_before_handshake() -> Self {
        Self::protocol("the first message must be a handshake")
    }

    pub(crate) fn second_handshake() -> Self {
        Self::protocol("you have joined a room already")
    }

    pub(crate) fn another_kind() -> Self {
        Self::new(CloseCode::Incompatible, "this server is for other kinds of clients")
    }

    pub(crate) fn undecided() -> Self {
        Self::new(CloseCode::Internal, "the server did not decide in time whether you may join")
    }

    pub(crate) fn another_name() -> Self {
        Self::new(CloseCode::Username, "that username is not the one you logged in by")
    }

    pub(crate) fn another_room() -> Self {
        Self::new(CloseCode::Incompatible, "you may not join that room")
    }

    pub(crate) fn name_in_use() -> Self {
        Self::new(CloseCode::Username, "that username is in use: choose another one")
    }

    pub(crate) fn name_in_doubt() -> Self {
        let reason = "your username's last connection may still be there: try again in a moment";
        Self::new(CloseCode::Unavailable, reason)
    }

    pub(crate) fn no_such_room() -> Self {
        Self::new(CloseCode::Incompatible, "there is no such room")
    }

    pub(crate) fn names_differ(mismatch: &Mismatch) -> Self {
        let reason = format!("reload the game: its variables are not the room's ({mismatch})");
        Self::new(CloseCode::Incompatible, reason)
    }

    pub(crate) fn too_many_variables() -> Self {
        Self::protocol("the room has no place for your variables")
    }

    pub(crate) fn banned() -> Self {
        Self::new(CloseCode::Username, "you are banned from this room").because(LeaveCause::Banned)
    }

    pub(crate) fn room_locked() -> Self {
        Self::new(CloseCode::Unavailable, "the room is locked: try again later")
    }

    pub(crate) fn room_full() -> Self {
        Self::new(CloseCode::Overloaded, "the room is full: try again later")
    }

    pub(crate) fn server_full() -> Self {
        Self::new(CloseCode::Overloaded, "the server is full: try again later")
    }

    pub(crate) fn unreachable() -> Self {
        Self::new(CloseCode::Unavailable, "the server cannot reach its rooms: try again later")
    }

    /// In the middle of a handshake: the client is to try again, at another server perhaps.
    pub(crate) fn draining() -> Self {
        Self::new(CloseCode::Unavailable, "the server is shutting down")
    }

    // A member, or a connection, is put out.

    pub(crate) fn shutting_down() -> Self {
        Self::new(CloseCode::GoingAway, "the server is shutting down").because(LeaveCause::Shutdown)
    }

    pub(crate) fn room_closed() -> Self {
        Self::new(CloseCode::GoingAway, "the room was closed").because(LeaveCause::RoomClosed)
    }

    pub(crate) fn game_updated() -> Self {
        Self::new(CloseCode::Incompatible, "the game was updated: reload it")
            .because(LeaveCause::RoomClosed)
    }

    pub(crate) fn was_away() -> Self {
        Self::new(CloseCode::Restart, "the server was away: come back").because(LeaveCause::Lost)
    }

    pub(crate) fn another_tab() -> Self {
        Self::new(CloseCode::Username, "you joined from another tab: go on there")
            .because(LeaveCause::TakenOver)
    }

    pub(crate) fn name_taken() -> Self {
        Self::new(CloseCode::Username, "another player has your username now: choose another one")
            .because(LeaveCause::TakenOver)
    }

    pub(crate) fn name_outlived() -> Self {
        Self::protocol("your connection did not answer, and your username was wanted")
            .because(LeaveCause::TakenOver)
    }

    pub(crate) fn no_sign_of_life() -> Self {
        Self::protocol("your connection did not answer: reconnect").because(LeaveCause::Lost)
    }

    pub(crate) fn unknown_variable() -> Self {
        Self::protocol("the room has no variable of that name")
    }

    pub(crate) fn binary() -> Self {
        let reason = "binary frames are not part of the protocol: send text";
        Self::new(CloseCode::Unsupported, reason)
    }

    pub(crate) fn fault() -> Self {
        Self::new(CloseCode::Internal, "something went wrong on the server: try again")
    }
}
