//! A client of any dialect, over a real socket.

use std::collections::{HashMap, VecDeque};

use axum_cloud_variables::Dialect;
use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

use super::within;

/// The sets of one frame, in order.
pub type Frame = Vec<(String, String)>;

pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Frames that came while the client waited for something else.
    waiting: VecDeque<Frame>,
    /// The values that a known client shows: its own sets at once, the server's in order of arrival.
    pub view: HashMap<String, String>,
    pings: u8,
    /// Set by the handshake.
    dialect: Dialect,
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        Self::request(url).await.expect("an upgrade")
    }

    /// Connects with this request. Returns the status if it is not upgraded.
    pub async fn request(
        request: impl IntoClientRequest + Unpin,
    ) -> Result<Self, axum::http::StatusCode> {
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let connected = tokio_tungstenite::connect_async_with_config(request, Some(config), true);
        let socket = match within("connect", connected).await {
            Ok((socket, _)) => socket,
            Err(Error::Http(response)) => return Err(response.status()),
            Err(error) => panic!("{error}"),
        };
        Ok(Self {
            socket,
            waiting: VecDeque::new(),
            view: HashMap::new(),
            pings: 0,
            dialect: Dialect::Spec,
        })
    }

    pub async fn join(url: &str, room: &str, name: &str, variables: &[(&str, &str)]) -> Self {
        let mut client = Self::connect(url).await;
        client.handshake(room, name, variables).await;
        client.sync().await;
        client
    }

    pub async fn handshake(&mut self, room: &str, name: &str, variables: &[(&str, &str)]) {
        self.handshake_in(Dialect::Spec, room, name, variables).await;
    }

    /// Sends a handshake of another dialect. Scratch's brings no variables, but the client knows their
    /// values.
    pub async fn handshake_in(
        &mut self,
        dialect: Dialect,
        room: &str,
        name: &str,
        variables: &[(&str, &str)],
    ) {
        self.dialect = dialect;
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        for (name, value) in &variables {
            self.view.insert((*name).into(), (*value).into());
        }
        let message = match dialect {
            Dialect::Forkphorus2020 => {
                json!({ "kind": "handshake", "id": room, "username": name, "variables": variables })
            }
            Dialect::Scratch => json!({ "method": "handshake", "project_id": room, "user": name }),
            _ => {
                json!({ "kind": "handshake", "room": room, "username": name, "variables": variables })
            }
        };
        self.send(&message.to_string()).await;
    }

    /// Returns the socket below, for bytes that no client sends.
    pub fn into_socket(self) -> TcpStream {
        match self.socket.into_inner() {
            MaybeTlsStream::Plain(stream) => stream,
            _ => panic!("no TLS here"),
        }
    }

    pub async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub async fn set(&mut self, name: &str, value: &str) {
        self.view.insert(name.into(), value.into());
        let message = match self.dialect {
            Dialect::Forkphorus2020 => json!({ "kind": "set", "var": name, "value": value }),
            Dialect::Scratch => json!({ "method": "set", "name": name, "value": value }),
            _ => json!({ "kind": "set", "variable": name, "value": value }),
        };
        self.send(&message.to_string()).await;
    }

    /// Sets a variable and reads the messages that have come. Returns the code if there was a close.
    pub async fn set_or_closed(&mut self, name: &str, value: &str) -> Option<u16> {
        let message = json!({ "kind": "set", "variable": name, "value": value }).to_string();
        let sent = self.socket.send(Message::text(message)).await;
        while let Some(next) = self.socket.next().now_or_never() {
            match next {
                Some(Ok(Message::Close(frame))) => {
                    _ = self.socket.flush().await;
                    return Some(frame.map_or(0, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                end => panic!("{end:?} after {sent:?}"),
            }
        }
        None
    }

    /// Sets a variable and applies the messages that have come. Returns whether there was a close, after
    /// which nothing more may come.
    pub async fn set_and_apply_until_close(&mut self, name: &str, value: &str) -> bool {
        let sent = self.socket.send(Message::text(set(name, value))).await;
        if sent.is_ok() {
            self.view.insert(name.into(), value.into());
        }
        while let Some(next) = self.socket.next().now_or_never() {
            match next {
                Some(Ok(Message::Text(text))) => self.view.extend(parse(self.dialect, &text)),
                Some(Ok(Message::Close(_))) => {
                    _ = self.socket.flush().await;
                    return true;
                }
                Some(Ok(_)) => {}
                _ => return true,
            }
        }
        false
    }

    /// Waits until the server has processed everything that was sent: it answers in order.
    pub async fn sync(&mut self) {
        self.pings = self.pings.wrapping_add(1);
        let payload = vec![self.pings];
        self.socket.send(Message::Ping(payload.clone().into())).await.unwrap();
        loop {
            match self.message("pong").await {
                Message::Pong(answer) if answer == payload => return,
                Message::Text(text) => self.waiting.push_back(parse(self.dialect, &text)),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Returns the next frame, and applies it to the view.
    pub async fn frame(&mut self) -> Frame {
        let frame = loop {
            if let Some(frame) = self.waiting.pop_front() {
                break frame;
            }
            match self.message("frame").await {
                Message::Text(text) => break parse(self.dialect, &text),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        };
        self.view.extend(frame.iter().cloned());
        frame
    }

    /// Returns the next text as it came.
    pub async fn text(&mut self) -> String {
        loop {
            match self.message("text").await {
                Message::Text(text) => return text.to_string(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    pub async fn ping(&mut self) {
        self.socket.send(Message::Ping(vec![0].into())).await.unwrap();
    }

    /// Returns the first frame that has come before the answer to a ping, if any has.
    pub async fn next_frame_or_none(&mut self) -> Option<Frame> {
        self.sync().await;
        match self.waiting.is_empty() {
            true => None,
            false => Some(self.frame().await),
        }
    }

    /// Waits for a frame like [`frame`](Self::frame), but forever. The future may be dropped and called
    /// again.
    pub async fn any_frame(&mut self) {
        while self.waiting.is_empty() {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => self.waiting.push_back(parse(self.dialect, &text)),
                Some(Ok(Message::Close(frame))) => panic!("closed: {frame:?}"),
                Some(Ok(_)) => {}
                end => panic!("{end:?}"),
            }
        }
        self.apply_waiting();
    }

    /// Applies the frames that came while the client waited for something else.
    pub fn apply_waiting(&mut self) {
        self.view.extend(self.waiting.drain(..).flatten());
    }

    /// Returns all sets up to and including one of this value.
    pub async fn until(&mut self, name: &str, value: &str) -> Frame {
        let mut all = Frame::new();
        while !all.iter().any(|(n, v)| n == name && v == value) {
            all.extend(self.frame().await);
        }
        all
    }

    /// Reads until a set of this variable.
    pub async fn until_set(&mut self, name: &str) {
        while !self.frame().await.iter().any(|(n, _)| n == name) {}
    }

    /// Waits for the server's close, and returns its code and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.message("close").await {
                Message::Close(Some(frame)) => {
                    // The answer is queued by now.
                    _ = self.socket.flush().await;
                    return (frame.code.into(), frame.reason.to_string());
                }
                Message::Close(None) => panic!("a close without a code"),
                _ => {}
            }
        }
    }

    /// Answers pings, like every client that reads its socket, until `done` completes.
    pub async fn reading_until<T>(&mut self, done: impl Future<Output = T>) -> T {
        let mut done = std::pin::pin!(done);
        loop {
            tokio::select! {
                done = &mut done => return done,
                message = self.message("message") => match message {
                    Message::Text(text) => self.waiting.push_back(parse(self.dialect, &text)),
                    Message::Close(frame) => panic!("closed: {frame:?}"),
                    _ => {}
                },
            }
        }
    }

    /// Returns the code of a close that comes before the answer to a ping, or `None` if the answer comes
    /// first.
    pub async fn next_is_close(&mut self) -> Option<u16> {
        loop {
            match self.message("close or pong").await {
                Message::Close(frame) => return frame.map(|frame| frame.code.into()),
                Message::Pong(_) => return None,
                Message::Text(text) => self.waiting.push_back(parse(self.dialect, &text)),
                _ => {}
            }
        }
    }

    /// Returns the close if it has come. Looks at no more than one message.
    pub async fn close_if_there(&mut self) -> Option<(u16, String)> {
        tokio::task::yield_now().await;
        match self.socket.next().now_or_never() {
            Some(Some(Ok(Message::Close(Some(frame))))) => {
                Some((frame.code.into(), frame.reason.to_string()))
            }
            Some(Some(Ok(Message::Text(text)))) => {
                self.waiting.push_back(parse(self.dialect, &text));
                None
            }
            Some(Some(Err(error))) => panic!("{error} instead of a close"),
            _ => None,
        }
    }

    pub async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    async fn message(&mut self, what: &str) -> Message {
        let next = within(what, self.socket.next()).await;
        next.unwrap_or_else(|| panic!("the end instead of a {what}"))
            .unwrap_or_else(|error| panic!("{error} instead of a {what}"))
    }
}

pub fn handshake(room: &str, name: &str, variables: &[(&str, &str)]) -> String {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    json!({ "kind": "handshake", "room": room, "username": name, "variables": variables })
        .to_string()
}

pub fn set(name: &str, value: &str) -> String {
    json!({ "kind": "set", "variable": name, "value": value }).to_string()
}

/// Parses a frame, and checks that it is one or more whole objects, one per line, with the fields of the
/// client's dialect and no others.
fn parse(dialect: Dialect, text: &str) -> Frame {
    if dialect == Dialect::Forkphorus2020 {
        assert!(!text.contains('\n'), "more than such a client reads: {text:?}");
    }
    let (tag, variable) = match dialect {
        Dialect::Forkphorus2020 => ("kind", "var"),
        Dialect::Scratch => ("method", "name"),
        _ => ("kind", "variable"),
    };
    text.split('\n')
        .map(|line| {
            let message: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{error} in a line of {text:?}"));
            assert_eq!(message[tag], "set", "{text}");
            assert_eq!(message.as_object().unwrap().len(), 3);
            // Scratch clients also send and receive numbers.
            let field = |name: &str| match &message[name] {
                Value::Number(number) if dialect == Dialect::Scratch => number.to_string(),
                field => field.as_str().unwrap().to_owned(),
            };
            (field(variable), field("value"))
        })
        .collect()
}
