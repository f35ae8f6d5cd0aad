//! `standalone` as a process of its own, whose memory can be measured.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

pub struct Process {
    child: Child,
    pub addr: String,
}

impl Process {
    pub fn standalone(args: &[&str]) -> Self {
        Self::example("standalone", args)
    }

    /// Runs a process that ends by itself. Returns whether it succeeded, and its output.
    pub fn run(args: &[&str]) -> (bool, String) {
        let output = Command::new(example_path("standalone")).args(args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    /// Starts a server with an allocator that returns freed memory to the system. glibc keeps most of it,
    /// which would hide how much the server itself keeps.
    pub fn giving_memory_back(args: &[&str]) -> Self {
        let mut command = Command::new(example_path("standalone"));
        command
            .env("LD_PRELOAD", "libjemalloc.so.2")
            .env("MALLOC_CONF", "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0");
        let process = Self::start(command, args);
        let maps = fs::read_to_string(format!("/proc/{}/maps", process.child.id())).unwrap();
        assert!(maps.contains("jemalloc"), "libjemalloc2 is missing: tests/run installs it");
        process
    }

    /// Starts a server that trusts these certificates and no others.
    pub fn trusting(certificates: &str, args: &[&str]) -> Self {
        let mut command = Command::new(example_path("standalone"));
        command.env("SSL_CERT_FILE", certificates);
        Self::start(command, args)
    }

    /// Starts an example on a free port, or the one in `args`, and waits until it is ready.
    pub fn example(name: &str, args: &[&str]) -> Self {
        Self::start(Command::new(example_path(name)), args)
    }

    fn start(mut command: Command, args: &[&str]) -> Self {
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        // A test that looks at the log starts the program itself.
        command.env("RUST_LOG", "warn");
        let mut child = command.args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on http://").expect("a ready line");
        Self { addr: addr.into(), child }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/", self.addr)
    }

    /// Returns the resident memory in KiB: now, and the highest since `reset_peak`.
    pub fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Returns the processor time that the process has used, in seconds.
    pub fn processor(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // After the name, which may contain spaces: user and system time, in hundredths of a second.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / 100.0
    }

    /// Returns the number of open files, including sockets.
    pub fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// Asks the process to end, as a host would.
    pub fn ask_to_end(&self) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    }

    /// Kills the process, as a crash would.
    pub fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Suspends the process by SIGSTOP, or resumes it.
    pub fn stand_still(&self, is_still: bool) {
        let signal = if is_still { "-STOP" } else { "-CONT" };
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
    }

    /// Waits for the end of the process, and returns whether it succeeded.
    pub fn ended_well(mut self) -> bool {
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Returns the path of an example, as `tests/run` builds it for measurements and browsers.
pub fn example_path(name: &str) -> PathBuf {
    let profile = if ["game", "standalone"].contains(&name) { "release" } else { "debug" };
    let mut path = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    (0..3).for_each(|_| _ = path.pop());
    path.extend([profile, "examples", name]);
    assert!(path.exists(), "{} is missing: tests/run builds it", path.display());
    path
}
