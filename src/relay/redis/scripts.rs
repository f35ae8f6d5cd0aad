//! The steps of a room as scripts: what they are told, and what they answer.

use std::{collections::HashMap, fmt};

use redis::{Script, Value, from_redis_value};

use super::channels;
use crate::{
    relay::{RelayAnswer, RelayNews, RelayRequest, RelayRevision, RelaySession, RelayWrite},
    store::{StoredRoom, StoredSchema},
};

pub(super) struct Scripts {
    enter: Script,
    join: Script,
    write: Script,
    leave: Script,
    renew: Script,
    read: Script,
    host: Script,
}

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("room.lua"), include_str!($file)))
    };
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            enter: script!("enter.lua"),
            join: script!("join.lua"),
            write: script!("write.lua"),
            leave: script!("leave.lua"),
            renew: script!("renew.lua"),
            read: script!("read.lua"),
            host: script!("host.lua"),
        }
    }
}

impl Scripts {
    /// The script for a request, and its own arguments.
    pub(super) fn of(&self, request: &RelayRequest, channel: &str) -> (&Script, Vec<String>) {
        match request {
            RelayRequest::Enter { create, epoch, lost } => {
                let schema = create.as_ref().map_or("", |room| room.schema.name());
                let lost = lost.clone().unwrap_or_default();
                let mut args = vec![epoch.clone(), schema.into(), lost];
                for (name, value) in create.iter().flat_map(|room| &room.variables) {
                    args.extend([name.clone(), value.clone()]);
                }
                (&self.enter, args)
            }
            RelayRequest::Join { session, left } => {
                let RelaySession { number, name, shares, who, most } = session;
                let mut args = vec![number.to_string(), name.clone()];
                args.extend([u8::from(*shares).to_string(), most.to_string()]);
                args.push(who.len().to_string());
                args.extend(who.iter().cloned().chain(left.iter().map(u64::to_string)));
                (&self.join, args)
            }
            RelayRequest::Write { first, most, writes } => {
                let last = first + writes.len() as u64 - 1;
                let mut args = vec![first.to_string(), last.to_string(), channel.into()];
                args.extend([channels::encode(writes), most.to_string()]);
                // Of each name the last value counts.
                let values = writes.iter().enumerate().filter(|(_, write)| write.value.is_some());
                let last: HashMap<_, _> = values.map(|(at, write)| (&write.name, at)).collect();
                for (at, RelayWrite { name, value, creates }) in writes.iter().enumerate() {
                    let deed = match value {
                        None => "drop",
                        Some(_) if *creates => "create",
                        Some(_) => "set",
                    };
                    let value = value.clone().filter(|_| last.get(name) == Some(&at));
                    args.extend([name.clone(), deed.into(), value.unwrap_or_default()]);
                }
                (&self.write, args)
            }
            RelayRequest::Leave { sessions } => {
                (&self.leave, sessions.iter().map(u64::to_string).collect())
            }
            RelayRequest::Renew => (&self.renew, Vec::new()),
            RelayRequest::Read => (&self.read, Vec::new()),
            RelayRequest::Lock { locked: true } => (&self.host, vec!["lock".into()]),
            RelayRequest::Lock { locked: false } => (&self.host, vec!["unlock".into()]),
            RelayRequest::Ban { who, millis } => {
                (&self.host, vec!["ban".into(), who.clone(), millis.to_string()])
            }
            RelayRequest::Tell(news) => {
                (&self.host, vec!["tell".into(), channel.into(), channels::encode_news(news)])
            }
            RelayRequest::Remove => (&self.host, vec!["remove".into(), channel.into()]),
            RelayRequest::Schema(schema) => {
                let news = channels::encode_news(&RelayNews::Schema(*schema));
                (&self.host, vec!["schema".into(), channel.into(), news, schema.name().into()])
            }
            RelayRequest::Lead { number } => (&self.host, vec!["lead".into(), number.to_string()]),
            RelayRequest::Resign { number } => {
                (&self.host, vec!["resign".into(), number.to_string()])
            }
        }
    }
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripts")
    }
}

/// `None` where no script of this version answers so.
pub(super) fn decode(answer: Vec<Value>) -> Option<RelayAnswer> {
    let mut parts = answer.into_iter();
    let mut next = || from_redis_value::<String>(parts.next()?).ok();
    Some(match &*next()? {
        "done" => {
            RelayAnswer::Done(RelayRevision { epoch: next()?, number: next()?.parse().ok()? })
        }
        "nowhere" => RelayAnswer::Nowhere,
        "fenced" => RelayAnswer::Fenced,
        "name" => RelayAnswer::NameInUse { node: next()?, session: next()?.parse().ok()? },
        "locked" => RelayAnswer::Locked,
        "banned" => RelayAnswer::Banned,
        "led" => RelayAnswer::Led,
        "full" => RelayAnswer::Full,
        "room" => {
            let revision = RelayRevision { epoch: next()?, number: next()?.parse().ok()? };
            let schema = StoredSchema::from_name(&next()?)?;
            let (is_new, written) = (next()? == "1", next()?.parse().ok()?);
            let variables = from_redis_value(parts.next()?).ok()?;
            RelayAnswer::Room { revision, room: StoredRoom { schema, variables }, is_new, written }
        }
        _ => return None,
    })
}
