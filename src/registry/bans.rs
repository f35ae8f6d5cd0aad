//! The bans of people and names from rooms for a while, including rooms that have left the memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

use crate::{
    ban::{self, Ban, BanTarget, StoredBan},
    identity::Identity,
    names::NameKey,
};

/// The bans of all rooms. A registry with a relay has none here, because its broker keeps them for all nodes.
#[derive(Debug, Default)]
pub(super) struct Bans {
    rooms: Mutex<HashMap<Arc<str>, RoomBans>>,
    has_store: bool,
}

#[derive(Debug, Default)]
struct RoomBans {
    held: BTreeMap<String, Held>,
    /// The number of changes, which tells whether there was another while the store saved one.
    changes: u64,
    /// Whether the store may have older bans than these.
    is_unsaved: bool,
}

#[derive(Debug)]
struct Held {
    ban: StoredBan,
    until: Instant,
}

/// The bans of a room that the store is to save.
pub(super) struct ToSave {
    pub(super) bans: Vec<StoredBan>,
    pub(super) changes: u64,
}

impl Bans {
    /// Creates the bans of a registry with a store.
    pub(super) fn stored() -> Self {
        Self { rooms: Mutex::default(), has_store: true }
    }

    /// Bans the target for this time or, if the time is zero, ends its ban. Forgets bans that are over.
    pub(super) fn set(&self, room: &Arc<str>, target: BanTarget, time: Duration, now: Instant) {
        let mut rooms = self.rooms.lock();
        rooms.retain(|_, bans| {
            bans.held.retain(|_, held| held.until > now);
            bans.is_needed()
        });
        let bans = rooms.entry(room.clone()).or_default();
        let key = target.key();
        if time.is_zero() {
            bans.held.remove(&key);
        } else {
            let ban = StoredBan::new(&Ban { target, left: time }, SystemTime::now());
            bans.held.insert(key, Held { ban, until: now + time });
        }
        bans.changes += 1;
        bans.is_unsaved = self.has_store;
    }

    pub(super) fn list(&self, room: &str, now: Instant) -> Vec<Ban> {
        let rooms = self.rooms.lock();
        let ban = |Held { ban, until }: &Held| Ban {
            target: BanTarget::kept(&ban.who, &ban.name),
            left: until.saturating_duration_since(now),
        };
        let held = rooms.get(room).into_iter().flat_map(|bans| bans.held.values());
        held.map(ban).filter(|ban| !ban.left.is_zero()).collect()
    }

    pub(super) fn holds(
        &self,
        room: &str,
        identity: &Identity,
        name: &NameKey,
        now: Instant,
    ) -> bool {
        let rooms = self.rooms.lock();
        let Some(bans) = rooms.get(room) else { return false };
        ban::keys_of(identity, name)
            .any(|key| bans.held.get(&key).is_some_and(|held| held.until > now))
    }

    /// Adds the bans that a store has kept for a room, unless those that are here are newer. The caller has the
    /// lock of the room's id since before it read the store, so the store is not behind these without a mark.
    /// Returns whether the store has to save the bans again.
    pub(super) fn restore(&self, room: &str, stored: Vec<StoredBan>, now: Instant) -> bool {
        if stored.is_empty() {
            return false;
        }
        let today = SystemTime::now();
        let mut rooms = self.rooms.lock();
        let bans = rooms.entry(room.into()).or_default();
        if bans.is_unsaved {
            return true;
        }
        for ban in stored {
            let left = ban.left(today);
            // The store has no end of its own for a ban: one that is over leaves it when the room is saved.
            bans.is_unsaved |= left.is_zero();
            if !left.is_zero() {
                bans.held.insert(ban.who.clone(), Held { ban, until: now + left });
            }
        }
        bans.is_unsaved
    }

    /// Returns the rooms whose bans the store may not have.
    pub(super) fn unsaved(&self) -> Vec<Arc<str>> {
        let rooms = self.rooms.lock();
        rooms.iter().filter(|(_, bans)| bans.is_unsaved).map(|(room, _)| room.clone()).collect()
    }

    /// Returns the bans of a room as they are now, for the store.
    pub(super) fn to_save(&self, room: &str) -> ToSave {
        let (rooms, today) = (self.rooms.lock(), SystemTime::now());
        let Some(RoomBans { held, changes, .. }) = rooms.get(room) else {
            return ToSave { bans: Vec::new(), changes: 0 };
        };
        let bans = held.values().map(|held| &held.ban).filter(|ban| !ban.left(today).is_zero());
        ToSave { bans: bans.cloned().collect(), changes: *changes }
    }

