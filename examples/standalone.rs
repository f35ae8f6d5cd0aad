//! A complete cloud server for people without an app of their own.

use std::{
    error::Error, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{
        StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use axum_cloud_variables::{
    Compression, Creators, Dialect, Identity, Limits, Origins, RoomRegistry, ScratchFraming,
    ScratchValues, ShutdownReport, UsernameRules,
    policy::{Join, Policy, Rejection},
    relay::{RedisRelay, RelayError, Sharded},
    store::RedbStore,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{BufReader, BufWriter},
    net::TcpListener,
    sync::Semaphore,
};
use tower_http::services::ServeDir;

/// Serves cloud variables over WebSockets.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address to listen on, such as 0.0.0.0:9080 for the whole network; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9080")]
    listen: SocketAddr,
    /// Send Scratch clients each set in a frame of its own that ends with a newline, as Scratch's own
    /// server does, for programs that can read nothing else.
    #[arg(long)]
    scratch_lines: bool,
    /// Compress frames with at least this many bytes of text for clients that offer it, as browsers do; 0
    /// compresses none.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    compress: usize,
    /// Admit only these kinds of clients: scratch, spec, forkphorus2020. By default all of them, in the
    /// same rooms.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind_of_client)]
    clients: Vec<Dialect>,
    /// Path of the WebSocket.
    #[arg(long, default_value = "/", value_parser = mount_path)]
    path: String,
    /// Folder of static files to serve, with index.html at /.
    #[arg(long, value_name = "DIR")]
    public: Option<PathBuf>,
    /// Origin of web pages that may connect, such as https://example.org; repeatable. By default any.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Accept usernames such as admin, moderator or server, which bots often use.
    #[arg(long)]
    staff_usernames: bool,
    /// Accept every username of up to 1,000 characters, including profane ones and those of staff.
    #[arg(long)]
    any_username: bool,
    /// Maximum number of rooms.
    #[arg(long, default_value_t = Limits::default().rooms)]
    rooms: usize,
    /// Which rooms players may create: any, never, or those whose id matches a pattern, in which * stands
    /// for any text. Rooms that exist, or are in the store, can always be joined.
    #[arg(long, value_name = "any|PATTERN|never", default_value = "any")]
    create_rooms: String,
    /// Maximum number of members of a room.
    #[arg(long, default_value_t = Limits::default().members_per_room)]
    members_per_room: usize,
    /// Maximum number of variables of a room.
    #[arg(long, default_value_t = Limits::default().variables_per_room)]
    variables_per_room: usize,
    /// Maximum size of a room's names and values, in bytes.
    #[arg(long, default_value_t = Limits::default().room_bytes)]
    room_bytes: usize,
    /// Maximum size of a value, in bytes.
    #[arg(long, default_value_t = Limits::default().value_bytes)]
    value_bytes: usize,
    /// Let Scratch clients set any string, not only numbers.
    #[arg(long)]
    any_value: bool,
    /// Sets per second that one client may write (bursts of twice as many), 0 for no limit. For a client
    /// over the limit, only the latest value of each variable is applied.
    #[arg(long, default_value_t = Limits::default().messages_per_second)]
    messages_per_second: u32,
    /// Milliseconds between two batches of a room; 0 sends waiting sets at once.
    #[arg(long, default_value_t = 16.67)]
    tick_ms: f64,
    /// Milliseconds that a variable must be quiet before clients that disagree about it are corrected; 0
    /// for no correction.
    #[arg(long, default_value_t = 500)]
    settle_ms: u64,
    /// Seconds that an empty room keeps its variables; with --store, seconds that it stays in memory.
    #[arg(long, default_value_t = Limits::default().empty_room_ttl.as_secs())]
    empty_room_ttl: u64,
    /// File that stores the rooms; created if it does not exist. Without it, rooms end with the server.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Maximum time before a new value is saved, in milliseconds.
    #[arg(long, default_value_t = 100, requires = "store")]
    flush_ms: u64,
    /// Address of a Redis or Valkey, such as redis://127.0.0.1/, through which several servers share
    /// their rooms. If it is given several times, in the same order to all servers, the rooms are spread
    /// over them.
    #[arg(long, value_name = "URL", conflicts_with = "store")]
    redis: Vec<String>,
    /// Show rooms at /inspector to users with this name and password, who may also set variables, kick,
    /// ban, lock and close. The password is sent in plain text, so use https or this machine only. An
    /// environment variable keeps it out of process lists.
    #[arg(
        long,
        value_name = "NAME:PASSWORD",
        value_parser = name_and_password,
        env = "CLOUD_INSPECTOR",
        hide_env_values = true
    )]
    inspector: Option<String>,
    /// Number of past writes that each room keeps for the inspector.
    #[arg(long, default_value_t = 0)]
    history: usize,
    /// Serve metrics for Prometheus at /metrics, to everyone.
    #[arg(long)]
    metrics: bool,
    /// Write all rooms of the store to this file, one per line, and exit.
    #[arg(long, value_name = "FILE", requires = "store", conflicts_with = "import")]
    export: Option<PathBuf>,
    /// Read rooms from a file that --export wrote, and exit. Rooms that are already in the store stay.
    #[arg(long, value_name = "FILE", requires = "store")]
    import: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match serve(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let rooms = registry(&args)?;
    if let Some(file) = &args.export {
        let mut to = BufWriter::new(File::create(file).await?);
        println!("{} rooms exported", rooms.export(&mut to).await?);
        return Ok(to.get_ref().sync_all().await?);
    }
    if let Some(file) = &args.import {
        let imported = rooms.import(BufReader::new(File::open(file).await?)).await?;
        println!("{} rooms imported, {} were there", imported.created, imported.skipped);
        return Ok(());
    }
    let mount = rooms
        .mount(&args.path)
        .origins(match &args.allow_origin[..] {
            [] => Origins::any(),
            list => Origins::list(list)?,
        })
        .compression(match args.compress {
            0 => Compression::Off,
            bytes => Compression::From(bytes),
        })
        .scratch_framing(match args.scratch_lines {
            true => ScratchFraming::Lines,
            false => ScratchFraming::Joined,
        });
    let mount = match &args.clients[..] {
        [] => mount,
        clients => mount.dialects(clients.iter().copied()),
    };
    // The mount is a layer, so that --path / leaves index.html to --public.
    let app = match &args.public {
        Some(folder) if !folder.is_dir() => {
            return Err(format!("--public {}: no such folder", folder.display()).into());
        }
        Some(folder) => Router::new().fallback_service(ServeDir::new(folder)).layer(mount.layer()),
        None => mount.into(),
    };
    let app = match &args.inspector {
        Some(password) => app.merge(inspector(&rooms, password)),
        None => app,
    };
    let app = if args.metrics { app.merge(metrics(&rooms)?) } else { app };
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    println!("listening on http://{}", listener.local_addr()?);
    let report = axum_cloud_variables::serve(listener, app).shutdown_on(&rooms, stop()).await?;
    lost(&report).map_or(Ok(()), |lost| Err(lost.into()))
}

