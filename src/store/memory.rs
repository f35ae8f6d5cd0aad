use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound::{Excluded, Unbounded},
    sync::{Mutex, PoisonError},
};

use axum_cloud_variables::store::{
    Change, RoomStore, StoreError, StoredBan, StoredEntry, StoredRoom, StoredSchema,
};

#[derive(Debug, Default)]
struct Kept {
    schema: StoredSchema,
    used: u64,
    /// In the order of their creation.
    variables: Vec<(String, String)>,
}

/// Keeps rooms in memory, for tests: a registry that is built with the same store (in an `Arc`) as an earlier
/// one has its rooms.
#[derive(Default)]
pub struct MemoryStore(Mutex<Rooms>);

#[derive(Debug, Default)]
struct Rooms {
    kept: BTreeMap<String, Kept>,
    bans: BTreeMap<String, Vec<StoredBan>>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl RoomStore for MemoryStore {
    fn load(&self, room: &str) -> Result<Option<StoredRoom>, StoreError> {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rooms
            .kept
            .get(room)
            .map(|kept| StoredRoom { schema: kept.schema, variables: kept.variables.clone() }))
    }

    fn bans(&self, room: &str) -> Result<Vec<StoredBan>, StoreError> {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rooms.bans.get(room).cloned().unwrap_or_default())
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Put { room, schema, used, values, dropped } => {
                    let kept = rooms.kept.entry(room.clone()).or_default();
                    (kept.schema, kept.used) = (*schema, *used);
                    for (name, value) in values {
                        match kept.variables.iter_mut().find(|(known, _)| known == name) {
                            Some(variable) => variable.1.clone_from(value),
                            None => kept.variables.push((name.clone(), value.clone())),
                        }
                    }
                    kept.variables.retain(|(name, _)| !dropped.contains(name));
                }
                Change::Remove { room } => _ = rooms.kept.remove(room),
                Change::Bans { room, bans } if bans.is_empty() => _ = rooms.bans.remove(room),
                Change::Bans { room, bans } => _ = rooms.bans.insert(room.clone(), bans.clone()),
            }
        }
        Ok(())
    }

    fn rooms(&self, after: &str, count: usize) -> Result<Vec<StoredEntry>, StoreError> {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = rooms.kept.range::<str, _>((Excluded(after), Unbounded));
        let entry = |(id, kept): (&String, &Kept)| StoredEntry { id: id.clone(), used: kept.used };
        Ok(behind.take(count).map(entry).collect())
    }
}
