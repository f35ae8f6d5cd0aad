//! The files of the audit log, one for each day, which a thread writes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use humantime::format_rfc3339_micros;
use metrics::counter;
use tracing::warn;

/// How many bytes may wait for the disk. Beyond that, lines are lost, because players must not wait.
const WAITING: usize = 16 << 20;
/// How many bytes are written at once.
const BATCH: usize = 64 << 10;
/// How often the date is looked at while no line comes.
const TICK: Duration = Duration::from_secs(1);
/// The least time between two warnings.
const AGAIN: Duration = Duration::from_secs(10);

/// The length of a date, such as `2026-11-28`.
const DATE: usize = 10;

/// How long files are kept, and how large they may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) days: u16,
    pub(crate) bytes_per_day: u64,
}

/// The writing end. It never waits.
#[derive(Clone)]
pub(super) struct Lines {
    sender: Sender<Message>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    waiting_bytes: AtomicUsize,
    waiting: AtomicU64,
    lost: AtomicU64,
}

enum Message {
    /// A line, and the time of its event.
    Line(String, String),
    End,
}

impl Lines {
    /// Adds a line of this time.
    pub(super) fn add(&self, time: String, line: String) {
        let bytes = line.len();
        // Counted before it is sent, because the thread may write it at once.
        self.counts.waiting.fetch_add(1, AcqRel);
        if self.counts.waiting_bytes.fetch_add(bytes, AcqRel) > WAITING
            || self.sender.send(Message::Line(time, line)).is_err()
        {
            self.counts.waiting_bytes.fetch_sub(bytes, AcqRel);
            self.counts.waiting.fetch_sub(1, AcqRel);
            self.counts.lose(1);
        }
    }
}

impl Counts {
    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Relaxed);
        counter!("cloud_variables_audit_lost_lines_total").increment(lines);
    }
}

/// The thread that writes.
pub(crate) struct Writer {
    lines: Lines,
    ended: Receiver<()>,
}

impl Writer {
    /// Starts the thread. Creates the folder if it does not exist.
    pub(super) fn start(folder: &Path, limits: Limits) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let lines = Lines { sender, counts: Arc::default() };
        counter!("cloud_variables_audit_lost_lines_total").increment(0);
        let mut writing = Writing {
            folder: folder.to_owned(),
            limits,
            counts: lines.counts.clone(),
            day: None,
            removed_on: String::new(),
            reason: None,
            warned: None,
            said: 0,
        };
        // A folder that cannot be written to is noticed at the start.
        writing.open(&date(SystemTime::now()))?;
        let (end, ended) = mpsc::channel();
        thread::Builder::new().name("audit".into()).spawn(move || {
            writing.run(&receiver);
            _ = end.send(());
        })?;
        Ok(Self { lines, ended })
    }

    pub(super) fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Writes the lines that wait, for up to this time. Returns how many lines were lost since the start.
    pub(crate) fn end(self, patience: Duration) -> u64 {
        _ = self.lines.sender.send(Message::End);
        let counts = &self.lines.counts;
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            counts.lose(counts.waiting.load(Relaxed));
        }
        counts.lost.load(Relaxed)
    }
}

struct Writing {
    folder: PathBuf,
    limits: Limits,
    counts: Arc<Counts>,
    day: Option<Day>,
    /// The date on which old files were last removed.
    removed_on: String,
    /// The last reason why lines were lost.
    reason: Option<String>,
    warned: Option<Instant>,
    /// How many lost lines the log has named.
    said: u64,
}

/// The open file.
struct Day {
    date: String,
    path: PathBuf,
    file: File,
    bytes: u64,
    /// The last line is incomplete, because a write failed half-way.
    is_torn: bool,
}

