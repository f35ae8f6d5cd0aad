//! The WebSocket frames that clients are sent (RFC 6455, section 5.2), ready to be written.

use std::fmt;
#[cfg(feature = "deflate")]
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tungstenite::protocol::frame::{
    self, FrameHeader,
    coding::{CloseCode, Data, OpCode},
};

use super::{Dialect, Text};
use crate::{budget::Charge, deflate::Deflate};

/// A header's place in front of a text: the longest that an unmasked frame has.
const PLACE: usize = 10;

/// A whole frame. Servers do not mask theirs, so the very same bytes are written to every member.
#[derive(Clone)]
pub(crate) struct Frame {
    bytes: Bytes,
    /// The compressed frame, if this one goes to many members. Made for the first that needs it.
    #[cfg(feature = "deflate")]
    compressed: Option<Arc<OnceLock<Bytes>>>,
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            #[cfg(feature = "deflate")]
            compressed: None,
        }
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
        let mut charged = self;
        charged.bytes = Bytes::from_owner(Charged { bytes: charged.bytes, _charge: charge });
        charged
    }

    /// Has copies of the frame compressed once, because it goes to many members.
    #[cfg(feature = "deflate")]
    pub(crate) fn shared(self) -> Self {
        Self { compressed: Some(Arc::default()), ..self }
    }

    /// Returns the frame as it is, because nothing is compressed.
    #[cfg(not(feature = "deflate"))]
    pub(crate) fn shared(self) -> Self {
        self
    }

    /// Returns the bytes for a client with which no compression can have been agreed.
    #[cfg(not(feature = "deflate"))]
    pub(crate) fn compressed(&self, deflate: Deflate) -> Bytes {
        match deflate {}
    }

    /// Returns the bytes for a client with which compression was agreed: compressed, if that makes them fewer.
    #[cfg(feature = "deflate")]
    pub(crate) fn compressed(&self, deflate: Deflate) -> Bytes {
        let text = self.payload();
        if !deflate.is_worth(text.len()) {
            return self.bytes.clone();
        }
        let smaller = |compressed: Vec<u8>| {
            let compressed = self.with_payload(&compressed);
            if compressed.len() < self.bytes.len() { compressed } else { self.bytes.clone() }
        };
        match &self.compressed {
            Some(once) if deflate.shares() => {
                once.get_or_init(|| smaller(deflate.compress(text))).clone()
            }
            _ => smaller(deflate.compress(text)),
        }
    }

    #[cfg(feature = "deflate")]
    fn with_payload(&self, compressed: &[u8]) -> Bytes {
        let opcode = OpCode::from(self.bytes.first().map_or(0, |first| first & 0x0f));
        let header = FrameHeader { is_final: true, rsv1: true, opcode, ..FrameHeader::default() };
        let mut bytes = Vec::with_capacity(PLACE + compressed.len());
        // Writing to a vector cannot fail.
        _ = header.format(compressed.len() as u64, &mut bytes);
        bytes.extend(compressed);
        bytes.into()
    }

    /// The text that is in it.
    pub(crate) fn as_text(&self) -> &str {
        // Looked at again, as only `unsafe` could do without.
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

/// The bytes of a frame, and what they cost.
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
