//! Without the feature `deflate`, nothing is compressed.

/// The setting of a mount, which has no choice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Compression {
    #[default]
    Off,
}

/// The agreement with one client: there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deflate {}
