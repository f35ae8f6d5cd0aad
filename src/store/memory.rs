use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::{Excluded, Unbounded},
    sync::{Mutex, PoisonError},
};

use axum_cloud_variables::{Change, RoomStore, StoreError, StoredRoom};

/// Whether a room grows, and its variables.
type Kept = (bool, HashMap<String, String>);

#[derive(Debug, Default)]
struct MemoryStore(Mutex<BTreeMap<String, Kept>>);

impl RoomStore for MemoryStore {
    fn load(&self, room: &str) -> Result<Option<StoredRoom>, StoreError> {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rooms.get(room).map(|(grows, variables)| StoredRoom {
            grows: *grows,
            variables: variables.clone().into_iter().collect(),
        }))
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Put { room, grows, values, dropped } => {
                    let kept = rooms.entry(room.clone()).or_default();
                    kept.0 = *grows;
                    kept.1.extend(values.iter().cloned());
                    kept.1.retain(|name, _| !dropped.contains(name));
                }
                Change::Remove { room } => _ = rooms.remove(room),
            }
        }
        Ok(())
    }

    fn rooms(&self, after: &str, count: usize) -> Result<Vec<String>, StoreError> {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = rooms.range::<str, _>((Excluded(after), Unbounded));
        Ok(behind.take(count).map(|(room, _)| room.clone()).collect())
    }
}
