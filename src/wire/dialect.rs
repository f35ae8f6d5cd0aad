//! The three sets of field names in which clients speak.

use std::iter;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Malformed, Text};

/// The field names that a client uses. Its first message tells, and its session answers in kind;
/// one room may have members of all dialects.
///
/// ```
/// use axum_cloud_variables::{Dialect, DuplicateNames, RoomRegistry};
///
/// let rooms = RoomRegistry::builder()
///     .duplicate_names(Dialect::Scratch, DuplicateNames::Reject)
///     .build()?;
/// # Ok::<(), axum_cloud_variables::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// `kind`, `room`, `username`, `variables`, `variable`, `value`: the protocol as specified.
    #[default]
    Spec,
    /// `kind`, `id`, `username`, `variables`, `var`, `value`: forkphorus of 2020, and the server
    /// that it spoke to.
    Forkphorus2020,
    /// `method`, `project_id`, `user`, `name`, `value`: Scratch 3, TurboWarp and its packager,
    /// scratchattach.
    Scratch,
}

/// The JSON of a `set` before its name, between name and value, and behind it.
type Frame = (&'static str, &'static str, &'static str);

const SPEC: Frame = (r#"{"kind":"set","variable":""#, r#"","value":""#, r#""}"#);
const FORKPHORUS: Frame = (r#"{"kind":"set","var":""#, r#"","value":""#, r#""}"#);
const SCRATCH: Frame = (r#"{"method":"set","name":""#, r#"","value":""#, r#""}"#);

/// Bytes of a `set` beside its name and value in the dialect of the longest field names, the
/// newline before it included.
pub(super) const SET_OVERHEAD: usize = SPEC.0.len() + SPEC.1.len() + SPEC.2.len() + "\n".len();

/// What tells the dialects apart.
#[derive(Deserialize)]
struct Tags<'a> {
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    room: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

impl Dialect {
    pub(crate) const COUNT: usize = 3;

    /// A place for each dialect in what is counted or encoded once a dialect.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The dialect of a client, by its first frame: `kind` or `method`, and then `room` or `id`.
    pub(crate) fn detect(frame: &str) -> Result<Self, Malformed> {
        let mut objects = serde_json::Deserializer::from_str(frame).into_iter::<Tags<'_>>();
        let tags = objects.next().and_then(Result::ok).ok_or(Malformed::NotOneObject)?;
        match tags {
            Tags { kind: Some(_), room: None, id: Some(_), .. } => Ok(Self::Forkphorus2020),
            Tags { kind: Some(_), .. } => Ok(Self::Spec),
            Tags { method: Some(_), .. } => Ok(Self::Scratch),
            _ => Err(Malformed::NoTag("kind")),
        }
    }

    /// The messages of one frame: one, but for Scratch clients, which put several into lines.
    pub(crate) fn messages(self, frame: &str) -> impl Iterator<Item = &str> {
        let mut whole = (self != Self::Scratch).then_some(frame);
        let mut lines = frame.strip_suffix('\n').unwrap_or(frame).split('\n');
        iter::from_fn(move || match self {
            Self::Scratch => lines.next(),
            _ => whole.take(),
        })
    }

    /// Appends one `set` object.
    pub(crate) fn push_set(self, name: &Text, value: &Text, out: &mut String) {
        let (start, middle, end) = match self {
            Self::Spec => SPEC,
            Self::Forkphorus2020 => FORKPHORUS,
            Self::Scratch => SCRATCH,
        };
        for piece in [start, name.as_json(), middle, value.as_json(), end] {
            out.push_str(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_tells_the_dialect() {
        for (text, dialect) in [
            (r#"{"kind":"handshake","room":"1"}"#, Ok(Dialect::Spec)),
            (r#"{"kind":"handshake","room":"1","id":"2"}"#, Ok(Dialect::Spec)),
            (r#"{"kind":"handshake"}"#, Ok(Dialect::Spec)),
            ("{\"kind\":\n\"set\",\n\"method\":\"set\"}", Ok(Dialect::Spec)),
            (r#"{"kind":"handshake","id":"1"}"#, Ok(Dialect::Forkphorus2020)),
            (r#"{"method":"handshake","id":"1"}"#, Ok(Dialect::Scratch)),
            ("{\"method\":\"handshake\"}\n{\"method\":\"set\"}\n", Ok(Dialect::Scratch)),
            ("{}", Err(Malformed::NoTag("kind"))),
            ("{\"kind\"", Err(Malformed::NotOneObject)),
            ("", Err(Malformed::NotOneObject)),
            ("5", Err(Malformed::NotOneObject)),
        ] {
            assert_eq!(Dialect::detect(text), dialect, "{text}");
        }
    }

    #[test]
    fn only_scratch_frames_have_lines() {
        let count = |dialect: Dialect, frame| dialect.messages(frame).count();
        for (frame, lines) in [("{}", 1), ("{}\n", 1), ("{}\n{}", 2), ("{}\n{}\n", 2), ("", 1)] {
            assert_eq!(count(Dialect::Scratch, frame), lines, "{frame}");
            assert_eq!(count(Dialect::Spec, frame), 1, "{frame}");
        }
    }
}
