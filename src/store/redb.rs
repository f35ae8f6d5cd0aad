//! Keeps rooms in one file, by redb.

#[cfg(all(test, not(shuttle)))]
mod disk;
mod error;
#[cfg(all(test, not(shuttle)))]
mod faults;
mod file;
#[cfg(all(test, not(shuttle)))]
mod power;
#[cfg(all(test, not(shuttle)))]
mod versions;

use std::{
    fmt,
    ops::Bound::{Excluded, Unbounded},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use parking_lot::RwLock;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    Table, TableDefinition, TableError,
};

use error::meaning;
use file::StoreFile;

use super::{Change, RoomStore, StoreError, StoredBan, StoredEntry, StoredRoom, StoredSchema};

/// The version of the tables below. A file with a higher one was written by a later version.
const VERSION: u64 = 1;

const INFO: TableDefinition<'_, &str, u64> = TableDefinition::new("info");
/// The schema and the time of the last use, by a room's id.
const ROOMS: TableDefinition<'_, &str, (u8, u64)> = TableDefinition::new("rooms");
/// The values, by a room's id and a variable's name.
const VALUES: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("values");

/// The position of each variable in the file's order of creation, by the same key. Older files have none.
const ORDER: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("order");

/// The bans as JSON, by a room's id. Older files have none.
const BANS: TableDefinition<'_, &str, &str> = TableDefinition::new("bans");

/// Opens the database with a cache of this many bytes.
type Opener = Box<dyn Fn(usize) -> Result<Database, DatabaseError> + Send + Sync>;

/// The default cache size in bytes for pages of the file. Rooms in use are in memory anyway.
const CACHE: usize = 16 << 20;
/// The default file size in bytes from which new rooms are refused.
const BYTES: u64 = 4 << 30;

/// A [`RoomStore`] in one file. Every commit is on disk when it returns.
pub struct RedbStore {
    open: Opener,
    /// The database; `None` after a fault until it could be reopened, as redb requires.
    database: RwLock<Option<Database>>,
    file: Option<StoreFile>,
    max_rooms: u64,
    max_bytes: u64,
    cache: usize,
    durability: Durability,
}

impl RedbStore {
    /// Opens the file, or creates it if it does not exist or is empty. If a registry in this process had the
    /// file open and was dropped, the file is free a moment later.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if another process uses the file, or if it is not a complete file of this
    /// version or an earlier one. Its contents are then unchanged.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        StoreFile::prepare(&path)?;
        let file = path.clone();
        // Not `create`: a file that is gone or empty has lost its rooms, which must not pass unnoticed.
        let open = move |cache| Database::builder().set_cache_size(cache).open(&file);
        let store = Self::over(open)?;
        Ok(Self { file: Some(StoreFile::at(path)), ..store })
    }

    /// Creates a store over any database that redb can open.
    fn over(
        open: impl Fn(usize) -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let store = Self {
            open: Box::new(open),
            database: RwLock::new(None),
            file: None,
            max_rooms: 1_000_000,
            max_bytes: BYTES,
            cache: CACHE,
            durability: Durability::Immediate,
        };
        store.reopen()?;
        Ok(store)
    }

    /// Sets how many rooms the store may keep. Default 1,000,000; a further one is refused.
    #[must_use]
    pub fn max_rooms(mut self, rooms: u64) -> Self {
        self.max_rooms = rooms;
        self
    }

    /// Sets the file size in bytes from which new rooms are refused; existing rooms are still saved. Default
    /// 4 GiB. A file does not shrink when rooms are removed, but reuses the space.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the cache size in bytes for pages of the file. Default 16 MiB. Reopens the file.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`open`](Self::open).
    pub fn cache_bytes(mut self, bytes: usize) -> Result<Self, StoreError> {
        self.cache = bytes;
        *self.database.write() = None;
        self.reopen()?;
        Ok(self)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut slot = self.database.write();
        if slot.is_none() {
            // redb's own checks panic on some incomplete files.
            let opened = catch_unwind(AssertUnwindSafe(|| {
                let database = (self.open)(self.cache).map_err(meaning)?;
                match version(&database).map_err(meaning)? {
                    Some(version) if version > VERSION => return Err(StoreError::Newer),
                    Some(_) => {}
                    None => begin(&database, self.durability).map_err(meaning)?,
                }
                Ok(database)
            }));
            let damaged = |_| Err(StoreError::Damaged("the file is not whole".into()));
            *slot = Some(opened.unwrap_or_else(damaged)?);
        }
        Ok(())
    }

    /// Uses the database. After a fault, the next call reopens it.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        // Commits to a file that nobody can open any more would be lost with the process.
        if self.file.as_ref().is_some_and(StoreFile::is_gone) {
            let reason =
                "its file was removed or replaced: put it back, or start the process again";
            return Err(StoreError::Failed(reason.into()));
        }
        if self.database.read().is_none() {
            self.reopen()?;
        }
        let done = match &*self.database.read() {
            Some(database) => work(database),
            None => return Err(StoreError::Failed("it is being opened anew".into())),
        };
        done.map_err(|error| {
            // The read guard is dropped by now: with it, this write lock would be a deadlock.
            if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) {
                *self.database.write() = None;
            }
            meaning(error)
        })
    }
}

