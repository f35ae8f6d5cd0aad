//! The next item that a member is sent: the room's batches without its own parts, and all values if it
//! has just joined or lagged behind.

use std::sync::Arc;

use tokio::sync::broadcast::{Receiver, error::TryRecvError};

use crate::{
    room::{Ack, Batch, Joined, MemberId, Next, Outcome, SessionHandle, Shared, Snapshot, Start},
    wire::{self, Dialect, Frame, ScratchFraming},
};

/// One member's view of its room's broadcast.
#[derive(Debug)]
pub(crate) struct Outbox {
    room: Arc<Shared>,
    member: MemberId,
    /// The handle with the acknowledgements of the member's sets.
    handle: Arc<SessionHandle>,
    dialect: Dialect,
    framing: Framing,
    /// The notice that the member has joined, which follows once it has been sent all values.
    greeting: Option<Frame>,
    /// The room's batches, or `None` while the member lags: nothing is kept for it meanwhile.
    receiver: Option<Receiver<Arc<Batch>>>,
    /// A snapshot with frames still to be sent, and the number of the next.
    snapshot: Option<(Arc<Snapshot>, usize)>,
    /// A frame that waits until a notice has been sent before it.
    held: Option<Frame>,
    /// A frame whose lines are sent one by one, and the index at which its next line begins.
    lines: Option<(Frame, usize)>,
    /// The position up to which the snapshot and the batches received have everything.
    seen: u64,
    /// The position up to which the member has been sent everything.
    sent: u64,
    /// A snapshot or a correction was sent, and no ping has followed it yet.
    unproven: bool,
    /// The position of the last write that the member is sent, or `None` as long as it is a member.
    last: Option<u64>,
}

/// The way in which the lines of a text reach the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Together,
    OneByOne,
    /// One by one, each with a newline behind it.
    Ended,
}

/// The next item for a member.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    Frame(Frame),
    /// A ping. Its answer proves that the member's side has read everything up to this position.
    Barrier(u64),
    /// The member lags, and there is no memory for a snapshot: the caller asks again later.
    NoBudget,
}

impl Outbox {
    pub(crate) fn new(room: Arc<Shared>, dialect: Dialect, joined: Joined) -> Self {
        let mut outbox = Self {
            room,
            member: joined.id,
            handle: joined.handle,
            dialect,
            framing: match dialect {
                // The first of these clients read a frame as one object, and the later ones stop at a
                // variable that they do not know.
                Dialect::Forkphorus2020 => Framing::OneByOne,
                Dialect::Spec | Dialect::Scratch => Framing::Together,
            },
            greeting: None,
            receiver: None,
            snapshot: None,
            held: None,
            lines: None,
            seen: 0,
            sent: 0,
            unproven: false,
            last: None,
        };
        if let Some(start) = joined.start {
            outbox.begin(start);
        }
        outbox
    }

    /// Sets the framing of the sets for a Scratch client.
    pub(crate) fn framed(mut self, framing: ScratchFraming) -> Self {
        if self.dialect == Dialect::Scratch && framing == ScratchFraming::Lines {
            self.framing = Framing::Ended;
        }
        self
    }

    /// Sets the notice that the member receives when it has joined.
    pub(crate) fn greeting(mut self, greeting: Frame) -> Self {
        self.greeting = Some(greeting);
        self
    }

    fn begin(&mut self, start: Start) {
        self.receiver = Some(start.receiver);
        self.seen = start.position;
        self.snapshot = start.snapshot.map(|snapshot| (snapshot, 0));
        self.unproven |= self.snapshot.is_some();
        self.note_sent();
    }

