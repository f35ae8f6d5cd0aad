//! `Debug` of every public type is short, and shows no value and no id of a person, because hosts log such
//! types themselves, or through `#[tracing::instrument]`.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    collections::HashSet,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Request, middleware};
use axum_cloud_variables::{events::*, policy::*, relay::*, store::*, *};
use common::{Client, ShakyBroker, serve, within};

const VALUE: &str = "a-value-of-the-game";
const ACCOUNT: &str = "account-4711";
const SECRETS: [&str; 3] = [VALUE, ACCOUNT, "a-token"];

/// The texts that were shown, by the type's name.
#[derive(Default)]
struct Shown(HashSet<String>);

impl Shown {
    fn show<T: Debug>(&mut self, value: &T) {
        let path = std::any::type_name::<T>();
        let name = path.split('<').next().unwrap().rsplit("::").next().unwrap();
        let text = format!("{value:?}");
        assert!(!text.is_empty(), "{name} shows nothing");
        assert!(text.len() < 1_500, "{name} takes {} bytes: {text}", text.len());
        for secret in SECRETS {
            assert!(!text.contains(secret), "{name} shows {secret}: {text}");
        }
        self.0.insert(name.to_owned());
    }
}

/// A policy that shows its arguments, because only a policy receives them.
#[derive(Clone, Default)]
struct Judge(Arc<Mutex<Shown>>);

impl Policy for Judge {
    async fn admit(&self, join: &Join<'_>) -> Result<Identity, Rejection> {
        self.0.lock().unwrap().show(join);
        Ok(join.identity().clone())
    }

