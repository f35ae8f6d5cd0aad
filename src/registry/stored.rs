//! The rooms that a store keeps, in memory or not.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::RoomRegistry;
use crate::{
    policy::Judging,
    store::{StoreError, StoredEntry},
    wire::Json,
};

/// A room that the store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StoredSummary {
    /// The room's id.
    pub id: Arc<str>,
    /// The time of its last use, to the second, as far as it was saved.
    pub used: SystemTime,
}

impl RoomRegistry {
    /// Returns a page of the rooms that the store keeps, in the order of their ids' bytes: up to `count` of
    /// those after `after`. All ids come after the empty one. Returns none if there is no store.
    ///
    /// ```
    /// use axum_cloud_variables::{RoomRegistry, store::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms = RoomRegistry::builder().store(MemoryStore::default()).build()?;
    /// rooms.open("arena").variables([("score", "7")]).await?;
    /// assert_eq!(&*rooms.stored("", 50).await?[0].id, "arena");
    /// assert_eq!(rooms.stored("arena", 50).await?, [], "no more behind it");
    /// assert_eq!(rooms.stored_values("arena").await?, Some(vec![("score".into(), "7".into())]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn stored(
        &self,
        after: &str,
        count: usize,
    ) -> Result<Vec<StoredSummary>, StoreError> {
        Judging::refuse();
        let Some(persister) = &self.inner.persister else { return Ok(Vec::new()) };
        let after = after.to_owned();
        let page = persister.read(move |store| store.rooms(&after, count)).await?;
        let summary = |StoredEntry { id, used }| {
            let used = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(used))?;
            Some(StoredSummary { id: id.into(), used })
        };
        // No real use is so late that a `SystemTime` cannot hold its time.
        Ok(page.into_iter().filter_map(summary).collect())
    }

    /// Returns the names and values of a room as they were saved last, in the order in which its variables
    /// were created. The room is not loaded, and does not count as used. Returns `None` if the store does not
    /// keep it, or there is no store. Values of a room in memory may be newer by
    /// [`flush_interval`](crate::RoomRegistryBuilder::flush_interval): see
    /// [`Room::variables`](crate::Room::variables).
    ///
    /// # Errors
    ///
    /// [`StoreError`]. It is [`StoreError::Damaged`] if a stored text is not valid.
    pub async fn stored_values(
        &self,
        id: &str,
    ) -> Result<Option<Vec<(String, String)>>, StoreError> {
        Judging::refuse();
        let Some(persister) = &self.inner.persister else { return Ok(None) };
        let Some(room) = persister.load(id).await? else { return Ok(None) };
        let plain = |text: &str| Json::stored(text).map(|text| text.lossy().into_owned());
        let values = room.variables.iter().map(|(name, value)| plain(name).zip(plain(value)));
        let values = values.collect::<Option<Vec<_>>>();
        values.map(Some).ok_or_else(|| StoreError::Damaged("a text that is no JSON".into()))
    }
}
