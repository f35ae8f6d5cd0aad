//! The conditions that must hold when everything is at rest.

use super::*;
use crate::{ban, relay::RelayRevision};

impl World {
    /// Returns the conditions that do not hold now that everything is at rest.
    pub(in super::super) fn wrongs(&mut self) -> Vec<String> {
        let mut wrongs = std::mem::take(&mut self.faults);
        let there = self.broker.room(self.now);
        let sessions = self.broker.sessions();
        let mut seated = BTreeSet::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.observe();
            let Some(state) = &node.state else { continue };
            let Some((revision, room)) = &there else {
                wrongs.push(format!("node {number} has a room that is nowhere"));
                continue;
            };
            let replica = state.replica.as_ref().unwrap();
            if replica.revision != *revision {
                wrongs
                    .push(format!("node {number} is at {:?}, not {revision:?}", replica.revision));
            }
            let here = state.as_relayed(self.now);
            let sorted = |room: &RelayRoom| {
                let variables: BTreeMap<_, _> = room.stored.variables.iter().cloned().collect();
                let bans: BTreeSet<_> = room.bans.iter().map(|ban| ban.who.clone()).collect();
                (variables, room.stored.schema, room.max_members, room.is_locked, bans)
            };
            if sorted(&here) != sorted(room) {
                wrongs.push(format!("node {number} has {here:?}, not {room:?}"));
            }
            let is_banned = |key: String| room.bans.iter().any(|ban| ban.who == key);
            let banned = state.members.iter().map(|(_, member)| member);
            let banned = banned
                .filter(|member| ban::keys_of(&member.identity, &member.key).any(is_banned))
                .count();
            if banned > 0 {
                wrongs.push(format!("node {number} has {banned} banned members"));
            }
            if replica.pending.lens() != [0; 3] {
                wrongs.push(format!("node {number} has {:?} waiting", replica.pending.lens()));
            }
            let members = state.members.iter().filter_map(|(_, member)| member.session);
            let members: BTreeSet<_> = members.collect();
            let name = replica.node.to_string();
            let at_broker = sessions.iter().filter(|(node, _)| *node == name);
            let at_broker: BTreeSet<_> = at_broker.map(|(_, session)| *session).collect();
            if members != at_broker
                || replica.sessions.sessions() != Vec::from_iter(members.clone())
            {
                let sessions = replica.sessions.sessions();
                wrongs
                    .push(format!("node {number}: {members:?}, {sessions:?}, {at_broker:?} there"));
            }
            seated.extend(members.into_iter().map(|session| (name.clone(), session)));
        }
        let ghosts: Vec<_> = sessions.iter().filter(|session| !seated.contains(session)).collect();
        if !ghosts.is_empty() {
            wrongs.push(format!("ghosts: {ghosts:?}"));
        }
        if !self.weather.loses_memory {
            wrongs.extend(self.wrong_names());
            wrongs.extend(self.wrong_order());
            wrongs.extend(there.and_then(|(revision, room)| self.wrong_count(&revision, &room)));
        }
        self.end();
        for (number, node) in self.nodes.iter().enumerate() {
            if node.budget.used() != 0 {
                wrongs.push(format!("node {number} has {} bytes left", node.budget.used()));
            }
        }
        wrongs
    }

    /// Checks that no two sessions have the same name for themselves.
    fn wrong_names(&self) -> Option<String> {
        let mut names = BTreeMap::<_, Vec<_>>::new();
        for node in &self.nodes {
            let Some(state) = &node.state else { continue };
            for (_, member) in state.members.iter() {
                names.entry(member.key.as_str().to_owned()).or_default().push(member.session);
            }
        }
        // Sessions that share a name may have come after one that has it for itself. But of the others, the
        // last must have found the name free.
        let own = |session: &Option<u64>| self.is_own(*session);
        let twice = names.into_iter().find(|(_, all)| all.iter().filter(|it| own(it)).count() > 1);
        twice.map(|(name, all)| format!("{name} is {all:?}"))
    }

    fn is_own(&self, session: Option<u64>) -> bool {
        self.nodes.iter().any(|node| {
            node.players.iter().enumerate().any(|(player, it)| match it {
                Player::Playing { session: (_, number), .. } => {
                    Some(*number) == session
                        && super::super::node::duplicates(player) != DuplicateNames::Allow
                }
                _ => false,
            })
        })
    }

    /// Checks that each addition that stands, according to its writer, counts once, and that no refused one
    /// counts.
    fn wrong_count(&self, revision: &RelayRevision, room: &RelayRoom) -> Option<String> {
        let count = room.stored.variables.iter().find(|(name, _)| name == COUNTER);
        let count = count.map_or(0, |(_, value)| value.parse::<usize>().unwrap());
        let of_room = self.updates.values().filter(|(room, _)| *room == revision.room);
        let with = |outcome| of_room.clone().filter(|(_, told)| *told == outcome).count();
        let (stand, unknown) =
            (with(Some(Outcome::Stands)), with(Some(Outcome::Unknown)) + with(None));
        let is_right = (stand..=stand + unknown).contains(&count);
        (!is_right).then(|| format!("{count} of {stand} additions, and {unknown} in doubt"))
    }

    /// Checks that the values of a variable that a node's members are sent never go back.
    fn wrong_order(&self) -> Option<String> {
        for (number, node) in self.nodes.iter().enumerate() {
            for (name, seen) in &node.history {
                let mut at = &0;
                for value in seen.iter().filter(|value| value.contains('|')) {
                    match self.broker.order.get(value) {
                        Some(here) if here >= at => at = here,
                        _ => return Some(format!("node {number} goes back to {name}={value}")),
                    }
                }
            }
        }
        None
    }
}