    fn write(&self, write: &Write<'_>) -> Verdict {
        self.0.lock().unwrap().show(write);
        Verdict::Accept
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_public_type_is_short_and_tells_no_secret() {
    let judge = Judge::default();
    let broker: Arc<ShakyBroker> = Arc::default();
    let builder =
        RoomRegistry::builder().history(100).policy(Arc::new(judge.clone())).relay(broker);
    judge.0.lock().unwrap().show(&builder);
    let rooms = builder.build().unwrap();
    let room = rooms.open("room").variables([("x", VALUE)]).await.unwrap();
    let mut events = room.events();
    let auth = middleware::from_fn(async |mut request: Request, next: middleware::Next| {
        let identity = Identity::new().with_id(ACCOUNT).with_data(ACCOUNT);
        let name = request.uri().query().unwrap_or_default().to_owned();
        // Each member has an account of its own, so that none takes another's place.
        request.extensions_mut().insert(identity.with_id(format!("{ACCOUNT} {name}")));
        next.run(request).await
    });
    let mount = rooms.mount("/cloud");
    let addr = serve(Router::from(mount.clone()).layer(auth)).await;
    let mut members = Vec::new();
    for n in 0..20 {
        let url = format!("ws://{addr}/cloud?{n}");
        members.push(Client::join(&url, "room", &format!("p{n}"), &[("x", VALUE)]).await);
    }
    members[0].set("x", VALUE).await;
    members[0].sync().await;
    room.ban_person(ACCOUNT, std::time::Duration::from_secs(60)).await.unwrap();
    let banned = room.bans().pop().unwrap();

    let mut shown = std::mem::take(&mut *judge.0.lock().unwrap());
    shown.show(&RegistryEvent::Joined { room: "arena".into(), member: room.members()[0].clone() });
    loop {
        let event = within("a write", events.next()).await.unwrap();
        shown.show(&event);
        if let RoomEvent::Wrote { value, .. } = event {
            assert_eq!(&*value, VALUE);
            break;
        }
    }
    let member = room.members()[0].clone();
    let stored =
        StoredRoom { schema: StoredSchema::Fixed, variables: vec![(VALUE.into(), VALUE.into())] };
    let write = RelayWrite {
        name: "x".into(),
        value: Some(VALUE.into()),
        creates: false,
        by: None,
        was: Some(VALUE.into()),
        unless: None,
    };
    let revision = RelayRevision { room: "room".into(), epoch: "e".into(), number: 1 };
    let ban = RelayBan { who: ACCOUNT.into(), name: String::new(), millis: 1 };
    let at_relay = RelayRoom {
        stored: stored.clone(),
        max_members: 1,
        max_variables: 1,
        max_bytes: 1,
        is_locked: false,
        closed: 0,
        bans: vec![ban.clone()],
    };
    let session =
        RelaySession { number: 1, name: "ann".into(), shares: false, who: vec![ACCOUNT.into()] };
    let news = RelayNews::Wanted {
        node: "node".into(),
        session: 1,
        person: Some(ACCOUNT.into()),
        resume: Some("a-token".into()),
        replaces: false,
        age: 1,
    };
    let writes = RelayWrites {
        revision: revision.clone(),
        node: "node".into(),
        first: 1,
        most: 1,
        writes: vec![write.clone()],
        left_out: Vec::new(),
    };
    let layer: MountLayer = mount.layer();
    let service = tower::Layer::layer(&layer, ());
    let past = room.history().pop().unwrap();
    assert_eq!(past.value, VALUE);
    shown.show(&rooms);
    shown.show(&banned.target);
    shown.show(&banned);
    shown.show(&rooms.mount("/other"));
    shown.show(&layer);
    shown.show(&service);
    shown.show(&ClientAddress([127, 0, 0, 1].into()));
    shown.show(&Origins::same());
    shown.show(&rooms.inspector().allow_actions(true));
    shown.show(&rooms.open("other").variables([("x", VALUE)]));
    shown.show(&room);
    shown.show(&rooms.downgrade());
    shown.show(&MemoryRelay::default());
    shown.show(&MemoryStore::default());
    let keeps = RoomRegistry::builder().store(MemoryStore::default()).build().unwrap();
    keeps.open("room").variables([("x", VALUE)]).await.unwrap();
    shown.show(&keeps.stored("", 1).await.unwrap()[0]);
    shown.show(&rooms.stats());
    shown.show(&rooms.relay_stats().unwrap());
    shown.show(&rooms.rooms("", 9).pop().unwrap());
    shown.show(&rooms.rooms("", 9).pop().unwrap().activity);
    shown.show(&events);
    shown.show(&past);
    shown.show(&member);
    shown.show(&Writer::Member(member.clone()));
    shown.show(&member.id);
    shown.show(&member.identity);
    shown.show(&member.dialect);
    shown.show(&room.lead().await.unwrap());
    shown.show(&Limits::default());
    shown.show(&Rights::new());
    shown.show(&Verdict::Replace(VALUE.into()));
    shown.show(&Rejection::username("no"));
    shown.show(&UsernameRules::any());
    shown.show(&Alphabet::Any);
    shown.show(&DuplicateNames::Replace);
    shown.show(&Creators::Host);
    shown.show(&Schema::Fixed);
    shown.show(&ScratchFraming::Lines);
    shown.show(&ScratchValues::default());
    shown.show(&CloseCode::Kicked);
    shown.show(&LeaveCause::Kicked);
    shown.show(&RoomError::Gone);
    shown.show(&OpenError::Full);
    shown.show(&SetError::Gone);
    shown.show(&UpdateError::Contested);
    shown.show(&StoreError::Full);
    shown.show(&RelayError::new("it failed"));
    shown.show(&Change::Put {
        room: "room".into(),
        schema: StoredSchema::Fixed,
        used: 1,
        values: stored.variables.clone(),
        dropped: vec![VALUE.into()],
    });
    shown.show(&stored);
    shown.show(&StoredSchema::Fixed);
    shown.show(&RelayAnswer::Room {
        revision: revision.clone(),
        room: at_relay.clone(),
        is_new: true,
        taken: 1,
    });
    shown.show(&RelayRequest::Enter {
        create: Some(at_relay.clone()),
        epoch: "e".into(),
        known: None,
        was: None,
    });
    shown.show(&at_relay);
    shown.show(&session);
    shown.show(&RelayMessage::Wrote(writes.clone()));
    shown.show(&writes);
    shown.show(&StoredEntry { id: "arena".into(), used: 0 });
    shown.show(&write);
    shown.show(&RelayChange::Ban { who: ACCOUNT.into(), name: String::new(), millis: 1 });
    shown.show(&news);
    let (node, person, reason) = ("node".into(), ACCOUNT.into(), "enough".into());
    shown.show(&RelayNews::Kick { node, person, code: 4004, reason });
    let banned = StoredBan { who: ACCOUNT.into(), name: String::new(), until: 1 };
    shown.show(&banned);
    shown.show(&Change::Bans { room: "room".into(), bans: vec![banned] });
    shown.show(&ban);
    shown.show(&RelayNode { name: "node", acknowledged: 1 });
    shown.show(&revision);
    shown.show(&RedisRelay::new("redis://:a-token@127.0.0.1/").unwrap());
    let folder = common::Folder::new("debug");
    let store = RedbStore::open(folder.file("rooms.redb")).unwrap();
    shown.show(&store);
    let kept = RoomRegistry::builder().store(store).build().unwrap();
    shown.show(&kept.store_stats().unwrap());
    let mut none = Limits::default();
    none.rooms = 0;
    let refused = RoomRegistry::builder().limits(none).build();
    shown.show(&refused.unwrap_err());
    let mut file = Vec::new();
    kept.export(&mut file).await.unwrap();
    shown.show(&kept.import(&*file).await.unwrap());
    shown.show(&kept.import(&b"{"[..]).await.unwrap_err());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    shown.show(&Origins::list(["*"]).unwrap_err());
    shown.show(&NotReady::Store(StoreError::Full));
    let serve = axum_cloud_variables::serve(listener, Router::new());
    shown.show(&serve);
    shown.show(&serve.shutdown_on(&kept, async {}));
    shown.show(&axum_cloud_variables::Compression::From(64));
    shown.show(&kept.shutdown(std::time::Duration::ZERO).await);
    let url = format!("ws://{addr}/cloud?client");
    let builder = client::Client::builder(url, "room", "bot")
        .variables([("x", VALUE)])
        .header("cookie", "a-token")
        .resume("a-token of 16 bytes");
    shown.show(&builder);
    let bot = builder.connect().await.unwrap();
    shown.show(&bot);
    shown.show(&client::ClientEvent::Set { name: "x".into(), value: VALUE.into() });
    bot.close().await;
    shown.show(&bot.joined().await.unwrap_err());
    shown.show(&bot.update("x", |_| VALUE).await.unwrap_err());
    let identity = Identity::new().with_id(ACCOUNT);
    let join = testing::JoinBuilder::new("room", "ann").identity(identity.clone());
    shown.show(&join.header("cookie", "a-token").variables([("x", VALUE)]));
    let write = testing::WriteBuilder::new("room", "ann", "x", VALUE).identity(identity);
    shown.show(&write.values([("x", VALUE)]));

    // The names that `lib.rs` makes public, except traits, functions and other names of types.
    let not_shown = ["serve", "tune_socket"].map(str::to_owned);
    let lib = include_str!("../src/lib.rs");
    let public = lib.split("pub use ").skip(1).flat_map(|line| {
        let names = line.split(';').next().unwrap().split("::").nth(1).unwrap();
        names.split(['{', '}', ',']).map(|name| name.trim().to_owned())
    });
    let modules = [
        include_str!("../src/policy.rs"),
        include_str!("../src/policy/rights.rs"),
        include_str!("../src/relay.rs"),
        include_str!("../src/relay/memory.rs"),
        include_str!("../src/relay/message.rs"),
        include_str!("../src/relay/redis.rs"),
        include_str!("../src/relay/request.rs"),
        include_str!("../src/room/event.rs"),
        include_str!("../src/room/history.rs"),
        include_str!("../src/store.rs"),
        include_str!("../src/store/memory.rs"),
        include_str!("../src/store/redb.rs"),
        include_str!("../src/client.rs"),
        include_str!("../src/client/builder.rs"),
        include_str!("../src/client/error.rs"),
        include_str!("../src/client/event.rs"),
        include_str!("../src/testing/builders.rs"),
    ];
    let types = modules.iter().flat_map(|source| source.lines()).filter_map(|line| {
        let name = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "))?;
        Some(name.split([' ', '(', '<', ';']).next().unwrap().to_owned())
    });
    let public: HashSet<_> = public.filter(|name| !name.is_empty()).chain(types).collect();
    assert!(public.len() > 60, "{public:?}");
    let missing: Vec<_> = public
        .iter()
        .filter(|name| !shown.0.contains(*name) && !not_shown.contains(name))
        .collect();
    assert!(missing.is_empty(), "not shown here: {missing:?}");
}
