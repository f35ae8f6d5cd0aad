//! What a room wants to have done by itself, and when.

use std::time::{Duration, Instant};

use super::state::State;

/// When the room wants to be looked after, as compared with what was arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    AsArranged,
    Sooner,
    /// Nobody looks after it yet, or somebody who has not come.
    First,
}

/// How late whoever looks after a room may be, until another does: its runtime may not run it.
const OVERDUE: Duration = Duration::from_millis(250);

/// What whoever looks after the room does next, before it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Batches have left: push the members.
    Push,
    /// Wait until then.
    At(Instant),
}

impl State {
    /// Does what is due: corrects the writers of contested variables that came to rest, and sends
    /// the open batch. Returns what is to be done next; `None` where the room is quiet.
    pub(crate) fn advance(&mut self, now: Instant) -> Option<Due> {
        while let Some(name) = self.settle.pop(now) {
            let Some(variable) = self.variables.get_mut(name.as_json()) else { continue };
            match variable.due {
                Some(due) if due > now => self.settle.enqueue(&name, due),
                Some(_) => {
                    variable.due = None;
                    if let Some(writer) = variable.writer {
                        self.correct(writer, &name, now);
                    }
                }
                None => {}
            }
        }
        self.depart_due(now);
        self.broadcast.flush(now);
        if self.broadcast.has_left() {
            self.alarm = Some(now);
            return Some(Due::Push);
        }
        self.alarm = self.due();
        self.alarm.map(Due::At)
    }

    /// To be asked after each change: whether somebody must look after the room sooner than
    /// arranged. Answers `First` and `Sooner` once.
    pub(crate) fn alarm(&mut self, now: Instant) -> Alarm {
        let (arranged, due) = (self.alarm, self.due());
        match (arranged, due) {
            (Some(arranged), Some(_)) if arranged + OVERDUE < now => {
                self.alarm = due;
                Alarm::First
            }
            (None, Some(_)) => {
                self.alarm = due;
                Alarm::First
            }
            (Some(arranged), Some(due)) if due < arranged => {
                self.alarm = Some(due);
                Alarm::Sooner
            }
            _ => Alarm::AsArranged,
        }
    }

    /// Whether somebody looks after the room.
    pub(crate) fn is_on_duty(&self) -> bool {
        self.alarm.is_some()
    }

    /// Nobody looks after the room any more.
    pub(crate) fn off_duty(&mut self) {
        self.alarm = None;
    }

    fn due(&self) -> Option<Instant> {
        [self.broadcast.due(), self.settle.next(), self.departures.next()]
            .into_iter()
            .flatten()
            .min()
    }
}
