//! A health check for containers, whose images have no other program.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(3);

/// Asks a running server. Returns its answer, which is an error unless its status is 200.
pub(crate) fn check(url: &str) -> Result<String, String> {
    let rest = url
        .strip_prefix("http://")
        .ok_or("--check: an address such as http://127.0.0.1:9080/health/ready")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let failed = |error: &dyn std::fmt::Display| format!("--check {url}: {error}");
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = address.to_socket_addrs().map_err(|error| failed(&error))?.next();
    let address = address.ok_or_else(|| failed(&"no address"))?;
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(64 << 10).read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let answer = ask().map_err(|error| failed(&error))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed(&"no answer"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.trim_end().into()),
        _ => Err(failed(&body.trim_end())),
    }
}
