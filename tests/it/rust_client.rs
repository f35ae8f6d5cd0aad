//! The client in Rust, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{sync::Arc, time::Duration};

use crate::common::{
    Folder, Server, certify, eventually, example_path, serve, unlimited_rate, within,
};
use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::IntoResponse,
};
use axum_cloud_variables::{
    CloseCode, LeaveCause, RoomRegistry, Schema,
    client::{Client, ClientError, ClientEvent, UpdateError},
    events::{Events, RoomEvent},
    policy::Rights,
};
use futures_util::{SinkExt, StreamExt};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

const VARIABLES: [(&str, &str); 2] = [("x", "0"), ("y \"☁\"\n", "")];

async fn join(server: &Server, name: &str) -> Client {
    within("a join", Client::connect(&server.url(), "arena", name, VARIABLES)).await.unwrap()
}

async fn next(events: &mut Events<ClientEvent>) -> ClientEvent {
    within("an event", events.next()).await.unwrap()
}

fn set(name: &str, value: &str) -> ClientEvent {
    ClientEvent::Set { name: name.into(), value: value.into() }
}

#[tokio::test]
async fn clients_see_the_values_of_others_and_the_host() {
    let server = Server::start().await;
    let (ann, bob) = (join(&server, "ann").await, join(&server, "bob").await);
    let (mut of_ann, mut of_bob) = (ann.events(), bob.events());
    ann.set("y \"☁\"\n", "\"1\"\u{2028}");
    assert_eq!(ann.get("y \"☁\"\n").as_deref(), Some("\"1\"\u{2028}"), "at once");
    assert_eq!(next(&mut of_bob).await, set("y \"☁\"\n", "\"1\"\u{2028}"));
    let room = server.rooms.room("arena").unwrap();
    room.set("x", 4.5).unwrap();
    for (client, events) in [(&ann, &mut of_ann), (&bob, &mut of_bob)] {
        assert_eq!(next(events).await, set("x", "4.5"));
        assert_eq!(client.get_as("x"), Some(4.5));
        assert_eq!(client.variables().len(), 2);
    }
    assert_eq!(ann.get("z"), None);
    // All of many sets arrive, in order.
    (0..500).for_each(|value| ann.set("x", value));
    for value in 0..500 {
        assert_eq!(next(&mut of_bob).await, set("x", &value.to_string()));
    }
    ann.close().await;
    assert_eq!(ann.ended().await, ClientError::Left);
    eventually("ann left", || room.len() == 1).await;
    drop((bob, of_bob));
    eventually("bob's connection ended with him", || room.is_empty()).await;
}

#[tokio::test]
async fn a_client_comes_back_and_brings_its_values() {
    let server = Server::start().await;
    let ann = join(&server, "ann").await;
    let mut events = ann.events();
    let room = server.rooms.room("arena").unwrap();
    room.close().await.unwrap();
    let ClientEvent::Left { error, returns: Some(returns) } = next(&mut events).await else {
        panic!()
    };
    assert_eq!(error, ClientError::Closed { code: 1001, reason: "the room was closed".into() });
    assert!(returns <= Duration::from_millis(400));
    assert!(!ann.is_joined());
    ann.set("x", "away");
    // First the client receives the room's values.
    while next(&mut events).await != ClientEvent::Joined {}
    eventually("the set has arrived", || room.get("x").as_deref() == Some("away")).await;
    // It gets its name back at once, even if the server has not noticed that it was gone.
    assert_eq!(room.len(), 1);
}

