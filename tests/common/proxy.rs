//! A TCP proxy that delays each direction, in order.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Stands before `target` and delays what passes by 0 to `most`.
pub async fn delayed(target: String, most: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&target).await.unwrap();
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
