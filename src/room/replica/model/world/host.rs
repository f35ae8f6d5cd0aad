//! The actions of hosts on their rooms.

use super::*;

impl World {
    pub(super) fn host(&mut self, node: usize) {
        if !self.is_troubled() {
            return self.unlock(node);
        }
        let pause = self.rng.u64(500..5_000);
        self.at(pause, Event::Host(node));
        let (now, ticket) = (self.now, self.next());
        let wish = match self.rng.u8(0..12) {
            0 => Wish::Remove,
            1 | 2 => Wish::Change(RelayChange::Closed),
            3 | 4 => Wish::Change(RelayChange::Locked(self.rng.bool())),
            5 => Wish::Change(RelayChange::MaxMembers(self.rng.u64(1..12))),
            6 => Wish::Change(RelayChange::Ban {
                who: "name:eve".into(),
                name: "Eve".into(),
                millis: [0, 3_000, 3_600_000][self.rng.usize(0..3)],
            }),
            7 => Wish::Lead { lead: ticket, is_renewal: false },
            8 if !self.weather.grows => return self.reopen(node),
            _ => return self.set(node),
        };
        let Some(state) = &mut self.nodes[node].state else { return };
        if state.wish(ticket, wish.clone()) {
            self.nodes[node].waiting.insert(ticket, Waiting::Host(wish));
            self.at_time(now + TIMEOUT, Event::GiveUp(node, ticket));
        }
        self.drive(node);
    }

    fn set(&mut self, node: usize) {
        let now = self.now;
        self.written += 1;
        let Some(state) = &mut self.nodes[node].state else { return };
        let room = &state.replica.as_ref().unwrap().revision.room;
        let value = format!("{room}|{}", self.written);
        let values = VERSIONS[self.version].map(|name| (name, value.clone()));
        _ = state.set_all(&entries(values), now);
        self.drive(node);
    }

    /// Reopens the room for the game's next version, which has other variables.
    fn reopen(&mut self, node: usize) {
        let now = self.now;
        self.version = 1 - self.version;
        let [first, second] = VERSIONS[self.version];
        let variables = [first, second, COUNTER].map(|name| (name, "0"));
        let opening = Opening { variables: Some(entries(variables)), ..Opening::default() };
        let Some(state) = &mut self.nodes[node].state else { return };
        _ = state.reopen(&opening, now);
        self.drive(node);
    }

    fn unlock(&mut self, node: usize) {
        let (ticket, wish) = (self.next(), Wish::Change(RelayChange::Locked(false)));
        if let Some(state) = &mut self.nodes[node].state {
            _ = state.wish(ticket, wish);
        }
        self.drive(node);
    }
}
