//! Export and import of the store's rooms.

use std::{
    error::Error,
    fs,
    io::{self, ErrorKind, Write, stdout},
    path::{Path, PathBuf},
};

use axum::{
    body::Body,
    http::{
        StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use axum_cloud_variables::{RoomRegistry, TransferError};
use futures_util::{StreamExt, stream};
use tokio::{
    fs::File,
    io::{AsyncBufRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, stdin},
};
use tokio_util::io::ReaderStream;

/// The file of the store that a transfer opens.
pub(crate) struct Source {
    path: PathBuf,
    /// The file is a copy.
    copy: Option<Unfinished>,
}

impl Source {
    /// Returns a store that can be written to.
    pub(crate) fn itself(file: &Path) -> Self {
        Self { path: file.to_owned(), copy: None }
    }

    /// Returns a store to export. Opening a store writes to it, so one on a read-only disk, such as a snapshot, is
    /// copied first.
    pub(crate) fn of(file: &Path) -> Result<Self, Box<dyn Error>> {
        let failed = |error: io::Error| super::at("--store", file, &error);
        match fs::File::options().write(true).open(file) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                ) => {}
            _ => return Ok(Self::itself(file)),
        }
        // The lock of redb: a server that writes the file meanwhile would make the copy useless.
        let from = fs::File::open(file).map_err(failed)?;
        if matches!(from.try_lock_shared(), Err(fs::TryLockError::WouldBlock)) {
            return Err(super::at("--store", file, &"another process uses it").into());
        }
        let path =
            std::env::temp_dir().join(format!("cloud-variables-{}.redb", std::process::id()));
        let copy = Unfinished(path.clone());
        fs::copy(file, &path).map_err(failed)?;
        let mut permissions = fs::metadata(&path).map_err(failed)?.permissions();
        #[cfg(unix)]
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        #[cfg(not(unix))]
        permissions.set_readonly(false);
        fs::set_permissions(&path, permissions).map_err(failed)?;
        Ok(Self { path, copy: Some(copy) })
    }

    pub(crate) fn path(&self) -> &Path {
        self.copy.as_ref().map_or(&self.path, |copy| &copy.0)
    }
}

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

/// Returns the rooms of a running server, in the format of an export.
pub(crate) fn download(rooms: &RoomRegistry) -> Response {
    if rooms.store_stats().is_none() {
        return (StatusCode::NOT_FOUND, "there is no store\n").into_response();
    }
    let (to, from) = tokio::io::duplex(64 << 10);
    let rooms = rooms.clone();
    let writing = tokio::spawn(async move { written(&rooms, to).await });
    // Without this error, the part before a failure would look like all rooms.
    let end = stream::once(writing).filter_map(async |written| match written {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(Err(io::Error::other(error))),
        Err(error) => Some(Err(error.into())),
    });
    let headers = [
        (CONTENT_TYPE, "application/jsonl"),
        (CONTENT_DISPOSITION, "attachment; filename=\"rooms.jsonl\""),
    ];
    (headers, Body::from_stream(ReaderStream::new(from).chain(end))).into_response()
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
