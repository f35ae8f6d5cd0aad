//! Without the feature `deflate`, nothing is compressed.

/// The setting of a mount, which has no choice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Compression {
    #[default]
    Off,
}

/// A message to which another refers: there is none.
#[derive(Debug, Clone)]
pub(crate) enum Message {}

/// The window of a client, which has none.
#[derive(Debug, Default)]
pub(crate) struct Window;

/// The agreement with one client: there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deflate {}
