//! The WebSocket frames that clients are sent (RFC 6455, section 5.2), ready to be written.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use tungstenite::protocol::frame::{
    self, FrameHeader,
    coding::{CloseCode, Data, OpCode},
};

use super::{Dialect, Text};
use crate::{
    budget::Charge,
    deflate::{AVAILABLE, Deflate, Message, Window},
};

/// The space for a header in front of a text: the longest header of an unmasked frame.
const PLACE: usize = 10;

/// A whole frame. Servers do not mask their frames, so the very same bytes are written to every member.
#[derive(Clone)]
pub(crate) struct Frame {
    bytes: Bytes,
    /// Its compressed forms, if it goes to many members.
    compressed: Option<Arc<Compressed>>,
}

/// The compressed forms of a frame, each made for the first member that needs it.
#[derive(Debug, Default)]
struct Compressed {
    /// The frame that refers to no other; `None` if it is not smaller.
    alone: OnceLock<Option<Bytes>>,
    /// The frame's number among those to which others may refer.
    number: Option<u64>,
    /// The message before it, and the frame that refers to that message.
    previous: Option<Message>,
    after: OnceLock<Option<Bytes>>,
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, compressed: None }
    }
}

impl Frame {
    pub(crate) fn text(text: &str) -> Self {
        let mut lines = Lines::with_capacity(text.len());
        lines.0.push_str(text);
        lines.frame()
    }

    pub(crate) fn ping(payload: [u8; 8]) -> Self {
        Self::control(frame::Frame::ping(payload.to_vec()))
    }

    /// Creates a close frame. The reason must fit a control frame, as that of a
    /// [`Close`](crate::close::Close) does.
    pub(crate) fn close(code: u16, reason: &str) -> Self {
        let close = frame::CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        Self::control(frame::Frame::close(Some(close)))
    }

    fn control(frame: frame::Frame) -> Self {
        let mut bytes = Vec::with_capacity(frame.len());
        // Writing to a vector cannot fail.
        _ = frame.format(&mut bytes);
        Bytes::from(bytes).into()
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Keeps a charge for as long as there is a copy of the frame.
    pub(crate) fn charged(self, charge: Charge) -> Self {
        let bytes = Bytes::from_owner(Charged { bytes: self.bytes, _charge: charge });
        Self { bytes, ..self }
    }

    /// Has copies of the frame compressed once, because it goes to many members.
    pub(crate) fn shared(self) -> Self {
        self.with(Compressed::default())
    }

    /// The same for a frame that may refer to the message before it, and to which the next may refer.
    pub(crate) fn numbered(self, number: u64, previous: Option<Message>) -> Self {
        self.with(Compressed { number: Some(number), previous, ..Compressed::default() })
    }

    fn with(self, compressed: Compressed) -> Self {
        Self { compressed: AVAILABLE.then(|| Arc::new(compressed)), ..self }
    }

    /// Returns the message to which the next frame may refer, if a member may have it in its window.
    pub(crate) fn message(&self) -> Option<Message> {
        let compressed = self.compressed.as_ref()?;
        let is_used = compressed.alone.get().is_some() || compressed.after.get().is_some();
        let text = self.bytes.slice_ref(self.payload());
        Some(Message { number: compressed.number.filter(|_| is_used)?, text })
    }

    /// Returns the bytes for a client with which compression was agreed: compressed, if that makes them fewer.
    pub(crate) fn compressed(&self, deflate: Deflate, window: &mut Window) -> Bytes {
        let text = self.payload();
        if !deflate.is_worth(text.len()) {
            // The client's window stays, because only compressed messages get into it.
            return self.bytes.clone();
        }
        let (bytes, number) = match &self.compressed {
            // A form of its own for each client with a small window would cost as much as a room of them.
            Some(_) if !deflate.shares() => return self.bytes.clone(),
            Some(shared) => {
                let previous = shared.previous.as_ref();
                let previous = previous.filter(|previous| window.ends_with(previous, deflate));
                let bytes = match previous {
                    Some(previous) => shared.after.get_or_init(|| {
                        self.smaller(&deflate.compress_after(&previous.text, text))
                    }),
                    None => shared.alone.get_or_init(|| self.smaller(&deflate.compress(text))),
                };
                (bytes.clone(), shared.number)
            }
            None => (self.smaller(&deflate.compress(text)), None),
        };
        let Some(bytes) = bytes else { return self.bytes.clone() };
        *window = Window(number);
        bytes
    }

    fn smaller(&self, compressed: &[u8]) -> Option<Bytes> {
        let compressed = self.with_payload(compressed);
        let is_smaller = compressed.len() < self.bytes.len();
        // Keeps the frame, so that a blocked socket has its charge.
        let kept = Kept { compressed, _frame: self.bytes.clone() };
        is_smaller.then(|| Bytes::from_owner(kept))
    }

    fn with_payload(&self, compressed: &[u8]) -> Bytes {
        let opcode = OpCode::from(self.bytes.first().map_or(0, |first| first & 0x0f));
        let header = FrameHeader { is_final: true, rsv1: true, opcode, ..FrameHeader::default() };
        let mut bytes = Vec::with_capacity(PLACE + compressed.len());
        // Writing to a vector cannot fail.
        _ = header.format(compressed.len() as u64, &mut bytes);
        bytes.extend(compressed);
        bytes.into()
    }

    /// Returns the text of the frame.
    pub(crate) fn as_text(&self) -> &str {
        // Validated again, because only `unsafe` could skip that.
        str::from_utf8(self.payload()).unwrap_or_default()
    }

    fn payload(&self) -> &[u8] {
        let header = match self.bytes.get(1) {
            Some(127) => 10,
            Some(126) => 4,
            _ => 2,
        };
        self.bytes.get(header..).unwrap_or_default()
    }
}

/// The compressed form of a frame, and the frame.
struct Kept {
    compressed: Bytes,
    _frame: Bytes,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.compressed
    }
}

