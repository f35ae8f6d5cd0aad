//! What is on a disk whose power is cut at any moment: what was not synced may be there or not, piece
//! by piece, and the last piece is torn. Promise: what a commit that returned had written is there.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    io,
    sync::{Arc, Mutex},
};

use fastrand::Rng;
use redb::{Builder, Durability, StorageBackend};

use super::*;

#[derive(Debug, Default)]
struct Disk {
    synced: Vec<u8>,
    /// As the system's cache has it.
    now: Vec<u8>,
    /// Since the last sync.
    writes: Vec<(usize, Vec<u8>)>,
    /// How many more calls it takes until the power is cut.
    left: usize,
}

impl Disk {
    fn call(&mut self) -> Result<(), io::Error> {
        if self.left == 0 {
            return Err(io::Error::other("no power"));
        }
        self.left -= 1;
        Ok(())
    }

    /// Power is back.
    fn restart(&mut self, rng: &mut Rng, left: usize) {
        let mut kept = std::mem::take(&mut self.synced);
        kept.resize(kept.len().max(self.now.len()), 0);
        for (offset, mut piece) in std::mem::take(&mut self.writes) {
            if rng.bool() {
                piece.truncate(rng.usize(..=piece.len()));
                kept[offset..offset + piece.len()].copy_from_slice(&piece);
            }
        }
        self.now.clone_from(&kept);
        (self.synced, self.left) = (kept, left);
    }
}

#[derive(Debug, Clone, Default)]
struct Backend(Arc<Mutex<Disk>>);

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        let offset = offset as usize;
        let read = disk.now.get(offset..offset + out.len());
        out.copy_from_slice(read.ok_or(io::Error::from(ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        disk.now.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        let Disk { synced, now, writes, .. } = &mut *disk;
        synced.resize(now.len(), 0);
        for (offset, piece) in writes.drain(..) {
            synced[offset..offset + piece.len()].copy_from_slice(&piece);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        let offset = offset as usize;
        disk.now[offset..offset + data.len()].copy_from_slice(data);
        disk.writes.push((offset, data.into()));
        Ok(())
    }
}

/// Writes until the power is cut, and looks at what is there then. Whether all is as promised.
fn survives(seed: u64, durability: Durability) -> bool {
    let mut rng = Rng::with_seed(seed);
    let backend = Backend::default();
    let open = |left: usize, rng: &mut Rng| {
        backend.0.lock().unwrap().restart(rng, left);
        let backend = backend.clone();
        RedbStore::over(move || Builder::new().create_with_backend(backend.clone()))
    };
    let store = RedbStore { durability, ..open(usize::MAX, &mut rng).unwrap() };
    backend.0.lock().unwrap().left = 20 + rng.usize(..400);
    let mut round = 0;
    let put = |round: usize, n: usize| Change::Put {
        room: format!("room{}", n % 3),
        schema: StoredSchema::Fixed,
        used: 0,
        values: vec![("x".into(), format!("{round}")), ("y".into(), "v".repeat(round * 37 % 900))],
        dropped: Vec::new(),
    };
    // Of a commit under way all or nothing is there. Without syncs, none may ever come to the disk.
    while round < 100
        && store.commit(&[put(round + 1, 0), put(round + 1, 1), put(round + 1, 2)]).is_ok()
    {
        round += 1;
    }
    backend.0.lock().unwrap().left = 0;
    drop(store);
    let Ok(store) = open(usize::MAX, &mut rng) else { return false };
    let found: Vec<_> = (0..3).map(|n| store.load(&format!("room{n}")).unwrap()).collect();
    let is_of = |room: &Option<StoredRoom>, round: usize| match (room, put(round, 0)) {
        (None, _) => round == 0,
        (Some(room), Change::Put { values, .. }) => room.variables == values,
        _ => false,
    };
    [round, round + 1].into_iter().any(|round| found.iter().all(|room| is_of(room, round)))
}

fn lost(cuts: u64, durability: Durability) -> Vec<u64> {
    (0..cuts).filter(|seed| !survives(*seed, durability)).collect()
}

#[test]
fn what_was_committed_survives_a_cut_of_the_power() {
    let cuts = if std::env::var_os("CLOUD_VARIABLES_LONG").is_some() { 1_000 } else { 100 };
    assert_eq!(lost(cuts, Durability::Immediate), [0; 0]);
}

#[test]
fn without_a_sync_it_does_not() {
    assert!(lost(10, Durability::None).len() > 5, "the disk is too kind");
}
