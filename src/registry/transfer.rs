//! Export and import of stored rooms as JSON lines, for backups and for moves from one store to another.

use std::{fmt::Write as _, io, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    Inner, RoomRegistry,
    persistence::{Persister, seconds_since_1970},
};
use crate::{
    limits::Limits,
    policy::Judging,
    store::{Change, StoreError, StoredEntry, StoredRoom, StoredSchema},
    wire::{self, Json},
};

/// The number of rooms that [`RoomRegistry::import`] created, and the number that it left alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ImportReport {
    /// The number of rooms that were created.
    pub created: u64,
    /// The number of rooms that existed already, and stay as they are.
    pub skipped: u64,
}

/// The reason why rooms were not exported or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The registry has no store.
    #[error("there is no store")]
    NoStore,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reader or the writer failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// This line, counted from 1, is not a room.
    #[error("line {0} is no room: {1}")]
    Line(u64, String),
}

/// One line of an export.
#[derive(Deserialize)]
struct Line<'a> {
    room: String,
    schema: String,
    used: Option<u64>,
    #[serde(borrow)]
    variables: &'a RawValue,
}

/// How many rooms a page of the store has, and how many are imported at once.
const AT_ONCE: usize = 256;

/// How long the store may take for a flush, or for an imported room.
const PATIENCE: Duration = Duration::from_secs(3_600);

impl RoomRegistry {
    /// Writes all rooms of the store, one a line, with the values of this moment or later. Returns how many.
    /// Rooms that come and go meanwhile may or may not be among them.
    ///
    /// ```json
    /// {"room":"arena","schema":"fixed","used":1700000000,"variables":{"ball":"42.5","score":"1"}}
    /// ```
    ///
    /// `schema` is the name of the room's [`StoredSchema`] in lower case. `used` is the time of the room's
    /// last use, in seconds since the beginning of 1970.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub async fn export(&self, mut to: impl AsyncWrite + Unpin) -> Result<u64, TransferError> {
        Judging::refuse();
        let persister = self.inner.persister.as_ref().ok_or(TransferError::NoStore)?;
        persister.flush(PATIENCE).await?;
        let mut line = String::new();
        let (mut count, mut after) = (0, String::new());
        loop {
            let page = persister.read(move |store| store.rooms(&after, AT_ONCE)).await?;
            let Some(last) = page.last() else { break };
            after = last.id.clone();
            for StoredEntry { id, used } in page {
                let Some(room) = persister.load(&id).await? else { continue };
                line.clear();
                write(&mut line, &id, used, &room);
                to.write_all(line.as_bytes()).await?;
                count += 1;
            }
        }
        to.flush().await?;
        Ok(count)
    }

    /// Reads rooms as [`export`](Self::export) writes them, and has the store keep them. A room that exists
    /// already, in the store or in memory, stays as it is.
    ///
    /// # Errors
    ///
    /// [`TransferError`], also for a room that exceeds this registry's [`Limits`]. Rooms of earlier lines may
    /// have been created by then, and are skipped by another import.
    pub async fn import(
        &self,
        from: impl AsyncBufRead + Unpin,
    ) -> Result<ImportReport, TransferError> {
        Judging::refuse();
        let persister = self.inner.persister.as_ref().ok_or(TransferError::NoStore)?;
        let mut lines = from.lines();
        let (mut imported, mut number) = (ImportReport::default(), 0);
        let mut under_way = FuturesUnordered::new();
        let mut count = |created: bool| match created {
            true => imported.created += 1,
            false => imported.skipped += 1,
        };
        loop {
            // Imports under way go on while the input pauses, because they hold locks of ids.
            let line = tokio::select! {
                biased;
                Some(created) = under_way.next() => {
                    count(created?);
                    continue;
                }
                line = lines.next_line(), if under_way.len() < AT_ONCE => line?,
            };
            let Some(line) = line else { break };
            number += 1;
            if line.trim().is_empty() {
                continue;
            }
            let parsed = parse(&line, &self.inner.rules.limits);
            let (id, change) = parsed.map_err(|what| TransferError::Line(number, what))?;
            under_way.push(self.inner.create_stored(persister, id, change));
        }
        while let Some(created) = under_way.next().await {
            count(created?);
        }
        Ok(imported)
    }
}

