//! A minimal client to load a server: it sends sets and counts those that come.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use flate2::{Decompress, FlushDecompress};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::spawn_local,
    time::sleep,
};

/// The sets that all players of a load have received.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The number of sets that came.
    pub(crate) sets: Cell<u64>,
    /// Bytes of all frames.
    pub(crate) bytes: Cell<u64>,
    /// Milliseconds from a set to its arrival, one per frame.
    pub(crate) latencies: RefCell<Vec<f64>>,
}

/// The pace at which a player reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    AtOnce,
    /// It reads this many bytes a second, and its latencies do not count.
    Slow(usize),
}

/// How a player reads, and what it notes.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) epoch: Instant,
    pub(crate) seen: &'a Rc<Seen>,
    pub(crate) pace: Pace,
    /// Whether it offers compression.
    pub(crate) deflate: bool,
}

pub(crate) struct Player {
    write: OwnedWriteHalf,
    /// The number of sets of others that this player received.
    pub(crate) own: Rc<Cell<u64>>,
    pub(crate) progress: Rc<Notify>,
    /// The task that reads, which ends with the connection.
    pub(crate) reading: tokio::task::JoinHandle<()>,
}

impl Player {
    /// Joins a room with the variables `v0`, `v1` and so on.
    pub(crate) async fn join(
        server: SocketAddr,
        (room, name): (&str, &str),
        variables: usize,
        Reading { epoch, seen, pace, deflate }: Reading<'_>,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (mut read, mut write) = stream.into_split();
        let offer = match deflate {
            true => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            false => "",
        };
        let request = format!(
            "GET /cloud HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        write.write_all(request.as_bytes()).await?;
        let mut buffer = Vec::with_capacity(4_096);
        while !buffer.windows(4).any(|end| end == b"\r\n\r\n") {
            if read.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if !buffer.starts_with(b"HTTP/1.1 101") {
            return Err(io::Error::other(String::from_utf8_lossy(&buffer).into_owned()));
        }
        let variables: Vec<_> = (0..variables).map(|i| format!(r#""v{i}":"""#)).collect();
        let variables = variables.join(",");
        let handshake = format!(
            r#"{{"kind":"handshake","room":"{room}","username":"{name}","variables":{{{variables}}}}}"#
        );
        send(&mut write, &handshake).await?;
        let (own, progress) = (Rc::default(), Rc::new(Notify::new()));
        let reader = Reader {
            read,
            buffer: Vec::new(),
            epoch,
            seen: seen.clone(),
            own: Rc::clone(&own),
            progress: progress.clone(),
            pace,
            inflater: deflate.then(|| Decompress::new(false)),
            text: Vec::with_capacity(1 << 20),
        };
        Ok(Self { write, own, progress, reading: spawn_local(reader.run()) })
    }

    /// Sets a variable to the time, padded to this many bytes.
    pub(crate) async fn set(
        &mut self,
        variable: usize,
        bytes: usize,
        epoch: Instant,
    ) -> io::Result<()> {
        let now = epoch.elapsed().as_nanos();
        let set = format!(r#"{{"kind":"set","variable":"v{variable}","value":"{now:x<bytes$}"}}"#);
        send(&mut self.write, &set).await
    }
}

async fn send(write: &mut OwnedWriteHalf, text: &str) -> io::Result<()> {
    let mut frame = vec![0x81];
    match text.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    // A mask of zeros leaves the text unchanged.
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    write.write_all(&frame).await
}

struct Reader {
    read: OwnedReadHalf,
    buffer: Vec<u8>,
    epoch: Instant,
    seen: Rc<Seen>,
    own: Rc<Cell<u64>>,
    progress: Rc<Notify>,
    pace: Pace,
    inflater: Option<Decompress>,
    /// The last text, when inflated.
    text: Vec<u8>,
}

impl Reader {
    async fn run(mut self) {
        loop {
            if let Pace::Slow(bytes) = self.pace {
                sleep(Duration::from_secs_f64(4_096.0 / bytes as f64)).await;
            }
            self.buffer.reserve(if self.buffer.is_empty() { 4_096 } else { 65_536 });
            match self.read.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                _ => return,
            }
            let mut at = 0;
            while let Some((first, start, end)) = frame(&self.buffer, at) {
                let seen = &self.seen.bytes;
                seen.set(seen.get() + (end - at) as u64);
                match first {
                    0x81 => self.count(&self.buffer[start..end]),
                    0xc1 => {
                        self.inflate(start, end);
                        self.count(&self.text);
                    }
                    0x88 => return told_off(&self.buffer[start..end]),
                    // Pings are not answered, because no load lasts until the idle timeout.
                    _ => {}
                }
                at = end;
            }
            self.buffer.drain(..at);
            if self.buffer.is_empty() {
                self.buffer.shrink_to(4_096);
            }
        }
    }

    fn inflate(&mut self, start: usize, end: usize) {
        self.text.clear();
        let inflater = self.inflater.as_mut().expect("it has offered that");
        for piece in [&self.buffer[start..end], &[0, 0, 0xff, 0xff]] {
            let done = inflater.decompress_vec(piece, &mut self.text, FlushDecompress::Sync);
            done.expect("valid");
        }
    }

    fn count(&self, text: &[u8]) {
        let sets = 1 + text.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.seen.sets.set(self.seen.sets.get() + sets);
        self.own.set(self.own.get() + sets);
        self.progress.notify_one();
        // One set of each frame is timed, now an early one, now a late one. Of a long frame it is the
        // first, because searching the frame would take too long.
        let nth = if text.len() < 4_096 { (self.own.get() % sets) as usize } else { 0 };
        let line = text.split(|byte| *byte == b'\n').nth(nth).unwrap_or_default();
        let value = line.windows(VALUE.len()).position(|window| window == VALUE);
        if let (Some(value), Pace::AtOnce) = (value, self.pace) {
            let digits =
                line[value + VALUE.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            let time = digits.fold(0.0, |time, digit| time * 10.0 + f64::from(digit - b'0'));
            // The value from before the first write is not a time.
            if time > 0.0 {
                let now = self.epoch.elapsed().as_nanos() as f64;
                self.seen.latencies.borrow_mut().push((now - time) / 1e6);
            }
        }
    }
}

const VALUE: &[u8] = br#""value":""#;

/// Prints why a load was refused, because it measures nothing then.
fn told_off(close: &[u8]) {
    let (code, reason) = close.split_at_checked(2).unwrap_or_default();
    if code != 1001_u16.to_be_bytes() {
        eprintln!("closed with {code:?}: {}", String::from_utf8_lossy(reason));
    }
}

/// Returns the first byte, and the start and end of the payload, of the frame that begins here, if it is
/// complete.
fn frame(buffer: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let (first, length) = (*buffer.get(at)?, *buffer.get(at + 1)?);
    let (header, length) = match length {
        126 => (4, u16::from_be_bytes(buffer.get(at + 2..at + 4)?.try_into().ok()?).into()),
        127 => (10, u64::from_be_bytes(buffer.get(at + 2..at + 10)?.try_into().ok()?)),
        length => (2, length.into()),
    };
    let (start, end) = (at + header, at + header + length as usize);
    (end <= buffer.len()).then_some((first, start, end))
}
