//! The bans of rooms on their way to the store.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::Persister;
use crate::{
    registry::{
        bans::{Bans, ToSave},
        id_locks::IdLock,
    },
    store::{Change, StoreError},
};

impl Persister {
    /// Has the store save the bans of a room as they are now. If it fails, or takes longer than `patience`, the
    /// next flush tries again.
    pub(crate) async fn order_bans(
        &self,
        room: &str,
        patience: Duration,
    ) -> Result<(), StoreError> {
        let order = async {
            // The bans are read after the lock is taken, so that of two changes the later is saved last.
            let id_lock = self.id_lock(room).await;
            let ToSave { bans, changes } = self.bans.to_save(room);
            let change = Change::Bans { room: room.into(), bans };
            // The lock is held until the bans count as saved, because a task that loads the room looks at that.
            let _id_lock = self.order(id_lock, change, patience).await?;
            self.bans.saved(room, changes);
            Ok(())
        };
        let done = timeout(patience, order).await.unwrap_or_else(|_| Err(self.late()));
        if done.is_err() {
            self.later();
        }
        done
    }

    /// Saves the bans that the store may not have. Rooms that somebody else loads, creates or saves are left
    /// for the next flush.
    pub(super) fn save_bans(&self) -> Result<(), StoreError> {
        let unsaved = self.bans.unsaved();
        let id_locks = unsaved.iter().filter_map(|room| self.id_locks.try_take(room));
        let to_save = |id_lock: IdLock| (self.bans.to_save(id_lock.id()), id_lock);
        let (mut changes, mut rooms) = (Vec::new(), Vec::new());
        for (ToSave { bans, changes: count }, id_lock) in id_locks.map(to_save) {
            changes.push(Change::Bans { room: id_lock.id().into(), bans });
            rooms.push((id_lock, count));
        }
        if !changes.is_empty() {
            self.commit(&changes)?;
        }
        if rooms.len() < unsaved.len() {
            self.later();
        }
        rooms.iter().for_each(|(id_lock, changes)| self.bans.saved(id_lock.id(), *changes));
        Ok(())
    }

    pub(in crate::registry) fn bans(&self) -> &Arc<Bans> {
        &self.bans
    }
}
