//! A group of writes that leave a room together: its parts in order, encoded once per dialect for all
//! members.

use std::sync::{Arc, OnceLock};

use super::{backlog::Emptied, members::MemberId};
use crate::{
    budget::Charge,
    deflate::{AVAILABLE, Message},
    sync::RwLock,
    wire::{self, Dialect, Frame, Lines, Text},
};

/// The length of a dialect's encodings, in those of the plain one. The two compressed ones together are no longer
/// than it, or hardly.
pub(super) const ENCODINGS: usize = if AVAILABLE { 2 } else { 1 };

/// One `set` in a batch.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) position: u64,
    pub(crate) name: Text,
    pub(crate) value: Text,
    /// The writer, which does not receive the part.
    pub(crate) from: Option<MemberId>,
    /// The only member that receives a correction; `None` for everyone.
    pub(crate) to: Option<MemberId>,
    /// The bytes of its batch's charge that it takes while it waits.
    pub(crate) cost: usize,
}

impl Part {
    /// Returns the number of bytes of its encoding.
    pub(super) fn len(&self) -> usize {
        wire::set_len(self.name.as_json(), self.value.as_json())
    }

    /// Returns the cost of a part while it waits: the text, its encodings and the part itself.
    pub(super) fn cost(name: &str, value: &str, dialects: usize) -> usize {
        (1 + ENCODINGS * dialects) * wire::set_len(name, value) + size_of::<Self>()
    }
}

/// A batch in the room's broadcast channel. It may be emptied while it waits there, so that one
/// slow reader does not hold the bytes: see `Backlog`.
#[derive(Debug)]
pub(crate) struct Batch(RwLock<Option<Arc<Content>>>);

impl Batch {
    pub(super) fn new(parts: Vec<Part>, bytes: usize, link: Link, charge: Charge) -> Self {
        let mut concerned: Vec<_> = parts.iter().flat_map(|p| [p.from, p.to]).flatten().collect();
        concerned.sort_unstable();
        concerned.dedup();
        let frames = Default::default();
        let content = Content { parts, concerned, frames, bytes, link, _charge: charge };
        Self(RwLock::new(Some(Arc::new(content))))
    }

    /// Returns the content, or `None` if it was emptied, in which case the reader lags.
    pub(crate) fn content(&self) -> Option<Arc<Content>> {
        self.0.read().clone()
    }
}

impl Emptied for Batch {
    fn empty(&self) {
        *self.0.write() = None;
    }
}

/// The place of a batch among those of its room, so that its frames may refer to the ones before them.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// No other batch of the room has it.
    pub(super) number: u64,
    /// The message that went before it, by dialect.
    pub(super) previous: [Option<Message>; Dialect::COUNT],
}

/// The parts of a batch and their encodings.
#[derive(Debug)]
pub(crate) struct Content {
    parts: Vec<Part>,
    /// The members that wrote a part or that a part is for, sorted. All others receive the shared frame.
    concerned: Vec<MemberId>,
    frames: [OnceLock<Encoded>; Dialect::COUNT],
    bytes: usize,
    link: Link,
    _charge: Charge,
}

#[derive(Debug)]
struct Encoded {
    /// `None` if every part is for one member.
    frame: Option<Frame>,
    /// The position in the text at which each part ends. A part for one member has no text of its own.
    ends: Vec<usize>,
}

/// The part of a batch that one member receives.
#[derive(Debug, PartialEq)]
pub(crate) struct Cut {
    pub(crate) frame: Option<Frame>,
    /// Whether it includes a correction for this member.
    pub(crate) corrects: bool,
}

