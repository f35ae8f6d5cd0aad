//! Inflates the compressed messages of a client in front of the WebSocket layer, which knows no extension.

use std::{io, mem};

use tokio::io::ReadBuf;
use tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

use super::frames::{Head, LONGEST};
use crate::deflate::{Deflate, InflateError};

/// A stream of frames in which compressed messages are replaced by inflated ones. All other bytes pass, with their
/// errors.
#[derive(Debug)]
pub(super) struct Inflater {
    deflate: Deflate,
    /// The longest message, in bytes.
    limit: usize,
    at: At,
    /// The compressed message that is under way: its kind, and the part that has come.
    message: Option<(OpCode, Vec<u8>)>,
    /// Bytes as the client sent them, which were not looked at yet.
    raw: Vec<u8>,
    ready: Vec<u8>,
    taken: usize,
    /// How many more bytes the messages have that were inflated.
    cost: usize,
    /// The end of the stream: nothing is read behind it.
    error: Option<InflateError>,
}

/// Inflates a stream that comes in pieces, up to the error that ends it.
#[cfg(all(feature = "deflate", any(test, feature = "__internals")))]
pub(crate) fn inflated(
    deflate: Deflate,
    stream: &[u8],
    piece: usize,
    limit: usize,
) -> (Vec<u8>, Option<InflateError>) {
    let (mut inflater, mut read) = (Inflater::new(deflate, limit), Vec::new());
    for piece in stream.chunks(piece) {
        inflater.push(piece);
        let mut bytes = [0; 7];
        let mut buffer = ReadBuf::new(&mut bytes);
        loop {
            match inflater.read(&mut buffer) {
                Ok(true) => read.extend(buffer.filled()),
                Ok(false) => break,
                Err(error) => return (read, Some(error)),
            }
            buffer.clear();
        }
    }
    (read, None)
}

/// The position in a frame.
#[derive(Debug)]
enum At {
    Head(Head),
    /// In the payload of a frame that passes, with this many bytes left.
    Passing(u64),
    /// In the payload of a frame of a compressed message. The mask is turned so that it begins with the next
    /// byte's.
    Collecting {
        left: usize,
        mask: [u8; 4],
        is_final: bool,
    },
}

const FINAL: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;

impl Inflater {
    pub(super) fn new(deflate: Deflate, limit: usize) -> Self {
        Self {
            deflate,
            limit,
            at: At::Head(Head::default()),
            message: None,
            raw: Vec::new(),
            ready: Vec::new(),
            taken: 0,
            cost: 0,
            error: None,
        }
    }

