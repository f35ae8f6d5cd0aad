//! A `redis-server` of one's own.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Folder, PATIENCE};

pub struct Redis {
    child: Child,
    port: u16,
    /// Its append-only file.
    folder: Folder,
}

impl Redis {
    pub fn start(name: &str) -> Self {
        // Free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = Folder::new(name);
        Self { child: run(port, &folder), port, folder }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `kill -9` does.
    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// After a crash, with what it had.
    pub fn restart(&mut self) {
        self.child = run(self.port, &self.folder);
    }

    /// After a crash, with nothing.
    pub fn restart_empty(&mut self) {
        std::fs::remove_dir_all(self.folder.file("appendonlydir")).unwrap();
        self.restart();
    }

    /// It stands still, as by SIGSTOP, or goes on.
    pub fn stand_still(&self, is_still: bool) {
        let signal = if is_still { "-STOP" } else { "-CONT" };
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
    }
}

fn run(port: u16, folder: &Folder) -> Child {
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--dir", &folder.file("")])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is missing: tests/run installs it");
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < PATIENCE, "redis-server does not answer");
        sleep(Duration::from_millis(5));
    }
    child
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stand_still(false);
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
