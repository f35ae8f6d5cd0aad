//! The work that a room has to do by itself, and the time at which it is due.

use std::time::{Duration, Instant};

use super::state::State;

/// The time at which the room next needs its task, compared with the arranged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    AsArranged,
    Sooner,
    /// No task looks after the room yet, or the task has not run in time.
    First,
}

/// How late the task that looks after a room may be before another replaces it. Its runtime may not run it.
const OVERDUE: Duration = Duration::from_millis(250);

/// The next step of the task that looks after the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Batches have left: push the members.
    Push,
    /// Wait until this time.
    At(Instant),
}

impl State {
    /// Does the work that is due: corrects the writers of contested variables that came to rest, and sends
    /// the open batch. Returns the next step, or `None` if the room is quiet.
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

    /// Returns whether a task must look after the room sooner than arranged. Must be called after each
    /// change. Returns `First` and `Sooner` only once.
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

    /// Returns whether a task looks after the room.
    pub(crate) fn is_on_duty(&self) -> bool {
        self.alarm.is_some()
    }

    /// Notes that no task looks after the room any more.
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