    /// Takes bytes as the client sent them. To be called when there is nothing more to read.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.raw.extend(piece);
    }

    fn is_ready(&self) -> bool {
        self.taken < self.ready.len()
    }

    /// Returns whether the next read looks at bytes that were left behind a message.
    pub(super) fn holds_back(&self) -> bool {
        !self.is_ready() && !self.raw.is_empty()
    }

    /// Returns how many more bytes the messages have that were inflated since the last call.
    pub(super) fn take_cost(&mut self) -> usize {
        mem::take(&mut self.cost)
    }

    /// Moves bytes to a reader, as many as it has place for. Returns whether there were any. Fails once those
    /// before the error are read.
    pub(super) fn read(&mut self, buffer: &mut ReadBuf<'_>) -> Result<bool, InflateError> {
        if !self.is_ready() && self.error.is_none() {
            self.error = self.step().err();
        }
        let rest = &self.ready[self.taken..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.taken += count;
        if !self.is_ready() {
            // Given back, because a client that sends nothing should cost nothing.
            (self.ready, self.taken) = (Vec::new(), 0);
        }
        match self.error {
            Some(error) if count == 0 => Err(error),
            _ => Ok(count > 0),
        }
    }

    /// Takes frames up to the end of the next compressed message. The rest stays raw: a kilobyte may have many
    /// messages, each as long as a message may be.
    fn step(&mut self) -> Result<(), InflateError> {
        let raw = mem::take(&mut self.raw);
        let mut rest = &raw[..];
        while !rest.is_empty() && !self.take(&mut rest)? {}
        self.raw = rest.to_vec();
        Ok(())
    }

    /// Takes some bytes of a frame. Returns whether they were the last of a compressed message.
    fn take(&mut self, piece: &mut &[u8]) -> Result<bool, InflateError> {
        match &mut self.at {
            At::Head(head) => {
                let length = head.push(piece[0]);
                *piece = &piece[1..];
                if let Some(length) = length {
                    let head = mem::take(head);
                    self.at = self.enter(&head, length)?;
                }
            }
            At::Passing(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
                self.ready.extend(&piece[..count]);
                *piece = &piece[count..];
                *left -= count as u64;
            }
            At::Collecting { left, mask, .. } => {
                let count = piece.len().min(*left);
                if let Some((_, message)) = &mut self.message {
                    let start = message.len();
                    message.extend(&piece[..count]);
                    unmask(&mut message[start..], *mask);
                }
                *piece = &piece[count..];
                *left -= count;
                mask.rotate_left(count % 4);
            }
        }
        self.leave()
    }

    /// Begins the payload of a frame.
    fn enter(&mut self, head: &Head, length: u64) -> Result<At, InflateError> {
        let (first, opcode) = (head.first(), head.first() & OPCODE);
        let is_control = opcode & CONTROL != 0;
        let begins = first & COMPRESSED != 0 && matches!(opcode, 1 | 2);
        let goes_on = self.message.is_some() && opcode == 0 && first & RESERVED == 0;
        if !is_control && self.message.is_some() && !goes_on {
            return Err(InflateError::Interleaved);
        }
        if is_control || !head.is_masked() || !(begins || goes_on) {
            self.ready.extend(head.as_bytes());
            return Ok(At::Passing(length));
        }
        let (_, message) = self.message.get_or_insert_with(|| (OpCode::from(opcode), Vec::new()));
        let left = usize::try_from(length).unwrap_or(usize::MAX);
        // A message that cannot be compressed has a few bytes more.
        let most = self.limit.saturating_add(self.limit / 1_024 + 64);
        if message.len().saturating_add(left) > most {
            return Err(InflateError::TooLong { limit: self.limit });
        }
        Ok(At::Collecting { left, mask: head.mask(), is_final: first & FINAL != 0 })
    }

    /// Ends a frame if all of it has come, and inflates its message if that is complete. Returns whether it was.
    fn leave(&mut self) -> Result<bool, InflateError> {
        let is_final = match self.at {
            At::Passing(0) => false,
            At::Collecting { left: 0, is_final, .. } => is_final,
            _ => return Ok(false),
        };
        self.at = At::Head(Head::default());
        let message = if is_final { self.message.take() } else { None };
        let Some((opcode, compressed)) = message else { return Ok(false) };
        let count = compressed.len();
        let message = self.deflate.inflate(compressed, self.limit)?;
        self.ready.reserve_exact(LONGEST + message.len());
        push_head(&mut self.ready, opcode, message.len());
        self.ready.extend(&message);
        self.cost += message.len().saturating_sub(count);
        Ok(true)
    }
}

fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let word = u32::from_ne_bytes(key);
    let mut chunks = payload.chunks_exact_mut(4);
    for chunk in &mut chunks {
        let masked = chunk.try_into().map_or(0, u32::from_ne_bytes);
        chunk.copy_from_slice(&(masked ^ word).to_ne_bytes());
    }
    chunks.into_remainder().iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
}

/// Writes the head of a frame as a client sends it, with a mask that changes nothing.
fn push_head(frames: &mut Vec<u8>, opcode: OpCode, length: usize) {
    let mask = Some([0; 4]);
    let head = FrameHeader { is_final: true, opcode, mask, ..FrameHeader::default() };
    // Writing to a vector cannot fail.
    _ = head.format(length as u64, frames);
}

impl From<InflateError> for io::Error {
    fn from(error: InflateError) -> Self {
        Self::other(error)
    }
}

#[cfg(all(test, feature = "deflate"))]
mod tests {
    use super::*;
    use crate::Compression;

