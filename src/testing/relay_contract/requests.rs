//! Short forms of nodes' requests to a broker.

use axum_cloud_variables::{
    relay::{
        Relay, RelayAnswer, RelayChange, RelayNode, RelayRequest, RelayRevision, RelayRoom,
        RelaySession, RelayWrite,
    },
    store::{StoredRoom, StoredSchema},
};

pub(crate) fn pairs(values: &[(&str, &str)]) -> Vec<(String, String)> {
    values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

pub(crate) fn enter(epoch: &str, variables: Option<&[(&str, &str)]>) -> RelayRequest {
    RelayRequest::Enter {
        create: variables.map(room_of),
        epoch: epoch.into(),
        known: None,
        was: None,
    }
}

/// Returns a room with three places.
pub(crate) fn room_of(variables: &[(&str, &str)]) -> RelayRoom {
    RelayRoom {
        stored: StoredRoom { schema: StoredSchema::Scratch, variables: pairs(variables) },
        max_members: 3,
        max_variables: 50,
        max_bytes: 9_000,
        is_locked: false,
        closed: 0,
        bans: Vec::new(),
    }
}

pub(crate) fn join(number: u64, session: u64, name: &str, replaces: &[u64]) -> RelayRequest {
    let session = self::session(session, name, false);
    RelayRequest::Join { number, session, replaces: replaces.into() }
}

pub(crate) fn share(number: u64, session: u64, name: &str) -> RelayRequest {
    let session = self::session(session, name, true);
    RelayRequest::Join { number, session, replaces: Vec::new() }
}

pub(crate) fn session(number: u64, name: &str, shares: bool) -> RelaySession {
    let who = vec![format!("name:{name}")];
    RelaySession { number, name: name.into(), shares, who }
}

pub(crate) fn leave(number: u64, sessions: &[u64]) -> RelayRequest {
    RelayRequest::Leave { number, sessions: sessions.into() }
}

pub(crate) const MOST: u64 = 100;

pub(crate) fn write(first: u64, writes: &[(&str, &str)]) -> RelayRequest {
    RelayRequest::Write { first, most: MOST, writes: values(writes) }
}

/// Returns writes that may each create their variable.
pub(crate) fn values(writes: &[(&str, &str)]) -> Vec<RelayWrite> {
    let value = |(name, value)| RelayWrite {
        name,
        value: Some(value),
        creates: true,
        by: None,
        was: None,
        unless: None,
    };
    pairs(writes).into_iter().map(value).collect()
}

pub(crate) fn revision(epoch: &str, number: u64) -> RelayRevision {
    RelayRevision { room: epoch.into(), epoch: epoch.into(), number }
}

pub(crate) fn done(number: u64, taken: u64) -> RelayAnswer {
    RelayAnswer::Done { revision: revision("e", number), before: taken }
}

pub(crate) fn ban_of_eve(millis: u64) -> RelayChange {
    RelayChange::Ban { who: "name:eve".into(), name: "eve".into(), millis }
}

pub(crate) fn named(name: &str) -> RelayNode<'_> {
    RelayNode { name, acknowledged: 0 }
}

/// Returns the answer to a request, in which `before` is the last number that was taken by then.
pub(crate) async fn ask(
    relay: &impl Relay,
    node: &str,
    room: &str,
    request: RelayRequest,
) -> RelayAnswer {
    let answer = relay.request(room, named(node), &request).await.unwrap();
    let RelayAnswer::Done { revision, before: last } = answer else { return answer };
    match relay.request(room, named(node), &RelayRequest::Renew).await.unwrap() {
        RelayAnswer::Done { before, .. } => {
            assert!(last <= before);
            RelayAnswer::Done { revision, before }
        }
        _ => RelayAnswer::Done { revision, before: last },
    }
}
