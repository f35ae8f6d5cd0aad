//! The audit log: each join, leave and write of a player, with its time.

mod file;

use std::{collections::BTreeMap, error::Error, net::IpAddr, path::Path, time::SystemTime};

use axum_cloud_variables::{
    ClientAddress, Identity, LeaveCause,
    events::RegistryEvent,
    policy::{Join, Write},
};
use humantime::format_rfc3339_micros;
use serde::Serialize;

use file::Lines;
pub(crate) use file::{Limits, Writer};

/// Notes joins, leaves and writes.
#[derive(Clone)]
pub(crate) struct Audit(Lines);

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    #[serde(flatten)]
    player: Option<Player<'a>>,
    #[serde(flatten)]
    event: Event<'a>,
}

#[derive(Serialize)]
struct Player<'a> {
    room: &'a str,
    username: &'a str,
    address: Option<IpAddr>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// The player wants to create the room, with these values.
    Creates {
        variables: BTreeMap<String, String>,
    },
    Joined,
    Left {
        cause: LeaveCause,
    },
    Wrote {
        variable: &'a str,
        value: &'a str,
    },
    /// Joins and leaves came faster than they could be noted.
    Missed {
        count: u64,
    },
}

impl Audit {
    /// Opens the log in this folder, which is created if it does not exist.
    pub(crate) fn open(folder: &Path, limits: Limits) -> Result<(Self, Writer), Box<dyn Error>> {
        let writer = Writer::start(folder, limits);
        let writer = writer.map_err(|error| super::at("--audit", folder, &error))?;
        Ok((Self(writer.lines()), writer))
    }

    /// Notes the values with which a player wants to create a room.
    pub(crate) fn creates(&self, join: &Join<'_>, address: Option<IpAddr>) {
        let text = |(name, value): (_, _)| (String::from(name), String::from(value));
        let variables = join.variables().map(text).collect();
        let player = Player { room: join.room(), username: join.username(), address };
        self.note(Some(player), Event::Creates { variables });
    }

    /// Notes a player's write.
    pub(crate) fn wrote(&self, write: &Write<'_>) {
        let player = player(write.room(), write.username(), write.identity());
        let event = Event::Wrote { variable: write.name(), value: write.value() };
        self.note(Some(player), event);
    }

    /// Notes a join or a leave.
    pub(crate) fn happened(&self, event: &RegistryEvent) {
        match event {
            RegistryEvent::Joined { room, member } => {
                self.note(Some(player(room, &member.username, &member.identity)), Event::Joined);
            }
            RegistryEvent::Left { room, member, cause } => {
                let player = player(room, &member.username, &member.identity);
                self.note(Some(player), Event::Left { cause: *cause });
            }
            RegistryEvent::Missed(count) => self.note(None, Event::Missed { count: *count }),
            _ => {}
        }
    }

    fn note(&self, player: Option<Player<'_>>, event: Event<'_>) {
        let time = format_rfc3339_micros(SystemTime::now()).to_string();
        let Ok(mut line) = serde_json::to_string(&Line { time: &time, player, event }) else {
            return;
        };
        line.push('\n');
        self.0.add(time, line);
    }
}

fn player<'a>(room: &'a str, username: &'a str, identity: &Identity) -> Player<'a> {
    let address = identity.data().map(|ClientAddress(address)| *address);
    Player { room, username, address }
}
