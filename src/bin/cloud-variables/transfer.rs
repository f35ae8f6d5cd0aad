//! Export and import of the store's rooms.

use std::{
    error::Error,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, ErrorKind, Write, stdout},
    path::{Path, PathBuf},
};

use axum::{
    body::Body,
    http::{
        HeaderValue, StatusCode, Version,
        header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE},
        request::Parts,
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
use tracing::{info, warn};

/// The file of the store that a transfer opens.
pub(crate) struct Source {
    path: PathBuf,
    /// Removes the file if it is a copy.
    _copy: Option<Unfinished>,
}

impl Source {
    /// Returns a store that can be written to.
    pub(crate) fn itself(file: &Path) -> Self {
        Self { path: file.to_owned(), _copy: None }
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
        let name = format!("cloud-variables-{}-{:x}.redb", std::process::id(), random());
        let path = std::env::temp_dir().join(name);
        let failed = |error: io::Error| super::at("--store: the copy", &path, &error);
        let mut options = fs::File::options();
        // New, so that nobody else's file or link is written to.
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut to = options.open(&path).map_err(failed)?;
        let copy = Unfinished(path.clone());
        io::copy(&mut &from, &mut to).map_err(failed)?;
        Ok(Self { path, _copy: Some(copy) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns a random number.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
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
    // A link is kept, and the file behind it is replaced.
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let new = Unfinished(PathBuf::from(format!("{}.new-{}", file.display(), std::process::id())));
    // Created on this thread, so that it cannot appear after a signal has dropped `new`.
    let to = File::from_std(fs::File::create(&new.0)?);
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

/// Answers with the rooms of a running server, in the format of an export.
pub(crate) async fn download(rooms: &RoomRegistry, request: &Parts) -> Response {
    let refused =
        |status: StatusCode, reason: &str| (status, format!("{reason}\n")).into_response();
    // A page of another site must not make the browser of a logged-in user fetch them. A link may lead here.
    let header = |name| request.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let is_foreign = [&b"cross-site"[..], b"same-site"].contains(&header("sec-fetch-site"));
    if is_foreign && header("sec-fetch-mode") != b"navigate" {
        return refused(StatusCode::FORBIDDEN, "this is not for pages of other sites");
    }
    // HTTP/1.0 cannot show that an answer is incomplete.
    if request.version < Version::HTTP_11 {
        return refused(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "use HTTP/1.1");
    }
    if rooms.store_stats().is_none() {
        return refused(StatusCode::NOT_FOUND, "there is no store");
    }
    if let Err(reason) = rooms.readiness().await {
        return refused(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string());
    }
    let (to, from) = tokio::io::duplex(64 << 10);
    let rooms = rooms.clone();
    let writing = tokio::spawn(async move {
        let written = written(&rooms, to).await;
        match &written {
            Ok(rooms) => info!(rooms, "the rooms were downloaded"),
            Err(error) => warn!(%error, "a download of the rooms ended early"),
        }
        written
    });
    // Without this error, the part before a failure would look like all rooms.
    let end = stream::once(writing).filter_map(async |written| match written {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(Err(io::Error::other(error))),
        Err(error) => Some(Err(error.into())),
    });
    let headers = [
        (CONTENT_TYPE, "application/jsonl"),
        (CONTENT_DISPOSITION, "attachment; filename=\"rooms.jsonl\""),
        (CACHE_CONTROL, "no-store"),
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
