//! A `redis-server` for one test.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Folder, PATIENCE};

pub struct Redis {
    child: Child,
    port: u16,
    /// Whether it listens for TLS alone.
    is_secret: bool,
    /// Further options, the same after a restart.
    options: Vec<String>,
    /// The folder of its append-only file.
    folder: Folder,
}

impl Redis {
    pub fn start(name: &str) -> Self {
        Self::start_as(name, false, &[])
    }

    /// Starts a server with these options.
    pub fn with(name: &str, options: &[&str]) -> Self {
        Self::start_as(name, false, options)
    }

    /// Starts a node of a cluster that has no other.
    pub fn cluster(name: &str) -> Self {
        Self::cluster_with(name, &[])
    }

    /// Starts a node of a cluster with these options.
    pub fn cluster_with(name: &str, options: &[&str]) -> Self {
        // By default its second port is among the ephemeral ones, and may be taken.
        let port = free_port().to_string();
        let own = ["--cluster-enabled", "yes", "--cluster-port", &port];
        Self::with(name, &own.into_iter().chain(options.iter().copied()).collect::<Vec<_>>())
    }

    /// Starts a Sentinel with this file.
    pub fn sentinel(name: &str, file: &str) -> Self {
        let (port, folder) = (free_port(), Folder::new(name));
        let child = Command::new("redis-server")
            .args([file, "--sentinel", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(port);
        Self { child, port, is_secret: false, options: Vec::new(), folder }
    }

    /// Starts a server for TLS alone, for `localhost`, with the password `secret`.
    pub fn secret(name: &str) -> Self {
        Self::start_as(name, true, &[])
    }

    /// Starts a server like [`secret`](Self::secret), which also asks its clients for its own certificate.
    pub fn certified(name: &str) -> Self {
        let port = free_port();
        let folder = Folder::new(name);
        let own = ["--tls-auth-clients", "yes", "--tls-ca-cert-file", &folder.file("cert.pem")];
        let options = own.map(str::to_owned).to_vec();
        Self { child: run(port, true, &options, &folder), port, is_secret: true, options, folder }
    }

    fn start_as(name: &str, is_secret: bool, options: &[&str]) -> Self {
        let port = free_port();
        let folder = Folder::new(name);
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        Self { child: run(port, is_secret, &options, &folder), port, is_secret, options, folder }
    }

    pub fn url(&self) -> String {
        match self.is_secret {
            false => format!("redis://127.0.0.1:{}/0", self.port),
            true => format!("rediss://:secret@localhost:{}/3", self.port),
        }
    }

    /// Returns the path of the certificate of a server with TLS.
    pub fn certificate(&self) -> String {
        self.folder.file("cert.pem")
    }

    /// Returns the path of that certificate's key.
    pub fn key(&self) -> String {
        self.folder.file("key.pem")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server, as `kill -9` does.
    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Restarts the server after a crash, with its data.
    pub fn restart(&mut self) {
        self.child = run(self.port, self.is_secret, &self.options, &self.folder);
    }

    /// Restarts the server after a crash, without its data.
    pub fn restart_empty(&mut self) {
        std::fs::remove_dir_all(self.folder.file("appendonlydir")).unwrap();
        self.restart();
    }

    /// Suspends the server by SIGSTOP, or resumes it.
    pub fn stand_still(&self, is_still: bool) {
        let signal = if is_still { "-STOP" } else { "-CONT" };
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
    }
}

/// Returns a free port outside the system's ephemeral range, so that nobody else gets it while the server
/// is down.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    let mut ports = (0..100).map(|_| first + NEXT.fetch_add(1, Relaxed) % 100);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

fn run(port: u16, is_secret: bool, options: &[String], folder: &Folder) -> Child {
    let (port_text, file) = (port.to_string(), |name| folder.file(name));
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    let ports = match is_secret {
        false => vec!["--port", &port_text],
        true => {
            certify(&certificate, &key);
            #[rustfmt::skip]
            let options = vec![
                "--port", "0", "--tls-port", &port_text, "--tls-auth-clients", "no",
                "--tls-cert-file", &certificate, "--tls-key-file", &key, "--requirepass", "secret",
            ];
            options
        }
    };
    let child = Command::new("redis-server")
        .args(ports)
        .args(["--dir", &file("")])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is missing: tests/run installs it");
    wait_for(port);
    child
}

fn wait_for(port: u16) {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < PATIENCE, "redis-server does not answer");
        sleep(Duration::from_millis(5));
    }
}

/// Writes a self-signed certificate for `localhost`.
pub fn certify(certificate: &str, key: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-keyout", key, "-out", certificate])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .stderr(Stdio::null())
        .status()
        .expect("openssl is missing: tests/run installs it");
    assert!(made.success());
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stand_still(false);
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
