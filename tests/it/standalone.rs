//! The program `cloud-variables`, as an operator runs it: by signals, files, sockets and its log.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::ToSocketAddrs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixDatagram,
        process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::common::{
    Client, Folder, Process, Redis, certify, eventually, example_path, page, within,
};
use futures_util::{SinkExt, StreamExt};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

const X: &[(&str, &str)] = &[("x", "0")];

/// A running server, and its output on stderr.
struct Running {
    child: Child,
    /// The addresses that it listens on.
    addresses: Vec<String>,
    log: Arc<Mutex<String>>,
}

impl Running {
    /// Starts a server, and waits until it listens on this many addresses.
    fn start(args: &[&str], variables: &[(&str, &str)], addresses: usize) -> Self {
        let mut command = Command::new(example_path("standalone"));
        command.args(args).envs(variables.iter().copied());
        Self::run(command, addresses)
    }

    fn run(mut command: Command, addresses: usize) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let log: Arc<Mutex<String>> = Arc::default();
        let written = log.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = errors.read(&mut buffer) {
                written.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next =
            || lines.next().unwrap_or_else(|| panic!("{}", log.lock().unwrap())).unwrap();
        let addresses = (0..addresses).map(|_| next().split(' ').next_back().unwrap().to_owned());
        let addresses = addresses.collect();
        Self { child, addresses, log }
    }

    /// Returns the host and port of an address.
    fn at(&self, index: usize) -> &str {
        self.addresses[index].split("://").nth(1).unwrap()
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.at(0))
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    async fn logs(&self, text: &str) {
        eventually(text, || self.log().contains(text)).await;
    }

