//! The page itself, and its content security policy.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use sha2::{Digest, Sha256};

use super::Site;

#[derive(Debug)]
pub(super) struct Page {
    html: String,
    policy: String,
    /// The token that requests for actions must carry; `None` if there are no actions.
    token: Option<String>,
}

const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

impl Page {
    pub(super) fn new(allows_actions: bool) -> Self {
        let token = allows_actions.then(token).flatten();
        let html = include_str!("page.html")
            .replace("{{token}}", token.as_deref().unwrap_or_default())
            .replace("{{style}}", STYLE)
            .replace("{{script}}", SCRIPT);
        let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
        let policy = format!(
            "default-src 'none'; connect-src 'self'; script-src 'sha256-{}'; \
             style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(SCRIPT),
            hash(STYLE),
        );
        Self { html, policy, token }
    }

    pub(super) fn allows_actions(&self) -> bool {
        self.token.is_some()
    }

    /// Returns whether this is the page's token, in a time that does not reveal how much of it is right.
    pub(super) fn is_token(&self, text: &[u8]) -> bool {
        self.token.as_ref().is_some_and(|token| Sha256::digest(token) == Sha256::digest(text))
    }
}

/// Returns a new token. Without random numbers there is none, and so no actions.
fn token() -> Option<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).ok()?;
    Some(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) async fn serve(State(site): State<Arc<Site>>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &*site.page.policy),
    ];
    (headers, site.page.html.clone()).into_response()
}