impl Writing {
    fn run(&mut self, lines: &Receiver<Message>) {
        let mut next = None;
        loop {
            let message = match next.take() {
                Some(message) => Ok(message),
                None => lines.recv_timeout(TICK),
            };
            match message {
                Ok(Message::Line(time, line)) => {
                    next = self.batch(&time[..DATE], line, lines);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.remove_old();
                }
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.warn(false);
        }
        self.warn(true);
    }

    /// Writes a line, and those of the same day that wait behind it. Returns the first message after them.
    fn batch(
        &mut self,
        date: &str,
        mut text: String,
        lines: &Receiver<Message>,
    ) -> Option<Message> {
        let (mut count, mut next) = (1, None);
        while text.len() < BATCH {
            match lines.try_recv() {
                Ok(Message::Line(time, line)) if time.starts_with(date) => {
                    text.push_str(&line);
                    count += 1;
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let written = self.write(date, &text);
        self.counts.waiting_bytes.fetch_sub(text.len(), AcqRel);
        self.counts.waiting.fetch_sub(count, AcqRel);
        if let Err(error) = written {
            self.counts.lose(count);
            self.reason = Some(error.to_string());
        }
        next
    }

    fn write(&mut self, date: &str, text: &str) -> io::Result<()> {
        if self.day.as_ref().is_none_or(|day| day.date != date || !day.is_there()) {
            self.open(date)?;
        }
        let Some(day) = &mut self.day else { return Err(io::Error::other("it is not open")) };
        let bytes = text.len() as u64;
        if day.bytes.saturating_add(bytes) > self.limits.bytes_per_day {
            return Err(io::Error::other("the file of this day is full: see --audit-mb"));
        }
        if day.is_torn {
            day.file.write_all(b"\n")?;
        }
        day.is_torn = true;
        day.file.write_all(text.as_bytes())?;
        day.is_torn = false;
        day.bytes += bytes;
        Ok(())
    }

    /// Opens the file of a day, and removes those that are too old.
    fn open(&mut self, date: &str) -> io::Result<()> {
        self.day = None;
        let (mut folder, mut options) = (DirBuilder::new(), OpenOptions::new());
        // The log has addresses and values of players.
        #[cfg(unix)]
        {
            std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        folder.recursive(true).create(&self.folder)?;
        let path = self.folder.join(format!("{BEGINS}{date}{ENDS}"));
        let file = options.append(true).create(true).open(&path)?;
        let bytes = file.metadata()?.len();
        self.day = Some(Day { date: date.into(), path, file, bytes, is_torn: false });
        self.remove_old();
        Ok(())
    }

    /// Removes files that are too old, once a day.
    fn remove_old(&mut self) {
        let today = date(SystemTime::now());
        if self.removed_on == today {
            return;
        }
        self.removed_on = today;
        let age = Duration::from_secs(86_400) * u32::from(self.limits.days);
        let Some(first) = SystemTime::now().checked_sub(age).map(date) else { return };
        let Ok(files) = fs::read_dir(&self.folder) else { return };
        for file in files.flatten() {
            if file.file_name().to_str().and_then(date_of).is_some_and(|date| *date < *first) {
                _ = fs::remove_file(file.path());
            }
        }
    }

    /// Warns of lost lines, but not too often, except at the end.
    fn warn(&mut self, is_end: bool) {
        let lost = self.counts.lost.load(Relaxed);
        let is_soon = self.warned.is_some_and(|warned| warned.elapsed() < AGAIN);
        if lost == self.said || is_soon && !is_end {
            return;
        }
        let reason = self.reason.take().unwrap_or_else(|| "the disk is too slow".into());
        warn!(lost = lost - self.said, reason, "lines of the audit log are lost");
        (self.warned, self.said) = (Some(Instant::now()), lost);
    }
}

impl Day {
    /// Returns whether the file is still in its folder.
    fn is_there(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let inode = |file: io::Result<fs::Metadata>| Some(file.ok()?.ino());
            inode(fs::metadata(&self.path)) == inode(self.file.metadata())
        }
        #[cfg(not(unix))]
        self.path.exists()
    }
}

/// The name of a file, around its date.
const BEGINS: &str = "audit.";
const ENDS: &str = ".jsonl";

/// Returns the date in the name of a file of the log.
fn date_of(name: &str) -> Option<&str> {
    let date = name.strip_prefix(BEGINS)?.strip_suffix(ENDS)?;
    let is_date = date.len() == DATE
        && date.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    is_date.then_some(date)
}

/// Returns the date of a time, in UTC.
fn date(time: SystemTime) -> String {
    format_rfc3339_micros(time).to_string()[..DATE].into()
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("cloud-variables-{}-{name}", std::process::id()));
        _ = fs::remove_dir_all(&folder);
        folder
    }

    fn add(lines: &Lines, date: &str, text: &str) {
        lines.add(format!("{date}T00:00:00Z"), format!("{text}\n"));
    }

    const MANY: Limits = Limits { days: 30, bytes_per_day: 1 << 30 };
    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn each_day_has_a_file_and_old_ones_are_removed() {
        let folder = folder("days");
        fs::create_dir(&folder).expect("a folder");
        let today = date(SystemTime::now());
        let others = ["audit.notes.jsonl", "audit.2001-01-01.jsonl.gz", "audit.20010101x.jsonl"];
        for name in others.iter().chain(&["audit.2001-01-01.jsonl"]) {
            fs::write(folder.join(name), "").expect("a file");
        }
        let writer = Writer::start(&folder, MANY).expect("a thread");
        add(&writer.lines(), &today, "a");
        add(&writer.lines(), "2999-12-31", "b");
        add(&writer.lines(), &today, "c");
        assert_eq!(writer.end(SOON), 0);
        let text = |name: String| fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert_eq!(text(format!("audit.{today}.jsonl")), "a\nc\n");
        assert_eq!(text("audit.2999-12-31.jsonl".into()), "b\n");
        assert!(!folder.join("audit.2001-01-01.jsonl").exists());
        assert!(others.iter().all(|name| folder.join(name).exists()));
        fs::remove_dir_all(&folder).expect("the folder");
    }

    #[test]
    fn lines_that_are_lost_are_counted() {
        let folder = folder("lost");
        let writer = Writer::start(&folder, Limits { bytes_per_day: 8, ..MANY }).expect("a thread");
        for text in ["one", "two", "three"] {
            add(&writer.lines(), "2999-12-31", text);
            while writer.lines.counts.waiting.load(Relaxed) > 0 {
                thread::yield_now();
            }
        }
        // A folder that is removed comes back with the next line.
        fs::remove_dir_all(&folder).expect("the folder");
        add(&writer.lines(), "2999-12-31", "four");
        assert_eq!(writer.end(SOON), 1);
        let path = folder.join("audit.2999-12-31.jsonl");
        assert_eq!(fs::read_to_string(path).unwrap_or_default(), "four\n");
        fs::remove_dir_all(&folder).expect("the folder");
    }
}