impl Inner {
    /// Has the store keep a room. Returns `false` if the room exists already.
    async fn create_stored(
        &self,
        persister: &Arc<Persister>,
        id: String,
        change: Change,
    ) -> Result<bool, StoreError> {
        let id_lock = persister.id_lock(&id).await;
        if self.is_live(&id) || persister.load(&id).await?.is_some() {
            return Ok(false);
        }
        persister.order(id_lock, change, PATIENCE).await?;
        Ok(true)
    }
}

fn write(line: &mut String, id: &str, used: u64, room: &StoredRoom) {
    let schema = room.schema.name();
    let id = Json::from_plain(id);
    let id = id.as_json();
    _ = write!(line, r#"{{"room":"{id}","schema":"{schema}","used":{used},"variables":{{"#);
    for (n, (name, value)) in room.variables.iter().enumerate() {
        let comma = if n > 0 { "," } else { "" };
        _ = match value.strip_prefix(wire::NUMBER) {
            Some(number) => write!(line, r#"{comma}"{name}":{number}"#),
            None => write!(line, r#"{comma}"{name}":"{value}""#),
        };
    }
    line.push_str("}}\n");
}

fn parse(line: &str, limits: &Limits) -> Result<(String, Change), String> {
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let variables = wire::parse_values(line.variables)
        .ok_or("'variables' must be an object whose values are strings or numbers")?;
    let schema = StoredSchema::from_name(&line.schema)
        .ok_or("'schema' must be fixed, scratch or growing")?;
    if !limits.allow_room_id(&line.room) {
        return Err(format!("'room' must have 1 to {} characters", limits.room_id_chars));
    }
    // Nobody could join a room that exceeds a limit.
    limits.check_variables(&variables).map_err(|over| over.to_string())?;
    let stored = |json: &Json<'_>| json.to_text().as_stored().to_owned();
    let change = Change::Put {
        room: line.room.clone(),
        schema,
        used: line.used.unwrap_or_else(seconds_since_1970),
        values: variables.iter().map(|(name, value)| (stored(name), stored(value))).collect(),
        dropped: Vec::new(),
    };
    Ok((line.room, change))
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let variables = vec![
            ("a".into(), String::new()),
            ("☁ \\ud800\\\"".into(), "\\n1".into()),
            ("n".into(), "\"0.5".into()),
        ];
        let room = StoredRoom { schema: StoredSchema::Scratch, variables };
        let mut line = String::new();
        write(&mut line, "r \"1\"\n", 7, &room);
        let (id, change) = parse(line.trim_end(), &Limits::default()).unwrap();
        assert_eq!(id, "r \"1\"\n");
        let values = room.variables;
        let schema = StoredSchema::Scratch;
        let expected = Change::Put { room: id, schema, used: 7, values, dropped: Vec::new() };
        assert_eq!(change, expected);
        for line in [
            "",
            "{}",
            "[1]",
            r#"{"room":"a","schema":"none","variables":{}}"#,
            r#"{"room":"a","schema":"fixed","variables":{"x":[1]}}"#,
            r#"{"room":"a","schema":"fixed","variables":{"":"1"}}"#,
            r#"{"room":"","schema":"fixed","variables":{}}"#,
        ] {
            assert!(parse(line, &Limits::default()).is_err(), "{line}");
        }
        // Nobody could join them.
        let limits = Limits::default().variables_per_room(1).value_bytes(2);
        let room = |variables: &str| {
            parse(
                &format!(r#"{{"room":"a","schema":"fixed","variables":{{{variables}}}}}"#),
                &limits,
            )
        };
        assert!(room(r#""x":"12""#).is_ok());
        assert!(room(r#""x":"123""#).is_err());
        assert!(room(r#""x":"1","y":"1""#).is_err());
    }
}