fn version(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(INFO) {
        Ok(info) => Ok(info.get("version")?.map(|version| version.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn begin(database: &Database, durability: Durability) -> Result<(), redb::Error> {
    write(database, durability, |transaction| {
        transaction.open_table(INFO)?.insert("version", VERSION)?;
        // Creates the tables, so that they can be read before the first room.
        transaction.open_table(ROOMS)?;
        transaction.open_table(VALUES)?;
        Ok(())
    })
}

fn write<E: From<redb::Error>>(
    database: &Database,
    durability: Durability,
    change: impl FnOnce(&redb::WriteTransaction) -> Result<(), E>,
) -> Result<(), E> {
    let mut transaction = database.begin_write().map_err(redb::Error::from)?;
    transaction.set_durability(durability).map_err(redb::Error::from)?;
    // Clients choose the bytes: with a one-phase commit they could make a torn commit look like a complete
    // one.
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    change(&transaction)?;
    Ok(transaction.commit().map_err(redb::Error::from)?)
}

impl RoomStore for RedbStore {
    fn load(&self, room: &str) -> Result<Option<StoredRoom>, StoreError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let rooms = transaction.open_table(ROOMS)?;
            let Some(schema) = rooms.get(room)?.map(|entry| entry.value().0) else {
                return Ok(None);
            };
            let values = transaction.open_table(VALUES)?;
            let order = match transaction.open_table(ORDER) {
                Ok(order) => Some(order),
                Err(TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(error.into()),
            };
            let mut variables = Vec::new();
            for entry in values.range((room, "")..)? {
                let (key, value) = entry?;
                let (of, name) = key.value();
                if of != room {
                    break;
                }
                let created = order.as_ref().map(|order| order.get((of, name))).transpose()?;
                let created = created.flatten().map_or(0, |created| created.value());
                variables.push((created, (name.into(), value.value().into())));
            }
            variables.sort_by_key(|(created, _)| *created);
            let variables = variables.into_iter().map(|(_, variable)| variable).collect();
            Ok(Some(StoredRoom { schema: decode(schema)?, variables }))
        })
    }

    fn bans(&self, room: &str) -> Result<Vec<StoredBan>, StoreError> {
        self.with(|database| {
            let bans = match database.begin_read()?.open_table(BANS) {
                Ok(bans) => bans,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let Some(bans) = bans.get(room)? else { return Ok(Vec::new()) };
            let damaged = |_| redb::Error::Corrupted("bans that are no JSON".into());
            serde_json::from_str(bans.value()).map_err(damaged)
        })
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut is_full = false;
        self.with(|database| {
            let is_long = self.bytes().is_some_and(|bytes| bytes >= self.max_bytes);
            let committed = write(database, self.durability, |transaction| {
                let mut rooms = transaction.open_table(ROOMS).map_err(redb::Error::from)?;
                let mut values = transaction.open_table(VALUES).map_err(redb::Error::from)?;
                let mut order = Order::open(transaction)?;
                let mut bans = transaction.open_table(BANS).map_err(redb::Error::from)?;
                let before = rooms.len().map_err(redb::Error::from)?;
                for change in changes {
                    apply(change, &mut rooms, &mut values, &mut order, &mut bans)?;
                }
                // Existing rooms may be written even if they exceed the limits.
                let count = rooms.len().map_err(redb::Error::from)?;
                let most = if is_long { before } else { self.max_rooms.max(before) };
                if count > most { Err(Refused::Full) } else { Ok(()) }
            });
            match committed {
                Err(Refused::Full) => is_full = true,
                Err(Refused::Failed(error)) => return Err(*error),
                Ok(()) => {}
            }
            Ok(())
        })?;
        if is_full { Err(StoreError::Full) } else { Ok(()) }
    }

    fn rooms(&self, after: &str, count: usize) -> Result<Vec<StoredEntry>, StoreError> {
        self.with(|database| {
            let rooms = database.begin_read()?.open_table(ROOMS)?;
            let behind = rooms.range::<&str>((Excluded(after), Unbounded))?.take(count);
            let entries = behind.map(|entry| {
                let (id, room) = entry?;
                Ok(StoredEntry { id: id.value().to_owned(), used: room.value().1 })
            });
            entries.collect()
        })
    }

    fn bytes(&self) -> Option<u64> {
        self.file.as_ref()?.bytes()
    }
}

fn encode(schema: StoredSchema) -> u8 {
    match schema {
        StoredSchema::Fixed => 0,
        StoredSchema::Scratch => 1,
        StoredSchema::Growing => 2,
    }
}

fn decode(schema: u8) -> Result<StoredSchema, redb::Error> {
    match schema {
        0 => Ok(StoredSchema::Fixed),
        1 => Ok(StoredSchema::Scratch),
        2 => Ok(StoredSchema::Growing),
        other => Err(redb::Error::Corrupted(format!("a room of the kind {other}"))),
    }
}

/// The reason why a transaction is aborted.
enum Refused {
    Full,
    Failed(Box<redb::Error>),
}

impl From<redb::Error> for Refused {
    fn from(error: redb::Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// The order in which variables were created, within a transaction.
struct Order<'a> {
    info: Table<'a, &'static str, u64>,
    created: Table<'a, (&'static str, &'static str), u64>,
}

impl<'a> Order<'a> {
    fn open(transaction: &'a redb::WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self { info: transaction.open_table(INFO)?, created: transaction.open_table(ORDER)? })
    }

    fn create(&mut self, variable: (&str, &str)) -> Result<(), redb::Error> {
        let count = self.info.get("created")?.map_or(0, |count| count.value()) + 1;
        self.info.insert("created", count)?;
        self.created.insert(variable, count)?;
        Ok(())
    }
}

fn apply(
    change: &Change,
    rooms: &mut Table<'_, &'static str, (u8, u64)>,
    values: &mut Table<'_, (&'static str, &'static str), &'static str>,
    order: &mut Order<'_>,
    bans: &mut Table<'_, &'static str, &'static str>,
) -> Result<(), redb::Error> {
    match change {
        Change::Put { room, schema, used, values: put, dropped } => {
            rooms.insert(room.as_str(), (encode(*schema), *used))?;
            for (name, value) in put {
                let variable = (room.as_str(), name.as_str());
                if values.insert(variable, value.as_str())?.is_none() {
                    order.create(variable)?;
                }
            }
            for name in dropped {
                values.remove((room.as_str(), name.as_str()))?;
                order.created.remove((room.as_str(), name.as_str()))?;
            }
        }
        Change::Remove { room } => {
            rooms.remove(room.as_str())?;
            let mut names = Vec::new();
            for entry in values.range((room.as_str(), "")..)? {
                let key = entry?.0;
                let (of, name) = key.value();
                if of != room {
                    break;
                }
                names.push(name.to_owned());
            }
            for name in names {
                values.remove((room.as_str(), name.as_str()))?;
                order.created.remove((room.as_str(), name.as_str()))?;
            }
        }
        Change::Bans { room, bans: now } if now.is_empty() => _ = bans.remove(room.as_str())?,
        Change::Bans { room, bans: now } => {
            let json = serde_json::json!(now).to_string();
            bans.insert(room.as_str(), json.as_str())?;
        }
    }
    Ok(())
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("max_rooms", &self.max_rooms).finish_non_exhaustive()
    }
}
