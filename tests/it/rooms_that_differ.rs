//! The host's data about a room: each room has rights and data of its own.

#![allow(clippy::unwrap_used, reason = "a test")]

use crate::common::{Server, unlimited_rate, within};
use axum_cloud_variables::{
    Creators, Identity, Room, RoomRegistry,
    policy::{Join, Policy, Rejection, Rights, Verdict, Write},
};

const VARIABLES: &[(&str, &str)] = &[("question", ""), ("answer", "")];

/// A class, and its password.
#[derive(Debug, Clone, PartialEq)]
struct Class(&'static str);

/// A policy with rights for each room, which admits clients that name the room's class.
struct ByRoom;

impl Policy for ByRoom {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        match join.room_data::<Class>() {
            Some(Class(name)) if !join.username().starts_with(name) => {
                Err(Rejection::permanent("this is another class"))
            }
            _ => Ok(join.identity().clone()),
        }
    }

    fn write(&self, write: &Write<'_>) -> Verdict {
        write.room_data::<Rights>().map_or(Verdict::Accept, |rights| rights.write(write))
    }
}

async fn server() -> Server {
    Server::with(RoomRegistry::builder().limits(unlimited_rate()).policy(ByRoom)).await
}

async fn open(server: &Server, id: &str) -> Room {
    server.rooms.open(id).variables(VARIABLES.iter().copied()).await.unwrap()
}

#[tokio::test]
async fn each_room_has_rights_of_its_own() {
    let server = server().await;
    let quiz = server.rooms.open("quiz").variables(VARIABLES.iter().copied());
    let quiz = quiz.data(Rights::new().host_only("question")).data(Class("a")).await.unwrap();
    let free = open(&server, "free").await;
    assert_eq!((quiz.data(), free.data::<Class>()), (Some(Class("a")), None));

    for (room, expected) in [("quiz", ""), ("free", "mine")] {
        let mut ann = server.join(room, "ann", VARIABLES).await;
        ann.set("question", "mine").await;
        ann.set("answer", "42").await;
        ann.sync().await;
        let room = server.rooms.room(room).unwrap();
        assert_eq!(room.get("question").as_deref(), Some(expected), "{}", room.id());
        assert_eq!(room.get("answer").as_deref(), Some("42"));
    }
    let refused = server.refusal("quiz", "bob", VARIABLES).await;
    assert_eq!(refused, (4001, "this is another class".into()));
    let _bob = server.join("free", "bob", VARIABLES).await;
}

#[tokio::test]
async fn new_data_replaces_all_data_of_the_room() {
    let server = server().await;
    let class = server.rooms.open("class").data(Class("a")).data(7_u32).await.unwrap();
    let again = server.rooms.open("class").await.unwrap();
    assert_eq!((again.data(), again.data()), (Some(Class("a")), Some(7_u32)), "as it is");
    let last = server.rooms.open("class").data(Class("b")).await.unwrap();
    assert_eq!((last.data(), class.data::<u32>()), (Some(Class("b")), None));
    class.remove().await.unwrap();
    assert_eq!(class.data::<Class>(), None);
    assert_eq!(open(&server, "class").await.data::<Class>(), None, "another room");
}

/// A value that asks the room when it is cloned and when it is dropped.
struct Curious(Room);

impl Clone for Curious {
    fn clone(&self) -> Self {
        _ = self.0.variables();
        Self(self.0.clone())
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        _ = self.0.variables();
        _ = self.0.set("x", 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_data_of_a_room_may_ask_the_room() {
    let rooms = RoomRegistry::builder().creators(Creators::Host).build().unwrap();
    let asking = async {
        let room = rooms.open("room").variables([("x", "0")]).await.unwrap();
        for _ in 0..2 {
            rooms.open("room").data(Curious(room.clone())).await.unwrap();
            assert!(room.data::<Curious>().is_some());
        }
        room.remove().await.unwrap();
        let other = rooms.open("other").variables([("x", "0")]).await.unwrap();
        rooms.open("other").data(Curious(other.clone())).await.unwrap();
        other.close().await.unwrap();
        rooms.shutdown(std::time::Duration::from_secs(1)).await;
        drop(rooms);
    };
    within("nobody waits for itself", asking).await;
}
