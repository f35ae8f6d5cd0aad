//! A broker for one run.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::processor::processor;

/// A running `redis-server` without persistence, which is killed when it is dropped.
pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        Self { child, port }
    }

    /// Returns the number of scripts that it has run since its start.
    pub(crate) async fn scripts(&self) -> u64 {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).expect("one");
        let mut connection = client.get_multiplexed_async_connection().await.expect("one");
        let asked = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await;
        let stats: String = asked.expect("statistics");
        let of = |name: &str| {
            let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:")));
            let calls = line.and_then(|line| line.split(['=', ',']).nth(1)?.parse().ok());
            calls.unwrap_or(0)
        };
        of("evalsha") + of("eval")
    }

    pub(crate) fn processor(&self) -> Duration {
        processor(&self.child.id().to_string())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
