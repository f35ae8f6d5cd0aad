//! Compression of messages: permessage-deflate (RFC 7692).
//!
//! Compressed messages of a client refer to nothing before them, and the server's refer at most to the message
//! before. So no connection keeps a window, and an idle member costs no more than without compression.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

/// Whether the frames of a [mount](crate::Mount::compression) are compressed. (The feature `deflate`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// No frame is compressed.
    #[default]
    Off,
    /// Frames with at least this many bytes of text are compressed, if the client offers it. A smaller frame
    /// has little to gain: 64 is a good value.
    From(usize),
}

/// The agreement with one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deflate {
    threshold: usize,
    window_bits: u8,
    /// Whether a message may refer to the one before it: the client keeps its window.
    keeps: bool,
}

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
        deflate.keeps && self.0 == Some(message.number)
    }
}

/// The window of a client that asks for no other: 32 KiB.
pub(crate) const WINDOW_BITS: u8 = 15;
/// The smallest window for which the compressor can compress.
pub(crate) const LEAST_WINDOW_BITS: u8 = 9;
const LEVEL: flate2::Compression = flate2::Compression::new(1);
/// The end of every compressed message, which is not sent (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The end of a message whose last block is final.
const PADDED: [u8; 5] = [0, 0, 0, 0xff, 0xff];

thread_local! {
    // One per thread and not per connection, because each has some hundred kilobytes, and no message is left
    // half done.
    static COMPRESSOR: RefCell<Compress> =
        RefCell::new(Compress::new_with_window_bits(LEVEL, false, WINDOW_BITS));
    static DECOMPRESSOR: RefCell<Decompress> =
        RefCell::new(Decompress::new_with_window_bits(false, WINDOW_BITS));
}

impl Deflate {
    pub(crate) fn new(threshold: usize, window_bits: u8, keeps: bool) -> Self {
        Self { threshold, window_bits, keeps }
    }

    /// Returns whether a text of this length is worth compressing.
    pub(crate) fn is_worth(self, len: usize) -> bool {
        len >= self.threshold.max(1)
    }

    /// Returns whether frames that are compressed for all clients serve this one too.
    pub(crate) fn shares(self) -> bool {
        self.window_bits == WINDOW_BITS
    }

    /// Compresses a message for this client alone.
    pub(crate) fn compress(self, message: &[u8]) -> Vec<u8> {
        if self.shares() {
            return compress(message);
        }
        compress_with(&mut Compress::new_with_window_bits(LEVEL, false, self.window_bits), message)
    }
}

/// Compresses a message, so that it refers to no other.
pub(crate) fn compress(message: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        compressor.reset();
        compress_with(compressor, message)
    })
}

/// Compresses a message, so that it may refer to the message before it.
pub(crate) fn compress_after(previous: &[u8], message: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        compressor.reset();
        // If it fails, the message refers to no other, which every window allows.
        _ = compressor.set_dictionary(previous);
        compress_with(compressor, message)
    })
}

fn compress_with(compressor: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(message.len() / 2 + 64);
    loop {
        let rest = &message[usize::try_from(compressor.total_in()).unwrap_or(usize::MAX)..];
        // Only a stream that has been finished can fail, and this one never is.
        _ = compressor.compress_vec(rest, &mut compressed, FlushCompress::Sync);
        if compressed.len() < compressed.capacity() {
            break;
        }
        compressed.reserve(compressed.len());
    }
    if compressed.ends_with(&TAIL) {
        compressed.truncate(compressed.len() - TAIL.len());
    }
    compressed
}

/// The reason why a message cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InflateError {
    /// It would have more bytes than allowed.
    #[error("a message must have at most {limit} bytes")]
    TooLong { limit: usize },
    /// It is not compressed as RFC 7692 has it.
    #[error("a compressed message cannot be inflated")]
    Invalid,
    /// It begins while another message is not complete.
    #[error("a message began within another")]
    Interleaved,
}

