//! Keeps rooms beyond the process.

mod memory;
#[cfg(feature = "redb")]
mod redb;

use std::{fmt, io, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::redacted::Count;

pub use crate::ban::StoredBan;

pub use self::memory::MemoryStore;
#[cfg(feature = "redb")]
pub use self::redb::RedbStore;

/// Keeps rooms. A registry calls it from several threads at once, never from a runtime's worker and never
/// under a lock, so it may block. (Only [`bytes`](Self::bytes) is also called once when a registry is built.)
///
/// - Texts (names of variables, values) are passed as they appear in JSON between their quotes. A value that
///   is a number has a quotation mark before it. No store needs to parse them.
/// - A [`commit`](Self::commit) that returned `Ok` is durable as a whole. One that failed, or during which
///   the process died, is kept entirely or not at all.
/// - Loading returns the data that was committed last.
///
/// [`MemoryStore`] is a complete implementation in some 50 lines, which keeps rooms as long as it exists:
///
/// ```
/// use axum_cloud_variables::store::{MemoryStore, RoomStore};
///
/// let store = MemoryStore::default();
/// assert_eq!(store.load("room"), Ok(None));
/// ```
pub trait RoomStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the room with this id, if it is kept.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if it cannot be read now.
    fn load(&self, room: &str) -> Result<Option<StoredRoom>, StoreError>;

    /// Returns the bans of a room, as [`Change::Bans`] last set them, or none if it never did. A room keeps
    /// its bans when it is removed.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if they cannot be read.
    fn bans(&self, room: &str) -> Result<Vec<StoredBan>, StoreError>;

    /// Makes all these changes, in this order.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if it failed; then either none or all of the changes are made.
    fn commit(&self, changes: &[Change]) -> Result<(), StoreError>;

    /// Returns a page of the rooms, in the byte order of their ids: up to `count` rooms after `after`. An empty
    /// `after` starts with the first room.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if they cannot be read.
    fn rooms(&self, after: &str, count: usize) -> Result<Vec<StoredEntry>, StoreError>;

    /// Returns how many bytes the store takes up, if it knows. Default `None`.
    fn bytes(&self) -> Option<u64> {
        None
    }
}

impl<S: RoomStore + ?Sized> RoomStore for Arc<S> {
    fn load(&self, room: &str) -> Result<Option<StoredRoom>, StoreError> {
        (**self).load(room)
    }

    fn bans(&self, room: &str) -> Result<Vec<StoredBan>, StoreError> {
        (**self).bans(room)
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        (**self).commit(changes)
    }

    fn rooms(&self, after: &str, count: usize) -> Result<Vec<StoredEntry>, StoreError> {
        (**self).rooms(after, count)
    }

    fn bytes(&self) -> Option<u64> {
        (**self).bytes()
    }
}

/// A room as a store keeps it.
#[derive(Clone, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores outside this crate make them")]
pub struct StoredRoom {
    /// Whether clients may create variables in it.
    pub schema: StoredSchema,
    /// Names and values, in the order in which the variables were created.
    pub variables: Vec<(String, String)>,
}

impl fmt::Debug for StoredRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRoom")
            .field("schema", &self.schema)
            .field("variables", &Count(self.variables.len()))
            .finish()
    }
}

/// A room in a store's list: see [`RoomStore::rooms`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores outside this crate make them")]
pub struct StoredEntry {
    /// The room's id.
    pub id: String,
    /// The last [`Change::Put::used`] of the room.
    pub used: u64,
}

/// The names that a stored room accepts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "a store that ignores one keeps wrong rooms")]
pub enum StoredSchema {
    /// No new names, like [`Schema::Fixed`](crate::Schema::Fixed). The default.
    #[default]
    Fixed,
    /// The names that sets create. The room was made by a client of
    /// [`Dialect::Scratch`](crate::Dialect::Scratch).
    Scratch,
    /// All names, like [`Schema::Growing`](crate::Schema::Growing).
    Growing,
}

impl StoredSchema {
    /// Returns its name, as texts spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Scratch => "scratch",
            Self::Growing => "growing",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Fixed, Self::Scratch, Self::Growing].into_iter().find(|schema| schema.name() == name)
    }
}

/// One change of a [`RoomStore::commit`].
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a store that ignores one keeps wrong rooms")]
pub enum Change {
    /// A room is created, or some of its variables change.
    Put {
        /// Its id.
        room: String,
        /// Its schema, as in [`StoredRoom::schema`].
        schema: StoredSchema,
        /// When it was last used, in seconds since the beginning of 1970.
        used: u64,
        /// The variables with new values; all others stay as they are. New variables are in the order of
        /// their creation, and come after the existing ones.
        values: Vec<(String, String)>,
        /// The names of the variables that are dropped.
        dropped: Vec<String>,
    },
    /// A room is removed; its bans stay.
    Remove {
        /// Its id.
        room: String,
    },
    /// A room has these bans now, which replace its earlier ones. The room itself need not be kept.
    Bans {
        /// Its id.
        room: String,
        /// All its bans.
        bans: Vec<StoredBan>,
    },
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { room, schema, used, values, dropped } => f
                .debug_struct("Put")
                .field("room", room)
                .field("schema", schema)
                .field("used", used)
                .field("values", &Count(values.len()))
                .field("dropped", &Count(dropped.len()))
                .finish(),
            Self::Remove { room } => f.debug_struct("Remove").field("room", room).finish(),
            Self::Bans { room, bans } => f
                .debug_struct("Bans")
                .field("room", room)
                .field("bans", &Count(bans.len()))
                .finish(),
        }
    }
}

/// Returns how many bytes these names and values have.
pub(crate) fn bytes_of(variables: &[(String, String)]) -> usize {
    variables.iter().map(|(name, value)| name.len() + value.len()).sum()
}

impl Change {
    /// Returns how many bytes its values have.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put { values, .. } => bytes_of(values),
            Self::Remove { .. } | Self::Bans { .. } => 0,
        }
    }
}

/// The reason why a store cannot perform an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store keeps as many rooms as it may.
    #[error("the store keeps as many rooms as it may")]
    Full,
    /// Another process uses the store.
    #[error("another process uses the store: end that one first, or give each a file of its own")]
    InUse,
    /// The store was written by a later version.
    #[error("the store was written by a later version: use that version, or another file")]
    Newer,
    /// The stored data cannot be read.
    #[error(
        "the store cannot be read ({0}); nothing was changed in it: put a backup in its place, or move it away to begin with no rooms"
    )]
    Damaged(String),
    /// The store failed, and may work again later.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// Serializes as human-readable text.
#[cfg(feature = "serde")]
impl Serialize for StoreError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
