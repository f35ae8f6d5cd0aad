//! The server's side: the real room, outbox and pings, and the work of a session around them.

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
                let limits = &self.weather.rules.limits;
                let conflation = Conflation::new(limits, &Budget::new(usize::MAX), now);
                of.session = Some(Session { member, outbox, liveness, conflation, socket });
                self.at(self.now + 25_000, Event::KeepAlive(client, connection));
            }
            (Up::Text(text), Some(session)) => {
                let message = wire::decode(of.dialect, ScratchValues::default(), &text);
                let Ok(ClientMessage::Set { name, value, terms }) = message else {
                    panic!("{text}");
                };
                let base = session.liveness.base();
                let (conflation, member) = (&mut session.conflation, session.member);
                let write = Submission { base, name, value, terms };
                if conflation.lets_pass(now) {
                    submit(&self.room, member, conflation, &write, now);
                    return;
                }
                if !write.terms.are_none() {
                    // A session waits for its turn, and then submits the writes that it holds before this
                    // one.
                    for held in conflation.release(now) {
                        submit(&self.room, member, conflation, &held, now);
                    }
                    submit(&self.room, member, conflation, &write, now);
                    return;
                }
                let created = conflation.creates_beside(&write.name);
                let value = write.value.as_ref();
                let outlook = self.room.read(|s| s.outlook(&write.name, value, created)).unwrap();
                assert!(conflation.hold(&write, outlook), "the budget has no end");
                if let Some(due) = conflation.due(now) {
                    let due = (due - self.start).as_micros().div_ceil(1_000) as u64;
                    self.at(due, Event::Release(client, connection));
                }
            }
            (Up::Pong(payload), Some(session)) => {
                session.liveness.pong(&payload, now);
                if let Some(due) = session.liveness.due() {
                    let due = (due - self.start).as_micros().div_ceil(1_000) as u64;
                    self.at(due, Event::Mature(client, connection));
                }
            }
            (up, session) => panic!("{up:?} {session:?}"),
        }
    }

    /// Submits the writes that a session holds, if they are due.
    pub(super) fn release(&mut self, client: usize, connection: u64) {
        let now = self.instant();
        let of = &mut self.clients[client];
        let Some(session) = of.session.as_mut().filter(|_| of.connection == connection) else {
            return;
        };
        if session.conflation.due(now).is_some_and(|due| due <= now) {
            for write in session.conflation.release(now) {
                submit(&self.room, session.member, &mut session.conflation, &write, now);
            }
        }
    }

    /// Ends a session. The writes that it holds arrive even if its client has left.
    pub(super) fn gone(&mut self, mut session: Session) {
        let now = self.instant();
        for write in session.conflation.release(now) {
            submit(&self.room, session.member, &mut session.conflation, &write, now);
        }
        self.room.state.write().leave(session.member, LeaveCause::Lost, now);
    }

    pub(super) fn host_writes(&mut self) {
        self.written += 1;
        let name = Json::from_plain(&format!("☁ {}", self.rng.usize(0..self.weather.variables)));
        let value = Json::from_plain(&(self.written % self.weather.values).to_string());
        let now = self.instant();
        self.room.state.write().set_all(&[(name, value)], now).unwrap();
    }

    /// Runs the writer of a session, which sends for as long as the socket accepts items.
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

    /// Sends a ping, if one is due, which makes the proven position the base.
    pub(super) fn mature(&mut self, client: usize, connection: u64) {
        let now = self.instant();
        let of = &self.clients[client];
        let session = of.session.as_ref().filter(|_| of.connection == connection);
        if session.and_then(|of| of.liveness.due()).is_some_and(|due| due <= now) {
            self.ping(client, connection);
        }
    }

    pub(super) fn keep_alive(&mut self, client: usize, connection: u64) {
        self.ping(client, connection);
        let is_there = self.clients[client].connection == connection;
        // Keepalive goes on only while the world has something else to do.
        if is_there && self.events.len() > self.clients.len() {
            self.at(self.now + 25_000, Event::KeepAlive(client, connection));
        }
    }

    fn ping(&mut self, client: usize, connection: u64) {
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
    }

    /// Schedules an advance of the room for when something is due.
    pub(super) fn arm(&mut self) {
        let mut state = self.room.state.write();
        _ = state.alarm(self.instant());
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

fn submit(
    room: &Shared,
    member: MemberId,
    conflation: &mut Conflation,
    write: &Submission<'_>,
    now: Instant,
) {
    let Submission { base, name, value, terms } = write;
    let (value, was) = (value.as_ref(), terms.was.as_ref());
    let write = Write { member, base: *base, name, value, was, ack: terms.ack };
    let submitted = room.state.write().submit(&write, now).unwrap();
    let Submitted::Done(cost) = submitted else { panic!("the budget has no end") };
    conflation.defer(cost.next);
}
