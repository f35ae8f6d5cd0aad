//! Performs the inspector's actions, if the host allows them.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{Path, Query, Request, State},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use serde::{Deserialize, de::DeserializeOwned};
use tracing::info;

use super::{Site, Which};
use crate::{
    close::CloseCode,
    registry::{Room, RoomError},
    room::MemberId,
};

/// The header for the page's token: a form of another site cannot set headers.
const TOKEN: &str = "x-inspector-token";

#[derive(Deserialize)]
struct Set {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Unset {
    name: String,
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

/// The target of a ban that ends: as in the room's list.
#[derive(Deserialize)]
struct Unban {
    kind: String,
    who: String,
}

#[derive(Deserialize)]
struct Lock {
    locked: bool,
}

/// The reason why nothing has changed.
type Refusal = (StatusCode, String);

/// Passes a request on only if it has the page's token, before anything else of it is examined.
pub(super) async fn guard(
    State(site): State<Arc<Site>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let token = request.headers().get(TOKEN).map_or(&b""[..], |token| token.as_bytes());
    if site.page.is_token(token) {
        return Ok(next.run(request).await);
    }
    let reason = match site.page.allows_actions() {
        true => "the page is of another start of the server: load it again",
        false => "this inspector only shows",
    };
    Err((StatusCode::FORBIDDEN, reason.into()))
}

/// Handles `POST api/room/{set,unset,kick,ban,unban,lock,close,remove}?id=`, with a JSON object of the arguments.
pub(super) async fn act(
    State(site): State<Arc<Site>>,
    Path(action): Path<String>,
    Query(Which { id }): Query<Which>,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let gone = || (StatusCode::NOT_FOUND, "there is no such room".into());
    let room = site.rooms.room(&id).ok_or_else(gone)?;
    match perform(&room, &action, &body).await {
        Ok(Object { member, variable }) => {
            info!(room = id, action, member, variable, "the inspector acted");
            Ok(StatusCode::NO_CONTENT)
        }
        Err((status, reason)) => {
            // Omits the reason, which may contain a value.
            info!(room = id, action, status = status.as_u16(), "the inspector could not act");
            Err((status, reason))
        }
    }
}

/// The target of an action, if it is not the room itself.
#[derive(Default)]
struct Object {
    member: Option<u64>,
    variable: Option<String>,
}

async fn perform(room: &Room, action: &str, body: &[u8]) -> Result<Object, Refusal> {
    let to_member = |member| Object { member: Some(member), ..Object::default() };
    match action {
        "set" => {
            let Set { name, value } = parse(body)?;
            room.set(&name, value).map_err(|error| (StatusCode::CONFLICT, error.to_string()))?;
            Ok(Object { variable: Some(name), ..Object::default() })
        }
        "unset" => {
            let Unset { name } = parse(body)?;
            room.unset(&name).map_err(|error| (StatusCode::CONFLICT, error.to_string()))?;
            Ok(Object { variable: Some(name), ..Object::default() })
        }
        "kick" => {
            let Kick { member, reason } = parse(body)?;
            let id = MemberId::from(member);
            room.kick(id, CloseCode::Kicked, reason).await.map_err(refused)?;
            Ok(to_member(member))
        }
        "ban" => {
            let Ban { member, seconds } = parse(body)?;
            let time = Duration::from_secs(seconds);
            room.ban(MemberId::from(member), time).await.map_err(refused)?;
            Ok(to_member(member))
        }
        "unban" => {
            let Unban { kind, who } = parse(body)?;
            let done = match &*kind {
                "person" => room.unban_person(&who).await,
                "name" => room.unban_name(&who).await,
                _ => return Err((StatusCode::BAD_REQUEST, "'kind' is person or name".into())),
            };
            done.map_err(refused)?;
            Ok(Object::default())
        }
        "lock" => {
            let Lock { locked } = parse(body)?;
            let done = if locked { room.lock().await } else { room.unlock().await };
            done.map_err(refused)?;
            Ok(Object::default())
        }
        "close" => {
            room.close().await.map_err(refused)?;
            Ok(Object::default())
        }
        "remove" => {
            room.remove().await.map_err(refused)?;
            Ok(Object::default())
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
        RoomError::Kept | RoomError::Unreachable | RoomError::NotSaved => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    (status, error.to_string())
}
