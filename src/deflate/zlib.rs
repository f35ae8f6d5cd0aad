//! Compression by zlib.

use std::cell::RefCell;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::{InflateError, WINDOW_BITS};

/// Whether anything can be compressed.
pub(crate) const AVAILABLE: bool = true;

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
    keeps: bool,
}

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

impl Compression {
    /// The setting that compresses every frame.
    #[cfg(any(test, feature = "__internals"))]
    pub(crate) const ALL: Self = Self::From(0);

    pub(crate) fn is_on(self) -> bool {
        self != Self::Off
    }

    /// Agrees with a client that has a window of this size, and keeps it from message to message or not.
    pub(crate) fn agree(self, window_bits: u8, keeps: bool) -> Option<Deflate> {
        match self {
            Self::Off => None,
            Self::From(threshold) => Some(Deflate { threshold, window_bits, keeps }),
        }
    }
}

impl Deflate {
    /// Returns whether a text of this length is worth compressing.
    pub(crate) fn is_worth(self, len: usize) -> bool {
        len >= self.threshold.max(1)
    }

    /// Returns whether frames that are compressed for all clients serve this one too.
    pub(crate) fn shares(self) -> bool {
        self.window_bits == WINDOW_BITS
    }

    /// Returns whether a message may refer to the one before it.
    pub(crate) fn keeps(self) -> bool {
        self.keeps
    }

    /// Compresses a message, so that it refers to no other.
    pub(crate) fn compress(self, message: &[u8]) -> Vec<u8> {
        if !self.shares() {
            let mut own = Compress::new_with_window_bits(LEVEL, false, self.window_bits);
            return compress_with(&mut own, message);
        }
        COMPRESSOR.with_borrow_mut(|compressor| {
            compressor.reset();
            compress_with(compressor, message)
        })
    }

    /// Compresses a message, so that it may refer to the message before it. Only for a client that
    /// [shares](Self::shares) and [keeps](Self::keeps).
    pub(crate) fn compress_after(self, previous: &[u8], message: &[u8]) -> Vec<u8> {
        COMPRESSOR.with_borrow_mut(|compressor| {
            compressor.reset();
            // If it fails, the message refers to no other, which every window allows.
            _ = compressor.set_dictionary(previous);
            compress_with(compressor, message)
        })
    }

    /// Inflates a message that refers to no other. Stops as soon as it has more than `limit` bytes, however many
    /// the message would have.
    #[expect(clippy::unused_self, reason = "nobody without an agreement compresses")]
    pub(crate) fn inflate(
        self,
        mut compressed: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<u8>, InflateError> {
        compressed.extend(TAIL);
        DECOMPRESSOR.with_borrow_mut(|decompressor| {
            decompressor.reset(false);
            let mut message = Vec::with_capacity(limit.min(compressed.len() * 4));
            let mut rest = &compressed[..];
            loop {
                let (read, before) = (decompressor.total_in(), message.len());
                let done = decompressor.decompress_vec(rest, &mut message, FlushDecompress::Sync);
                let status = done.map_err(|_| InflateError::Invalid)?;
                let read = usize::try_from(decompressor.total_in() - read).unwrap_or(usize::MAX);
                rest = &rest[read..];
                if message.len() > limit {
                    return Err(InflateError::TooLong { limit });
                }
                let has_space = message.len() < message.capacity();
                match status {
                    // A final block may be followed by the padding of section 7.2.3.4 and no more.
                    Status::StreamEnd if rest == TAIL || rest == PADDED => return Ok(message),
                    Status::StreamEnd => return Err(InflateError::Invalid),
                    _ if rest.is_empty() && has_space => return Ok(message),
                    _ if message.len() == before && has_space => return Err(InflateError::Invalid),
                    _ => {}
                }
                // A byte more than allowed shows that there is more.
                let left = limit.saturating_add(1) - message.len();
                message.reserve_exact(left.min(message.len().max(1_024)));
            }
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn deflate(window_bits: u8) -> Deflate {
        Compression::ALL.agree(window_bits, true).expect("it is on")
    }

    fn compress(message: &[u8]) -> Vec<u8> {
        deflate(WINDOW_BITS).compress(message)
    }

    fn inflate(compressed: Vec<u8>, limit: usize) -> Result<Vec<u8>, InflateError> {
        deflate(WINDOW_BITS).inflate(compressed, limit)
    }

    /// The message as a client reads it, whose window goes on from message to message.
    fn read(client: &mut Decompress, compressed: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(1 << 20);
        let whole = [compressed, &TAIL].concat();
        client.decompress_vec(&whole, &mut message, FlushDecompress::Sync).expect("valid");
        message
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let mut random = fastrand::Rng::with_seed(7);
        for len in [0, 1, 10, 100, 1_000, 65_536, 300_000] {
            let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
            for message in [vec![b'7'; len], noise] {
                for window_bits in [9, 12, 15] {
                    let compressed = deflate(window_bits).compress(&message);
                    // By a client that has no larger window.
                    let mut client = Decompress::new_with_window_bits(false, window_bits);
                    assert_eq!(read(&mut client, &compressed), message, "{len}");
                    assert_eq!(inflate(compressed, len), Ok(message.clone()), "{len}");
                }
            }
        }
    }

    #[test]
    fn a_message_may_refer_to_the_one_before() {
        let texts = ["where is ann at 120 450".repeat(3), "where is ann at 121 449".repeat(3)];
        let [first, second] = texts.each_ref().map(String::as_bytes);
        let after = deflate(WINDOW_BITS).compress_after(first, second);
        assert!(after.len() < compress(second).len(), "{}", after.len());
        let mut client = Decompress::new(false);
        // The client was sent other messages before.
        assert_eq!(read(&mut client, &compress(b"something else")), b"something else");
        assert_eq!(read(&mut client, &compress(first)), first);
        assert_eq!(read(&mut client, &after), second);
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
