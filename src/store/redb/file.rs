//! The file of a store: how it comes into being, and whether it is still the same.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use redb::{Database, Durability};

use super::{begin, error::meaning};
use crate::store::StoreError;

/// The file of a store.
pub(super) struct StoreFile {
    path: PathBuf,
    /// The inode shows whether the file was replaced; `None` if the system has none.
    inode: Option<u64>,
}

impl StoreFile {
    /// Makes the file a store if it does not exist, or is empty.
    pub(super) fn prepare(path: &Path) -> Result<(), StoreError> {
        match fs::metadata(path) {
            Ok(file) if file.is_file() && file.len() == 0 => fill(path),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => make(path),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes which file is at this path now.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { inode: inode(&path), path }
    }

    /// Returns whether the file was removed, or another has its path.
    pub(super) fn is_gone(&self) -> bool {
        inode(&self.path) != self.inode
    }

    pub(super) fn bytes(&self) -> Option<u64> {
        Some(fs::metadata(&self.path).ok()?.len())
    }
}

/// Creates a file that is complete as soon as it is visible, by writing it under a temporary name first.
pub(super) fn make(path: &Path) -> Result<(), StoreError> {
    let mut new = path.to_owned().into_os_string();
    new.push(format!(".new-{}", std::process::id()));
    _ = fs::remove_file(&new);
    let database = Database::create(&new).map_err(meaning)?;
    begin(&database, Durability::Immediate).map_err(meaning)?;
    drop(database);
    // Unlike a rename, a hard link does not replace a file that another process has created meanwhile.
    match fs::hard_link(&new, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => fs::rename(&new, path)?,
        _ => fs::remove_file(&new)?,
    }
    // A name is on disk only once its folder is synced. (Windows does this by itself, and cannot open
    // folders.)
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Makes an empty file a store, as `touch` or a container's mount leaves it. The file itself is filled, because
/// a mount cannot be replaced.
fn fill(path: &Path) -> Result<(), StoreError> {
    let database = Database::create(path).map_err(meaning)?;
    begin(&database, Durability::Immediate).map_err(meaning)
}

fn inode(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    return fs::metadata(path).ok().map(|file| std::os::unix::fs::MetadataExt::ino(&file));
    #[cfg(not(unix))]
    {
        _ = path;
        None
    }
}
