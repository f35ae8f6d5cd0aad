//! A server in a process of its own, and players that load it from this one.

#![allow(dead_code, reason = "each bench uses its part")]

pub(crate) mod player;
pub(crate) mod processor;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod server;
pub(crate) mod work;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The environment variable with the kind of the server, in a server's process.
const SERVE: &str = "LOAD_SERVE";
/// The environment variable that is set once this process has its core and its limit of open files.
const READY: &str = "LOAD_READY";

/// Gives this process a core of its own and the highest limit of open files, or makes it the server that
/// another process asked for. Must be called first.
pub(crate) fn begin() {
    if let Ok(kind) = env::var(SERVE) {
        server::serve(&kind);
    }
    if env::var(READY).is_err() {
        let program = env::current_exe().expect("a path");
        let mut again = on_core(1, &program);
        let error = again.args(env::args().skip(1)).env(READY, "1").exec();
        panic!("cannot run {program:?} again: {error}");
    }
}

/// Returns a command that runs on this core. With two or more cores, the server runs on core 0 and the
/// load on core 1.
fn on_core(core: usize, program: &std::path::Path) -> Command {
    let mut command = Command::new("sh");
    let script = r#"ulimit -n "$(ulimit -Hn)"; core=$1; shift
        if [ "$(nproc --all)" -gt 1 ] && command -v taskset >/dev/null; then
            exec taskset -c "$core" "$@"
        fi
        exec "$@""#;
    command.args(["-c", script, "sh", &core.to_string()]).arg(program);
    command
}

/// A running server, which is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(kind: &str) -> Self {
        let program = env::current_exe().expect("a path");
        let mut command = on_core(0, &program);
        command.env(SERVE, kind).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("its address");
        let address = line.trim().parse().expect("an address");
        Self { child, address }
    }

    /// Makes the server close all rooms, like a host that deploys.
    pub(crate) fn close_rooms(&mut self) {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(b"close\n").expect("it reads");
    }

    /// Returns the processor time that the server has used.
    pub(crate) fn cpu(&self) -> Duration {
        processor::processor(&self.child.id().to_string())
    }

    /// Returns the memory in kilobytes, now and at its peak.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = self.proc("status");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or_default()
        };
        (field("VmRSS"), field("VmHWM"))
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("Linux's /proc")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Returns the value below which this share of the sorted values lies.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}