    /// Waits until the server has ended, and returns its exit code.
    fn exit_code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_turns_unready_before_the_first_close() {
    let args = ["--listen", "127.0.0.1:0", "--health", "/health", "--drain-delay", "0.5"];
    let server = Running::start(&args, &[], 1);
    assert_eq!(page(server.at(0), "/health/live").await, (200, "live\n".into()));
    assert_eq!(page(server.at(0), "/health/ready").await, (200, "ready\n".into()));
    let mut ann = Client::join(&server.url(), "arena", "ann", X).await;
    ann.sync().await;
    let check = format!("http://{}/health/ready", server.at(0));
    assert_eq!(Process::run(&["--check", &check]), (true, "ready\n".into()));
    server.signal("-TERM");
    while page(server.at(0), "/health/ready").await.0 == 200 {}
    assert_eq!(page(server.at(0), "/health/live").await.0, 200);
    let (status, reason) = page(server.at(0), "/health/ready").await;
    assert_eq!((status, &*reason), (503, "the server is about to end\n"));
    let (is_well, said) = Process::run(&["--check", &check]);
    assert!(!is_well && said.contains("about to end"), "{said}");
    ann.sync().await;
    assert_eq!(ann.closed().await.0, 1001);
    assert_eq!(server.exit_code(), 0);
}

/// Files with rooms and addresses are read again on SIGHUP, and those that they block have to leave.
#[tokio::test]
async fn lists_are_read_again_and_hold_at_once() {
    let folder = Folder::new("standalone_lists");
    let [rooms, addresses] = ["rooms", "addresses"].map(|name| folder.file(name));
    fs::write(&rooms, "# comments\n\narena*\n").unwrap();
    fs::write(&addresses, "").unwrap();
    let args = ["--listen", "127.0.0.1:0", "--trust-proxy", "127.0.0.1"];
    let files = ["--allow-room-file", &rooms, "--block-address-file", &addresses];
    let server = Running::start(&[args, files].concat(), &[], 1);
    let from = async |room: &str, name: &str, address: &str| {
        let mut request = server.url().into_client_request().unwrap();
        request.headers_mut().insert("x-forwarded-for", address.parse().unwrap());
        let mut client = Client::request(request).await.ok()?;
        client.handshake(room, name, X).await;
        client.ping().await;
        Some(client)
    };
    let mut ann = from("arena 1", "ann", "192.0.2.1").await.unwrap();
    let mut ben = from("arena 2", "ben", "192.0.2.2").await.unwrap();
    let mut eve = from("arena 2", "eve", "198.51.100.7").await.unwrap();
    for client in [&mut ann, &mut ben, &mut eve] {
        assert_eq!(client.next_is_close().await, None);
    }
    let refused = (4001, "this room is closed".to_owned());
    assert_eq!(from("lobby", "sue", "192.0.2.3").await.unwrap().closed().await, refused);

    fs::write(&addresses, "198.51.100.0/24\nnonsense\n").unwrap();
    server.signal("-HUP");
    server
        .logs(&format!("--block-address-file {addresses}: line 2: 'nonsense' is no address"))
        .await;
    eve.sync().await;

    fs::write(&addresses, "198.51.100.0/24\n").unwrap();
    fs::write(&rooms, "arena 2\nlobby\n").unwrap();
    server.signal("-HUP");
    assert_eq!(ann.closed().await, refused);
    assert_eq!(eve.closed().await, (4001, "your address may not connect".to_owned()));
    ben.sync().await;
    assert!(from("arena 2", "eve", "198.51.100.7").await.is_none());
    let mut sue = from("lobby", "sue", "192.0.2.3").await.unwrap();
    assert_eq!(sue.next_is_close().await, None);
    server
        .logs("were read again allowed_rooms=2 blocked_rooms=0 blocked_addresses=1 closed=2")
        .await;

    // A signal that comes while the files are read counts too.
    let ids = (0..100_000).map(|n| format!("*no room {n}*\n")).collect::<String>();
    fs::write(&rooms, ids.clone() + "arena 2\nlobby\n").unwrap();
    server.signal("-HUP");
    // In one step, because the server may be reading.
    let new = folder.file("new");
    fs::write(&new, ids + "lobby\n").unwrap();
    fs::rename(&new, &rooms).unwrap();
    server.signal("-HUP");
    assert_eq!(ben.closed().await, refused);
    sue.sync().await;
}

/// The audit log says who wrote what from where.
#[tokio::test]
async fn the_audit_log_has_each_join_write_and_leave() {
    let folder = Folder::new("standalone_audit");
    let audit = folder.file("audit");
    let server = Running::start(&["--listen", "127.0.0.1:0", "--audit", &audit], &[], 1);
    let mut ann = Client::join(&server.url(), "arena", "ann", X).await;
    ann.set("x", "one \"word\"").await;
    ann.sync().await;
    ann.close().await;
    server.signal("-TERM");
    assert_eq!(server.exit_code(), 0);
    let files: Vec<_> = fs::read_dir(&audit).unwrap().map(|file| file.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(Path::new(&audit)), mode(file)), (0o700, 0o600));
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut lines: Vec<_> = lines.collect();
    // A join may be noted a moment later than the first write.
    lines.sort_by_key(|line| line["event"].as_str().unwrap().to_owned());
    for line in &lines {
        let known = (&line["room"], &line["username"], &line["address"]);
        assert_eq!(known, (&"arena".into(), &"ann".into(), &"127.0.0.1".into()), "{line}");
    }
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["creates", "joined", "left", "wrote"], "{text}");
    assert_eq!(lines[0]["variables"], serde_json::json!({ "x": "0" }));
    assert_eq!((&lines[3]["variable"], &lines[3]["value"]), (&"x".into(), &"one \"word\"".into()));
    assert_eq!(lines[2]["cause"], "closed");
}