impl Content {
    pub(crate) fn last_position(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.position)
    }

    /// Returns the frame for a member that has everything up to `seen`.
    pub(crate) fn cut(&self, member: MemberId, seen: u64, dialect: Dialect) -> Cut {
        let is_new = self.parts.first().is_some_and(|part| part.position > seen);
        if is_new && self.concerned.binary_search(&member).is_err() {
            return Cut { frame: self.encoded(dialect).frame.clone(), corrects: false };
        }
        self.cut_own(member, seen, dialect)
    }

    fn cut_own(&self, member: MemberId, seen: u64, dialect: Dialect) -> Cut {
        let is_for_member = |part: &Part| {
            part.position > seen
                && part.from != Some(member)
                && part.to.is_none_or(|to| to == member)
        };
        if !self.parts.iter().any(is_for_member) {
            return Cut { frame: None, corrects: false };
        }
        let encoded = self.encoded(dialect);
        let text = encoded.frame.as_ref().map_or("", Frame::as_text);
        let (mut lines, mut corrects, mut start) = (Lines::with_capacity(text.len()), false, 0);
        for (part, &end) in self.parts.iter().zip(&encoded.ends) {
            let shared = text[start..end].trim_start_matches('\n');
            start = end;
            if !is_for_member(part) {
                continue;
            }
            if part.to.is_some() {
                corrects = true;
                lines.push_set(dialect, &part.name, &part.value);
            } else {
                lines.push(shared);
            }
        }
        Cut { frame: lines.into_frame(), corrects }
    }

    /// Returns the messages to which the next batch may refer.
    pub(super) fn messages(&self) -> [Option<Message>; Dialect::COUNT] {
        self.frames.each_ref().map(|encoded| encoded.get()?.frame.as_ref()?.message())
    }

    fn encoded(&self, dialect: Dialect) -> &Encoded {
        self.frames[dialect.index()].get_or_init(|| {
            let mut lines = Lines::with_capacity(self.bytes);
            let mut ends = Vec::with_capacity(self.parts.len());
            for part in &self.parts {
                if part.to.is_none() {
                    lines.push_set(dialect, &part.name, &part.value);
                }
                ends.push(lines.len());
            }
            let Link { number, previous } = &self.link;
            let previous = previous[dialect.index()].clone();
            let frame = lines.into_frame().map(|frame| frame.numbered(*number, previous));
            Encoded { frame, ends }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, wire::Json};

    fn part(position: u64, value: &str, from: Option<u64>, to: Option<u64>) -> Part {
        let text = |plain: &str| Json::from_plain(plain).to_text();
        Part {
            position,
            name: text("x"),
            value: text(value),
            from: from.map(MemberId),
            to: to.map(MemberId),
            cost: 0,
        }
    }

    fn batch(parts: Vec<Part>) -> Batch {
        Batch::new(parts, 200, Link::default(), Budget::new(0).share().open())
    }

    fn cut(batch: &Batch, member: u64, seen: u64) -> (Vec<String>, bool) {
        let cut = batch.content().unwrap().cut(MemberId(member), seen, Dialect::Spec);
        let values = cut.frame.iter().flat_map(|frame| frame.as_text().split('\n')).map(|line| {
            let set: serde_json::Value = serde_json::from_str(line).unwrap();
            set["value"].as_str().unwrap().to_owned()
        });
        (values.collect(), cut.corrects)
    }

    #[test]
    fn a_member_gets_the_writes_of_others_and_those_for_it_alone() {
        let parts = vec![
            part(5, "a", Some(1), None),
            part(6, "b", Some(2), None),
            part(7, "c", None, Some(1)),
            part(8, "d", None, None),
        ];
        let batch = batch(parts);
        assert_eq!(cut(&batch, 3, 4), (vec!["a".into(), "b".into(), "d".into()], false));
        assert_eq!(cut(&batch, 1, 4), (vec!["b".into(), "c".into(), "d".into()], true));
        assert_eq!(cut(&batch, 2, 4), (vec!["a".into(), "d".into()], false));
        assert_eq!(cut(&batch, 3, 6), (vec!["d".into()], false));
        assert_eq!(cut(&batch, 3, 8), (vec![], false));
    }

    #[test]
    fn members_share_one_encoding() {
        let shared = batch(vec![part(1, "a", Some(1), None)]);
        let frame = |member| {
            shared.content().unwrap().cut(MemberId(member), 0, Dialect::Spec).frame.unwrap()
        };
        assert_eq!(frame(2).bytes().as_ptr(), frame(3).bytes().as_ptr());
        let addressed = batch(vec![part(1, "a", None, Some(1))]);
        assert_eq!(cut(&addressed, 2, 0), (vec![], false));
    }
}
