//! The log: its format, its first lines, and the players that join and leave.

use std::{
    fmt::Write as _,
    io::{IsTerminal, stderr},
    str::FromStr,
    time::{Duration, Instant},
};

use axum_cloud_variables::events::{Events, RegistryEvent};
use clap::ValueEnum;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tracing::{info, warn};
use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, LevelFilter},
};

use super::{audit::Audit, settings::Settings};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// How the log names rooms. An id may be a secret that players share in a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoomNames {
    Id,
    Hash,
    None,
}

impl RoomNames {
    fn of(self, room: &str) -> String {
        match self {
            Self::Id => room.to_owned(),
            Self::Hash => {
                Sha256::digest(room).iter().take(4).fold(String::new(), |mut hash, byte| {
                    _ = write!(hash, "{byte:02x}");
                    hash
                })
            }
            Self::None => String::new(),
        }
    }
}

/// Starts the log on stderr. `RUST_LOG` filters it; the default is `info`.
pub(crate) fn start(format: Format) {
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    // At level trace, the WebSocket layer would log messages with their values. The client of a cluster warns of each
    // of its own retries.
    let quiet = ["tungstenite=info", "tokio_tungstenite=info", "redis=error"];
    let filter = quiet.into_iter().fold(filter, |filter, directive| {
        filter.add_directive(Directive::from_str(directive).unwrap_or_default())
    });
    let is_colourful = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_writer(stderr).with_env_filter(filter);
    match format {
        Format::Text => log.with_ansi(is_colourful).init(),
        Format::Json => log.json().init(),
    }
}

/// Logs how the server was started.
pub(crate) fn started(settings: &Settings, addresses: &[String]) {
    let addresses = addresses.join(" ");
    info!(version = env!("CARGO_PKG_VERSION"), addresses, path = settings.path, "started");
    match (&settings.store, settings.redis.len()) {
        (Some(file), _) => info!(file = %file.display(), "rooms are kept in a store"),
        (None, 0) => info!("rooms end with the server: --store FILE keeps them"),
        (None, brokers) => info!(brokers, "rooms are shared through a broker"),
    }
    let Settings { rooms, members_per_room, variables_per_room, value_bytes, .. } = settings;
    let (sessions, upgrades) = (settings.sessions_per_address, settings.upgrades_per_minute);
    info!(rooms, members_per_room, variables_per_room, value_bytes, "limits");
    info!(sessions, upgrades_per_minute = upgrades, "limits for each address, 0 for no limit");
    if settings.allow_origin.is_empty() {
        info!("pages of every origin may connect: --allow-origin lists those that may");
    }
}

/// The least time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// A limit of one line a second, which counts the lines left out.
#[derive(Default)]
pub(crate) struct Limit {
    logged: Option<Instant>,
    left_out: u64,
}

impl Limit {
    /// Returns how many lines were left out since the last one, or `None` if this one is also left out.
    pub(crate) fn pass(&mut self) -> Option<u64> {
        if self.logged.is_some_and(|logged| logged.elapsed() < PAUSE) {
            self.left_out += 1;
            return None;
        }
        self.logged = Some(Instant::now());
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Logs players that join and leave, up to one line a second of each kind, until the server has ended.
pub(crate) async fn joins_and_leaves(
    mut events: Events<RegistryEvent>,
    names: RoomNames,
    audit: Option<Audit>,
    mut ended: oneshot::Receiver<()>,
) {
    let (mut joins, mut leaves) = (Limit::default(), Limit::default());
    loop {
        let event = tokio::select! {
            // Events come first, because the last ones are leaves.
            biased;
            event = events.next() => event,
            _ = &mut ended => None,
        };
        let Some(event) = event else { return };
        if let Some(audit) = &audit {
            audit.happened(&event);
        }
        match event {
            RegistryEvent::Joined { room, member } => {
                if let Some(left_out) = joins.pass() {
                    let (room, username) = (names.of(&room), &*member.username);
                    info!(room, username, dialect = ?member.dialect, left_out, "joined");
                }
            }
            RegistryEvent::Left { room, member, cause } => {
                if let Some(left_out) = leaves.pass() {
                    let (room, username) = (names.of(&room), &*member.username);
                    info!(room, username, ?cause, left_out, "left");
                }
            }
            RegistryEvent::Missed(count) => warn!(count, "joins and leaves are not in the log"),
            _ => {}
        }
    }
}
