//! A game behind a login: `cargo run --example game`, then open http://127.0.0.1:3000 in some tabs.
//!
//! The host decides who may play: its auth layer puts an [`Identity`] into requests. Each tab asks for a
//! name of its own, so two tabs of one login are two players.

use std::{error::Error, net::SocketAddr};

use axum::{
    Form, Router,
    extract::{RawQuery, Request},
    http::{HeaderValue, header::CACHE_CONTROL},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get_service, post},
};
use axum_cloud_variables::{Identity, Limits, RoomRegistry, Schema, serve};
use axum_extra::extract::{
    SignedCookieJar,
    cookie::{Cookie, Key, SameSite},
};
use clap::Parser;
use serde::Deserialize;
use tokio::net::TcpListener;
use tower_http::services::{ServeDir, ServeFile};

const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/game");
const LOGIN_PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/game/login.html");

const COOKIE: &str = "account";

/// FOR DEVELOPMENT ONLY: anyone who knows the secret can be any account. A real host has random bytes of
/// its own, which survive a restart: a key created at each start would log everyone out.
const DEVELOPMENT_SECRET: &str =
    "not a secret: whoever has read this line can sign a cookie for any account";

/// A small game with a login, played in the browser.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Key that signs the login's cookies: at least 64 random bytes. The default is for development only.
    #[arg(
        long,
        default_value = DEVELOPMENT_SECRET,
        hide_default_value = true,
        value_parser = |secret: &str| Key::try_from(secret.as_bytes()),
    )]
    secret: Key,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let Args { listen, secret } = Args::parse();
    // Each player brings their own variable, so rooms grow.
    let rooms = RoomRegistry::builder()
        .schema(Schema::Growing)
        .limits(Limits::default().variables_per_room(1_000))
        .build()?;
    let app = Router::new()
        .route("/login", get_service(ServeFile::new(LOGIN_PAGE)).post(log_in))
        .route("/logout", post(log_out))
        .merge(rooms.mount("/cloud").require_identity(true))
        .fallback_service(ServeDir::new(PAGES))
        .layer(middleware::from_fn_with_state(secret.clone(), authenticate))
        .with_state(secret);
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, app).shutdown_on(&rooms, stop()).await?;
    Ok(())
}

/// Adds the account to requests for the mount, and redirects strangers to the login page.
async fn authenticate(jar: SignedCookieJar, mut request: Request, next: Next) -> Response {
    match (jar.get(COOKIE), request.uri().path()) {
        (Some(cookie), _) => {
            request.extensions_mut().insert(Identity::new().with_id(cookie.value()));
        }
        (None, "/" | "/index.html") => {
            return redirect("/login", request.uri().query()).into_response();
        }
        (None, _) => {}
    }
    let mut response = next.run(request).await;
    // The page at `/` depends on the cookie, so browsers must ask each time.
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

#[derive(Deserialize)]
struct Login {
    account: String,
}

async fn log_in(
    jar: SignedCookieJar,
    RawQuery(query): RawQuery,
    Form(login): Form<Login>,
) -> (SignedCookieJar, Redirect) {
    // A real host checks a password here.
    let account = login.account.trim();
    if !(1..=40).contains(&account.chars().count()) {
        return (jar, redirect("/login", query.as_deref()));
    }
    let cookie = Cookie::build((COOKIE, account.to_owned()))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax);
    (jar.add(cookie), redirect("/", query.as_deref()))
}

async fn log_out(jar: SignedCookieJar) -> (SignedCookieJar, Redirect) {
    (jar.remove(Cookie::build(COOKIE).path("/")), Redirect::to("/login"))
}

/// Redirects with the query, which may name a room, so that a link to a room survives the login.
fn redirect(path: &str, query: Option<&str>) -> Redirect {
    match query {
        Some(query) => Redirect::to(&format!("{path}?{query}")),
        None => Redirect::to(path),
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