    fn deflate() -> Deflate {
        Compression::ALL.agree(15, true).expect("it is on")
    }

    fn compress(message: &[u8]) -> Vec<u8> {
        deflate().compress(message)
    }

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let (mut frame, key) = (plain(first, payload), [1, 2, 3, 4]);
        let start = frame.len() - payload.len();
        frame[start - 4..start].copy_from_slice(&key);
        unmask(&mut frame[start..], key);
        frame
    }

    fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        push_head(&mut frame, OpCode::from(0), payload.len());
        frame[0] = first;
        frame.extend(payload);
        frame
    }

    fn inflated(stream: &[u8], size: usize) -> Result<Vec<u8>, InflateError> {
        let (read, error) = super::inflated(deflate(), stream, size, 1_000);
        error.map_or(Ok(read), Err)
    }

    #[test]
    fn compressed_messages_are_inflated_and_all_else_passes() {
        let text = "abc".repeat(300);
        let compressed = compress(text.as_bytes());
        let (start, end) = compressed.split_at(3);
        let ping = frame(0x89, b"ping");
        let short = frame(0x81, b"as it is");
        let fragments = [frame(0x01, b"half "), ping.clone(), frame(0x80, b"a text")].concat();
        let sent = [
            short.clone(),
            frame(0xc1, &compressed),
            frame(0x41, start),
            ping.clone(),
            frame(0x00, &[]),
            frame(0x80, end),
            frame(0xc2, &compress(b"")),
            fragments.clone(),
        ];
        let text = plain(0x81, text.as_bytes());
        let expected = [&short, &text, &ping, &text, &plain(0x82, b""), &fragments];
        let expected: Vec<u8> = expected.into_iter().flatten().copied().collect();
        for size in [1, 2, 3, 5, 64, 10_000] {
            assert_eq!(inflated(&sent.concat(), size), Ok(expected.clone()), "pieces of {size}");
        }
    }

    /// A kilobyte may have many messages of the longest kind.
    #[test]
    fn one_message_is_inflated_at_a_time() {
        let message = frame(0xc1, &compress(&[7; 1_000]));
        let (mut inflater, mut bytes) = (Inflater::new(deflate(), 1_000), [0; 100]);
        inflater.push(&message.repeat(10));
        for read in 1..=110 {
            assert_eq!(inflater.read(&mut ReadBuf::new(&mut bytes)), Ok(true));
            assert!(inflater.ready.capacity() <= 1_000 + LONGEST, "after {read} reads");
        }
        assert_eq!(inflater.read(&mut ReadBuf::new(&mut bytes)), Ok(false));
        assert_eq!(inflater.take_cost(), 10 * (1_000 - (message.len() - 6)));
    }

    #[test]
    fn a_message_is_refused_at_its_header_or_when_it_grows() {
        for frame in [
            &frame(0xc1, &[7; 1_066])[..8],
            &[frame(0x41, &[7; 600]), frame(0x80, &[7; 600])].concat()[..616],
            &frame(0xc1, &compress(&[7; 1_001])),
        ] {
            assert_eq!(inflated(frame, 1_000), Err(InflateError::TooLong { limit: 1_000 }));
        }
        assert!(inflated(&frame(0xc1, &compress(&[7; 1_000])), 1_000).is_ok());
    }

    #[test]
    fn frames_that_break_the_rules_reach_the_websocket_layer_or_end_here() {
        // A compressed control frame, a compressed continuation of nothing, an unmasked frame.
        for frame in [frame(0xc9, b"x"), frame(0xc0, b"x"), vec![0xc1, 1, 7]] {
            assert_eq!(inflated(&frame, 2), Ok(frame));
        }
        for second in [0x81, 0xc1, 0xc0, 0xa0, 0x90].map(|first| frame(first, b"x")) {
            let stream = [frame(0x41, b"x"), second].concat();
            assert_eq!(inflated(&stream, 100), Err(InflateError::Interleaved));
        }
        assert_eq!(inflated(&frame(0xc1, &[0xff; 9]), 100), Err(InflateError::Invalid));
    }
}
