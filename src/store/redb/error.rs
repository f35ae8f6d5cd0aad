//! What redb's errors mean to whoever has the store. Functions, and no `From`: those would be part of the
//! interface, and a new major version of redb would be one of this crate.

use std::io::ErrorKind;

use crate::store::StoreError;

pub(super) fn meaning(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::InUse,
        redb::Error::Io(error)
            if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            StoreError::Damaged(error.to_string())
        }
        error @ (redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableTypeMismatch { .. }) => StoreError::Damaged(error.to_string()),
        error => StoreError::Failed(error.to_string()),
    }
}
