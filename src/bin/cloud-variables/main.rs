//! A complete cloud server for people without an app of their own.

mod app;
mod check;
mod inspector;
mod listen;
mod log;
mod proxy;
mod rooms;
mod settings;
mod signals;
mod tls;

use std::{error::Error, process::ExitCode};

use axum_cloud_variables::{RoomRegistry, ShutdownReport, serve};
use tokio::{
    fs::File,
    io::{AsyncWrite, AsyncWriteExt, BufReader, BufWriter},
};

use settings::Settings;
use signals::Signals;

/// The exit code if the server ended before everything was saved.
const LOST: u8 = 3;

#[tokio::main]
pub(crate) async fn main() -> ExitCode {
    // Before anything else, because a process without a handler that is the first of its container ignores
    // SIGTERM.
    let signals = Signals::watch();
    let settings = match settings::read() {
        Ok(settings) => settings,
        Err(error) => {
            _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    log::start(settings.log_format);
    match run(settings, signals).await {
        Ok(report) => report.map_or(ExitCode::SUCCESS, |report| stopped(&report)),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the settings ask for. Returns the report of a server that has ended.
async fn run(
    settings: Settings,
    signals: Signals,
) -> Result<Option<ShutdownReport>, Box<dyn Error>> {
    if let Some(url) = &settings.check {
        println!("{}", check::check(url)?);
        return Ok(None);
    }
    let rooms = rooms::registry(&settings)?;
    if let Some(file) = &settings.export {
        // The rooms themselves may go to stdout.
        eprintln!("{} rooms exported", export(&rooms, file).await?);
        return Ok(None);
    }
    if let Some(file) = &settings.import {
        let from = File::open(file).await.map_err(|error| at("--import", file, &error))?;
        let imported = rooms.import(BufReader::new(from)).await?;
        println!("{} rooms imported, {} were there", imported.created, imported.skipped);
        return Ok(None);
    }
    let Signals { stop, reload } = signals;
    let apps = app::apps(&rooms, &settings)?;
    let admin = match (&settings.admin, apps.admin) {
        (Some(address), Some(app)) => {
            let listener = listen::admin(address).await?;
            Some((listener.local_addr()?, tokio::spawn(serve(listener, app).into_future())))
        }
        _ => None,
    };
    let tls = tls::acceptor(&settings, reload)?;
    let listener = listen::Listeners::bind(&settings.listen, tls).await?;
    for address in listener.addresses() {
        println!("listening on {address}");
    }
    if let Some((address, _)) = &admin {
        println!("admin on http://{address}");
    }
    log::started(&settings, &listener.addresses());
    let joins = tokio::spawn(log::joins_and_leaves(rooms.events(), settings.log_rooms));
    signals::ready();
    let report = serve(listener, apps.public)
        .shutdown_on(&rooms, stop)
        .drain_delay(settings.drain_delay())
        .grace(settings.grace())
        .await?;
    joins.abort();
    admin.inspect(|(_, serving)| serving.abort());
    Ok(Some(report))
}

/// Writes the rooms of the store to a file, or to stdout.
async fn export(rooms: &RoomRegistry, file: &std::path::Path) -> Result<u64, Box<dyn Error>> {
    if file.as_os_str() == "-" {
        return Ok(written(rooms, tokio::io::stdout()).await?);
    }
    let to = File::create(file).await.map_err(|error| at("--export", file, &error))?;
    let count = written(rooms, to.try_clone().await?).await?;
    to.sync_all().await?;
    Ok(count)
}

async fn written(
    rooms: &RoomRegistry,
    to: impl AsyncWrite + Unpin,
) -> Result<u64, axum_cloud_variables::TransferError> {
    let mut to = BufWriter::new(to);
    let count = rooms.export(&mut to).await?;
    to.flush().await?;
    Ok(count)
}

/// Returns an error that names the flag and the file.
fn at(flag: &str, file: &std::path::Path, error: &dyn std::fmt::Display) -> String {
    format!("{flag} {}: {error}", file.display())
}

/// Says what a shutdown did, and returns the exit code.
fn stopped(report: &ShutdownReport) -> ExitCode {
    let ShutdownReport { unanswered, unsaved, untold, .. } = *report;
    tracing::info!(unanswered, unsaved, untold, "stopped");
    let unsaved = (unsaved > 0).then(|| format!("{unsaved} values could not be saved"));
    let untold =
        (untold > 0).then(|| format!("the broker misses the last writes of {untold} rooms"));
    let lost: Vec<_> = unsaved.into_iter().chain(untold).collect();
    if lost.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", lost.join(", and "));
    ExitCode::from(LOST)
}
