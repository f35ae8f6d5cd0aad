//! Bans of people and names from a room for a while.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

use super::{Inner, RoomError, persistence::Persister};
use crate::{
    ban::{self, Ban, BanTarget, StoredBan},
    identity::Identity,
    names::NameKey,
    relay::RelayChange,
    room::{Shared, Wish},
    store::Change,
};

/// The bans of all rooms, including rooms that have left the memory. A registry with a relay has none here,
/// because its broker keeps them for all nodes.
#[derive(Debug, Default)]
pub(super) struct Bans(Mutex<HashMap<Arc<str>, BTreeMap<String, Held>>>);

#[derive(Debug)]
struct Held {
    target: BanTarget,
    until: Instant,
}

impl Bans {
    /// Adds a ban, and forgets bans that are over.
    fn add(&self, room: &Arc<str>, target: &BanTarget, now: Instant, until: Instant) {
        let mut rooms = self.0.lock();
        rooms.retain(|_, bans| {
            bans.retain(|_, held| held.until > now);
            !bans.is_empty()
        });
        let held = Held { target: target.clone(), until };
        rooms.entry(room.clone()).or_default().insert(target.key(), held);
    }

    fn remove(&self, room: &str, target: &BanTarget) {
        self.0.lock().get_mut(room).map(|bans| bans.remove(&target.key()));
    }

    fn list(&self, room: &str, now: Instant) -> Vec<Ban> {
        let rooms = self.0.lock();
        let left = |held: &Held| held.until.saturating_duration_since(now);
        let ban = |held: &Held| Ban { target: held.target.clone(), left: left(held) };
        let bans = rooms.get(room).into_iter().flat_map(BTreeMap::values);
        bans.filter(|held| !left(held).is_zero()).map(ban).collect()
    }

    /// Adds the bans that a store has kept for a room. Bans that are here already are newer, so they stay.
    pub(super) fn restore(&self, room: &str, stored: &[StoredBan], now: Instant) {
        let today = SystemTime::now();
        let held = |ban: &StoredBan| {
            let left = ban.left(today);
            let target = BanTarget::kept(&ban.who, &ban.name);
            (!left.is_zero()).then(|| (ban.who.clone(), Held { target, until: now + left }))
        };
        let mut stored = stored.iter().filter_map(held).peekable();
        if stored.peek().is_some() {
            let mut rooms = self.0.lock();
            let bans = rooms.entry(room.into()).or_default();
            stored.for_each(|(key, held)| _ = bans.entry(key).or_insert(held));
        }
    }

    pub(super) fn holds(
        &self,
        room: &str,
        identity: &Identity,
        name: &NameKey,
        now: Instant,
    ) -> bool {
        let rooms = self.0.lock();
        let Some(bans) = rooms.get(room) else { return false };
        ban::keys_of(identity, name).any(|key| bans.get(&key).is_some_and(|held| held.until > now))
    }
}

impl Inner {
    /// Bans the target from a room for a time or, if the time is zero, ends its ban.
    pub(crate) async fn ban(
        &self,
        room: &Arc<Shared>,
        target: &BanTarget,
        time: Duration,
    ) -> Result<(), RoomError> {
        let time = time.min(super::builder::LONGEST);
        if self.node.is_some() {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let (who, name) = (target.key(), target.name().into());
            let change = RelayChange::Ban { who, name, millis };
            self.at_broker(room, Wish::Change(change)).await?;
            if !time.is_zero() {
                // Banned members are disconnected in the room's order. This node may have missed that, and
                // have read the room when a short ban was over.
                room.change(|state, now| state.put_out_banned(&target.key(), now));
            }
            return Ok(());
        }
        let now = tokio::time::Instant::now().into_std();
        if time.is_zero() {
            self.bans.remove(room.id(), target);
        } else {
            // The ban is added first, so that nobody can come back in between.
            self.bans.add(room.id(), target, now, now + time);
            room.change(|state, now| state.put_out_banned(&target.key(), now));
        }
        match &self.persister {
            Some(persister) => self.save_bans(persister, room.id()).await,
            None => Ok(()),
        }
    }

    /// Has the store keep the bans of a room as they are now.
    async fn save_bans(&self, persister: &Persister, room: &str) -> Result<(), RoomError> {
        // The bans are read after the lock is taken, so that of two changes the later is kept.
        let id_lock = persister.id_lock(room).await;
        let (now, today) = (tokio::time::Instant::now().into_std(), SystemTime::now());
        let bans = self.bans.list(room, now).iter().map(|ban| StoredBan::new(ban, today)).collect();
        let change = Change::Bans { room: room.into(), bans };
        let saved = persister.order(id_lock, change, self.rules.limits.admit_timeout).await;
        saved.map(drop).map_err(|_| RoomError::NotSaved)
    }

    /// Returns the bans that hold in a room.
    pub(crate) fn bans_of(&self, room: &Arc<Shared>) -> Vec<Ban> {
        let now = tokio::time::Instant::now().into_std();
        match &self.node {
            Some(_) => room.read(|state| state.bans(now)),
            None => self.bans.list(room.id(), now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_is_for_a_person_or_a_name_in_one_room_for_a_while() {
        let (bans, now) = (Bans::default(), Instant::now());
        let until = now + Duration::from_secs(60);
        let (arena, lobby): (Arc<str>, Arc<str>) = ("arena".into(), "lobby".into());
        let (guest, ann, ben) = (Identity::new(), NameKey::new("ann"), NameKey::new("ben"));
        let person = Identity::new().with_id("7");
        bans.add(&arena, &BanTarget::of(&guest, "Ann"), now, until);
        bans.add(&arena, &BanTarget::of(&person, "ben"), now, until);
        assert!(bans.holds("arena", &guest, &NameKey::new("ANN"), now));
        assert!(bans.holds("arena", &person, &NameKey::new("else"), now));
        assert!(!bans.holds("arena", &guest, &ben, now));
        assert!(!bans.holds("lobby", &guest, &ann, now));
        assert!(!bans.holds("arena", &guest, &ann, until));
        let left = Duration::from_secs(60);
        let targets = [BanTarget::Name("Ann".into()), BanTarget::Person("7".into())];
        assert_eq!(bans.list("arena", now), targets.map(|target| Ban { target, left }));
        bans.remove("arena", &BanTarget::of(&person, "ben"));
        assert!(!bans.holds("arena", &person, &NameKey::new("else"), now));
        bans.add(&lobby, &BanTarget::of(&guest, "ben"), until, until + Duration::from_secs(1));
        assert_eq!(bans.0.lock().len(), 1, "what is over is forgotten");
    }

    #[test]
    fn what_a_store_has_kept_holds_again() {
        let (bans, now, today) = (Bans::default(), Instant::now(), SystemTime::now());
        let ban = |name: &str, left| Ban { target: BanTarget::Name(name.into()), left };
        let (ann, over) = (ban("ann", Duration::from_secs(60)), ban("ben", Duration::ZERO));
        bans.restore("arena", &[StoredBan::new(&over, today)], now);
        assert!(bans.0.lock().is_empty());
        bans.restore("arena", &[&over, &ann].map(|ban| StoredBan::new(ban, today)), now);
        assert!(bans.holds("arena", &Identity::new(), &NameKey::new("ann"), now));
        assert_eq!(bans.list("arena", now).len(), 1);
    }
}
