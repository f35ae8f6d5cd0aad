//! HTTP and frames of WebSockets, byte by byte.

use std::io;

use flate2::{Decompress, FlushDecompress};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Returns the status and the body of a page.
pub async fn page(addr: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.into())
}

/// Returns a frame of a client with up to 64 KiB, whose first byte is this.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let (mut frame, mask) = (vec![first], [7, 1, 255, 0]);
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Reads a frame of a server: its first byte, and its payload.
pub async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let first = from.read_u8().await?;
    let len = match from.read_u8().await? {
        126 => from.read_u16().await?.into(),
        127 => from.read_u64().await?,
        len => len.into(),
    };
    let mut payload = vec![0; len as usize];
    from.read_exact(&mut payload).await?;
    Ok((first, payload))
}

/// Inflates a message. The window goes on from message to message.
pub fn inflated(window: &mut Decompress, payload: &[u8]) -> Vec<u8> {
    let compressed = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut text = Vec::with_capacity(1 << 20);
    window.decompress_vec(&compressed, &mut text, FlushDecompress::Sync).unwrap();
    assert!(text.len() < text.capacity(), "all of it");
    text
}
