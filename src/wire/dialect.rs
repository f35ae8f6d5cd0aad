//! The three sets of field names that clients use.

use std::iter;

use serde::de::IgnoredAny;

use super::{Malformed, Text, envelope::Envelope};

/// The field names that a client uses. Its first message shows which, and the session answers with the
/// same names. One room may have members of all dialects.
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
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
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

/// The JSON of a `set`: before its name, between name and value, and behind the value.
type Frame = (&'static str, &'static str, &'static str);

const SPEC: Frame = (r#"{"kind":"set","variable":""#, r#"","value":""#, r#""}"#);
const FORKPHORUS: Frame = (r#"{"kind":"set","var":""#, r#"","value":""#, r#""}"#);
const SCRATCH: Frame = (r#"{"method":"set","name":""#, r#"","value":""#, r#""}"#);

const SCRATCH_NUMBER: Frame = (r#"{"method":"set","name":""#, r#"","value":"#, "}");

/// The bytes of a `set` besides its name and value, in the dialect with the longest field names and
/// including the newline before it.
pub(super) const SET_OVERHEAD: usize = SPEC.0.len() + SPEC.1.len() + SPEC.2.len() + "\n".len();

impl Dialect {
    pub(crate) const COUNT: usize = 3;

    /// Returns the dialect's index in arrays with one entry for each dialect.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Detects the dialect of a client by its first frame: by `kind` or `method`, and then by `room` or
    /// `id`.
    pub(crate) fn detect(frame: &str) -> Result<Self, Malformed> {
        match Envelope::parse_first(frame)? {
            Envelope { kind: Some(_), room: None, id: Some(_), .. } => Ok(Self::Forkphorus2020),
            Envelope { kind: Some(_), .. } => Ok(Self::Spec),
            Envelope { method: Some(_), .. } => Ok(Self::Scratch),
            _ => Err(Malformed::NoTag("kind")),
        }
    }

    /// Splits a frame into its messages. A frame is one message, except that Scratch clients may put
    /// several into lines. A text that is no message is returned too, so that the decoder refuses it.
    pub(crate) fn messages(self, frame: &str) -> impl Iterator<Item = &str> {
        let has_lines = self == Self::Scratch && frame.trim_ascii().contains('\n');
        let mut rest = Some(frame);
        iter::from_fn(move || {
            let text = rest.take()?;
            if !has_lines {
                return Some(text);
            }
            let (message, behind) = first_of_lines(text);
            rest = Some(behind).filter(|behind| !behind.trim_ascii().is_empty());
            Some(message)
        })
    }

    /// Appends one `set` object.
    pub(crate) fn push_set(self, name: &Text, value: &Text, out: &mut String) {
        let (start, middle, end) = match self {
            Self::Spec => SPEC,
            Self::Forkphorus2020 => FORKPHORUS,
            Self::Scratch if value.is_number() => SCRATCH_NUMBER,
            Self::Scratch => SCRATCH,
        };
        for piece in [start, name.as_json(), middle, value.as_json(), end] {
            out.push_str(piece);
        }
    }
}

/// Splits a text behind its first object, which may itself have several lines, if a new line begins
/// there.
fn first_of_lines(text: &str) -> (&str, &str) {
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let end = objects.next().and_then(Result::ok).map_or(text.len(), |_| objects.byte_offset());
    let (object, behind) = text.split_at(end);
    let is_line = behind.trim_start_matches([' ', '\t', '\r']).starts_with('\n');
    if is_line { (object, behind) } else { (text, "") }
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
    fn only_scratch_frames_have_several_messages() {
        for (frame, messages) in [
            ("{}", &["{}"][..]),
            ("{}\n", &["{}\n"]),
            ("\n{}\r\n\n", &["\n{}\r\n\n"]),
            ("{}\n{}", &["{}", "\n{}"]),
            ("{} \r\n\n{\"a\":\n\"\\n\"}\n", &["{}", " \r\n\n{\"a\":\n\"\\n\"}"]),
            ("", &[""]),
            // The decoder refuses these.
            ("{}{}\n{}", &["{}{}\n{}"]),
            ("{}\n{} {}", &["{}", "\n{} {}"]),
            ("{}\n{", &["{}", "\n{"]),
            ("x\n{}", &["x\n{}"]),
        ] {
            let of = |dialect: Dialect| dialect.messages(frame).collect::<Vec<_>>();
            assert_eq!(of(Dialect::Scratch), messages, "{frame:?}");
            assert_eq!(of(Dialect::Spec), [frame]);
        }
    }
}
