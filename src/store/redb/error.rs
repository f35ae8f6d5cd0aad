//! Translates redb's errors for a user of the store. Functions, not `From`, which would be part of the public
//! API and tie it to a major version of redb.

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
