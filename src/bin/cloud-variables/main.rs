//! A complete cloud server for people without an app of their own.

mod app;
mod audit;
mod check;
mod inspector;
mod listen;
mod lists;
mod log;
mod proxy;
mod rooms;
mod settings;
mod signals;
mod sources;
mod tls;
mod transfer;

use std::{
    error::Error,
    fmt,
    io::{Write, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use axum_cloud_variables::{ShutdownReport, serve};
use tokio::sync::oneshot;

use audit::Audit;
use settings::Settings;
use signals::Signals;

/// The exit code for a wrong setting, the same as clap's for a wrong flag.
const WRONG_SETTING: u8 = 2;
/// The exit code if the server ended before everything was saved.
const LOST: u8 = 3;

#[tokio::main]
pub(crate) async fn main() -> ExitCode {
    // This comes first, because the first process of a container ignores SIGTERM until it has a handler.
    let signals = Signals::watch();
    let settings = match sources::read() {
        Ok(settings) => settings,
        Err(error) => {
            _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    log::start(settings.log_format);
    match run(settings, signals).await {
        Ok(stopped) => stopped.as_ref().map_or(ExitCode::SUCCESS, exit_code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.is::<WrongSetting>() { WRONG_SETTING } else { 1 })
        }
    }
}

/// The result of a server that has ended.
struct Stopped {
    report: ShutdownReport,
    /// How many lines the audit log has lost since the start.
    unwritten: u64,
}

/// Runs the server, or the single task that the settings ask for.
async fn run(settings: Settings, signals: Signals) -> Result<Option<Stopped>, Box<dyn Error>> {
    let Signals { stop, reload } = signals;
    if settings.is_for_once() {
        return tokio::select! {
            done = once(&settings) => done.map(|()| None),
            () = stop => Err("a signal ended it before it was done".into()),
        };
    }
    let lists = lists::Lists::of(&settings)?;
    let audit = settings.audit.as_deref().map(|folder| {
        let (days, bytes_per_day) = (settings.audit_days, settings.audit_mb << 20);
        Audit::open(folder, audit::Limits { days, bytes_per_day })
    });
    let (audit, audit_writer) = audit.transpose()?.unzip();
    let rooms =
        rooms::registry(&settings, settings.store.as_deref(), lists.clone(), audit.clone())?;
    let apps = app::apps(&rooms, &settings, lists.clone())?;
    lists.watch(rooms.clone(), reload.clone());
    let admin = match (&settings.admin, apps.admin) {
        (Some(address), Some(app)) => {
            let address = std::slice::from_ref(address);
            let listener = listen::Listeners::bind("--admin", address, None).await?;
            Some((listener.addresses(), tokio::spawn(serve(listener, app).into_future())))
        }
        _ => None,
    };
    let tls = tls::acceptor(&settings, reload)?;
    let listener = listen::Listeners::bind("--listen", &settings.listen, tls).await?;
    let addresses = listener.addresses();
    // Errors are ignored, because stdout may be closed.
    addresses.iter().for_each(|address| _ = writeln!(stdout(), "listening on {address}"));
    let admin_addresses = admin.iter().flat_map(|(addresses, _)| addresses);
    admin_addresses.for_each(|address| _ = writeln!(stdout(), "admin on {address}"));
    log::started(&settings, &addresses);
    sources::warn_of_unknown_variables();
    let (end, ended) = oneshot::channel();
    let joins = log::joins_and_leaves(rooms.events(), settings.log_rooms, audit, ended);
    let joins = tokio::spawn(joins);
    signals::ready();
    let report = serve(listener, apps.public)
        .shutdown_on(&rooms, stop)
        .drain_delay(settings.drain_delay)
        .grace(settings.grace)
        .await?;
    drop(end);
    joins.await?;
    admin.inspect(|(_, serving)| serving.abort());
    let unwritten = audit_writer.map_or(0, |writer| writer.end(settings.grace));
    Ok(Some(Stopped { report, unwritten }))
}

/// Runs a check, an export or an import, which need no server.
async fn once(settings: &Settings) -> Result<(), Box<dyn Error>> {
    if let Some(url) = &settings.check {
        _ = writeln!(stdout(), "{}", check::check(url).await?);
        return Ok(());
    }
    if let Some(file) =
        settings.store.as_ref().filter(|file| settings.export.is_some() && !file.exists())
    {
        return Err(at("--store", file, &"there is no such file to export").into());
    }
    let real = |file: &Option<PathBuf>| file.as_ref().and_then(|file| file.canonicalize().ok());
    if real(&settings.store).is_some_and(|store| real(&settings.export) == Some(store)) {
        return Err(WrongSetting("--export: this is the store's own file".into()).into());
    }
    let store = match (&settings.store, &settings.export) {
        (Some(file), Some(_)) => Some(transfer::Source::of(file)?),
        (Some(file), None) => Some(transfer::Source::itself(file)),
        _ => None,
    };
    let path = store.as_ref().map(transfer::Source::path);
    let rooms = rooms::registry(settings, path, lists::Lists::of(settings)?, None)?;
    match (&settings.export, &settings.import) {
        (Some(file), _) => transfer::export(&rooms, file).await,
        (None, Some(file)) => transfer::import(&rooms, file).await,
        (None, None) => Ok(()),
    }
}

/// A wrong setting, with which another start would also fail.
#[derive(Debug)]
struct WrongSetting(String);

impl fmt::Display for WrongSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for WrongSetting {}

/// Returns an error that names the flag and the file.
fn at(flag: &str, file: &Path, error: &dyn fmt::Display) -> String {
    format!("{flag} {}: {error}", file.display())
}

/// Logs the result of a shutdown, and returns the exit code.
fn exit_code(Stopped { report, unwritten }: &Stopped) -> ExitCode {
    let ShutdownReport { unanswered, unsaved, untold, .. } = *report;
    tracing::info!(unanswered, unsaved, untold, "stopped");
    let unsaved = (unsaved > 0).then(|| format!("{unsaved} values could not be saved"));
    let untold =
        (untold > 0).then(|| format!("the broker misses the last writes of {untold} rooms"));
    let unwritten = (*unwritten > 0).then(|| format!("the audit log lacks {unwritten} lines"));
    let lost: Vec<_> = unsaved.into_iter().chain(untold).chain(unwritten).collect();
    if lost.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", lost.join(", and "));
    ExitCode::from(LOST)
}
