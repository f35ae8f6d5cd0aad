//! The rooms and addresses that the operator allows or blocks, in flags and in files that SIGHUP has read again.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, RwLock},
};

use axum_cloud_variables::{ClientAddress, CloseCode, Room, RoomRegistry};
use ipnet::IpNet;
use tokio::sync::Notify;
use tracing::{error, info};

use super::{
    WrongSetting,
    proxy::{contains, network},
    settings::Settings,
};

/// The lists, as they are now.
#[derive(Clone)]
pub(crate) struct Lists(Arc<Kept>);

struct Kept {
    allowed_rooms: List<Pattern>,
    blocked_rooms: List<Pattern>,
    blocked_addresses: List<IpNet>,
    current: RwLock<Arc<Rules>>,
}

struct Rules {
    /// `None` allows all.
    allowed_rooms: Option<Vec<Pattern>>,
    blocked_rooms: Vec<Pattern>,
    blocked_addresses: Vec<IpNet>,
}

/// Entries from flags, and the file that has more of them.
struct List<T> {
    flag: &'static str,
    entries: Vec<T>,
    file: Option<PathBuf>,
    parse: fn(&str) -> Result<T, String>,
}

impl<T: Clone> List<T> {
    /// Returns all entries; `None` if there is neither a flag nor a file.
    fn read(&self) -> Result<Option<Vec<T>>, String> {
        let mut entries = self.entries.clone();
        let Some(file) = &self.file else {
            return Ok(Some(entries).filter(|entries| !entries.is_empty()));
        };
        let failed = |error: &dyn std::fmt::Display| super::at(self.flag, file, error);
        let text = fs::read_to_string(file).map_err(|error| failed(&error))?;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            // A comment has a line of its own, because an id may contain the sign.
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = (self.parse)(line);
            entries.push(parsed.map_err(|error| failed(&format!("line {number}: {error}")))?);
        }
        Ok(Some(entries))
    }
}

impl Lists {
    /// Reads the lists for the first time.
    pub(crate) fn of(settings: &Settings) -> Result<Self, WrongSetting> {
        let patterns = |flag, texts: &[String], file: &Option<PathBuf>| List {
            flag,
            entries: texts.iter().cloned().map(Pattern).collect(),
            file: file.clone(),
            parse: |text| Ok(Pattern(text.to_owned())),
        };
        let Settings { allow_room, allow_room_file, block_room, block_room_file, .. } = settings;
        let mut kept = Kept {
            allowed_rooms: patterns("--allow-room-file", allow_room, allow_room_file),
            blocked_rooms: patterns("--block-room-file", block_room, block_room_file),
            blocked_addresses: List {
                flag: "--block-address-file",
                entries: settings.block_address.clone(),
                file: settings.block_address_file.clone(),
                parse: network,
            },
            current: RwLock::new(Arc::new(Rules {
                allowed_rooms: None,
                blocked_rooms: Vec::new(),
                blocked_addresses: Vec::new(),
            })),
        };
        let rules = kept.read().map_err(WrongSetting)?;
        kept.current = RwLock::new(Arc::new(rules));
        Ok(Self(Arc::new(kept)))
    }

    pub(crate) fn blocks_address(&self, address: std::net::IpAddr) -> bool {
        contains(&self.0.rules().blocked_addresses, address)
    }

    pub(crate) fn allows_room(&self, id: &str) -> bool {
        self.0.rules().allows_room(id)
    }

    /// Reads the files again on each signal, and closes the sessions of players that may not stay.
    pub(crate) fn watch(self, rooms: RoomRegistry, reload: Arc<Notify>) {
        let Kept { allowed_rooms, blocked_rooms, blocked_addresses, .. } = &*self.0;
        let files = [&allowed_rooms.file, &blocked_rooms.file, &blocked_addresses.file];
        if files.iter().all(|file| file.is_none()) {
            return;
        }
        tokio::spawn(async move {
            loop {
                reload.notified().await;
                match self.0.read() {
                    Ok(rules) => {
                        self.0.set(rules);
                        let closed = self.close_blocked(&rooms).await;
                        info!(closed, "the lists of rooms and addresses were read again");
                    }
                    Err(error) => error!(%error, "the old lists still hold"),
                }
            }
        });
    }

    /// Closes the sessions that the lists block. Returns how many.
    async fn close_blocked(&self, rooms: &RoomRegistry) -> usize {
        const PAGE: usize = 256;
        let (mut closed, mut after) = (0, String::new());
        loop {
            let page = rooms.rooms(&after, PAGE);
            for summary in &page {
                if let Some(room) = rooms.room(&summary.id) {
                    closed += self.close_blocked_in(&room).await;
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.id.to_string(),
                _ => return closed,
            }
        }
    }

    async fn close_blocked_in(&self, room: &Room) -> usize {
        let is_closed = !self.allows_room(room.id());
        let mut closed = 0;
        for member in room.members() {
            let address = member.identity.data::<ClientAddress>();
            let reason = match address {
                _ if is_closed => ROOM_CLOSED,
                Some(address) if self.blocks_address(address.0) => ADDRESS_BLOCKED,
                _ => continue,
            };
            // A member that has just left needs no close.
            closed +=
                usize::from(room.kick(member.id, CloseCode::Incompatible, reason).await.is_ok());
        }
        closed
    }
}

/// What players read.
pub(crate) const ROOM_CLOSED: &str = "this room is closed";
pub(crate) const ADDRESS_BLOCKED: &str = "your address may not connect";

impl Kept {
    fn rules(&self) -> Arc<Rules> {
        self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn set(&self, rules: Rules) {
        let mut current = self.current.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        *current = Arc::new(rules);
    }

    fn read(&self) -> Result<Rules, String> {
        Ok(Rules {
            allowed_rooms: self.allowed_rooms.read()?,
            blocked_rooms: self.blocked_rooms.read()?.unwrap_or_default(),
            blocked_addresses: self.blocked_addresses.read()?.unwrap_or_default(),
        })
    }
}

impl Rules {
    fn allows_room(&self, id: &str) -> bool {
        let is_in = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(id));
        !is_in(&self.blocked_rooms) && self.allowed_rooms.as_deref().is_none_or(is_in)
    }
}

/// A pattern of room ids, in which a star stands for any text.
#[derive(Clone)]
pub(crate) struct Pattern(pub(crate) String);

impl Pattern {
    pub(crate) fn matches(&self, id: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = id.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some((_, behind)) = rest.split_once(piece) else { return false };
            rest = behind;
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, id, matches) in [
            ("*", "", true),
            ("arena-*", "arena-1", true),
            ("arena-*", "arena", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
        ] {
            assert_eq!(Pattern(pattern.into()).matches(id), matches, "{pattern} {id}");
        }
    }
}
