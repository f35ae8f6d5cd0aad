//! All values of a room at one moment, encoded once a dialect for all who need it.

use std::{mem, sync::OnceLock};

use crate::{
    budget::Charge,
    wire::{self, Dialect, FRAME_BYTES, Frame, Lines, Text},
};

/// The text of a snapshot's frame to a Scratch client is at most this long, unless one `set` alone is
/// longer. As TurboWarp's server has it.
const SCRATCH_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Snapshot {
    values: Vec<(Text, Text)>,
    frames: [OnceLock<Vec<Frame>>; Dialect::COUNT],
    _charge: Charge,
}

impl Snapshot {
    pub(super) fn new(values: Vec<(Text, Text)>, charge: Charge) -> Self {
        Self { values, frames: Default::default(), _charge: charge }
    }

    /// One frame if the values fit, else as few as hold them; none for a room of no variables.
    pub(crate) fn frames(&self, dialect: Dialect) -> &[Frame] {
        let most = match dialect {
            // Programs of its kind read once, and take what they get for all there is.
            Dialect::Scratch => SCRATCH_BYTES,
            Dialect::Spec | Dialect::Forkphorus2020 => FRAME_BYTES,
        };
        self.frames[dialect.index()].get_or_init(|| {
            let (mut frames, mut lines) = (Vec::new(), Lines::with_capacity(0));
            for (name, value) in &self.values {
                if lines.len() + wire::set_len(name.as_json(), value.as_json()) > most {
                    let full = mem::replace(&mut lines, Lines::with_capacity(0));
                    frames.extend(full.into_frame());
                }
                lines.push_set(dialect, name, value);
            }
            frames.extend(lines.into_frame());
            frames
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, wire::Json};

    fn frames(dialect: Dialect, values: &[(&str, usize)]) -> Vec<usize> {
        let text = |plain: &str| Json::from_plain(plain).to_text();
        let values = values.iter().map(|(n, len)| (text(n), text(&"v".repeat(*len)))).collect();
        let snapshot = Snapshot::new(values, Budget::new(0).open());
        snapshot.frames(dialect).iter().map(|frame| frame.as_text().split('\n').count()).collect()
    }

    #[test]
    fn frames_stay_under_64_kib_where_they_can() {
        let frames = |values: &[_]| super::tests::frames(Dialect::Spec, values);
        assert_eq!(frames(&[]), [0; 0]);
        assert_eq!(frames(&[("a", 10), ("b", 10)]), [2]);
        assert_eq!(frames(&[("a", 30_000), ("b", 30_000), ("c", 30_000)]), [2, 1]);
        assert_eq!(frames(&[("a", 10), ("b", 100_000), ("c", 10)]), [1, 1, 1]);
    }

    #[test]
    fn a_scratch_client_gets_a_mebibyte_at_once() {
        let names: Vec<_> = ('a'..='k').map(String::from).collect();
        let values: Vec<_> = names.iter().map(|name| (&**name, 100_000)).collect();
        assert_eq!(frames(Dialect::Scratch, &values[..10]), [10]);
        assert_eq!(frames(Dialect::Scratch, &values), [10, 1]);
    }
}
