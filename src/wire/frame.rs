//! The WebSocket frames that clients are sent (RFC 6455, section 5.2), ready to be written.

use std::fmt;

use bytes::Bytes;
use tungstenite::protocol::frame::{
    self, FrameHeader,
    coding::{CloseCode, Data, OpCode},
};

use super::{Dialect, Text};
use crate::budget::Charge;

/// The space for a header in front of a text: the longest header of an unmasked frame.
const PLACE: usize = 10;

/// A whole frame. Servers do not mask their frames, so the very same bytes are written to every member.
#[derive(Clone, PartialEq)]
pub(crate) struct Frame(Bytes);

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
        Self(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Keeps a charge for as long as there is a copy of the frame.
    pub(crate) fn charged(self, charge: Charge) -> Self {
        Self(Bytes::from_owner(Charged { bytes: self.0, _charge: charge }))
    }

    /// Returns the text of the frame.
    pub(crate) fn as_text(&self) -> &str {
        let header = match self.0.get(1) {
            Some(127) => 10,
            Some(126) => 4,
            _ => 2,
        };
        // Validated again, because only `unsafe` could skip that.
        self.0.get(header..).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
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
        Frame(Bytes::from(bytes).slice(start..))
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