#[tokio::test]
async fn a_client_learns_why_it_is_refused() {
    let server = Server::start().await;
    let _ann = join(&server, "ann").await;
    let refused = |url: String, name: &'static str, variables: &'static [(&str, &str)]| async move {
        Client::connect(&url, "arena", name, variables.iter().copied()).await.unwrap_err()
    };
    let closed = refused(server.url(), "bob", &[("z", "0")]).await;
    assert!(matches!(&closed, ClientError::Closed { code: 4001, .. }), "{closed}");
    let closed = refused(server.url(), "b c", &VARIABLES).await;
    assert!(matches!(&closed, ClientError::Closed { code: 4002, .. }), "{closed}");
    let strict = Router::new().merge(server.rooms.mount("/staff").require_identity(true)).layer(
        from_fn(async |request: Request, next: Next| match request.headers().get("ticket") {
            Some(ticket) if ticket == "7" => next.run(request).await,
            Some(_) => (StatusCode::FORBIDDEN, "another ticket\n").into_response(),
            None => next.run(request).await,
        }),
    );
    let url = format!("http://{}/staff", serve(strict).await);
    let refusal = refused(url.clone(), "bob", &VARIABLES).await;
    assert!(matches!(&refusal, ClientError::Refused { status: 401, .. }), "{refusal}");
    let refusal = Client::builder(&url, "arena", "bob").header("ticket", "8").connect().await;
    let expected = ClientError::Refused { status: 403, reason: "another ticket".into() };
    assert_eq!(refusal.unwrap_err(), expected);
    let nowhere = refused("ws://127.0.0.1:1/cloud".into(), "bob", &VARIABLES).await;
    assert!(matches!(&nowhere, ClientError::Unreachable(_)), "{nowhere}");
    let address = refused("/cloud".into(), "bob", &VARIABLES).await;
    assert!(matches!(&address, ClientError::Address(_)), "{address}");
    let header = Client::builder(&url, "arena", "bob").header("a b", "8").connect().await;
    assert!(matches!(header, Err(ClientError::Address(_))));
}

#[tokio::test]
async fn a_client_that_is_put_out_for_good_stays_away() {
    let server = Server::start().await;
    let ann = join(&server, "ann").await;
    let mut events = ann.events();
    let room = server.rooms.room("arena").unwrap();
    room.end(CloseCode::Incompatible, "the match is over").await.unwrap();
    let error = ClientError::Closed { code: 4001, reason: "the match is over".into() };
    assert_eq!(next(&mut events).await, ClientEvent::Left { error: error.clone(), returns: None });
    assert_eq!(within("the end of the events", events.next()).await, None);
    assert_eq!(ann.events().next().await, None);
    assert_eq!(ann.ended().await, error);
    assert_eq!(ann.joined().await, Err(error.clone()));
    assert_eq!(ann.update("x", |_| 1).await, Err(UpdateError::Ended(error)));
    eventually("it is gone", || server.rooms.stats().sessions == 0).await;
}

/// A set that was made just before the client leaves is sent, and so is a close.
#[tokio::test]
async fn the_last_set_of_a_client_arrives() {
    let server = Server::start().await;
    let _bob = join(&server, "bob").await;
    let room = server.rooms.room("arena").unwrap();
    let mut events = room.events();
    for n in 0..40 {
        let ann = join(&server, "ann").await;
        (0..10).for_each(|m| ann.set("x", format!("{n} {m}")));
        match n % 2 {
            0 => ann.close().await,
            _ => drop(ann),
        }
        eventually("ann has left", || room.len() == 1).await;
        assert_eq!(room.get("x").unwrap(), format!("{n} 9"));
        let cause = within("ann leaves", async {
            loop {
                if let Some(RoomEvent::Left { cause, .. }) = events.next().await {
                    return cause;
                }
            }
        });
        assert_eq!(cause.await, LeaveCause::Closed, "{n}");
    }
}

#[tokio::test]
async fn values_that_the_room_does_not_take_are_given_up() {
    let policy = Rights::new().host_only("round");
    let rooms = RoomRegistry::builder().policy(policy).schema(Schema::Growing);
    let server = Server::with(rooms).await;
    let ann = join(&server, "ann").await;
    let room = server.rooms.room("arena").unwrap();
    room.set("round", 1).unwrap();
    let updated = within("an answer", ann.update("round", |_| 2)).await;
    assert_eq!(updated, Err(UpdateError::Refused));
    // This message is too long: the server closes with 1009, and takes the rest.
    ann.set("x", "v".repeat(200_000));
    ann.set("later", 1);
    eventually("the rest arrives", || room.get("later").is_some()).await;
    eventually("the room's value is shown", || ann.get("x").as_deref() == Some("0")).await;
}