/// Returns what a shutdown could not bring to the store or to the broker, if there is such.
fn lost(&ShutdownReport { unsaved, untold, .. }: &ShutdownReport) -> Option<String> {
    let unsaved = (unsaved > 0).then(|| format!("{unsaved} values could not be saved"));
    let untold =
        (untold > 0).then(|| format!("the broker misses the last writes of {untold} rooms"));
    let lost: Vec<_> = unsaved.into_iter().chain(untold).collect();
    (!lost.is_empty()).then(|| lost.join(", and "))
}

/// Returns the inspector behind HTTP's basic authentication, for which browsers have a dialog.
fn inspector(rooms: &RoomRegistry, password: &str) -> Router {
    // Hashes are compared, so that the time of the comparison reveals nothing.
    let expected = Sha256::digest(format!("Basic {}", BASE64_STANDARD.encode(password)));
    // One wrong guess is answered at a time, so that parallel guesses are not faster.
    let guesses = Arc::new(Semaphore::new(1));
    let ask = middleware::from_fn(move |request: Request, next: Next| {
        let given = request.headers().get(AUTHORIZATION).cloned();
        let is_known = given.as_ref().is_some_and(|given| Sha256::digest(given) == expected);
        let guesses = guesses.clone();
        async move {
            if is_known {
                return next.run(request).await;
            }
            if given.is_some() {
                let Ok(_guess) = guesses.acquire().await else { return refused() };
                tracing::warn!("somebody guesses at the inspector's password");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            refused()
        }
    });
    let inspector: Router = rooms.inspector().allow_actions(true).into();
    Router::new().nest_service("/inspector", inspector.layer(ask))
}

fn refused() -> Response {
    let dialog = [(WWW_AUTHENTICATE, "Basic realm=\"rooms\"")];
    (StatusCode::UNAUTHORIZED, dialog, "who are you?").into_response()
}

fn metrics(rooms: &RoomRegistry) -> Result<Router, Box<dyn Error>> {
    let prometheus = PrometheusBuilder::new().install_recorder()?;
    let upkeep = prometheus.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    let rooms = rooms.clone();
    let render = async move || {
        rooms.record_metrics();
        prometheus.render()
    };
    Ok(Router::new().route("/metrics", get(render)))
}

fn kind_of_client(text: &str) -> Result<Dialect, String> {
    match text {
        "scratch" => Ok(Dialect::Scratch),
        "spec" => Ok(Dialect::Spec),
        "forkphorus2020" => Ok(Dialect::Forkphorus2020),
        _ => Err("scratch, spec or forkphorus2020".into()),
    }
}

fn name_and_password(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((name, password)) if !name.is_empty() && !password.is_empty() => Ok(text.into()),
        _ => Err("a name, a colon and a password".into()),
    }
}