/// Inflates a message that refers to no other. Stops as soon as it has more than `limit` bytes, however many the
/// message would have.
pub(crate) fn inflate(mut compressed: Vec<u8>, limit: usize) -> Result<Vec<u8>, InflateError> {
    compressed.extend(TAIL);
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        decompressor.reset(false);
        let mut message = Vec::with_capacity(limit.min(compressed.len() * 4));
        loop {
            let at = usize::try_from(decompressor.total_in()).unwrap_or(usize::MAX);
            let before = message.len();
            let done =
                decompressor.decompress_vec(&compressed[at..], &mut message, FlushDecompress::Sync);
            let status = done.map_err(|_| InflateError::Invalid)?;
            if message.len() > limit {
                return Err(InflateError::TooLong { limit });
            }
            let is_read = decompressor.total_in() == compressed.len() as u64;
            if status == Status::StreamEnd {
                // A final block may be followed by the padding of section 7.2.3.4 and no more.
                let at = usize::try_from(decompressor.total_in()).unwrap_or(usize::MAX);
                let is_last = [&TAIL[..], &PADDED].contains(&&compressed[at..]);
                return if is_last { Ok(message) } else { Err(InflateError::Invalid) };
            }
            if is_read && message.len() < message.capacity() {
                return Ok(message);
            }
            let is_stuck = message.len() == before && message.len() < message.capacity();
            if is_stuck {
                return Err(InflateError::Invalid);
            }
            // A byte more than allowed shows that there is more.
            let left = limit.saturating_add(1) - message.len();
            message.reserve_exact(left.min(message.len().max(1_024)));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let mut random = fastrand::Rng::with_seed(7);
        for len in [0, 1, 10, 100, 1_000, 65_536, 300_000] {
            let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
            for message in [vec![b'7'; len], noise] {
                for window_bits in [9, 12, 15] {
                    let deflate = Deflate::new(0, window_bits, false);
                    let compressed = deflate.compress(&message);
                    // By a client that has no larger window.
                    let mut client = Decompress::new_with_window_bits(false, window_bits);
                    let mut text = Vec::with_capacity(len + 64);
                    let whole = [&compressed[..], &TAIL].concat();
                    client.decompress_vec(&whole, &mut text, FlushDecompress::Sync).expect("valid");
                    assert_eq!(text, message, "{len}");
                    assert_eq!(inflate(compressed, len), Ok(message.clone()), "{len}");
                }
            }
        }
    }

    #[test]
    fn a_message_may_refer_to_the_one_before() {
        let texts = ["where is ann at 120 450".repeat(3), "where is ann at 121 449".repeat(3)];
        let [first, second] = texts.each_ref().map(String::as_bytes);
        let (alone, after) = (compress(second), compress_after(first, second));
        assert!(after.len() < alone.len(), "{} {}", after.len(), alone.len());
        let mut client = Decompress::new(false);
        // The client was sent other messages before.
        for message in [compress(b"something else"), compress(first), after] {
            let mut text = Vec::with_capacity(1_000);
            let message = [&message[..], &TAIL].concat();
            client.decompress_vec(&message, &mut text, FlushDecompress::Sync).expect("valid");
            if text.len() == second.len() && text != first {
                assert_eq!(text, second);
                return;
            }
        }
        panic!("the last one is the second");
    }

    #[test]
    fn an_inflated_message_is_no_longer_than_allowed() {
        let bomb = compress(&vec![0; 10 << 20]);
        assert!(bomb.len() < 200_000);
        assert_eq!(inflate(bomb, 1 << 20), Err(InflateError::TooLong { limit: 1 << 20 }));
        let message = compress(&[7; 1_000]);
        assert_eq!(inflate(message.clone(), 999), Err(InflateError::TooLong { limit: 999 }));
        assert_eq!(inflate(message, 1_000).map(|message| message.len()), Ok(1_000));
    }

    #[test]
    fn a_final_block_ends_a_message() {
        let mut last = Vec::with_capacity(100);
        let mut compressor = Compress::new(LEVEL, false);
        compressor.compress_vec(b"last", &mut last, FlushCompress::Finish).expect("it fits");
        assert_eq!(inflate(last.clone(), 100), Ok(b"last".to_vec()));
        assert_eq!(inflate([&last[..], &[0]].concat(), 100), Ok(b"last".to_vec()));
        assert_eq!(inflate([&last[..], &last].concat(), 100), Err(InflateError::Invalid));
    }

    #[test]
    fn junk_is_refused() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut invalid = 0;
        for len in 0..2_000 {
            let junk = std::iter::repeat_with(|| random.u8(..)).take(len % 300).collect();
            invalid += usize::from(inflate(junk, 10_000) == Err(InflateError::Invalid));
        }
        assert!(invalid > 1_000, "{invalid}");
    }
}
