//! TCP proxies: one that delays each direction, in order, some that can be cut, and one that inflates.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use flate2::Decompress;
use tokio::{
    io::{
        AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy,
        copy_bidirectional,
    },
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{inflated, read_frame};

/// Runs a proxy in front of `target`, which delays bytes by 0 to `most`.
pub async fn delayed(target: String, most: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&target).await else { continue };
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(carry(from_client, to_server, most));
            tokio::spawn(carry(from_server, to_client, most));
        }
    });
    addr
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, most: Duration) {
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    tokio::spawn(async move {
        while let Some((time, bytes)) = due.recv().await {
            sleep_until(time).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let time = Instant::now() + most.mul_f64(fastrand::f64());
        if queue.send((time, buffer[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

/// A proxy in front of `target`. Bytes that are sent while it is cut arrive when it is whole again.
pub struct Cable {
    pub addr: SocketAddr,
    /// The target of new connections, and whether they are cut.
    end: Arc<Mutex<(String, watch::Sender<bool>)>>,
    forsaken: Mutex<Vec<watch::Sender<bool>>>,
}

impl Cable {
    pub async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let end = Arc::new(Mutex::new((target, watch::Sender::new(false))));
        let ends = end.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, cut) = {
                    let end = ends.lock().unwrap();
                    (end.0.clone(), end.1.subscribe())
                };
                tokio::spawn(async move {
                    whole(cut.clone()).await;
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::join!(
                        pass(from_client, to_server, cut.clone()),
                        pass(from_server, to_client, cut),
                    );
                });
            }
        });
        Self { addr, end, forsaken: Mutex::default() }
    }

    pub fn cut(&self, is_cut: bool) {
        self.end.lock().unwrap().1.send_replace(is_cut);
    }

    /// Sets the target of new connections.
    pub fn lead_to(&self, target: String) {
        self.end.lock().unwrap().0 = target;
    }

    /// Leaves the present connections open, but passes nothing through them any more.
    pub fn forsake(&self) {
        let old = std::mem::replace(&mut self.end.lock().unwrap().1, watch::Sender::new(false));
        old.send_replace(true);
        self.forsaken.lock().unwrap().push(old);
    }
}

/// A proxy in front of `target`. When the Wi-Fi goes, the clients' side breaks, and the server does not
/// notice.
pub struct WiFi {
    pub addr: SocketAddr,
    gone: Arc<Notify>,
}

impl WiFi {
    pub async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let gone = Arc::new(Notify::new());
        let goes = gone.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, goes) = (target.clone(), goes.clone());
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = goes.notified() => {
                            drop(client);
                            pending::<()>().await;
                        }
                    }
                });
            }
        });
        Self { addr, gone }
    }

    pub fn goes(&self) {
        self.gone.notify_waiters();
    }
}

/// Runs a proxy in front of `target`, by which clients that know nothing of compression are sent compressed
/// messages. What they send themselves passes as it is.
pub async fn inflating(target: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let target = target.clone();
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(target).await else { return };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(offer(BufReader::new(from_client), to_server));
                inflate(BufReader::new(from_server), to_client).await;
            });
        }
    });
    addr
}

const EXTENSIONS: &str = "sec-websocket-extensions:";

/// Passes on a request that offers compression, and everything behind it.
async fn offer(mut from: BufReader<OwnedReadHalf>, mut to: OwnedWriteHalf) -> Option<()> {
    let head = head(&mut from).await?;
    let offer = format!("{}{EXTENSIONS} permessage-deflate\r\n\r\n", &head[..head.len() - 2]);
    to.write_all(offer.as_bytes()).await.ok()?;
    copy(&mut from, &mut to).await.ok().map(|_| ())
}

/// Passes on an answer as if nothing had been offered, and messages as if they were not compressed.
async fn inflate(mut from: BufReader<OwnedReadHalf>, mut to: OwnedWriteHalf) -> Option<()> {
    let head = head(&mut from).await?;
    let agreed = |line: &&str| line.to_lowercase().starts_with(EXTENSIONS);
    assert!(
        !head.starts_with("HTTP/1.1 101") || head.split_inclusive("\r\n").any(|line| agreed(&line))
    );
    let rest: String = head.split_inclusive("\r\n").filter(|line| !agreed(line)).collect();
    to.write_all(rest.as_bytes()).await.ok()?;
    let mut window = Decompress::new(false);
    loop {
        let (first, mut payload) = read_frame(&mut from).await.ok()?;
        if first & 0x40 != 0 {
            payload = inflated(&mut window, &payload);
        }
        let mut frame = vec![first & !0x40];
        match payload.len() {
            len @ ..126 => frame.push(len as u8),
            len @ 126..=0xffff => frame.extend([&[126][..], &(len as u16).to_be_bytes()].concat()),
            len => frame.extend([&[127][..], &(len as u64).to_be_bytes()].concat()),
        }
        frame.extend(payload);
        to.write_all(&frame).await.ok()?;
    }
}

/// Reads the head of a request or an answer, with the empty line at its end.
async fn head(from: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

async fn whole(mut cut: watch::Receiver<bool>) {
    _ = cut.wait_for(|is_cut| !is_cut).await;
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        whole(cut.clone()).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
