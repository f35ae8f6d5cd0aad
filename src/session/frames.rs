//! The heads of the frames that a client sends (RFC 6455, section 5.2), and how many there are. The WebSocket layer
//! reports only whole messages, and one message may be any number of fragments.

/// The longest head of a client's frame, in bytes.
pub(super) const LONGEST: usize = 14;
/// The bit of the second byte that announces a mask.
const MASKED: u8 = 0x80;
const MASK: usize = 4;

/// The head of a frame, of which some bytes have come.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: [u8; LONGEST],
    len: u8,
}

impl Head {
    /// Adds a byte. Returns the length of the payload once the head is complete.
    pub(super) fn push(&mut self, byte: u8) -> Option<u64> {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
        let bytes = self.as_bytes();
        let short = bytes.get(1)? & !MASKED;
        let long = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.is_masked() { MASK } else { 0 };
        if bytes.len() < 2 + long + mask {
            return None;
        }
        let length =
            bytes[2..2 + long].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        Some(if long == 0 { short.into() } else { length })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Returns the byte with the opcode and the flags.
    pub(super) fn first(&self) -> u8 {
        self.bytes[0]
    }

    pub(super) fn is_masked(&self) -> bool {
        self.bytes[1] & MASKED != 0
    }

    /// Returns the mask, with which a complete head of a masked frame ends.
    pub(super) fn mask(&self) -> [u8; MASK] {
        self.as_bytes().last_chunk().copied().unwrap_or_default()
    }
}

/// A count of frames in a stream that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Head,
    /// The bytes of the payload that are still to come.
    left: u64,
}

impl Frames {
    /// Returns how many frames begin in this piece.
    pub(super) fn count(&mut self, mut piece: &[u8]) -> usize {
        let mut count = 0;
        while let [first, rest @ ..] = piece {
            if self.left > 0 {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
                self.left -= taken as u64;
                piece = &piece[taken..];
                continue;
            }
            count += usize::from(self.head.as_bytes().is_empty());
            if let Some(length) = self.head.push(*first) {
                (self.head, self.left) = (Head::default(), length);
            }
            piece = rest;
        }
        count
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
            let mut frames = Frames::default();
            let count: usize = stream.chunks(size).map(|piece| frames.count(piece)).sum();
            assert_eq!(
                (count, frames.left, frames.head.as_bytes()),
                (7, 0, &[][..]),
                "pieces of {size}"
            );
        }
    }
}
