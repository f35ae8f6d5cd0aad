//! P7 and P8 in the log: it contains no value, token, cookie or query, others' text cannot forge lines,
//! and a flood of connections is no flood of lines.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    io::{self, Write},
    sync::Arc,
};

use axum_cloud_variables::{CloseCode, RoomRegistry};
use common::{Client, Server};
use parking_lot::Mutex;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, client::IntoClientRequest},
};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

const SECRET: &str = "s3cr3t";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let lines = std::mem::take(&mut *self.0.lock());
        String::from_utf8(lines).unwrap().lines().map(Into::into).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asks for an upgrade with a secret in the query, in a cookie and in a token.
async fn knock(server: &Server, origin: &str) -> u16 {
    let mut request = format!("{}?token={SECRET}", server.url()).into_client_request().unwrap();
    for (name, value) in [("cookie", SECRET), ("authorization", SECRET), ("origin", origin)] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    match connect_async(request).await {
        Err(Error::Http(refused)) => refused.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_log_tells_no_secrets_and_is_not_flooded() {
    let log = Log::default();
    let (all, writer) = (log.clone(), log.clone());
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone()))
        .with(Targets::new().with_target("axum_cloud_variables", tracing::Level::TRACE))
        .init();

    let server = Server::with(RoomRegistry::builder()).await;
    let room = format!("room-{SECRET}");
    let mut ann = server.join(&room, "ann", &[("x", SECRET)]).await;
    ann.set("x", &format!("{SECRET}{SECRET}")).await;
    ann.sync().await;
    let said = [
        format!(r#"{{"kind":"{SECRET}\n"}}"#),
        format!(r#"{{"kind":"handshake","room":"{room}","username":"{SECRET} \u001b[31m"}}"#),
        format!(r#"{{"kind":"handshake","{SECRET}":{SECRET}"#),
        format!(
            r#"{{"kind":"handshake","room":"r","username":"{SECRET} \n","variables":{{"{SECRET}":"{SECRET}"}}}}"#
        ),
    ];
    for said in said {
        let mut stranger: Client = server.connect().await;
        stranger.send(&said).await;
        stranger.closed().await;
    }
    server.join(&room, "guest", &[("x", SECRET)]).await.close().await;
    let arena = server.rooms.room(&room).unwrap();
    let id = arena.members()[0].id;
    arena.kick(id, CloseCode::Kicked, "enough").await.unwrap();
    ann.closed().await;

    // A tab is allowed in a header, but a line of the log must not look like two columns.
    let origin = format!("http://evil\t{}", "x".repeat(5_000));
    for _ in 0..100 {
        assert_eq!(knock(&server, &origin).await, 403);
    }
    let lines = all.lines();
    assert!(lines.len() > 4, "{lines:?}");
    for line in &lines {
        assert!(!line.contains(SECRET), "{line}");
        assert!(!line.contains(['\t', '\u{1b}']), "{line}");
        assert!(line.len() < 1_000, "{line}");
    }
    // The README has a table of them.
    for event in ["joined", "closing code=4000 reason=", "left"] {
        assert!(lines.iter().any(|line| line.contains(event)), "{event} is not in {lines:?}");
    }
    let in_span = |line: &&String| line.contains("session{username=\"ann\" dialect=Spec}");
    assert!(lines.iter().filter(in_span).count() >= 2, "{lines:?}");
    let refused = "a page's origin may not connect: see Mount::origins, or --allow-origin origin=";
    assert!(lines.iter().any(|line| line.contains(refused)), "{lines:?}");
    let loud: Vec<_> = lines.iter().filter(|line| !line.contains("DEBUG")).collect();
    // One of the page's origin, and one a second of each code and status.
    let of = |event: &str| loud.iter().filter(|line| line.contains(event)).count();
    assert_eq!(of("a page's origin may not connect"), 1, "{loud:?}");
    assert!((1..=3).contains(&of("not upgraded status=403")), "a hundred refusals: {loud:?}");
    assert!((1..=3).contains(&of("closing code=4000")), "{loud:?}");
    assert!(loud.len() <= 12, "{} lines: {loud:?}", loud.len());
}
