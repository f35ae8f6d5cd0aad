//! A session without a room, for tests of the WebSocket layer: it echoes every message.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use tokio::time::Instant;
use tungstenite::{
    Message,
    protocol::frame::{
        self,
        coding::{Data, OpCode},
    },
};

use super::{Reader, Socket, conclude, writer::encoded};
use crate::{
    budget::Budget,
    deflate::{Deflate, Window},
    limits::Limits,
    log_limit::LogLimit,
    room::{Outlet, SessionHandle},
    wire::{Frame, ScratchValues},
};

/// Serves one session.
pub(crate) async fn echo(upgraded: Upgraded, deflate: Option<Deflate>, message_bytes: usize) {
    let handle = Arc::new(SessionHandle::new(Instant::now().into_std()));
    let limits = Limits::default().message_bytes(message_bytes).bytes_per_second(0);
    let socket = Arc::new(Socket::new(upgraded, &handle, deflate, &limits));
    let (budget, values) = (Budget::new(0), ScratchValues::default());
    let mut reader = Reader::new(&socket, &handle, &limits, &budget, values).await;
    let end = loop {
        let frame = match reader.message().await {
            Ok(Message::Text(text)) => Frame::text(&text),
            Ok(Message::Binary(bytes)) => binary(bytes),
            Ok(_) => continue,
            Err(end) => break end,
        };
        // Otherwise the reply would replace a pong that waits.
        poll_fn(|cx| socket.poll_written(cx)).await;
        socket.with(|writer| writer.reply(&encoded(&frame, deflate, &mut Window::default())));
        socket.push();
    };
    conclude(&LogLimit::default(), &socket, &mut reader, end, limits.close_timeout).await;
}

/// Encodes a binary frame. Sessions send none, so `wire` does not encode them.
fn binary(payload: Bytes) -> Frame {
    let frame = frame::Frame::message(payload, OpCode::Data(Data::Binary), true);
    let mut bytes = Vec::with_capacity(frame.len());
    // Writing to a vector cannot fail.
    _ = frame.format(&mut bytes);
    Bytes::from(bytes).into()
}
