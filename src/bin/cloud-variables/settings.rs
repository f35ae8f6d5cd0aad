//! The settings, with the text of `--help`.

use std::{path::PathBuf, time::Duration};

use axum_cloud_variables::{Dialect, Limits};
use clap::Parser;
use ipnet::IpNet;

use super::{
    log::{Format, RoomNames},
    proxy::{ProxyHeader, network},
};

/// Serves cloud variables over WebSockets.
///
/// Each option can also be set by an environment variable, named CLOUD_ followed by its name in capitals,
/// such as CLOUD_STORE for --store. Commas separate the values of a repeatable option. An empty variable
/// counts as unset. The file of --config sets options by their names: store = "rooms.redb". Flags take
/// precedence over the environment, which takes precedence over the file.
#[derive(Parser)]
#[command(name = "cloud-variables", version)]
pub(crate) struct Settings {
    /// TOML file with settings, by the names of these options.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on, such as localhost:9080, or 0.0.0.0:9080 for all networks; repeatable. Port 0
    /// takes a free port. unix:PATH is a Unix socket, unix:PATH?660 one with this mode, and systemd stands
    /// for the sockets that systemd has opened. If only the variable PORT is set, the address is 0.0.0.0 with
    /// that port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9080")]
    pub(crate) listen: Vec<String>,
    /// Certificate of the server, as PEM. TCP listeners then use TLS. Read again on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Key of the certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Separate address for --inspector, --metrics and --health, such as 127.0.0.1:9081, in the form of --listen.
    /// Plain HTTP.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// Send Scratch clients each set in a frame of its own that ends with a newline, as Scratch's own
    /// server does, for programs that can read nothing else.
    #[arg(long)]
    pub(crate) scratch_lines: bool,
    /// Compress frames with at least this many bytes of text for clients that offer it, as browsers do; 0
    /// compresses none.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub(crate) compress: usize,
    /// Admit only these kinds of clients: scratch, spec, forkphorus2020. By default all of them, in the
    /// same rooms.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind_of_client)]
    pub(crate) clients: Vec<Dialect>,
    /// Path of the WebSocket.
    #[arg(long, default_value = "/", value_parser = mount_path)]
    pub(crate) path: String,
    /// Folder of static files to serve, with index.html at /.
    #[arg(long, value_name = "DIR")]
    pub(crate) public: Option<PathBuf>,
    /// Origin of web pages that may connect, such as https://example.org; repeatable. By default any.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
    /// Address or network of a reverse proxy, such as 127.0.0.1 or 10.0.0.0/8, which names the client's
    /// address; repeatable. If it is given, processes that connect over a Unix socket are also trusted. Trust
    /// no network that has clients, because they could name any address.
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub(crate) trust_proxy: Vec<IpNet>,
    /// The header in which the proxy names the client's address.
    #[arg(long, value_enum, default_value_t = ProxyHeader::XForwardedFor)]
    pub(crate) proxy_header: ProxyHeader,
    /// Address or network that may not connect; repeatable.
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub(crate) block_address: Vec<IpNet>,
    /// File with more addresses and networks that may not connect, one per line; lines that begin with # are
    /// comments. Read again on SIGHUP, which also closes the sessions of these addresses.
    #[arg(long, value_name = "FILE")]
    pub(crate) block_address_file: Option<PathBuf>,
    /// Maximum number of sessions of one address at once, 0 for no limit. Behind a proxy, set --trust-proxy.
    #[arg(long, default_value_t = 0)]
    pub(crate) sessions_per_address: usize,
    /// Maximum number of upgrades of one address in a minute, 0 for no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) upgrades_per_minute: u32,
    /// Accept usernames such as admin, moderator or server, which bots often use.
    #[arg(long)]
    pub(crate) staff_usernames: bool,
    /// Accept every username of up to 1,000 characters, including profane ones and those of staff.
    #[arg(long)]
    pub(crate) any_username: bool,
    /// Maximum number of rooms.
    #[arg(long, default_value_t = Limits::default().rooms)]
    pub(crate) rooms: usize,
    /// Rooms that players may create: any, never, or those whose id matches a pattern, in which * stands
    /// for any text. Rooms that exist, or are in the store, can always be joined.
    #[arg(long, value_name = "any|PATTERN|never", default_value = "any")]
    pub(crate) create_rooms: String,
    /// Pattern of ids of rooms that may be joined, in which * stands for any text; repeatable. By default any.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) allow_room: Vec<String>,
    /// File with more patterns of rooms that may be joined, one per line; lines that begin with # are comments.
    /// Read again on SIGHUP, which also closes the sessions in rooms that it no longer allows.
    #[arg(long, value_name = "FILE")]
    pub(crate) allow_room_file: Option<PathBuf>,
    /// Pattern of ids of rooms that may not be joined; repeatable.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) block_room: Vec<String>,
    /// File with more patterns of rooms that may not be joined, one per line; lines that begin with # are
    /// comments. Read again on SIGHUP, which also closes the sessions in these rooms.
    #[arg(long, value_name = "FILE")]
    pub(crate) block_room_file: Option<PathBuf>,
    /// Maximum number of members of a room.
    #[arg(long, default_value_t = Limits::default().members_per_room)]
    pub(crate) members_per_room: usize,
    /// Maximum number of variables of a room.
    #[arg(long, default_value_t = Limits::default().variables_per_room)]
    pub(crate) variables_per_room: usize,
    /// Maximum size of a room's names and values, in bytes.
    #[arg(long, default_value_t = Limits::default().room_bytes)]
    pub(crate) room_bytes: usize,
    /// Maximum size of a value, in bytes.
    #[arg(long, default_value_t = Limits::default().value_bytes)]
    pub(crate) value_bytes: usize,
    /// Let Scratch clients set any string, not only numbers.
    #[arg(long)]
    pub(crate) any_value: bool,
    /// Sets per second that one client may write (bursts of twice as many), 0 for no limit. For a client
    /// over the limit, only the latest value of each variable is applied.
    #[arg(long, default_value_t = Limits::default().messages_per_second)]
    pub(crate) messages_per_second: u32,
    /// Milliseconds between two batches of a room; 0 sends waiting sets at once.
    #[arg(long, value_name = "MILLISECONDS", default_value = "16.67", value_parser = milliseconds)]
    pub(crate) tick_ms: Duration,
    /// Milliseconds that a variable must be quiet before clients that disagree about it are corrected; 0
    /// for no correction.
    #[arg(long, default_value_t = 500)]
    pub(crate) settle_ms: u64,
    /// Seconds that an empty room keeps its variables; with --store, seconds that it stays in memory.
    #[arg(long, default_value_t = Limits::default().empty_room_ttl.as_secs())]
    pub(crate) empty_room_ttl: u64,
    /// File that stores the rooms; created if it does not exist. Without it, rooms end with the server.
    #[arg(long, value_name = "FILE")]
    pub(crate) store: Option<PathBuf>,
    /// Maximum time before a new value is saved, in milliseconds.
    #[arg(long, default_value_t = 100, requires = "store")]
    pub(crate) flush_ms: u64,
    /// Address of a Redis or Valkey server, such as redis://127.0.0.1/, through which several servers share
    /// their rooms. redis+sentinel://HOST,HOST/NAME is the primary that Sentinels know by this name, and
    /// redis+cluster://HOST,HOST a cluster. rediss in place of redis means TLS. If several addresses are given,
    /// in the same order to all servers, the rooms are spread over them. A password belongs in CLOUD_REDIS or
    /// the file, because everyone can see flags.
    #[arg(long, value_name = "URL", conflicts_with = "store")]
    pub(crate) redis: Vec<String>,
    /// Certificate for a Redis server that asks for one, as PEM.
    #[arg(long, value_name = "FILE", requires_all = ["redis", "redis_key"])]
    pub(crate) redis_cert: Option<PathBuf>,
    /// Key of the certificate for Redis, as PEM.
    #[arg(long, value_name = "FILE", requires = "redis_cert")]
    pub(crate) redis_key: Option<PathBuf>,
    /// Prefix of every key and channel in Redis, so that several groups of servers can share one Redis.
    #[arg(long, value_name = "TEXT", requires = "redis")]
    pub(crate) redis_prefix: Option<String>,
    /// Seconds after which a server that has crashed no longer keeps its players' names in rooms.
    #[arg(long, value_name = "SECONDS", requires = "redis", value_parser = seconds)]
    pub(crate) redis_lease: Option<Duration>,
    /// Seconds to wait for an answer from Redis.
    #[arg(long, value_name = "SECONDS", requires = "redis", value_parser = seconds)]
    pub(crate) redis_timeout: Option<Duration>,
    /// Show rooms at /inspector to users with this name and password, who may also set variables, kick, ban,
    /// lock and close. The password is sent in plain text, so use https or this machine only. It belongs in
    /// CLOUD_INSPECTOR or the file, because everyone can see flags.
    #[arg(long, value_name = "NAME:PASSWORD")]
    pub(crate) inspector: Option<String>,
    /// Number of past writes that each room keeps for the inspector and --logs.
    #[arg(long, default_value_t = 0)]
    pub(crate) history: usize,
    /// Let everyone who may connect read the values of a room as JSON, at PATH/rooms/ID.
    #[arg(long)]
    pub(crate) values: bool,
    /// Let everyone who may connect read the latest writes of a room, as many as --history keeps, at
    /// PATH/logs?projectid=ID, in the format of Scratch's own log.
    #[arg(long)]
    pub(crate) logs: bool,
    /// Serve metrics for Prometheus at /metrics, to everyone.
    #[arg(long)]
    pub(crate) metrics: bool,
    /// Path of the health checks, such as /health: PATH/live answers as long as the process serves, PATH/ready if
    /// newcomers can join, otherwise 503 with the reason.
    #[arg(long, value_name = "PATH", value_parser = health_path)]
    pub(crate) health: Option<String>,
    /// Query a running server's health check, such as http://127.0.0.1:9080/health/ready, and exit, with code
    /// 0 if it answers 200. For containers.
    #[arg(long, value_name = "URL")]
    pub(crate) check: Option<String>,
    /// Seconds between SIGTERM and the first close. Meanwhile, the check PATH/ready of --health answers 503.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub(crate) drain_delay: Duration,
    /// Seconds that the shutdown may take after --drain-delay.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) grace: Duration,
    /// Format of the log, which goes to stderr. RUST_LOG filters it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) log_format: Format,
    /// How the log names rooms: by a hash of the id, by the id, which may be a secret, or not at all.
    #[arg(long, value_enum, default_value_t = RoomNames::Hash)]
    pub(crate) log_rooms: RoomNames,
    /// Folder for an audit log: one file per day, one line of JSON per join, leave and write. The lines name
    /// players, their addresses and their values.
    #[arg(long, value_name = "DIR")]
    pub(crate) audit: Option<PathBuf>,
    /// Number of days for which files of the audit log are kept.
    #[arg(long, value_name = "DAYS", default_value_t = 30, requires = "audit", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) audit_days: u16,
    /// Maximum size of a day's file of the audit log, in MiB. Further lines of the day are lost, with a
    /// warning.
    #[arg(long, value_name = "MIB", default_value_t = 1_024, requires = "audit", value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    pub(crate) audit_mb: u64,
    /// Write all rooms of the store to this file, one per line, and exit; - for stdout.
    #[arg(long, value_name = "FILE", requires = "store", conflicts_with = "import")]
    pub(crate) export: Option<PathBuf>,
    /// Read rooms from a file that --export wrote, and exit. Rooms that are already in the store stay.
    #[arg(long, value_name = "FILE", requires = "store")]
    pub(crate) import: Option<PathBuf>,
}

