//! Short forms of changes of rooms.

use axum_cloud_variables::store::{Change, RoomStore, StoredSchema};

/// The time of the last use of all rooms here.
pub(crate) const USED: u64 = 1_800_000_000;

pub(crate) fn pairs(values: &[(&str, &str)]) -> Vec<(String, String)> {
    values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

pub(crate) fn put(room: &str, values: &[(&str, &str)], dropped: &[&str]) -> Change {
    let dropped = dropped.iter().map(ToString::to_string).collect();
    let schema = match room {
        "scratch" => StoredSchema::Scratch,
        "growing" => StoredSchema::Growing,
        _ => StoredSchema::Fixed,
    };
    Change::Put { room: room.into(), schema, used: USED, values: pairs(values), dropped }
}

pub(crate) fn remove(room: &str) -> Change {
    Change::Remove { room: room.into() }
}

pub(crate) fn variables(store: &dyn RoomStore, room: &str) -> Option<Vec<(String, String)>> {
    Some(store.load(room).unwrap()?.variables)
}
