//! The routes of the server, for players and for those who run it.

use std::{error::Error, time::Duration};

use axum::{Router, http::StatusCode, middleware, routing::get};
use axum_cloud_variables::{Compression, Mount, Origins, RoomRegistry, ScratchFraming};
use metrics_exporter_prometheus::PrometheusBuilder;
use tower_http::services::ServeDir;

use super::{inspector::inspector, proxy::Addresses, settings::Settings};

pub(crate) struct Apps {
    pub(crate) public: Router,
    /// Present if it has an address of its own. Otherwise its routes are among the public ones.
    pub(crate) admin: Option<Router>,
}

pub(crate) fn apps(rooms: &RoomRegistry, settings: &Settings) -> Result<Apps, Box<dyn Error>> {
    let mount = mount(rooms, settings)?;
    // The mount is a layer, so that --path / leaves index.html to --public.
    let public = match &settings.public {
        Some(folder) if !folder.is_dir() => {
            return Err(super::at("--public", folder, &"no such folder").into());
        }
        Some(folder) => Router::new().fallback_service(ServeDir::new(folder)).layer(mount.layer()),
        None => mount.into(),
    };
    let mut admin = Router::new();
    if let Some(password) = &settings.inspector {
        admin = admin.merge(inspector(rooms, password)?);
    }
    if settings.metrics {
        admin = admin.merge(metrics(rooms)?);
    }
    if let Some(path) = &settings.health {
        admin = admin.merge(health(rooms, path));
    }
    let (public, admin) = match settings.admin {
        Some(_) => (public, Some(admin)),
        None => (public.merge(admin), None),
    };
    let addresses = Addresses {
        trusted: settings.trust_proxy.clone(),
        blocked: settings.block_address.clone(),
    };
    let name = middleware::from_fn(move |request, next| addresses.clone().name(request, next));
    Ok(Apps { public: public.layer(name), admin })
}

fn mount(rooms: &RoomRegistry, settings: &Settings) -> Result<Mount, Box<dyn Error>> {
    let origins = match &settings.allow_origin[..] {
        [] => Origins::any(),
        list => Origins::list(list).map_err(|error| format!("--allow-origin: {error}"))?,
    };
    let mount = rooms
        .mount(&settings.path)
        .origins(origins)
        .sessions_per_address(settings.sessions_per_address)
        .upgrades_per_minute(settings.upgrades_per_minute)
        .values_over_http(settings.values)
        .logs_over_http(settings.logs)
        .compression(match settings.compress {
            0 => Compression::Off,
            bytes => Compression::From(bytes),
        })
        .scratch_framing(match settings.scratch_lines {
            true => ScratchFraming::Lines,
            false => ScratchFraming::Joined,
        });
    Ok(match &settings.clients[..] {
        [] => mount,
        clients => mount.dialects(clients.iter().copied()),
    })
}

fn health(rooms: &RoomRegistry, path: &str) -> Router {
    let rooms = rooms.clone();
    let ready = async move || match rooms.readiness().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    };
    Router::new()
        .route(&format!("{path}/live"), get(async || "live\n"))
        .route(&format!("{path}/ready"), get(ready))
}

fn metrics(rooms: &RoomRegistry) -> Result<Router, Box<dyn Error>> {
    let prometheus = PrometheusBuilder::new().install_recorder()?;
    let process = metrics_process::Collector::default();
    process.describe();
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
        process.collect();
        prometheus.render()
    };
    Ok(Router::new().route("/metrics", get(render)))
}
