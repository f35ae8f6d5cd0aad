//! The server's side: the real room, outbox and pings, and what a session does with them.

use super::*;

impl World {
    pub(super) fn arrive(&mut self, client: usize, connection: u64, up: Up) {
        let now = self.instant();
        let of = &mut self.clients[client];
        if of.connection != connection {
            return;
        }
        match (up, &mut of.session) {
            (Up::Join, None) => {
                let brought = variables(&self.weather, "");
                let newcomer = Newcomer::guest(
                    of.dialect,
                    (of.dialect != Dialect::Scratch).then_some(&brought),
                    now,
                );
                let joined = self.room.state.write().join(newcomer, now).unwrap();
                let member = joined.id;
                let outbox = Outbox::new(self.room.clone(), of.dialect, joined);
                let (liveness, socket) = (Liveness::default(), VecDeque::new());
                of.session = Some(Session { member, outbox, liveness, socket });
                self.at(self.now + 25_000, Event::KeepAlive(client, connection));
            }
            (Up::Text(text), Some(session)) => {
                let message = wire::decode(of.dialect, ScratchValues::default(), &text);
                let Ok(ClientMessage::Set { name, value }) = message else {
                    panic!("{text}");
                };
                let (member, base) = (session.member, session.liveness.base());
                let write = Write { member, base, name: &name, value: value.as_ref() };
                self.room.state.write().submit(&write, now).unwrap();
            }
            (Up::Pong(payload), Some(session)) => _ = session.liveness.pong(&payload, now),
            (up, session) => panic!("{up:?} {session:?}"),
        }
    }

    pub(super) fn host_writes(&mut self) {
        self.written += 1;
        let name = Json::from_plain(&format!("☁ {}", self.rng.usize(0..self.weather.variables)));
        let value = Json::from_plain(&self.written.to_string());
        let now = self.instant();
        self.room.state.write().set_all(&[(name, value)], now).unwrap();
    }

    /// The writer of a session: sends while the socket takes it.
    pub(super) fn pump(&mut self, client: usize) {
        loop {
            let (delay, now) = (self.link(), self.instant());
            let of = &mut self.clients[client];
            let Some(session) = &mut of.session else { return };
            if session.socket.len() >= self.weather.window {
                return;
            }
            let may_ping = !session.liveness.is_outstanding();
            let Some(item) = session.outbox.next(may_ping) else { return };
            let ping = match item {
                Item::Barrier(position) => session.liveness.ping(position, true, now),
                Item::Frame(_) => None,
                Item::NoBudget => unreachable!("the budget has no end"),
            };
            of.delivered = of.delivered.max(self.now + delay);
            session.socket.push_back((of.delivered, item, ping));
            let (time, connection) = (of.delivered, of.connection);
            self.at(time, Event::Read(client, connection));
        }
    }

    pub(super) fn keep_alive(&mut self, client: usize, connection: u64) {
        let now = self.instant();
        let of = &mut self.clients[client];
        let Some(session) = of.session.as_mut().filter(|_| of.connection == connection) else {
            return;
        };
        let position = session.outbox.prove();
        if let Some(ping) = session.liveness.ping(position, false, now) {
            session.socket.push_back((self.now, Item::Barrier(position), Some(ping)));
            let time = self.now.max(of.delivered);
            self.at(time, Event::Read(client, connection));
        }
        // Only while the world has something else to do.
        if self.events.len() > self.clients.len() {
            self.at(self.now + 25_000, Event::KeepAlive(client, connection));
        }
    }

    /// Sees to it that the room is advanced when something is due.
    pub(super) fn arm(&mut self) {
        let mut state = self.room.state.write();
        _ = state.alarm();
        let due = state.alarm.map(|due| (due - self.start).as_micros().div_ceil(1000) as u64);
        drop(state);
        if let Some(due) = due
            && self.alarm.is_none_or(|alarm| due < alarm)
        {
            self.alarm = Some(due);
            self.at(due, Event::Advance);
        }
    }
}
