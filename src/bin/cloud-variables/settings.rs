//! The settings: from flags, then from the environment, then from a file.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use axum_cloud_variables::{Dialect, Limits};
use clap::{Arg, ArgAction, CommandFactory, Parser, error::ErrorKind};
use ipnet::IpNet;
use toml::Value;

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
    /// Separate address for --inspector, --metrics and --health, such as 127.0.0.1:9081. Plain HTTP.
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
    /// Pattern of ids of rooms that may not be joined; repeatable.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) block_room: Vec<String>,
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
    /// their rooms. If several are given, in the same order to all servers, the rooms are spread over them.
    /// A password belongs in CLOUD_REDIS or the file, because everyone can see flags.
    #[arg(long, value_name = "URL", conflicts_with = "store")]
    pub(crate) redis: Vec<String>,
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

/// Reads the settings of this process.
pub(crate) fn read() -> Result<Settings, clap::Error> {
    parse(env::args_os().collect(), |name| match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name}: it is not valid text")),
    })
}

fn parse(
    flags: Vec<OsString>,
    variable: impl Fn(&str) -> Result<Option<String>, String>,
) -> Result<Settings, clap::Error> {
    let command = Settings::command();
    let invalid = |text: String| Settings::command().error(ErrorKind::InvalidValue, text);
    let from_variable = |long: &str| variable(&variable_of(long)).map_err(invalid);
    let config = match value_of(&flags, "config") {
        Some(file) => Some(file),
        None => from_variable("config")?,
    };
    let mut file = config.as_ref().map(|file| read_file(Path::new(file))).transpose();
    let mut file = file.as_mut().map_err(|error| invalid(std::mem::take(error)))?.take();
    let mut all = vec![flags.first().cloned().unwrap_or_default()];
    for option in command.get_arguments() {
        let Some(long) = option.get_long().filter(|long| *long != "config") else { continue };
        let in_file = file.as_mut().and_then(|file| file.remove(long));
        if is_given(&flags, long) {
            continue;
        }
        let values = match (from_variable(long)?, in_file) {
            (Some(text), _) if is_repeatable(option) => {
                let values = text.split(',').map(|value| value.trim().to_owned());
                values.filter(|value| !value.is_empty()).collect()
            }
            (Some(text), _) => vec![text],
            (None, Some(value)) => texts(long, value).map_err(invalid)?,
            (None, None) => continue,
        };
        all.extend(as_flags(option, long, values).map_err(invalid)?);
    }
    if let Some(unknown) = file.as_ref().and_then(|file| file.keys().next()) {
        return Err(invalid(format!("--config: there is no option '{unknown}'")));
    }
    // Hosting platforms set only the port.
    let has_listen = is_given(&all, "listen") || is_given(&flags, "listen");
    if let Some(port) = variable("PORT").map_err(invalid)?.filter(|_| !has_listen) {
        all.push(format!("--listen=0.0.0.0:{}", port.trim()).into());
    }
    all.extend(flags.into_iter().skip(1));
    Settings::try_parse_from(all)
}

/// Returns the name of an option's environment variable.
fn variable_of(long: &str) -> String {
    format!("CLOUD_{}", long.replace('-', "_").to_uppercase())
}

fn is_given(flags: &[OsString], long: &str) -> bool {
    let flag = format!("--{long}");
    let mut flags = flags.iter().filter_map(|given| given.to_str());
    flags.any(|given| {
        given.strip_prefix(&*flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

/// Returns the value of a flag, before all flags are parsed.
fn value_of(flags: &[OsString], long: &str) -> Option<String> {
    let flag = format!("--{long}");
    let mut flags = flags.iter().filter_map(|given| given.to_str());
    while let Some(given) = flags.next() {
        match given.strip_prefix(&*flag) {
            Some("") => return flags.next().map(Into::into),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].into()),
            _ => {}
        }
    }
    None
}

fn read_file(path: &Path) -> Result<BTreeMap<String, Value>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("--config {}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    // The error leaves out the line itself, which may contain a password.
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        failed(&format!("line {line}: {}", error.message()))
    })
}

/// Returns the values of an option in the file.
fn texts(long: &str, value: Value) -> Result<Vec<String>, String> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(is_set) => Ok(is_set.to_string()),
        _ => {
            Err(format!("--config: '{long}' is a text, a number, true, false, or a list of these"))
        }
    };
    match value {
        Value::Array(values) => values.into_iter().map(text).collect(),
        value => Ok(vec![text(value)?]),
    }
}

