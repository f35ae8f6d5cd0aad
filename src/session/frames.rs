//! Counts the frames that a socket reads (RFC 6455, section 5.2). The WebSocket layer reports only
//! whole messages, and one message may be any number of fragments.

/// A position within a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Its first byte.
    Start,
    /// The byte with the short length and the mask's bit.
    Length,
    /// The bytes of a long length: `left` of them are still to come, `length` is the value so far, and
    /// `mask` is the length of the mask.
    LongLength { left: u8, length: u64, mask: u64 },
    /// The bytes of mask and payload that are still to come.
    Rest(u64),
}

/// A count of frames in a stream that comes in pieces.
#[derive(Debug)]
pub(super) struct Frames(At);

impl Frames {
    pub(super) fn new() -> Self {
        Self(At::Start)
    }

    /// Returns how many frames begin in this piece.
    pub(super) fn count(&mut self, mut piece: &[u8]) -> usize {
        let mut count = 0;
        while let [first, rest @ ..] = piece {
            piece = rest;
            self.0 = match self.0 {
                At::Start => {
                    count += 1;
                    At::Length
                }
                At::Length => {
                    let mask = if first & 0x80 == 0 { 0 } else { 4 };
                    match first & 0x7f {
                        126 => At::LongLength { left: 2, length: 0, mask },
                        127 => At::LongLength { left: 8, length: 0, mask },
                        length => At::rest(mask + u64::from(length)),
                    }
                }
                At::LongLength { left, length, mask } => {
                    let length = length << 8 | u64::from(*first);
                    match left {
                        1 => At::rest(length.saturating_add(mask)),
                        _ => At::LongLength { left: left - 1, length, mask },
                    }
                }
                At::Rest(left) => {
                    let more = usize::try_from(left - 1).unwrap_or(usize::MAX).min(piece.len());
                    piece = &piece[more..];
                    At::rest(left - 1 - more as u64)
                }
            };
        }
        count
    }
}

impl At {
    fn rest(left: u64) -> Self {
        if left == 0 { Self::Start } else { Self::Rest(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_come() {
        let long = [&[0x82, 0xfe, 1, 0, 1, 2, 3, 4][..], &[7; 256]].concat();
        let longer = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[7; 65_536]].concat();
        let empty = [0x00, 0x80, 1, 2, 3, 4];
        let short = [0x81, 0x83, 1, 2, 3, 4, 0x81, 0x81, 0x81];
        let unmasked = [0x89, 0];
        let stream = [&long[..], &empty, &empty, &short, &longer, &unmasked, &empty].concat();
        for size in [1, 2, 3, 5, 7, 64, 1024, stream.len()] {
            let mut frames = Frames::new();
            let count: usize = stream.chunks(size).map(|piece| frames.count(piece)).sum();
            assert_eq!((count, frames.0), (7, At::Start), "pieces of {size}");
        }
    }
}
