//! Cuts a disk's power at any moment: unsynced pieces may be there or not, and the last one is torn. The data
//! of each commit that returned must be there.

#![allow(clippy::unwrap_used, reason = "a test")]

use fastrand::Rng;
use redb::{Builder, Durability};

use super::{disk::Backend, *};

/// Writes until the power is cut, then reads the file. Returns whether it keeps the store's promise.
fn survives(seed: u64, durability: Durability) -> bool {
    let mut rng = Rng::with_seed(seed);
    let backend = Backend::default();
    let open = |left: usize, rng: &mut Rng| {
        backend.0.lock().unwrap().restart(rng, left);
        let backend = backend.clone();
        RedbStore::over(move |_| Builder::new().create_with_backend(backend.clone()))
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
    // A commit under way is there entirely or not at all. Without syncs, none may ever reach the disk.
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
fn a_commit_survives_a_power_cut() {
    let cuts = if std::env::var_os("CLOUD_VARIABLES_LONG").is_some() { 1_000 } else { 100 };
    assert_eq!(lost(cuts, Durability::Immediate), [0; 0]);
}

#[test]
fn without_a_sync_it_does_not() {
    assert!(lost(10, Durability::None).len() > 5, "the disk is too kind");
}