fn mount_path(path: &str) -> Result<String, String> {
    if !path.starts_with('/') || path.contains(['{', '}', '*']) {
        return Err("a path begins with a slash and has no braces or stars".into());
    }
    if ["/inspector", "/metrics"].contains(&path.trim_end_matches('/'))
        || path.starts_with("/inspector/")
    {
        return Err("/inspector and /metrics are other things here".into());
    }
    Ok(path.into())
}

fn registry(args: &Args) -> Result<RoomRegistry, Box<dyn Error>> {
    let mut limits = Limits::default()
        .rooms(args.rooms)
        .members_per_room(args.members_per_room)
        .variables_per_room(args.variables_per_room)
        .room_bytes(args.room_bytes)
        .value_bytes(args.value_bytes)
        .messages_per_second(args.messages_per_second)
        .empty_room_ttl(Duration::from_secs(args.empty_room_ttl));
    limits.sessions = limits.sessions.max(args.members_per_room);
    // There must be place for a value at its limit, escaped, and the rest of a message.
    limits.message_bytes =
        limits.message_bytes.max(args.value_bytes.saturating_add(args.value_bytes / 2));
    match args.messages_per_second {
        0 => (limits.bytes_per_second, limits.room_bytes_per_second) = (0, 0),
        rate => limits.message_burst = rate.saturating_mul(2),
    }
    let mut builder = RoomRegistry::builder();
    if let Some(file) = &args.store {
        let store = RedbStore::open(file)
            .map_err(|error| format!("--store {}: {error}", file.display()))?;
        builder = builder.store(store).flush_interval(Duration::from_millis(args.flush_ms));
    }
    if !args.redis.is_empty() {
        let ttl = Duration::from_secs(args.empty_room_ttl);
        let relay = |url| Ok::<_, RelayError>(RedisRelay::new(url)?.with_empty_room_ttl(ttl));
        let relays = args.redis.iter().map(relay).collect::<Result<Vec<_>, _>>()?;
        builder = builder.relay(Sharded::new(relays).ok_or("no address of Redis")?);
    }
    builder = match &*args.create_rooms {
        "any" => builder,
        "never" => builder.creators(Creators::Host),
        pattern => builder.policy(OfPattern(pattern.into())),
    };
    Ok(builder
        .limits(limits)
        .history(args.history)
        .tick(Duration::try_from_secs_f64(args.tick_ms / 1000.0)?)
        .settle((args.settle_ms > 0).then(|| Duration::from_millis(args.settle_ms)))
        .scratch_values(match args.any_value {
            true => ScratchValues::Strings,
            false => ScratchValues::Numbers,
        })
        .usernames(match args.any_username {
            true => UsernameRules::any(),
            false => UsernameRules::default()
                .allow_impersonation(args.staff_usernames)
                .refuse_profanity(true),
        })
        .build()?)
}

/// A pattern of room ids: players may create the rooms that match it.
struct OfPattern(String);

impl OfPattern {
    fn matches(&self, id: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = id.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some((_, behind)) = rest.split_once(piece) else { return false };
            rest = behind;
        }
        rest.ends_with(last)
    }
}

impl Policy for OfPattern {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        match join.room_exists() || self.matches(join.room()) {
            true => Ok(join.identity().clone()),
            false => Err(Rejection::permanent("there is no such room")),
        }
    }
}

/// Waits for SIGTERM or ctrl-c.
async fn stop() {
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).expect("signals can be watched");
        terminate.recv().await;
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
