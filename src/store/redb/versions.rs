//! Files of other versions.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{env, fs, path::PathBuf, process};

use super::{file::make, *};

/// Written by `standalone --import` when this was the current version.
const VERSION_1: &[u8] = include_bytes!("../../../tests/stores/version-1.redb");

/// A separate file with these bytes.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("{name}-{}.redb", process::id()));
        fs::write(&path, VERSION_1).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

#[test]
fn version_1_is_read() {
    let file = File::new("version-1");
    let store = RedbStore::open(&file.0).unwrap();
    let room = |schema, variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        Some(StoredRoom { schema, variables })
    };
    let arena = [("ball", "42.5"), (r#"☁ \"score\""#, r"\ud800")];
    assert_eq!(store.load("arena").unwrap(), room(StoredSchema::Fixed, &arena));
    let score = [("☁ score", "7")];
    assert_eq!(store.load("60917032").unwrap(), room(StoredSchema::Scratch, &score));
    assert_eq!(store.load("open").unwrap(), room(StoredSchema::Growing, &[]));
    let rooms =
        ["60917032", "arena", "open"].map(|id| StoredEntry { id: id.into(), used: 1_800_000_000 });
    assert_eq!(store.rooms("", 10).unwrap(), rooms);
}

#[test]
fn a_file_that_is_gone_is_not_made_anew() {
    let file = File::new("gone");
    let store = RedbStore::open(&file.0).unwrap();
    fs::remove_file(&file.0).unwrap();
    // Simulates a fault.
    *store.database.write() = None;
    store.load("arena").unwrap_err();
    assert!(!file.0.exists());
}

/// If two processes create a file at once, they share one.
#[test]
fn a_new_file_replaces_none() {
    let file = File::new("made");
    make(&file.0).unwrap();
    assert!(RedbStore::open(&file.0).unwrap().load("arena").unwrap().is_some());
}

#[test]
fn a_later_version_is_refused_and_its_rooms_stay() {
    let file = File::new("later");
    let database = Database::open(&file.0).unwrap();
    write::<redb::Error>(&database, Durability::Immediate, |transaction| {
        transaction.open_table(INFO)?.insert("version", VERSION + 1)?;
        Ok(())
    })
    .unwrap();
    drop(database);
    let error = RedbStore::open(&file.0).unwrap_err();
    assert_eq!(error, StoreError::Newer);
    assert!(error.to_string().contains("later version"), "{error}");
    // redb notes in its header that it was opened; the stored data is untouched.
    let database = Database::open(&file.0).unwrap();
    assert_eq!(version(&database).unwrap(), Some(VERSION + 1));
    let rooms = database.begin_read().unwrap().open_table(ROOMS).unwrap();
    assert_eq!(rooms.len().unwrap(), 3);
}
