//! Clients whose connections are pipes into an app.

use std::{convert::Infallible, future::ready};

use axum::{Router, body::Body, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, duplex};
use tower_service::Service;

use crate::client::{Client, ClientBuilder};

/// The buffer size of the pipe, in bytes per direction.
const PIPE: usize = 64 << 10;

/// Returns a client that joins a room of this app in the same process, by the path of a mount, such as
/// `/cloud?token=7`. It passes through all layers of the app, like a request over HTTP/1.1, but without a
/// peer address.
pub fn client(
    app: &Router,
    path: &str,
    room: impl Into<String>,
    username: impl Into<String>,
) -> ClientBuilder {
    let app = app.clone();
    let url = format!("ws://in-process/{}", path.trim_start_matches('/'));
    Client::builder(url, room, username).over(move || ready(Ok(connect(&app))))
}

/// Returns a connection to this app in the same process, for [`ClientBuilder::over`]: a client whose server is
/// replaced by another needs to choose the app for each connection.
///
/// # Panics
///
/// Panics if it is called outside a tokio runtime.
#[must_use]
pub fn connect(app: &Router) -> DuplexStream {
    let (client, server) = duplex(PIPE);
    let app = app.clone();
    // The task ends with the client's end of the pipe.
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            // A router is always ready.
            let answer = app.clone().call(request.map(Body::new));
            async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        _ = connection.with_upgrades().await;
    });
    client
}
