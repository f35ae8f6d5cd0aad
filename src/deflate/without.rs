//! Nothing is compressed: there is no agreement, so nothing here is ever called with one.

use super::InflateError;

/// Whether anything can be compressed.
pub(crate) const AVAILABLE: bool = false;

/// The setting of a mount, which has no choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Compression {
    #[default]
    Off,
}

/// The agreement with one client, of which there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deflate {}

impl Compression {
    #[cfg(feature = "__internals")]
    pub(crate) const ALL: Self = Self::Off;

    pub(crate) fn is_on(self) -> bool {
        self != Self::Off
    }

    #[expect(clippy::unused_self, reason = "with the feature it is a setting")]
    pub(crate) fn agree(self, _: u8, _: bool) -> Option<Deflate> {
        None
    }
}

impl Deflate {
    pub(crate) fn is_worth(self, _: usize) -> bool {
        match self {}
    }

    pub(crate) fn shares(self) -> bool {
        match self {}
    }

    pub(crate) fn keeps(self) -> bool {
        match self {}
    }

    pub(crate) fn compress(self, _: &[u8]) -> Vec<u8> {
        match self {}
    }

    pub(crate) fn compress_after(self, _: &[u8], _: &[u8]) -> Vec<u8> {
        match self {}
    }

    pub(crate) fn inflate(self, _: Vec<u8>, _: usize) -> Result<Vec<u8>, InflateError> {
        match self {}
    }
}
