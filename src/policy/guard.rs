//! No way back into the registry from under a room's lock.

use std::cell::Cell;

thread_local! {
    static JUDGING: Cell<bool> = const { Cell::new(false) };
}

/// While it is there, this thread runs a policy's `write` under a room's lock.
#[derive(Debug)]
pub(crate) struct Judging(());

impl Judging {
    pub(crate) fn begin() -> Self {
        JUDGING.set(true);
        Self(())
    }

    /// Panics under a policy. Each function that a host can call and that takes a lock calls it first: a panic with
    /// a reason is better than a thread that waits for itself.
    ///
    /// # Panics
    ///
    /// Within a policy's `write`.
    pub(crate) fn refuse() {
        assert!(
            !JUDGING.get(),
            "Policy::write must not call the registry or its rooms: it runs under a room's lock. \
             `Write::get` has the room's values."
        );
    }
}

impl Drop for Judging {
    fn drop(&mut self) {
        JUDGING.set(false);
    }
}
