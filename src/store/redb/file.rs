//! The file of a store: how it comes into being, and whether it is still the same.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
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
        remove_unfinished(path);
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
    new.push(format!("{UNFINISHED}{}", std::process::id()));
    let new = Unfinished(new.into());
    _ = fs::remove_file(&new.0);
    let database = Database::create(&new.0).map_err(meaning)?;
    begin(&database, Durability::Immediate).map_err(meaning)?;
    drop(database);
    // Unlike a rename, a hard link does not replace a file that another process has created meanwhile.
    match fs::hard_link(&new.0, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => fs::rename(&new.0, path)?,
        _ => fs::remove_file(&new.0)?,
    }
    // A name is on disk only once its folder is synced. (Windows does this by itself, and cannot open
    // folders.)
    #[cfg(unix)]
    fs::File::open(folder_of(path))?.sync_all()?;
    Ok(())
}

/// Stands between the name of a store and a process id in the name of a new file.
const UNFINISHED: &str = ".new-";

/// The time after which a new file belongs to a process that has ended before the file was complete. Making a
/// file takes milliseconds.
const ABANDONED: Duration = Duration::from_secs(60);

/// A new file, which is removed if making it fails.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// Removes the new files that processes have left that were killed while they made them.
fn remove_unfinished(path: &Path) {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let begins = format!("{name}{UNFINISHED}");
    let Ok(files) = fs::read_dir(folder_of(path)) else { return };
    for file in files.flatten() {
        let is_unfinished = file.file_name().to_str().is_some_and(|name| {
            let process = name.strip_prefix(&begins).unwrap_or_default();
            !process.is_empty() && process.bytes().all(|digit| digit.is_ascii_digit())
        });
        let age = || file.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_unfinished && age().is_some_and(|age| age > ABANDONED) {
            _ = fs::remove_file(file.path());
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
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
