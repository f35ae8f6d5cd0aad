//! A disk that forgets unsynced data, and fails on request.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    io::{self, ErrorKind},
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use redb::StorageBackend;

#[derive(Debug, Default)]
pub(super) struct Disk {
    synced: Vec<u8>,
    /// The contents as the system's cache has them.
    now: Vec<u8>,
    /// The writes since the last sync.
    writes: Vec<(usize, Vec<u8>)>,
    /// How many more calls succeed before the power is cut.
    pub(super) left: usize,
    /// The error that writing and syncing return.
    pub(super) fault: Option<ErrorKind>,
    /// How long syncing takes.
    pub(super) sync: Duration,
}

impl Disk {
    fn call(&mut self) -> Result<(), io::Error> {
        if self.left == 0 {
            return Err(io::Error::other("no power"));
        }
        self.left -= 1;
        Ok(())
    }

    fn change(&mut self) -> Result<(), io::Error> {
        self.call()?;
        self.fault.map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Restores the power: any of the unsynced writes may be lost or torn.
    pub(super) fn restart(&mut self, rng: &mut Rng, left: usize) {
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
pub(super) struct Backend(pub(super) Arc<Mutex<Disk>>);

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
        disk.change()?;
        disk.now.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let slow = self.0.lock().unwrap().sync;
        std::thread::sleep(slow);
        let mut disk = self.0.lock().unwrap();
        disk.change()?;
        let Disk { synced, now, writes, .. } = &mut *disk;
        synced.resize(now.len(), 0);
        for (offset, piece) in writes.drain(..) {
            synced[offset..offset + piece.len()].copy_from_slice(&piece);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.change()?;
        let offset = offset as usize;
        disk.now[offset..offset + data.len()].copy_from_slice(data);
        disk.writes.push((offset, data.into()));
        Ok(())
    }
}
