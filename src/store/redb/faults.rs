//! A registry whose file cannot be written for a while, or only slowly.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{io::ErrorKind, sync::Arc, time::Duration};

use redb::Builder;

use super::{disk::Backend, *};
use crate::{OpenError, RoomRegistry};

fn stored(store: &RedbStore, room: &str) -> Option<String> {
    store.load(room).unwrap().map(|room| room.variables[0].1.clone())
}

async fn survives(fault: Option<ErrorKind>, sync: Duration) {
    let backend = Backend::default();
    backend.0.lock().unwrap().left = usize::MAX;
    let disk = backend.clone();
    let open = move |_| Builder::new().create_with_backend(backend.clone());
    let store = Arc::new(RedbStore::over(open).unwrap());
    let builder = RoomRegistry::builder().store(store.clone());
    let rooms = builder.flush_interval(Duration::from_millis(5)).build().unwrap();
    let room = rooms.open("room").variables([("x", "0")]).await.unwrap();
    {
        let mut disk = disk.0.lock().unwrap();
        (disk.fault, disk.sync) = (fault, sync);
    }
    room.set("x", 1).unwrap();
    let other = rooms.open("other").variables([("y", "0")]).await;
    // The room goes on in any case.
    room.set("x", 2).unwrap();
    if fault.is_some() {
        assert_eq!(other.unwrap_err(), OpenError::Unreachable);
        let stats = rooms.store_stats().unwrap();
        assert!(stats.is_failing && stats.last_error.is_some(), "{stats:?}");
    } else {
        // Two phases take four seconds, and the commit under way takes as long again.
        assert_eq!(other.unwrap_err(), OpenError::Unreachable);
        assert_eq!(room.get("x").as_deref(), Some("2"));
        assert!(rooms.store_stats().unwrap().last_error.is_some());
    }
    {
        let mut disk = disk.0.lock().unwrap();
        (disk.fault, disk.sync) = (None, Duration::ZERO);
    }
    assert!(
        rooms.shutdown(Duration::from_secs(20)).await.is_complete(),
        "{:?}",
        rooms.store_stats()
    );
    assert_eq!(stored(&store, "room").as_deref(), Some("2"));
    assert!(!rooms.store_stats().unwrap().is_failing);
    // The commit under way is whole, although the room is of no use to anybody.
    assert!([None, Some("0")].contains(&stored(&store, "other").as_deref()));
}

#[tokio::test]
async fn a_full_disk() {
    survives(Some(ErrorKind::StorageFull), Duration::ZERO).await;
}

#[tokio::test]
async fn a_disk_that_is_read_only() {
    survives(Some(ErrorKind::ReadOnlyFilesystem), Duration::ZERO).await;
}

#[tokio::test]
async fn a_disk_that_takes_two_seconds_to_sync() {
    survives(None, Duration::from_secs(2)).await;
}
