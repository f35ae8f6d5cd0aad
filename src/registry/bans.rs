//! Who may not come back into a room for a while.

use std::{collections::HashMap, sync::Arc, time::Instant};

use parking_lot::Mutex;

use crate::{ban::BanTarget, identity::Identity, names::NameKey};

#[derive(Debug, Default)]
pub(super) struct Bans(Mutex<HashMap<Ban, Instant>>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ban {
    room: Arc<str>,
    who: BanTarget,
}

impl Bans {
    /// Forgets bans that are over.
    pub(super) fn add(&self, room: &Arc<str>, who: BanTarget, now: Instant, until: Instant) {
        let mut bans = self.0.lock();
        bans.retain(|_, until| *until > now);
        bans.insert(Ban { room: room.clone(), who }, until);
    }

    pub(super) fn remove(&self, room: &Arc<str>, who: BanTarget) {
        self.0.lock().remove(&Ban { room: room.clone(), who });
    }

    pub(super) fn holds(
        &self,
        room: &Arc<str>,
        identity: &Identity,
        key: &NameKey,
        now: Instant,
    ) -> bool {
        let bans = self.0.lock();
        let holds =
            |who| bans.get(&Ban { room: room.clone(), who }).is_some_and(|until| *until > now);
        !bans.is_empty() && BanTarget::all_of(identity, key).any(holds)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_ban_is_for_a_person_or_a_name_in_one_room_for_a_while() {
        let (bans, now) = (Bans::default(), Instant::now());
        let until = now + Duration::from_secs(60);
        let (arena, lobby): (Arc<str>, Arc<str>) = ("arena".into(), "lobby".into());
        let (guest, ann, ben) = (Identity::new(), NameKey::new("ann"), NameKey::new("ben"));
        let person = Identity::new().id("7");
        bans.add(&arena, BanTarget::of(&guest, &ann), now, until);
        bans.add(&arena, BanTarget::of(&person, &ben), now, until);
        assert!(bans.holds(&arena, &guest, &NameKey::new("ANN"), now));
        assert!(bans.holds(&arena, &person, &NameKey::new("else"), now));
        assert!(!bans.holds(&arena, &guest, &ben, now));
        assert!(!bans.holds(&lobby, &guest, &ann, now));
        assert!(!bans.holds(&arena, &guest, &ann, until));
        bans.remove(&arena, BanTarget::of(&person, &ben));
        assert!(!bans.holds(&arena, &person, &NameKey::new("else"), now));
        bans.add(&lobby, BanTarget::of(&guest, &ben), until, until + Duration::from_secs(1));
        assert_eq!(bans.0.lock().len(), 1, "what is over is forgotten");
    }
}
