//! The routes of the server, for players and for operators.

use std::{
    error::Error,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use axum_cloud_variables::{Compression, Mount, Origins, RoomRegistry, ScratchFraming};
use metrics_exporter_prometheus::PrometheusBuilder;
use tower_http::services::ServeDir;

use super::{
    WrongSetting, inspector::inspector, lists::Lists, proxy::Addresses, settings::Settings,
};

pub(crate) struct Apps {
    pub(crate) public: Router,
    /// The inspector, the metrics and the health checks, if they have an address of their own. Otherwise
    /// `public` has these routes.
    pub(crate) admin: Option<Router>,
}

pub(crate) fn apps(
    rooms: &RoomRegistry,
    settings: &Settings,
    lists: Lists,
) -> Result<Apps, Box<dyn Error>> {
    check(settings).map_err(WrongSetting)?;
    let mount = mount(rooms, settings)?;
    // The mount is a layer, so that --path / leaves index.html to --public.
    let public = match &settings.public {
        Some(folder) => Router::new()
            .fallback_service(ServeDir::new(folder))
            .layer(middleware::from_fn(hide_dotfiles))
            .layer(mount.layer()),
        None => mount.into(),
    };
    let mut admin = Router::new();
    if let Some(password) = &settings.inspector {
        admin = admin.merge(inspector(rooms, password).map_err(WrongSetting)?);
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
    let addresses = Arc::new(Addresses {
        trusted: settings.trust_proxy.clone(),
        header: settings.proxy_header,
        lists,
        refusals: Mutex::default(),
    });
    let name = middleware::from_fn(move |request, next| addresses.clone().name(request, next));
    Ok(Apps { public: public.layer(name), admin })
}

/// Returns an error for settings that exclude each other.
fn check(settings: &Settings) -> Result<(), String> {
    let path = settings.path.trim_end_matches('/');
    if let Some(health) = &settings.health
        && ["", "/live", "/ready"].iter().any(|end| path == format!("{health}{end}"))
    {
        return Err("--path and --health are the same".into());
    }
    if let Some(folder) = &settings.public {
        if !folder.is_dir() {
            return Err(super::at("--public", folder, &"no such folder"));
        }
        let real = |path: &Path| path.canonicalize().ok();
        for (flag, path) in [("--store", &settings.store), ("--audit", &settings.audit)] {
            let path = path.as_deref().and_then(real);
            if path.zip(real(folder)).is_some_and(|(path, folder)| path.starts_with(folder)) {
                return Err(format!(
                    "{flag}: it is in the folder of --public, and everyone could read it"
                ));
            }
        }
    }
    Ok(())
}

/// Answers 404 for files and folders whose names begin with a dot, because they hold settings and secrets.
/// `.well-known` is an exception.
async fn hide_dotfiles(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_ascii_lowercase().replace("%2e", ".");
    let is_hidden = path.split('/').any(|part| part.starts_with('.') && part != ".well-known");
    if is_hidden { StatusCode::NOT_FOUND.into_response() } else { next.run(request).await }
}

fn mount(rooms: &RoomRegistry, settings: &Settings) -> Result<Mount, Box<dyn Error>> {
    let origins = match &settings.allow_origin[..] {
        [] => Origins::any(),
        list => {
            Origins::list(list).map_err(|error| WrongSetting(format!("--allow-origin: {error}")))?
        }
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
