//! The audit log: who joined, left and wrote, and when, in a file for each day.

use std::{error::Error, fs::DirBuilder, io::Write as _, net::IpAddr, path::Path};

use axum_cloud_variables::{
    ClientAddress, Identity, LeaveCause, events::RegistryEvent, policy::Write,
};
use serde::Serialize;
use serde_json::json;
use tracing::warn;
use tracing_appender::{
    non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard},
    rolling::{RollingFileAppender, Rotation},
};
use tracing_subscriber::fmt::{
    format,
    time::{FormatTime, SystemTime},
};

/// The writing end, which never waits: lines that the disk is too slow for are dropped and counted.
#[derive(Clone)]
pub(crate) struct Audit(NonBlocking);

/// The thread that writes the file.
pub(crate) struct AuditFile {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

/// The number of lines that may wait for the disk.
const WAITING: usize = 65_536;

/// Opens the log in this folder, which is created if it does not exist. Files are removed after so many days.
pub(crate) fn open(folder: &Path, days: u16) -> Result<(Audit, AuditFile), Box<dyn Error>> {
    let failed = |error: &dyn std::fmt::Display| super::at("--audit", folder, error);
    let mut builder = DirBuilder::new();
    // The log has addresses and values of players.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder).map_err(|error| failed(&error))?;
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("audit")
        .filename_suffix("jsonl")
        .max_log_files(days.into())
        .build(folder)
        .map_err(|error| failed(&error))?;
    let (lines, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING)
        .thread_name("audit")
        .finish(file);
    let dropped = lines.error_counter();
    Ok((Audit(lines), AuditFile { dropped, _writer: writer }))
}

impl AuditFile {
    /// Writes the lines that wait, and says how many are missing.
    pub(crate) fn end(self) {
        let dropped = self.dropped.dropped_lines();
        if dropped > 0 {
            warn!(dropped, "the disk was too slow for lines of the audit log");
        }
    }
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event: &'a str,
    room: &'a str,
    username: &'a str,
    address: Option<IpAddr>,
    #[serde(flatten)]
    more: More<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum More<'a> {
    Joined {},
    Left { cause: LeaveCause },
    Wrote { variable: &'a str, value: &'a str },
}

impl Audit {
    /// Notes a player's write.
    pub(crate) fn wrote(&self, write: &Write<'_>) {
        let more = More::Wrote { variable: write.name(), value: write.value() };
        self.note("wrote", write.room(), write.username(), write.identity(), more);
    }

    /// Notes a join or a leave.
    pub(crate) fn happened(&self, event: &RegistryEvent) {
        match event {
            RegistryEvent::Joined { room, member } => {
                self.note("joined", room, &member.username, &member.identity, More::Joined {});
            }
            RegistryEvent::Left { room, member, cause } => {
                let more = More::Left { cause: *cause };
                self.note("left", room, &member.username, &member.identity, more);
            }
            RegistryEvent::Missed(count) => {
                self.line(&json!({ "time": now(), "event": "missed", "count": count }));
            }
            _ => {}
        }
    }

    fn note(&self, event: &str, room: &str, username: &str, identity: &Identity, more: More<'_>) {
        let address = identity.data().map(|ClientAddress(address)| *address);
        self.line(&Line { time: now(), event, room, username, address, more });
    }

    fn line(&self, line: &impl Serialize) {
        let Ok(mut line) = serde_json::to_vec(line) else { return };
        line.push(b'\n');
        // One call, because the writer passes on or drops each call by itself.
        _ = self.0.clone().write(&line);
    }
}

fn now() -> String {
    let mut now = String::new();
    _ = SystemTime.format_time(&mut format::Writer::new(&mut now));
    now
}
