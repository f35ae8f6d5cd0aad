//! What the inspector changes, where the host allows it.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, de::DeserializeOwned};
use tracing::info;

use super::{Site, Which};
use crate::{
    close::CloseCode,
    room::{MemberId, Room, RoomError},
};

/// The header that brings the page's token: no form of another site's has headers of its own.
const TOKEN: &str = "x-inspector-token";

#[derive(Deserialize)]
struct Set {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Kick {
    member: u64,
    reason: String,
}

#[derive(Deserialize)]
struct Ban {
    member: u64,
    seconds: u64,
}

#[derive(Deserialize)]
struct Lock {
    locked: bool,
}

/// Why nothing has changed.
type Refusal = (StatusCode, String);

/// `POST api/room/{set,kick,ban,lock,close}?id=`, with a JSON object of what it needs.
pub(super) async fn act(
    State(site): State<Arc<Site>>,
    Path(action): Path<String>,
    Query(Which { id }): Query<Which>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let token = headers.get(TOKEN).map_or(&b""[..], |token| token.as_bytes());
    if !site.page.is_token(token) {
        return Err((
            StatusCode::FORBIDDEN,
            match site.page.allows_actions() {
                true => "the page is of another start of the server: load it again".into(),
                false => "this inspector only shows".into(),
            },
        ));
    }
    let gone = || (StatusCode::NOT_FOUND, "there is no such room".into());
    let room = site.rooms.room(&id).ok_or_else(gone)?;
    let member = perform(&room, &action, &body).await?;
    info!(room = id, action, member, "the inspector acted");
    Ok(StatusCode::NO_CONTENT)
}

/// The member that it is done to, if it is to one.
async fn perform(room: &Room, action: &str, body: &[u8]) -> Result<Option<u64>, Refusal> {
    match action {
        "set" => {
            let Set { name, value } = parse(body)?;
            room.set(&name, value).map_err(|error| (StatusCode::CONFLICT, error.to_string()))?;
            Ok(None)
        }
        "kick" => {
            let Kick { member, reason } = parse(body)?;
            let id = MemberId::from_number(member);
            room.kick(id, CloseCode::Kicked, reason).await.map_err(refused)?;
            Ok(Some(member))
        }
        "ban" => {
            let Ban { member, seconds } = parse(body)?;
            let time = Duration::from_secs(seconds);
            room.ban(MemberId::from_number(member), time).await.map_err(refused)?;
            Ok(Some(member))
        }
        "lock" => {
            let Lock { locked } = parse(body)?;
            room.lock(locked).await.map_err(refused)?;
            Ok(None)
        }
        "close" => {
            room.close().await.map_err(refused)?;
            Ok(None)
        }
        _ => Err((StatusCode::NOT_FOUND, "there is no such action".into())),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

fn refused(error: RoomError) -> Refusal {
    let status = match error {
        RoomError::Gone | RoomError::NoSuchMember => StatusCode::NOT_FOUND,
        RoomError::Kept | RoomError::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, error.to_string())
}
