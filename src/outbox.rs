//! What a member is sent next: the room's batches without its own parts, and all values where it
//! has just come or lagged behind.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    room::{Batch, Joined, MemberId, Shared, Snapshot, Start},
    wire::Dialect,
};

/// One member's view of its room's broadcast.
#[derive(Debug)]
pub(crate) struct Outbox {
    room: Arc<Shared>,
    member: MemberId,
    dialect: Dialect,
    /// `None` while the member lags: nothing is kept for it but that.
    receiver: Option<Receiver<Arc<Batch>>>,
    /// A snapshot of which frames are still to go, and which is next.
    snapshot: Option<(Arc<Snapshot>, usize)>,
    /// The position up to which the snapshot and the batches received have all.
    seen: u64,
    /// The position up to which the member has been sent all.
    sent: u64,
    /// A snapshot or a correction was sent behind which no ping has gone yet.
    unproven: bool,
}

/// What goes to the member next.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    Frame(Utf8Bytes),
    /// A ping: its answer proves that the member's side has read all up to this position.
    Barrier(u64),
    /// The member lags, and there is no memory for a snapshot: ask again in a while.
    NoBudget,
}

impl Outbox {
    pub(crate) fn new(room: Arc<Shared>, dialect: Dialect, joined: Joined) -> Self {
        let mut outbox = Self {
            room,
            member: joined.id,
            dialect,
            receiver: None,
            snapshot: None,
            seen: 0,
            sent: 0,
            unproven: false,
        };
        outbox.begin(joined.start);
        outbox
    }

    fn begin(&mut self, start: Start) {
        self.receiver = Some(start.receiver);
        self.seen = start.position;
        self.snapshot = start.snapshot.map(|snapshot| (snapshot, 0));
        match self.snapshot {
            Some(_) => self.unproven = true,
            None => self.sent = self.seen,
        }
    }

    /// Waits for the next to send; may be dropped and called again. `may_ping` is asked when a
    /// barrier is wanted: one ping is outstanding at a time.
    pub(crate) async fn next(&mut self, may_ping: impl Fn() -> bool) -> Item {
        loop {
            if let Some(frame) = self.next_of_snapshot() {
                return Item::Frame(frame);
            }
            if self.unproven && may_ping() {
                return Item::Barrier(self.prove());
            }
            let Some(receiver) = &mut self.receiver else {
                let Some(start) = self.room.resync(self.member) else { return Item::NoBudget };
                self.begin(start);
                continue;
            };
            match receiver.recv().await {
                Ok(batch) => {
                    if let Some(frame) = self.open(&batch) {
                        return Item::Frame(frame);
                    }
                }
                Err(RecvError::Lagged(_)) => self.receiver = None,
                // The room outlives its outboxes.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    fn next_of_snapshot(&mut self) -> Option<Utf8Bytes> {
        let (snapshot, next) = self.snapshot.as_mut()?;
        let frames = snapshot.frames(self.dialect);
        let frame = frames.get(*next).cloned();
        *next += 1;
        if *next >= frames.len() {
            self.snapshot = None;
            self.sent = self.seen;
        }
        frame
    }

    fn open(&mut self, batch: &Batch) -> Option<Utf8Bytes> {
        let Some(content) = batch.content() else {
            self.receiver = None;
            return None;
        };
        let cut = content.cut(self.member, self.seen, self.dialect);
        self.seen = self.seen.max(content.last_position());
        self.sent = self.seen;
        self.unproven |= cut.corrects;
        cut.frame
    }

    /// Forgets what waits: a reader that has stopped gets all values when it reads again.
    pub(crate) fn release(&mut self) {
        self.receiver = None;
        self.snapshot = None;
    }

    /// For a ping that follows all that was taken from here: the position that its answer proves.
    pub(crate) fn prove(&mut self) -> u64 {
        self.unproven = self.snapshot.is_some();
        self.sent
    }
}
