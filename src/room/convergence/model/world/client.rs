//! The client's side: an application that applies its own sets at once, and its network side.

use super::*;

impl World {
    pub(super) fn send(&mut self, client: usize, up: Up) {
        let leaves = self.now + self.rng.u64(0..=self.weather.queues.1);
        let of = &mut self.clients[client];
        of.sent = of.sent.max(leaves);
        let (leaves, connection) = (of.sent, of.connection);
        self.at(leaves, Event::Send(client, connection, up));
    }

    pub(super) fn come(&mut self, client: usize) {
        if self.clients[client].connected {
            return;
        }
        let of = &mut self.clients[client];
        of.connected = true;
        of.connection += 1;
        (of.sent, of.arrived, of.delivered, of.handled) = (self.now, self.now, self.now, self.now);
        // This connection does not answer requests of another one.
        (of.acks, of.told, of.asked) = (0, 0, None);
        if of.view.is_empty() {
            of.view = view(&variables(&self.weather, &format!("mine{client}")));
        }
        self.send(client, Up::Join);
        // Some clients send writes at once, behind the handshake.
        let at_once = if self.weather.writes > 0 { self.rng.usize(0..3) } else { 0 };
        for _ in 0..at_once {
            self.write(client);
        }
    }

    pub(super) fn leave(&mut self, client: usize) {
        let clean = self.rng.bool();
        let later = self.now + if clean { self.link() } else { self.rng.u64(0..60_000) };
        let of = &mut self.clients[client];
        of.connected = false;
        of.connection += 1;
        if let Some(session) = of.session.take() {
            self.at(later, Event::Gone(Box::new(session)));
        }
    }

    pub(super) fn write(&mut self, client: usize) {
        if !self.clients[client].connected {
            return;
        }
        self.written += 1;
        let refused = self.weather.refusals && self.rng.u64(0..4) == 0;
        // The room refuses the longer value, and also a value that is no number if it must be one.
        let value = match (refused, self.clients[client].dialect) {
            (true, Dialect::Scratch) if self.rng.bool() => "1e400".into(),
            (true, _) => format!("1{:0>1$}", self.written, VALUE_BYTES),
            (false, _) => (self.written % self.weather.values).to_string(),
        };
        let name = format!("☁ {}", self.rng.usize(0..self.weather.variables));
        let has_terms = self.clients[client].dialect != Dialect::Scratch;
        if has_terms && self.weather.updates && self.rng.u64(0..4) == 0 {
            // This is usually the value that the client sees.
            let was = match self.rng.u64(0..4) {
                0 => "never".into(),
                _ => self.clients[client].view[&name].clone(),
            };
            return self.set_if(client, name, value, &was);
        }
        self.set(client, name, value);
    }

    /// Adds one to a variable. If the set does not count, its outcome leads to another attempt.
    pub(super) fn add(&mut self, client: usize) {
        let of = &mut self.clients[client];
        if !of.connected || of.asked.is_some() || of.to_add == 0 {
            return;
        }
        let was = of.view["☁ 0"].clone();
        let value = was.parse().unwrap_or(0) + 1;
        self.set_if(client, "☁ 0".into(), value.to_string(), &was);
        self.clients[client].asked = Some(self.clients[client].acks);
    }

    /// Handles the outcome of a set that had terms.
    fn told(&mut self, client: usize, line: &str) {
        let ack: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(ack["kind"], "ack", "{line}");
        let of = &mut self.clients[client];
        of.told += 1;
        // Outcomes come in the order of their sets.
        assert_eq!(ack["ack"], of.told, "{line}");
        if of.asked.take_if(|asked| *asked == of.told).is_some() {
            of.to_add -= u64::from(ack["ok"] == true);
            self.add(client);
        }
    }

    /// Sets a variable if it has the value `was`.
    fn set_if(&mut self, client: usize, name: String, value: String, was: &str) {
        let of = &mut self.clients[client];
        of.acks += 1;
        let (key, ack) = match of.dialect {
            Dialect::Forkphorus2020 => ("var", of.acks),
            Dialect::Spec | Dialect::Scratch => ("variable", of.acks),
        };
        let text = format!(
            r#"{{"kind":"set","{key}":"{name}","value":"{value}","was":"{was}","ack":{ack}}}"#
        );
        of.view.insert(name.clone(), value.clone());
        of.own.insert(name, value);
        self.send(client, Up::Text(text));
    }

    /// Answers a set, if the client is the bot.
    fn answer(&mut self, client: usize, name: &str) {
        let Some(bot) = self.weather.bot.filter(|_| client == BOT) else { return };
        self.heard += 1;
        for value in bot {
            self.set(client, name.to_owned(), (*value).to_owned());
        }
    }

    pub(super) fn set(&mut self, client: usize, name: String, value: String) {
        let text = match self.clients[client].dialect {
            Dialect::Spec => format!(r#"{{"kind":"set","variable":"{name}","value":"{value}"}}"#),
            Dialect::Forkphorus2020 => {
                format!(r#"{{"kind":"set","var":"{name}","value":"{value}"}}"#)
            }
            // Half of these clients send numbers.
            Dialect::Scratch => {
                let quote = if client.is_multiple_of(2) { "\"" } else { "" };
                format!(r#"{{"method":"set","name":"{name}","value":{quote}{value}{quote}}}"#)
            }
        };
        self.clients[client].view.insert(name.clone(), value.clone());
        self.clients[client].own.insert(name, value);
        self.send(client, Up::Text(text));
    }

    pub(super) fn read(&mut self, client: usize, connection: u64) {
        let now = self.now;
        let of = &mut self.clients[client];
        let Some(session) = of.session.as_mut().filter(|_| of.connection == connection) else {
            return;
        };
        if now < of.stalled_until {
            let time = of.stalled_until;
            self.at(time, Event::Read(client, connection));
            return;
        }
        while session.socket.front().is_some_and(|(time, ..)| *time <= now) {
            let (_, item, ping) = session.socket.pop_front().unwrap();
            match item {
                Item::Frame(frame) => {
                    let lag = self.rng.u64(0..=self.weather.queues.0);
                    of.handled = of.handled.max(now + lag);
                    let event = Event::Handle(client, connection, frame.as_text().to_owned());
                    let time = of.handled;
                    self.scheduled += 1;
                    self.events.push(Reverse((time, self.scheduled)));
                    self.payloads.insert(self.scheduled, event);
                }
                // The network side answers by itself.
                Item::Barrier(_) | Item::NoBudget => {
                    let up = Up::Pong(ping.unwrap());
                    self.scheduled += 1;
                    self.events.push(Reverse((now, self.scheduled)));
                    self.payloads.insert(self.scheduled, Event::Send(client, connection, up));
                }
            }
        }
    }

    pub(super) fn handle(&mut self, client: usize, frame: &str) {
        for line in frame.split('\n') {
            let dialect = self.clients[client].dialect;
            let message = wire::decode(dialect, ScratchValues::Strings, line);
            let Ok(ClientMessage::Set { name, value: Some(value), .. }) = message else {
                self.told(client, line);
                continue;
            };
            let (name, value) = (name.as_json().to_owned(), value.as_json().to_owned());
            let of = &mut self.clients[client];
            let is_echo = [&of.own, &of.view].iter().all(|seen| seen.get(&name) == Some(&value));
            of.echoes += u64::from(is_echo);
            of.view.insert(name.clone(), value);
            self.answer(client, &name);
        }
    }
}