/// A running server hands out its rooms, and a store on a read-only disk can be exported.
#[tokio::test]
async fn backups_need_no_stop_and_no_write() {
    let folder = Folder::new("standalone_backup");
    let [store, exported, program] =
        ["rooms.redb", "rooms.jsonl", "program"].map(|name| folder.file(name));
    let args = ["--listen", "127.0.0.1:0", "--store", &store, "--inspector", "ann:secret"];
    let server = Running::start(&args, &[], 1);
    let mut ann = Client::join(&server.url(), "arena", "ann", X).await;
    ann.set("x", "1").await;
    ann.sync().await;
    let path = "/inspector/rooms.jsonl";
    assert_eq!(page(server.at(0), path).await.0, 401);
    let is_refused = |more: &[&str]| {
        let url = format!("http://ann:secret@{}{path}", server.at(0));
        let download = Command::new("curl").args(["--silent", "--fail", &url]).args(more).status();
        !download.unwrap().success()
    };
    assert!(is_refused(&["--http1.0"]), "its end would not show");
    assert!(is_refused(&["--header", "sec-fetch-site: cross-site"]));
    let url = format!("http://ann:secret@{}{path}", server.at(0));
    let download = Command::new("curl").args(["--silent", "--fail", &url]).output().unwrap();
    let line = String::from_utf8(download.stdout).unwrap();
    let room = serde_json::from_str::<serde_json::Value>(&line).unwrap();
    assert_eq!((&room["room"], &room["variables"]["x"]), (&"arena".into(), &"1".into()));
    drop(ann);
    server.signal("-TERM");
    assert_eq!(server.exit_code(), 0);

    fs::set_permissions(&store, fs::Permissions::from_mode(0o444)).unwrap();
    let before = fs::read(&store).unwrap();
    // Root may write to every file, so another user exports.
    fs::copy(example_path("standalone"), &program).unwrap();
    let mut export = Command::new(&program);
    export.args(["--store", &store, "--export", "-"]);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        export.uid(65_534).gid(65_534);
    }
    let export = export.output().unwrap();
    let said = String::from_utf8_lossy(&export.stderr);
    assert!(export.status.success(), "{said}");
    fs::write(&exported, &export.stdout).unwrap();
    let line = String::from_utf8(export.stdout).unwrap();
    let room = serde_json::from_str::<serde_json::Value>(&line).unwrap();
    assert_eq!((&room["room"], &room["variables"]["x"]), (&"arena".into(), &"1".into()));
    assert_eq!(fs::read(&store).unwrap(), before);
    let other = folder.file("other.redb");
    let (is_well, said) = Process::run(&["--store", &other, "--import", &exported]);
    assert!(is_well && said.contains("1 rooms imported"), "{said}");
}

#[tokio::test]
async fn a_stop_that_loses_something_says_so_and_has_a_code_of_its_own() {
    let mut redis = Redis::start("standalone_lost");
    let args = ["--listen", "127.0.0.1:0", "--grace", "1"];
    let server = Running::start(&args, &[("CLOUD_REDIS", &redis.url())], 1);
    let mut ann = Client::join(&server.url(), "arena", "ann", X).await;
    redis.crash();
    ann.set("x", "1").await;
    ann.sync().await;
    server.signal("-TERM");
    ann.closed().await;
    let log = server.log.clone();
    assert_eq!(server.exit_code(), 3);
    let said = "error: the broker misses the last writes of 1 rooms";
    eventually("it says so", || log.lock().unwrap().contains(said)).await;
}

