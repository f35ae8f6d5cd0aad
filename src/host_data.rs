//! Values of the host's, found again by their type.

use std::{fmt, sync::Arc};

use axum::http::Extensions;

use crate::sync;

/// One value of each type. Cheap to clone; costs nothing while it is empty.
///
/// `Debug` shows none of it: it is the host's.
#[derive(Clone, Default)]
pub(crate) struct HostData(Option<Arc<Values>>);

#[derive(Clone, Default)]
struct Values(Extensions);

impl HostData {
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        Arc::make_mut(self.0.get_or_insert_default()).0.insert(value);
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.as_ref()?.0.get()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

// A value's `Drop` is the host's code, which may ask the room that is locked.
impl Drop for Values {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            sync::drop_unlocked(std::mem::take(&mut self.0));
        }
    }
}

impl fmt::Debug for HostData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostData")
    }
}
