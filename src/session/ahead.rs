//! The messages that a client sends while its join waits.

use std::collections::VecDeque;

use tungstenite::Message;

/// The most bytes that are read ahead, including the cost of each message: as many as a game sends in
/// seconds.
const MOST: usize = 32 << 10;
const MESSAGE_COST: usize = 64;

/// Messages that were read before there was a room for them, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Ahead {
    pub(super) fn push(&mut self, message: Message) {
        self.bytes += message.len() + MESSAGE_COST;
        self.messages.push_back(message);
    }

    /// Returns the oldest message. Frees the memory with the last one.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front();
        if self.messages.is_empty() && self.bytes > 0 {
            *self = Self::default();
        }
        message
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MOST
    }

    /// Returns whether there is something for the room.
    pub(super) fn has_texts(&self) -> bool {
        self.messages.iter().any(Message::is_text)
    }
}