    /// Returns the next item to send, if there is one. `may_ping` says whether it may be a barrier,
    /// because only one ping is outstanding at a time.
    pub(crate) fn next(&mut self, may_ping: bool) -> Option<Item> {
        loop {
            if let Some(line) = self.next_line() {
                return Some(Item::Frame(line));
            }
            if let Some(frame) = self.held.take() {
                return Some(Item::Frame(self.hand_out(frame)));
            }
            if let Some(frame) = self.next_of_snapshot() {
                return Some(Item::Frame(self.hand_out(frame)));
            }
            if self.receiver.is_some()
                && let Some(greeting) = self.greeting.take()
            {
                return Some(Item::Frame(greeting));
            }
            if let Some(ack) = self.handle.acks().take_due(self.sent) {
                return Some(Item::Frame(encode(ack)));
            }
            if self.unproven && may_ping {
                return Some(Item::Barrier(self.prove()));
            }
            if self.last.is_some_and(|last| self.seen >= last || self.receiver.is_none()) {
                // A former member is not resynced.
                return None;
            }
            let Some(receiver) = &mut self.receiver else {
                let Some(start) = self.room.resync(self.member) else {
                    return Some(Item::NoBudget);
                };
                self.begin(start);
                if let Some(sets) = self.handle.receipts().news() {
                    return Some(Item::Frame(wire::taken(sets)));
                }
                continue;
            };
            match receiver.try_recv() {
                Ok(batch) => {
                    if let Some(frame) = self.open(&batch) {
                        // The sets of this notice are ordered before the frame, so the notice goes
                        // first.
                        if let Some(sets) = self.handle.receipts().news() {
                            self.held = Some(frame);
                            return Some(Item::Frame(wire::taken(sets)));
                        }
                        return Some(Item::Frame(self.hand_out(frame)));
                    }
                    self.note_sent();
                }
                Err(TryRecvError::Lagged(_)) => self.receiver = None,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }

    fn next_of_snapshot(&mut self) -> Option<Frame> {
        let (snapshot, number) = self.snapshot.as_mut()?;
        match snapshot.next(self.dialect, *number) {
            Next::Frame { frame, is_last } => {
                *number += 1;
                if is_last {
                    self.snapshot = None;
                }
                Some(frame)
            }
            Next::Emptied => {
                // The next snapshot has newer values.
                (self.snapshot, self.receiver) = (None, None);
                None
            }
        }
    }

    fn hand_out(&mut self, frame: Frame) -> Frame {
        let is_whole = match self.framing {
            Framing::Together => true,
            Framing::OneByOne => !frame.as_text().contains('\n'),
            Framing::Ended => false,
        };
        if !is_whole {
            self.lines = Some((frame.clone(), 0));
            return self.next_line().unwrap_or(frame);
        }
        self.note_sent();
        frame
    }

    fn next_line(&mut self) -> Option<Frame> {
        let (frame, at) = self.lines.as_mut()?;
        let rest = &frame.as_text()[*at..];
        let line = rest.split('\n').next().unwrap_or_default();
        let is_last = line.len() == rest.len();
        *at += line.len() + 1;
        let line = match self.framing {
            Framing::Ended => Frame::text(&format!("{line}\n")),
            Framing::Together | Framing::OneByOne => Frame::text(line),
        };
        if is_last {
            self.lines = None;
            self.note_sent();
        }
        Some(line)
    }

    /// Notes that everything is sent, if it is.
    fn note_sent(&mut self) {
        if self.snapshot.is_none() && self.held.is_none() && self.lines.is_none() {
            self.sent = self.seen;
        }
    }

    fn open(&mut self, batch: &Batch) -> Option<Frame> {
        let Some(content) = batch.content() else {
            self.receiver = None;
            return None;
        };
        let cut = content.cut(self.member, self.seen, self.dialect);
        self.seen = self.seen.max(content.last_position());
        self.unproven |= cut.corrects;
        cut.frame
    }

    /// Ends the outbox: the member is sent nothing more once it has everything up to this position.
    pub(crate) fn conclude(&mut self, last: u64) {
        self.last = Some(last);
    }

    pub(crate) fn is_concluded(&self) -> bool {
        self.last.is_some()
    }

    /// Returns how many batches wait, or one if a snapshot is to be taken instead.
    #[cfg(feature = "inspector")]
    pub(crate) fn waiting(&self) -> usize {
        self.receiver.as_ref().map_or(1, Receiver::len)
    }

    /// Drops the batches that wait: a reader that has stopped receives all values when it reads again.
    /// A snapshot under way goes on, because a slow reader of a large one would otherwise begin again
    /// for ever.
    pub(crate) fn release_batches(&mut self) {
        (self.receiver, self.held) = (None, None);
    }

    /// Drops the snapshot under way too.
    pub(crate) fn release_snapshot(&mut self) {
        (self.snapshot, self.lines) = (None, None);
    }

    /// Returns the position that the answer to a ping proves, if the ping follows everything that was
    /// taken from here.
    pub(crate) fn prove(&mut self) -> u64 {
        self.unproven = self.snapshot.is_some() || self.lines.is_some();
        self.sent
    }
}

fn encode(ack: Ack) -> Frame {
    let is_done = match ack.outcome {
        Outcome::Stands => Some(true),
        Outcome::Refused => Some(false),
        Outcome::Unknown => None,
    };
    wire::ack(ack.number, is_done)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::{iter, time::Instant};

    use super::*;
    use crate::{
        budget::Budget,
        room::{Newcomer, Rules, State, Write},
        wire::Json,
    };

    /// Creates a room of three values that take a frame each, and returns the outbox of a member that
    /// joins it.
    fn outbox(dialect: Dialect) -> Outbox {
        let (now, budget) = (Instant::now(), Budget::new(usize::MAX));
        let rules = Rules { tick: Default::default(), settle: None, ..Rules::new(now) };
        let text = Json::from_plain;
        let values = ["a", "b", "c"].map(|name| (text(name), text(&"v".repeat(50_000))));
        let state = State::new(
            &Arc::new(rules),
            &"room".into(),
            Some(&values),
            &budget,
            &Arc::default(),
            now,
        );
        let state = state.expect("there is memory");
        let room = Arc::new(Shared::alone(state));
        let newcomer = Newcomer::guest(dialect, Some(&values), now);
        let joined = room.change(|state, now| state.join(newcomer, now)).expect("there is a place");
        Outbox::new(room, dialect, joined)
    }

    #[test]
    fn a_slow_reader_is_not_sent_the_beginning_again() {
        let mut outbox = outbox(Dialect::Spec);
        let mut frames = Vec::new();
        for _ in 0..3 {
            let Some(Item::Frame(frame)) = outbox.next(false) else { panic!("no frame") };
            assert!(!frames.contains(&frame));
            frames.push(frame);
            outbox.release_batches();
        }
        // Then the member is resynced, because its batches were dropped.
        let next = iter::repeat_with(|| outbox.next(false));
        // A large room makes no snapshot so soon after the last.
        let mut next = next.skip_while(|item| matches!(item, Some(Item::NoBudget)));
        let Some(Some(Item::Frame(frame))) = next.next() else { panic!("no frame") };
        assert!(frames.contains(&frame));
    }

    #[test]
    fn a_snapshot_that_is_held_up_is_not_the_next_ones() {
        let mut slow = outbox(Dialect::Spec);
        let Some(Item::Frame(_)) = slow.next(false) else { panic!("no frame") };
        let (name, value) = (Json::from_plain("a"), Json::from_plain("new"));
        let write = Write {
            member: slow.member,
            base: 0,
            name: &name,
            value: Some(&value),
            was: None,
            ack: None,
        };
        slow.room.submit(&write).expect("a member");
        let newcomer = Newcomer::guest(Dialect::Spec, None, Instant::now());
        let joined =
            slow.room.change(|state, now| state.join(newcomer, now)).expect("there is a place");
        let mut next = Outbox::new(slow.room.clone(), Dialect::Spec, joined);
        let frames = iter::repeat_with(|| next.next(false));
        let mut frames = frames.skip_while(|item| matches!(item, Some(Item::NoBudget)));
        let Some(Some(Item::Frame(frame))) = frames.next() else { panic!("no frame") };
        assert!(frame.as_text().contains("new"), "its first frame has 'a' as it is now");
    }

    #[test]
    fn clients_of_2020_get_each_set_by_itself() {
        let mut outbox = outbox(Dialect::Forkphorus2020);
        let lines = "1\n22\n3";
        let mut seen = vec![outbox.hand_out(Frame::text(lines))];
        let sent = outbox.sent;
        while let Some(line) = outbox.next_line() {
            seen.push(line);
        }
        assert_eq!(seen, ["1", "22", "3"].map(Frame::text));
        assert_eq!(sent, 0, "not all is sent before the last");
    }
}