fn is_repeatable(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

/// Returns flags with these values.
fn as_flags(option: &Arg, long: &str, values: Vec<String>) -> Result<Vec<OsString>, String> {
    if matches!(option.get_action(), ArgAction::SetTrue) {
        return match &values[..] {
            [value] if value == "true" || value == "1" => Ok(vec![format!("--{long}").into()]),
            [value] if value == "false" || value == "0" => Ok(Vec::new()),
            _ => Err(format!("'{long}' is true or false")),
        };
    }
    if values.is_empty() {
        return Err(format!("'{long}' has no value: leave it out"));
    }
    if values.len() > 1 && !is_repeatable(option) {
        return Err(format!("'{long}' has one value"));
    }
    Ok(values.into_iter().map(|value| format!("--{long}={value}").into()).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn given(flags: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
        let flags = ["cloud-variables"].iter().chain(flags).map(OsString::from).collect();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, value)| (*value).to_owned()).filter(|value| !value.is_empty()))
        };
        parse(flags, variable).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_precede_the_environment_which_precedes_the_file() {
        let file = env::temp_dir().join(format!("cloud-variables-{}.toml", std::process::id()));
        let text = "rooms = 1\nmembers-per-room = 2\nvalue-bytes = 3\nmetrics = true\nany-value = false\n\
                    allow-origin = [\"https://a.example\", \"https://b.example\"]\ntick-ms = 20.5\n";
        fs::write(&file, text).expect("a file");
        let config = file.to_str().expect("a path");
        let flags = ["--config", config, "--rooms", "7"];
        let variables =
            [("CLOUD_ROOMS", "8"), ("CLOUD_MEMBERS_PER_ROOM", "9"), ("CLOUD_STORE", "")];
        let settings = given(&flags, &variables).map_err(|error| panic!("{error}"));
        let Ok(settings) = settings;
        assert_eq!((settings.rooms, settings.members_per_room, settings.value_bytes), (7, 9, 3));
        assert!(settings.metrics && !settings.any_value && settings.store.is_none());
        assert_eq!(settings.allow_origin, ["https://a.example", "https://b.example"]);
        assert_eq!(settings.tick_ms, Duration::from_micros(20_500));
        let variables =
            [("CLOUD_CONFIG", config), ("CLOUD_ALLOW_ORIGIN", "https://c.example, null")];
        let Ok(settings) = given(&[], &variables).map_err(|error| panic!("{error}"));
        assert_eq!(settings.allow_origin, ["https://c.example", "null"]);
        for (text, reason) in [
            ("roms = 1", "there is no option 'roms'"),
            ("rooms = [1, 2]", "'rooms' has one value"),
            ("metrics = 7", "'metrics' is true or false"),
            ("rooms = 1\nmetrics = ", "line 2"),
            ("allow-origin = []", "'allow-origin' has no value"),
            ("grace = inf", "a time from 0 to a day"),
            ("drain-delay = -1", "a time from 0 to a day"),
            ("path = \"/:x\"", "a path begins with a slash"),
        ] {
            fs::write(&file, text).expect("a file");
            let error = given(&["--config", config], &[]).err().unwrap_or_default();
            assert!(error.contains(reason), "{text}: {error}");
        }
        fs::remove_file(&file).expect("the file");
        let error = given(&["--config", config], &[]).err().unwrap_or_default();
        assert!(error.contains(config), "{error}");
    }

    #[test]
    fn a_platforms_port_counts_unless_there_is_an_address() {
        let listen = |flags: &[&str], variables: &[(&str, &str)]| {
            given(flags, variables).map(|settings| settings.listen.join(" "))
        };
        let port = ("PORT", "8000");
        assert_eq!(listen(&[], &[]), Ok("127.0.0.1:9080".into()));
        assert_eq!(listen(&[], &[port]), Ok("0.0.0.0:8000".into()));
        assert_eq!(listen(&["--listen", "[::]:1"], &[port]), Ok("[::]:1".into()));
        assert_eq!(listen(&[], &[port, ("CLOUD_LISTEN", "a:1,b:2")]), Ok("a:1 b:2".into()));
        assert_eq!(listen(&[], &[("PORT", "")]), Ok("127.0.0.1:9080".into()));
    }

    #[test]
    fn an_error_shows_no_secret() {
        let file = env::temp_dir().join(format!("cloud-variables-{}-secret", std::process::id()));
        for text in
            ["inspector = \"ann:s3cret", "redis = \"redis://:s3cret@x/", "inspector = ann:s3cret"]
        {
            fs::write(&file, text).expect("a file");
            let error = given(&["--config", file.to_str().expect("a path")], &[]).err();
            let error = error.expect("no setting");
            assert!(error.contains("line 1") && !error.contains("s3cret"), "{error}");
        }
        fs::remove_file(&file).expect("the file");
        for variables in [[("CLOUD_INSPECTOR", "s3cret")], [("CLOUD_REDIS", "redis://:s3cret@x/,")]]
        {
            if let Err(error) = given(&[], &variables) {
                assert!(!error.contains("s3cret"), "{error}");
            }
        }
    }
}
