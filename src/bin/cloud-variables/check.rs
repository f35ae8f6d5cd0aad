//! A health check for containers, whose images have no other program.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The maximum time for the whole check.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sends a request to a running server. Returns the body of the answer, or an error unless its status is 200.
pub(crate) async fn check(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").filter(|rest| !rest.contains('@'));
    let rest = rest.ok_or("--check: an address such as http://127.0.0.1:9080/health/ready")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let failed = |error: &dyn std::fmt::Display| format!("--check {url}: {error}");
    let answer = timeout(PATIENCE, ask(host, path)).await;
    let answer =
        answer.map_err(|_| failed(&"no answer in 3 s"))?.map_err(|error| failed(&error))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed(&"no answer of HTTP"))?;
    match head.split(' ').nth(1).unwrap_or_default() {
        "200" => Ok(body.trim_end().into()),
        status => Err(failed(&format!("{status} {}", body.trim_end()))),
    }
}

async fn ask(host: &str, path: &str) -> io::Result<String> {
    // The last colon may belong to an IPv6 address in brackets, such as `[::1]`.
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