/// The bytes of a frame, and their charge.
struct Charged {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Frame").field(&self.as_text()).finish()
    }
}

/// The lines of a text that becomes a frame: JSON objects (protocol: "each JSON object will be
/// separated by a newline").
#[derive(Debug)]
pub(crate) struct Lines(String);

impl Lines {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut text = String::with_capacity(PLACE + bytes);
        text.extend(['\0'; PLACE]);
        Self(text)
    }

    /// Returns the number of bytes of the text.
    pub(crate) fn len(&self) -> usize {
        self.0.len() - PLACE
    }

    pub(crate) fn push_set(&mut self, dialect: Dialect, name: &Text, value: &Text) {
        self.separate();
        dialect.push_set(name, value, &mut self.0);
    }

    pub(crate) fn push(&mut self, line: &str) {
        self.separate();
        self.0.push_str(line);
    }

    fn separate(&mut self) {
        if self.len() > 0 {
            self.0.push('\n');
        }
    }

    /// Returns the frame, or `None` if there is no line.
    pub(crate) fn into_frame(self) -> Option<Frame> {
        (self.len() > 0).then(|| self.frame())
    }

    fn frame(self) -> Frame {
        let len = self.len() as u64;
        let opcode = OpCode::Data(Data::Text);
        let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
        let start = PLACE - header.len(len);
        let mut bytes = self.0.into_bytes();
        // Writing to a place that is long enough cannot fail.
        _ = header.format(len, &mut &mut bytes[start..PLACE]);
        Bytes::from(bytes).slice(start..).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_text_of_any_length_has_the_header_of_a_text() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let text = "v".repeat(len);
            let frame = Frame::text(&text);
            assert_eq!(frame.as_text(), text);
            let mut bytes = Cursor::new(frame.bytes());
            let (header, length) = FrameHeader::parse(&mut bytes).unwrap().unwrap();
            assert_eq!(header.opcode, OpCode::Data(Data::Text));
            assert!(header.is_final && header.mask.is_none());
            assert_eq!(length, len as u64);
            assert_eq!(bytes.position() as usize + len, frame.bytes().len());
        }
    }
}