impl Settings {
    /// Returns whether the program does a single task and exits, without serving.
    pub(crate) fn is_for_once(&self) -> bool {
        self.check.is_some() || self.export.is_some() || self.import.is_some()
    }
}

/// Reads a time in seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    time(text, 1.0)
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    time(text, 1e3)
}

fn time(text: &str, per_second: f64) -> Result<Duration, String> {
    const DAY: f64 = 86_400.0;
    let seconds = text.parse().map(|time: f64| time / per_second).ok();
    let seconds = seconds.filter(|seconds| (0.0..=DAY).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "a time from 0 to a day".into())
}

fn kind_of_client(text: &str) -> Result<Dialect, String> {
    match text {
        "scratch" => Ok(Dialect::Scratch),
        "spec" => Ok(Dialect::Spec),
        "forkphorus2020" => Ok(Dialect::Forkphorus2020),
        _ => Err("scratch, spec or forkphorus2020".into()),
    }
}

fn mount_path(path: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/-._~".contains(letter);
    if !path.starts_with('/') || !path.chars().all(is_plain) {
        return Err("a path begins with a slash, and has letters, digits and -._~".into());
    }
    if ["/inspector", "/metrics"].contains(&path.trim_end_matches('/'))
        || path.starts_with("/inspector/")
    {
        return Err("/inspector and /metrics are taken".into());
    }
    Ok(path.into())
}

fn health_path(path: &str) -> Result<String, String> {
    match mount_path(path)?.trim_end_matches('/') {
        "" => Err("a path such as /health".into()),
        path => Ok(path.into()),
    }
}
