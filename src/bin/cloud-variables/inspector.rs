//! The inspector behind HTTP's basic authentication, for which browsers have a dialog.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{
        StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
        request::Parts,
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use axum_cloud_variables::RoomRegistry;
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::transfer;

/// Returns the inspector, with the store's rooms as a download, for users with this name and password.
pub(crate) fn inspector(rooms: &RoomRegistry, password: &str) -> Result<Router, String> {
    match password.split_once(':') {
        Some((name, password)) if !name.is_empty() && !password.is_empty() => {}
        // The error leaves out the text itself, which may be the password.
        _ => return Err("--inspector: a name, a colon and a password".into()),
    }
    // Hashes are compared, so that the time of the comparison reveals nothing.
    let expected = Sha256::digest(BASE64_STANDARD.encode(password));
    // One wrong guess is answered at a time, so that parallel guesses are not faster.
    let guesses = Arc::new(Semaphore::new(1));
    let ask = middleware::from_fn(move |request: Request, next: Next| {
        let given = request.headers().get(AUTHORIZATION).cloned();
        let is_known = given.as_ref().is_some_and(|given| {
            let (scheme, credentials) = given.as_bytes().split_at(given.len().min(6));
            scheme.eq_ignore_ascii_case(b"basic ") && Sha256::digest(credentials) == expected
        });
        let guesses = guesses.clone();
        async move {
            if is_known {
                return next.run(request).await;
            }
            if given.is_some() {
                let Ok(_guess) = guesses.acquire().await else { return refused() };
                tracing::warn!("a client sent a wrong name or password for the inspector");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            refused()
        }
    });
    let inspector: Router = rooms.inspector().allow_actions(true).into();
    let exported = rooms.clone();
    let export = get(async move |request: Parts| transfer::download(&exported, &request).await);
    Ok(Router::new()
        .route("/inspector/rooms.jsonl", export.layer(ask.clone()))
        .nest_service("/inspector", inspector.layer(ask)))
}

fn refused() -> Response {
    let dialog = [(WWW_AUTHENTICATE, "Basic realm=\"rooms\"")];
    (StatusCode::UNAUTHORIZED, dialog, "Log in with the name and the password of the inspector.\n")
        .into_response()
}