#[tokio::test]
async fn the_log_explains_itself() {
    let args = ["--listen", "127.0.0.1:0", "--metrics", "--admin", "127.0.0.1:0"];
    let server =
        Running::start(&args, &[("RUST_LOG", ""), ("CLOUD_ROOMS", "77"), ("CLOUD_ROOM", "78")], 2);
    let mut ann = Client::join(&server.url(), "arena", "ann", X).await;
    ann.sync().await;
    let mut eve = Client::connect(&server.url()).await;
    eve.handshake("arena", "eve", &[("y", "0")]).await;
    assert_eq!(eve.closed().await.0, 4001);
    ann.close().await;
    assert_eq!(page(server.at(0), "/metrics").await.0, 404, "it has an address of its own");
    assert!(page(server.at(1), "/metrics").await.1.contains("process_open_fds"));
    // The log names the room by a hash of `arena`.
    for line in [
        &format!("started version=\"{}\" addresses=\"http://{}\"", "0.1.0", server.at(0)),
        "rooms end with the server: --store FILE keeps them",
        "limits rooms=77 members_per_room=128",
        "no option has this name: --help lists them variable=\"CLOUD_ROOM\"",
        "pages of every origin may connect",
        "joined room=\"572e31f5\" username=\"ann\" dialect=Spec",
        "closing code=4001 reason=",
        "left room=\"572e31f5\" username=\"ann\" cause=Closed",
    ] {
        server.logs(line).await;
    }
    let log = server.log();
    assert!(!log.contains("arena") && !log.contains('\u{1b}'), "{log}");
    server.signal("-INT");
    server.logs("stopped unanswered=0 unsaved=0 untold=0").await;
    assert_eq!(server.exit_code(), 0);

    let args = ["--listen=127.0.0.1:0", "--log-format=json", "--log-rooms=id"];
    let server = Running::start(&args, &[], 1);
    let _ann = Client::join(&server.url(), "arena", "ann", X).await;
    server.logs("\"joined\"").await;
    for line in server.log().lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(entry["timestamp"].is_string() && entry["fields"]["message"].is_string(), "{line}");
    }
    assert!(server.log().contains(r#""room":"arena""#), "{}", server.log());
    let quiet = Running::start(&["--listen=127.0.0.1:0"], &[("RUST_LOG", "error")], 1);
    let _ann = Client::join(&quiet.url(), "arena", "ann", X).await;
    assert_eq!(quiet.log(), "");
}

/// Connects over TLS, and returns the stream with the server's certificate.
async fn tls(addr: &str, roots: &[&str]) -> (TlsStream<TcpStream>, CertificateDer<'static>) {
    let mut trusted = RootCertStore::empty();
    roots
        .iter()
        .for_each(|root| trusted.add(CertificateDer::from_pem_file(root).unwrap()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(trusted).with_no_client_auth();
    let port = addr.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    (stream, shown)
}

#[tokio::test]
async fn tls_is_its_own_and_a_certificate_is_read_again() {
    let folder = Folder::new("standalone_tls");
    let [cert, key, old] = ["cert.pem", "key.pem", "old.pem"].map(|name| folder.file(name));
    certify(&cert, &key);
    fs::copy(&cert, &old).unwrap();
    let args = ["--listen", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key];
    let server = Running::start(&args, &[], 1);
    assert!(server.addresses[0].starts_with("https://"));
    let (stream, first) = tls(server.at(0), &[&cert]).await;
    let (mut ann, _) = tokio_tungstenite::client_async("wss://localhost/", stream).await.unwrap();
    let handshake = r#"{"kind":"handshake","room":"r","username":"ann","variables":{"x":"7"}}"#;
    ann.send(handshake.into()).await.unwrap();
    // A client that connects and never begins the handshake does not block the others.
    let _silent = TcpStream::connect(server.at(0)).await.unwrap();

    fs::write(&cert, "no certificate").unwrap();
    server.signal("-HUP");
    server.logs("the old certificate is still used").await;
    assert_eq!(tls(server.at(0), &[&old]).await.1, first);
    certify(&cert, &key);
    server.signal("-HUP");
    server.logs("the certificate was read again").await;
    let (mut stream, second) = tls(server.at(0), &[&cert]).await;
    assert_ne!(second, first);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 426"), "{}", String::from_utf8_lossy(&answer));
    // A member from before the renewal is still connected.
    ann.send(r#"{"kind":"set","variable":"x","value":"8"}"#.into()).await.unwrap();
    server.signal("-TERM");
    let close = within("a close", async {
        loop {
            if let Message::Close(Some(close)) = ann.next().await.unwrap().unwrap() {
                return u16::from(close.code);
            }
        }
    });
    assert_eq!(close.await, 1001);
    drop(ann);
    assert_eq!(server.exit_code(), 0);
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_outlives_a_crash() {
    let folder = Folder::new("standalone_unix");
    let path = folder.file("socket");
    let listen = format!("unix:{path}?660");
    let args = ["--listen", &listen, "--listen", "127.0.0.1:0", "--trust-proxy", "127.0.0.1"];
    let limits = ["--sessions-per-address", "1", "--block-address", "198.51.100.0/24"];
    let args = [&args[..], &limits].concat();
    let server = Running::start(&args, &[], 2);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    // The proxy behind the socket names its client's address.
    let connect = async |address: &'static str| {
        let stream = UnixStream::connect(&path).await.unwrap();
        let mut request = "ws://localhost/".into_client_request().unwrap();
        request.headers_mut().insert("x-forwarded-for", address.parse().unwrap());
        let connected = tokio_tungstenite::client_async(request, stream).await;
        connected.map(|(socket, _)| socket).map_err(|error| error.to_string())
    };
    let _first = connect("192.0.2.1").await.unwrap();
    let error = connect("192.0.2.1").await.unwrap_err();
    assert!(error.contains("429"), "{error}");
    let _other = connect("192.0.2.2").await.unwrap();
    let error = connect("198.51.100.7").await.unwrap_err();
    assert!(error.contains("403"), "{error}");
    server.signal("-KILL");
    drop(server);
    assert!(fs::metadata(&path).is_ok(), "the socket is left over");
    let server = Running::start(&args, &[], 2);
    let _first = connect("192.0.2.1").await.unwrap();
    server.signal("-TERM");
    assert_eq!(server.exit_code(), 0);
    assert!(fs::metadata(&path).is_err(), "it cleans up");
}

#[tokio::test]
async fn systemd_opens_the_socket_and_hears_that_it_is_ready() {
    let folder = Folder::new("standalone_systemd");
    let path = folder.file("notify");
    let notified = UnixDatagram::bind(&path).unwrap();
    notified.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // systemd passes the socket as file descriptor 3, and sets LISTEN_PID to the id of the process.
    let activate = "import os, socket, sys\n\
                    listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()\n\
                    os.dup2(listener.fileno(), 3); os.set_inheritable(3, True)\n\
                    os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
                    os.execv(sys.argv[1], sys.argv[1:])\n";
    let mut command = Command::new("python3");
    command.args(["-c", activate]).arg(example_path("standalone")).args(["--listen", "systemd"]);
    command.env("NOTIFY_SOCKET", &path);
    let server = Running::run(command, 1);
    let mut buffer = [0; 100];
    let mut hear = || {
        let count = notified.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).trim().to_owned()
    };
    assert_eq!(hear(), "READY=1");
    let mut ann = Client::join(&server.url(), "arena", "ann", X).await;
    ann.sync().await;
    server.signal("-TERM");
    assert_eq!(hear(), "STOPPING=1");
    ann.closed().await;
    assert_eq!(server.exit_code(), 0);
}

/// Runs the program until it ends by itself. Returns its exit code, and its output.
fn ends(args: &[&str]) -> (i32, String) {
    let output = Command::new(example_path("standalone")).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn a_wrong_setting_has_a_code_of_its_own_and_a_reason() {
    let folder = Folder::new("standalone_settings");
    let [public, store] = ["public", "public/rooms.redb"].map(|name| folder.file(name));
    fs::create_dir(&public).unwrap();
    fs::write(&store, "").unwrap();
    let same = folder.file("public/../public/rooms.redb");
    for (args, reason) in [
        (&["--roms", "1"][..], "unexpected argument '--roms'"),
        (&["--grace", "inf"], "a time from 0 to a day"),
        (&["--tick-ms=-1"], "a time from 0 to a day"),
        (&["--rooms", "0"], "rooms must not be zero"),
        (&["--path", "/:x"], "a path begins with a slash"),
        (&["--path", "/health/live", "--health", "/health"], "are the same"),
        (&["--allow-origin", "*"], "--allow-origin: '*'"),
        (&["--inspector", "s3cret"], "a name, a colon and a password"),
        (&["--redis", "s3cret"], "--redis: "),
        (&["--redis", "redis://a", "--redis", "redis://:s3cret/@b"], "--redis (2.): "),
        (
            &["--redis", "rediss://a", "--redis-cert", "no", "--redis-key", "no"],
            "--redis-cert no: ",
        ),
        (&["--public", &public, "--store", &store], "everyone could read it"),
        (&["--public", &public, "--audit", &public], "everyone could read it"),
        (&["--store", &store, "--export", &store], "the store's own file"),
        (&["--store", &store, "--export", &same], "the store's own file"),
    ] {
        let (code, said) = ends(args);
        assert!(code == 2 && said.contains(reason), "{args:?}: {code} {said}");
        assert!(!said.contains("s3cret") && !said.contains("panicked"), "{said}");
    }
    let (code, said) = ends(&["--listen", "192.0.2.1:1"]);
    assert!(code == 1 && said.contains("--listen 192.0.2.1:1"), "{said}");
}

#[tokio::test]
async fn an_export_leaves_the_store_and_an_earlier_export_whole() {
    let folder = Folder::new("standalone_export");
    let [store, lines, other] = ["a.redb", "a.jsonl", "b.redb"].map(|name| folder.file(name));
    // An empty file, as `touch` or a container's mount leaves it.
    fs::write(&store, "").unwrap();
    let server = Running::start(&["--listen", "127.0.0.1:0", "--store", &store], &[], 1);
    let mut ann = Client::join(&server.url(), "arena", "ann", X).await;
    ann.set("x", "7").await;
    ann.sync().await;
    server.signal("-TERM");
    ann.closed().await;
    assert_eq!(server.exit_code(), 0);
    assert_eq!(ends(&["--store", &store, "--export", &lines]).0, 0);
    let exported = fs::read_to_string(&lines).unwrap();
    assert!(exported.contains(r#""variables":{"x":"7"}"#), "{exported}");
    let (code, said) = ends(&["--store", &folder.file("typo.redb"), "--export", &lines]);
    assert!(code == 1 && said.contains("no such file"), "{said}");
    fs::write(&other, "no store").unwrap();
    assert_eq!(ends(&["--store", &other, "--export", &lines]).0, 1);
    assert_eq!(fs::read_to_string(&lines).unwrap(), exported);
    let (code, said) = ends(&["--store", &store, "--export", "-"]);
    assert!(code == 0 && said.starts_with(&exported), "{said}");
    // An import that waits for its input ends on a signal.
    let mut command = Command::new(example_path("standalone"));
    command.args(["--store", &store, "--import", "-"]).stdin(Stdio::piped());
    let waiting = Running::run(command, 0);
    let files = format!("/proc/{}/fd", waiting.child.id());
    let has_store = || {
        let mut files =
            fs::read_dir(&files).unwrap().filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        files.any(|file| file.ends_with("a.redb"))
    };
    eventually("it has the store", has_store).await;
    waiting.signal("-TERM");
    assert_eq!(waiting.exit_code(), 1);
}

#[tokio::test]
async fn both_kinds_of_addresses_may_have_one_port() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let all = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    let server = Running::start(&["--listen", &all[0], "--listen", &all[1], "--health=/h"], &[], 2);
    for host in ["127.0.0.1", "[::1]"] {
        assert_eq!(page(&format!("{host}:{port}"), "/h/live").await.0, 200, "{host}");
    }
    // An address that is in use is an error, and is not skipped.
    let (code, said) = ends(&["--listen", &format!("localhost:{port}")]);
    assert!(code == 1 && said.contains("in use"), "{said}");
    drop(server);
    // Without an IPv4 address for the same port, one socket serves both kinds.
    let server = Running::start(&["--listen", &all[1], "--health=/h"], &[], 1);
    assert_eq!(page(&format!("127.0.0.1:{port}"), "/h/live").await.0, 200);
    // A name stands for all its addresses, also for the operator's.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let admin = format!("localhost:{other}");
    let args = ["--listen", "127.0.0.1:0", "--admin", &admin, "--health=/h"];
    let addresses: Vec<_> = admin.to_socket_addrs().unwrap().collect();
    let named = Running::start(&args, &[], 1 + addresses.len());
    for address in addresses {
        assert_eq!(page(&address.to_string(), "/h/live").await.0, 200, "{address}");
    }
    drop(named);
    // The shutdown does not wait for a client that has sent half a request.
    let mut half = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    half.write_all(b"GET / HT").await.unwrap();
    // The server accepts this connection after that one.
    assert_eq!(page(&format!("127.0.0.1:{port}"), "/h/live").await.0, 200);
    let stopped = std::time::Instant::now();
    server.signal("-TERM");
    assert_eq!(server.exit_code(), 0);
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
}