    /// Notes that the store has saved these bans of a room.
    pub(super) fn saved(&self, room: &str, changes: u64) {
        let mut rooms = self.rooms.lock();
        let Some(bans) = rooms.get_mut(room) else { return };
        bans.is_unsaved &= bans.changes != changes;
        if !bans.is_needed() {
            rooms.remove(room);
        }
    }
}

impl RoomBans {
    fn is_needed(&self) -> bool {
        self.is_unsaved || !self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn name(name: &str) -> BanTarget {
        BanTarget::Name(name.into())
    }

    #[test]
    fn a_ban_is_for_a_person_or_a_name_in_one_room_for_a_while() {
        let (bans, now) = (Bans::default(), Instant::now());
        let (arena, lobby): (Arc<str>, Arc<str>) = ("arena".into(), "lobby".into());
        let (guest, ann, ben) = (Identity::new(), NameKey::new("ann"), NameKey::new("ben"));
        let person = Identity::new().with_id("7");
        bans.set(&arena, BanTarget::of(&guest, "Ann"), MINUTE, now);
        bans.set(&arena, BanTarget::of(&person, "ben"), MINUTE, now);
        assert!(bans.holds("arena", &guest, &NameKey::new("ANN"), now));
        assert!(bans.holds("arena", &person, &NameKey::new("else"), now));
        assert!(!bans.holds("arena", &guest, &ben, now));
        assert!(!bans.holds("lobby", &guest, &ann, now));
        assert!(!bans.holds("arena", &guest, &ann, now + MINUTE));
        let targets = [name("Ann"), BanTarget::Person("7".into())];
        assert_eq!(bans.list("arena", now), targets.map(|target| Ban { target, left: MINUTE }));
        bans.set(&arena, BanTarget::of(&person, "ben"), Duration::ZERO, now);
        assert!(!bans.holds("arena", &person, &NameKey::new("else"), now));
        bans.set(&lobby, name("ben"), MINUTE, now + MINUTE);
        assert_eq!(bans.rooms.lock().len(), 1, "bans that are over are forgotten");
    }

    #[test]
    fn stored_bans_hold_again_unless_they_are_over() {
        let (bans, now, today) = (Bans::stored(), Instant::now(), SystemTime::now());
        let stored = |of: &str, left| StoredBan::new(&Ban { target: name(of), left }, today);
        assert!(!bans.restore("lobby", vec![stored("ann", MINUTE)], now));
        let bens_is_over = vec![stored("ben", Duration::ZERO), stored("ann", MINUTE)];
        assert!(bans.restore("arena", bens_is_over, now));
        assert!(bans.holds("arena", &Identity::new(), &NameKey::new("ann"), now));
        assert_eq!(bans.list("arena", now).len(), 1);
        // The ban that is over leaves the store.
        assert_eq!(bans.unsaved(), [Arc::from("arena")]);
        assert_eq!(bans.to_save("arena").bans.len(), 1);
    }

    #[test]
    fn a_store_that_failed_to_save_does_not_bring_a_ban_back() {
        let (bans, now, arena) = (Bans::stored(), Instant::now(), Arc::from("arena"));
        bans.set(&arena, name("ann"), MINUTE, now);
        let ToSave { bans: stored, changes } = bans.to_save("arena");
        bans.saved("arena", changes);
        bans.set(&arena, name("ann"), Duration::ZERO, now);
        assert!(bans.restore("arena", stored, now));
        assert!(bans.list("arena", now).is_empty());
        let ToSave { bans: stored, changes } = bans.to_save("arena");
        assert!(stored.is_empty());
        bans.saved("arena", changes);
        assert!(bans.rooms.lock().is_empty());
    }

    #[test]
    fn a_change_while_the_store_saves_is_saved_too() {
        let (bans, now, arena) = (Bans::stored(), Instant::now(), Arc::from("arena"));
        bans.set(&arena, name("ann"), MINUTE, now);
        let ToSave { changes, .. } = bans.to_save("arena");
        bans.set(&arena, name("ben"), MINUTE, now);
        bans.saved("arena", changes);
        assert_eq!(bans.unsaved().len(), 1);
    }
}