/// A program never waits for a client whose task is gone.
#[tokio::test]
async fn a_client_whose_task_has_died_says_so() {
    async fn never() -> std::io::Result<TcpStream> {
        panic!("as a program's own code may")
    }
    let client = Client::builder("ws://host/", "arena", "ann").over(never);
    let died = within("an error", client.connect()).await;
    assert!(matches!(died, Err(ClientError::Unreachable(_))), "{died:?}");
    let server = Server::start().await;
    let url = server.url();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(Client::connect(&url, "arena", "ann", VARIABLES)).unwrap()
    });
    let orphan = tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    within("a close", orphan.close()).await;
    assert!(orphan.joined().await.is_err() && !orphan.is_joined());
    assert!(matches!(orphan.update("x", |_| 1).await, Err(UpdateError::Ended(_))));
}

/// Every one of many concurrent updates counts.
#[tokio::test(flavor = "multi_thread")]
async fn updates_of_many_clients_all_count() {
    let rooms = RoomRegistry::builder().limits(unlimited_rate()).schema(Schema::Growing);
    let server = Server::with(rooms).await;
    let mut tasks = Vec::new();
    for n in 0..10 {
        let client = join(&server, &format!("p{n}")).await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                let add = |old: &str| old.parse::<u64>().unwrap_or(0) + 1;
                client.update("score", add).await.unwrap();
            }
            client
        }));
    }
    let clients = futures_util::future::join_all(tasks).await;
    let room = server.rooms.room("arena").unwrap();
    assert_eq!(room.get("score").as_deref(), Some("200"));
    drop(clients);
}

/// A server that knows only the protocol: it acknowledges nothing, and closes for good.
#[tokio::test]
async fn a_client_plays_with_a_server_that_knows_the_protocol_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let mut texts = Vec::new();
        while texts.len() < 3 {
            match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => texts.push(text.to_string()),
                _ => continue,
            }
            if texts.len() == 1 {
                let value = r#"{"kind":"set","variable":"x","value":"7"}"#;
                socket.send(Message::text(value)).await.unwrap();
            }
        }
        socket.close(None).await.unwrap();
        texts
    });
    let url = format!("ws://{addr}");
    let client = within("a join", Client::connect(&url, "arena", "ann", VARIABLES)).await.unwrap();
    assert_eq!(client.get("x").as_deref(), Some("7"));
    client.set("x", 8);
    assert_eq!(client.update("x", |old| old.parse::<u64>().unwrap() + 1).await.as_deref(), Ok("9"));
    let texts = within("the texts", server).await.unwrap();
    assert!(texts[0].contains(r#""kind":"handshake","room":"arena","username":"ann""#));
    assert_eq!(texts[1], r#"{"kind":"set","variable":"x","value":"8"}"#);
    assert_eq!(texts[2], r#"{"kind":"set","variable":"x","value":"9","was":"8","ack":1}"#);
}

/// A bot plays over TLS, and only with a server that it trusts.
#[tokio::test(flavor = "multi_thread")]
async fn the_bot_plays_by_tls() {
    let folder = Folder::new("bot-tls");
    let (certificate, key) = (folder.file("cert.pem"), folder.file("key.pem"));
    certify(&certificate, &key);
    let server = Server::with(RoomRegistry::builder().schema(Schema::Growing)).await;
    let meadow = server.rooms.open("meadow").variables([("star", "30 0"), ("score", "0")]);
    let meadow = meadow.await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}/cloud", listener.local_addr().unwrap().port());
    let certificates = CertificateDer::pem_file_iter(&certificate).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            certificates.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(&key).unwrap(),
        );
    let acceptor = TlsAcceptor::from(Arc::new(tls.unwrap()));
    let to = server.addr;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(to).await.unwrap();
                _ = copy_bidirectional(&mut stream, &mut plain).await;
            });
        }
    });
    let bot = |certificate: &str| {
        let mut command = tokio::process::Command::new(example_path("bot"));
        command.args(["--url", &url]).env("SSL_CERT_FILE", certificate).kill_on_drop(true);
        command.spawn().unwrap()
    };
    let mut bot_that_trusts = bot(&certificate);
    eventually("a star is caught", || meadow.get_as::<u64>("score") > Some(0)).await;
    assert_eq!(&*meadow.members()[0].username, "bot");
    bot_that_trusts.kill().await.unwrap();
    eventually("it is gone", || meadow.is_empty()).await;
    let stranger = folder.file("other.pem");
    certify(&stranger, &key);
    assert!(!within("its end", bot(&stranger).wait()).await.unwrap().success());
}
