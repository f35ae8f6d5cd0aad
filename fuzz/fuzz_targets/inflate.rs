//! A stream of frames in which compressed messages are inflated is the same in whatever pieces it comes, and no
//! message in it is longer than allowed. The first byte of the input is the size of the pieces.

#![no_main]

use axum_cloud_variables::internals::inflated;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1_000;
/// The longest header of a client's frame.
const HEADER: usize = 14;

fuzz_target!(|input: &[u8]| {
    let Some((piece, stream)) = input.split_first() else { return };
    let whole = inflated(stream, usize::MAX, LIMIT);
    let pieces = inflated(stream, usize::from(*piece).max(1), LIMIT);
    assert_eq!(whole, pieces);
    // Each compressed message has at least the two bytes of a header and a mask.
    let most = stream.len() + stream.len() / 6 * (LIMIT + HEADER);
    assert!(whole.0.len() <= most, "{} bytes of {}", whole.0.len(), stream.len());
});
