//! Export and import of the store's rooms.

use std::{
    error::Error,
    fs,
    io::{Write, stdout},
    path::{Path, PathBuf},
};

use axum_cloud_variables::{RoomRegistry, TransferError};
use tokio::{
    fs::File,
    io::{AsyncBufRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, stdin},
};

/// Writes the rooms of the store to a file, or to stdout.
pub(crate) async fn export(rooms: &RoomRegistry, file: &Path) -> Result<(), Box<dyn Error>> {
    let failed = |error: &dyn std::fmt::Display| super::at("--export", file, error);
    let count = if file.as_os_str() == "-" {
        written(rooms, tokio::io::stdout()).await.map_err(|error| failed(&error))?
    } else {
        to_file(rooms, file).await.map_err(|error| failed(&error))?
    };
    // This goes to stderr, because the rooms may go to stdout.
    eprintln!("{count} rooms exported");
    Ok(())
}

/// Writes to a temporary file first, so that a failed export leaves an earlier one unchanged.
async fn to_file(rooms: &RoomRegistry, file: &Path) -> Result<u64, TransferError> {
    // A pipe or a device must not be replaced, so it is written to directly.
    if fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        return written(rooms, File::options().write(true).open(file).await?).await;
    }
    let new = Unfinished(PathBuf::from(format!("{}.new-{}", file.display(), std::process::id())));
    let to = File::create(&new.0).await?;
    let count = written(rooms, to.try_clone().await?).await?;
    to.sync_all().await?;
    fs::rename(&new.0, file)?;
    Ok(count)
}

/// A file that is removed unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

async fn written(rooms: &RoomRegistry, to: impl AsyncWrite + Unpin) -> Result<u64, TransferError> {
    let mut to = BufWriter::new(to);
    let count = rooms.export(&mut to).await?;
    to.flush().await?;
    Ok(count)
}

/// Reads rooms from a file, or from stdin.
pub(crate) async fn import(rooms: &RoomRegistry, file: &Path) -> Result<(), Box<dyn Error>> {
    let failed = |error: &dyn std::fmt::Display| super::at("--import", file, error);
    let from: Box<dyn AsyncBufRead + Unpin> = if file.as_os_str() == "-" {
        Box::new(BufReader::new(stdin()))
    } else {
        Box::new(BufReader::new(File::open(file).await.map_err(|error| failed(&error))?))
    };
    let imported = rooms.import(from).await.map_err(|error| failed(&error))?;
    _ = writeln!(stdout(), "{} rooms imported, {} were there", imported.created, imported.skipped);
    Ok(())
}
