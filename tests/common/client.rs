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
    /// Frames that came while something else was waited for.
    waiting: VecDeque<Frame>,
    /// What a known client shows: its own sets at once, the server's in order of arrival.
    pub view: HashMap<String, String>,
    pings: u8,
    /// Set by the handshake.
    dialect: Dialect,
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        Self::request(url).await.expect("an upgrade")
    }

    /// The status, where the request is not upgraded.
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

    /// A handshake of another dialect; Scratch's brings no variables, but has their values.
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

    /// The socket below, for what no client sends.
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

    /// Sets, and reads what has come; the code, where that was a close.
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

    /// Sets, and applies what has come; true where a close did, and then nothing more is to come.
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

    /// Waits until the server has processed all that was sent: it answers in order.
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

    /// The next frame, applied to the view.
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

    /// The next text as it came.
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

    /// The frames that came before the answer to a ping, if any did.
    pub async fn next_frame_or_none(&mut self) -> Option<Frame> {
        self.sync().await;
        match self.waiting.is_empty() {
            true => None,
            false => Some(self.frame().await),
        }
    }

    /// As [`frame`](Self::frame), but waits for ever; may be dropped and called again.
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

    /// Applies the frames that came while something else was waited for.
    pub fn apply_waiting(&mut self) {
        self.view.extend(self.waiting.drain(..).flatten());
    }

    /// All sets up to one of this value, it included.
    pub async fn until(&mut self, name: &str, value: &str) -> Frame {
        let mut all = Frame::new();
        while !all.iter().any(|(n, v)| n == name && v == value) {
            all.extend(self.frame().await);
        }
        all
    }

    /// Reads on until a set of this variable.
    pub async fn until_set(&mut self, name: &str) {
        while !self.frame().await.iter().any(|(n, _)| n == name) {}
    }

    /// Waits for the close that the server sends, and what it says.
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

    /// Answers pings, as every client does that looks at its socket, until something else is done.
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

    /// Whether a close comes before the answer to a ping, and its code.
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

    /// The close, if it has come; looks at no more than one message.
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

/// Every frame is one or more whole objects, one a line, in the client's own fields and no other.
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
            // Scratch clients send and get numbers too.
            let field = |name: &str| match &message[name] {
                Value::Number(number) if dialect == Dialect::Scratch => number.to_string(),
                field => field.as_str().unwrap().to_owned(),
            };
            (field(variable), field("value"))
        })
        .collect()
}
