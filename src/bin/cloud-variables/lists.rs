//! The rooms and addresses that the operator allows or blocks, in flags and in files that SIGHUP has read again.

use std::{
    collections::HashSet,
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, RwLock},
};

use axum_cloud_variables::{ClientAddress, CloseCode, MemberId, Room, RoomRegistry};
use ipnet::IpNet;
use tokio::{sync::watch, task::spawn_blocking};
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
    allowed_rooms: Option<Patterns>,
    blocked_rooms: Patterns,
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
        // Some editors begin a file with this mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            // A comment has a line of its own, because an id may contain the sign.
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = (self.parse)(line);
            let parsed =
                parsed.map_err(|error| failed(&format!("line {number}: '{line}' is {error}")));
            entries.push(parsed?);
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
                blocked_rooms: Patterns::new(Vec::new()),
                blocked_addresses: Vec::new(),
            })),
        };
        let rules = kept.read().map_err(WrongSetting)?;
        kept.current = RwLock::new(Arc::new(rules));
        Ok(Self(Arc::new(kept)))
    }

    pub(crate) fn blocks_address(&self, address: IpAddr) -> bool {
        self.0.rules().blocks_address(address)
    }

    pub(crate) fn allows_room(&self, id: &str) -> bool {
        self.0.rules().allows_room(id)
    }

    /// Reads the files again on each signal, and closes the sessions of players that may not stay.
    pub(crate) fn watch(self, rooms: RoomRegistry, mut reload: watch::Receiver<()>) {
        let Kept { allowed_rooms, blocked_rooms, blocked_addresses, .. } = &*self.0;
        let files = [&allowed_rooms.file, &blocked_rooms.file, &blocked_addresses.file];
        if files.iter().all(|file| file.is_none()) {
            return;
        }
        tokio::spawn(async move {
            while reload.changed().await.is_ok() {
                let (lists, rooms) = (self.clone(), rooms.clone());
                // A long list takes time, in which the runtime's threads serve players.
                let read = spawn_blocking(move || lists.read_again(&rooms)).await;
                match read.unwrap_or_else(|error| Err(error.to_string())) {
                    Ok(blocked) => {
                        let closed = blocked.len();
                        for (room, member, reason) in blocked {
                            // A member that has just left needs no close.
                            _ = room.kick(member, CloseCode::Incompatible, reason).await;
                        }
                        let Rules { allowed_rooms, blocked_rooms, blocked_addresses } =
                            &*self.0.rules();
                        info!(
                            allowed_rooms = allowed_rooms.as_ref().map(Patterns::len),
                            blocked_rooms = blocked_rooms.len(),
                            blocked_addresses = blocked_addresses.len(),
                            closed,
                            "the lists of rooms and addresses were read again"
                        );
                    }
                    Err(error) => error!(%error, "all old lists still hold"),
                }
            }
        });
    }

    /// Reads the files again. Returns the members that may not stay, and why.
    fn read_again(
        &self,
        rooms: &RoomRegistry,
    ) -> Result<Vec<(Room, MemberId, &'static str)>, String> {
        const PAGE: usize = 256;
        let rules = Arc::new(self.0.read()?);
        self.0.set(rules.clone());
        let (mut blocked, mut after) = (Vec::new(), String::new());
        loop {
            let page = rooms.rooms(&after, PAGE);
            for room in page.iter().filter_map(|summary| rooms.room(&summary.id)) {
                let is_closed = !rules.allows_room(room.id());
                for member in room.members() {
                    let address = member.identity.data::<ClientAddress>();
                    if is_closed {
                        blocked.push((room.clone(), member.id, ROOM_CLOSED));
                    } else if address.is_some_and(|address| rules.blocks_address(address.0)) {
                        blocked.push((room.clone(), member.id, ADDRESS_BLOCKED));
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.id.to_string(),
                _ => return Ok(blocked),
            }
        }
    }
}

/// The reasons that players read.
pub(crate) const ROOM_CLOSED: &str = "this room is closed";
pub(crate) const ADDRESS_BLOCKED: &str = "your address may not connect";

impl Kept {
    fn rules(&self) -> Arc<Rules> {
        self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn set(&self, rules: Arc<Rules>) {
        *self.current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = rules;
    }

    fn read(&self) -> Result<Rules, String> {
        Ok(Rules {
            allowed_rooms: self.allowed_rooms.read()?.map(Patterns::new),
            blocked_rooms: Patterns::new(self.blocked_rooms.read()?.unwrap_or_default()),
            blocked_addresses: self.blocked_addresses.read()?.unwrap_or_default(),
        })
    }
}

impl Rules {
    fn allows_room(&self, id: &str) -> bool {
        let allows = |allowed: &Patterns| allowed.matches(id);
        !self.blocked_rooms.matches(id) && self.allowed_rooms.as_ref().is_none_or(allows)
    }

    fn blocks_address(&self, address: IpAddr) -> bool {
        contains(&self.blocked_addresses, address)
    }
}

/// Patterns of room ids. Ids without a star are found at once, because a list may have thousands.
struct Patterns {
    ids: HashSet<String>,
    patterns: Vec<Pattern>,
}

impl Patterns {
    fn new(entries: Vec<Pattern>) -> Self {
        let (patterns, ids): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|Pattern(text)| text.contains('*'));
        Self { ids: ids.into_iter().map(|Pattern(id)| id).collect(), patterns }
    }

    fn len(&self) -> usize {
        self.ids.len() + self.patterns.len()
    }

    fn matches(&self, id: &str) -> bool {
        self.ids.contains(id) || self.patterns.iter().any(|pattern| pattern.matches(id))
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
