//! The steps of a room as scripts: their arguments and their answers.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use redis::{Script, Value, from_redis_value};

use super::payload;
use crate::{
    relay::{
        RelayAnswer, RelayBan, RelayChange, RelayError, RelayNews, RelayRequest, RelayRevision,
        RelayRoom, RelaySession, RelayWrite,
    },
    store::{StoredRoom, StoredSchema},
};

pub(super) struct Scripts {
    enter: Script,
    join: Script,
    leave: Script,
    write: Script,
    change: Script,
    remove: Script,
    renew: Script,
    read: Script,
    tell: Script,
    lead: Script,
    forget: Script,
}

macro_rules! script {
    ($publish:ident, $file:literal) => {
        Script::new(&format!(
            "local PUBLISH = '{}'\n{}{}{}",
            $publish,
            include_str!("room.lua"),
            include_str!($file),
            include_str!("end.lua")
        ))
    };
}

/// Returns the command that publishes messages. Those of a cluster stay on the server that has the room.
pub(super) fn publish(is_cluster: bool) -> &'static str {
    if is_cluster { "SPUBLISH" } else { "PUBLISH" }
}

impl Scripts {
    pub(super) fn new(is_cluster: bool) -> Self {
        let publish = publish(is_cluster);
        Self {
            enter: script!(publish, "enter.lua"),
            join: script!(publish, "join.lua"),
            leave: script!(publish, "leave.lua"),
            write: script!(publish, "write.lua"),
            change: script!(publish, "change.lua"),
            remove: script!(publish, "remove.lua"),
            renew: script!(publish, "renew.lua"),
            read: script!(publish, "read.lua"),
            tell: script!(publish, "tell.lua"),
            lead: script!(publish, "lead.lua"),
            forget: script!(publish, "forget.lua"),
        }
    }
}

impl Scripts {
    /// Returns the script for a request, and its arguments except those that all scripts have.
    pub(super) fn of(&self, request: &RelayRequest, channel: &str) -> (&Script, Vec<String>) {
        let (first, last) = request
            .numbers()
            .map_or_else(Default::default, |(first, last)| (first.to_string(), last.to_string()));
        let mut args = vec![first, last, channel.into()];
        let script = match request {
            RelayRequest::Enter { create, epoch, known, was } => {
                args.extend(enter_args(create.as_ref(), epoch, known.as_ref(), was.as_deref()));
                &self.enter
            }
            RelayRequest::Join { session, replaces, .. } => {
                let RelaySession { number, name, shares, who } = session;
                args.extend([number.to_string(), name.clone(), flag(*shares)]);
                args.push(who.len().to_string());
                args.extend(who.iter().cloned().chain(replaces.iter().map(u64::to_string)));
                &self.join
            }
            RelayRequest::Leave { sessions, .. } => {
                args.extend(sessions.iter().map(u64::to_string));
                &self.leave
            }
            RelayRequest::Write { most, writes, .. } => {
                args.extend(write_args(*most, writes));
                &self.write
            }
            RelayRequest::Change { change, .. } => {
                args.extend(change_args(change));
                &self.change
            }
            RelayRequest::Remove { .. } => &self.remove,
            RelayRequest::Renew => &self.renew,
            RelayRequest::Read => &self.read,
            RelayRequest::Tell(news) => {
                let asked = match news {
                    RelayNews::Wanted { node, .. } => node.clone(),
                    _ => String::new(),
                };
                let time = RelayNews::TIME_TO_RENEW.as_millis().to_string();
                args.extend([payload::encode_news(news), asked, time]);
                &self.tell
            }
            RelayRequest::Forget { room } => {
                args.push(room.clone());
                &self.forget
            }
            RelayRequest::Lead { lead, .. } => {
                args.extend(["lead".into(), lead.to_string()]);
                &self.lead
            }
            RelayRequest::Resign { lead, .. } => {
                args.extend(["resign".into(), lead.to_string()]);
                &self.lead
            }
        };
        (script, args)
    }
}

fn flag(is_set: bool) -> String {
    u8::from(is_set).to_string()
}

fn enter_args(
    create: Option<&RelayRoom>,
    epoch: &str,
    known: Option<&RelayRevision>,
    was: Option<&str>,
) -> Vec<String> {
    let mut args = vec![epoch.to_owned()];
    match known {
        Some(RelayRevision { room, epoch, number }) => {
            args.extend([room.clone(), epoch.clone(), number.to_string()]);
        }
        None => args.extend([const { String::new() }; 3]),
    }
    args.push(was.unwrap_or_default().to_owned());
    let Some(RelayRoom { stored, max_members, max_variables, max_bytes, is_locked, closed, bans }) =
        create
    else {
        args.push(String::new());
        return args;
    };
    args.extend([stored.schema.name().to_owned(), max_members.to_string(), flag(*is_locked)]);
    args.extend([closed.to_string(), max_bytes.to_string(), max_variables.to_string()]);
    args.extend([bans.len().to_string()]);
    for RelayBan { who, name, millis } in bans {
        args.extend([who.clone(), name.clone(), millis.to_string()]);
    }
    for (name, value) in &stored.variables {
        args.extend([name.clone(), value.clone()]);
    }
    args
}

fn write_args(most: u64, writes: &[RelayWrite]) -> Vec<String> {
    let mut args = vec![payload::encode(writes), most.to_string()];
    // Only the last value of each name counts, unless a write depends on the previous value.
    let values = writes.iter().enumerate().filter(|(_, write)| write.value.is_some());
    let last: HashMap<_, _> = values.map(|(at, write)| (&write.name, at)).collect();
    let depends: HashSet<_> =
        writes.iter().filter(|write| write.was.is_some()).map(|write| &write.name).collect();
    for (at, RelayWrite { name, value, creates, was, unless, .. }) in writes.iter().enumerate() {
        let deed = match value {
            None => "drop",
            Some(_) if *creates => "create",
            Some(_) => "set",
        };
        let counts = depends.contains(name) || last.get(name) == Some(&at);
        let value = value.clone().filter(|_| counts);
        let was = was.as_ref().map(|was| format!("={was}"));
        args.extend([name.clone(), deed.into(), value.unwrap_or_default()]);
        args.extend([was.unwrap_or_default(), unless.clone().unwrap_or_default()]);
    }
    args
}

fn change_args(change: &RelayChange) -> Vec<String> {
    let (deed, own) = match change {
        RelayChange::Locked(is_locked) => ("locked", vec![flag(*is_locked)]),
        RelayChange::MaxMembers(count) => ("max", vec![count.to_string()]),
        RelayChange::MaxVariables(count) => ("variables", vec![count.to_string()]),
        RelayChange::MaxBytes(bytes) => ("bytes", vec![bytes.to_string()]),
        RelayChange::Schema(schema) => ("schema", vec![schema.name().to_owned()]),
        RelayChange::Ban { who, name, millis } => {
            ("ban", vec![who.clone(), name.clone(), millis.to_string()])
        }
        RelayChange::Closed => ("closed", Vec::new()),
    };
    [deed.into(), payload::encode_change(change)].into_iter().chain(own).collect()
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripts")
    }
}

/// Decodes an answer.
///
/// # Errors
///
/// Returns [`RelayError`] if the room is of another version, or no script of this version answers like this.
pub(super) fn decode(answer: Vec<Value>) -> Result<RelayAnswer, RelayError> {
    let text = |value: &Value| from_redis_value::<String>(value.clone()).unwrap_or_default();
    if let [first, version] = &answer[..]
        && text(first) == "version"
    {
        let version = text(version);
        return Err(RelayError::new(format!(
            "the room is in use by nodes of another version, whose format {version} this one does not know: give \
             nodes of each version a prefix of their own"
        )));
    }
    parts_of(answer).ok_or_else(|| RelayError::new("its answer is of another version"))
}

fn parts_of(answer: Vec<Value>) -> Option<RelayAnswer> {
    let mut parts = answer.into_iter();
    let mut next = || from_redis_value::<String>(parts.next()?).ok();
    Some(match &*next()? {
        "done" => {
            let revision =
                RelayRevision { room: next()?, epoch: next()?, number: next()?.parse().ok()? };
            RelayAnswer::Done { revision, before: next()?.parse().ok()? }
        }
        "nowhere" => RelayAnswer::Nowhere,
        "fenced" => RelayAnswer::Fenced,
        "lost" => RelayAnswer::Lost,
        "name" => RelayAnswer::NameInUse { node: next()?, session: next()?.parse().ok()? },
        "locked" => RelayAnswer::Locked,
        "banned" => RelayAnswer::Banned,
        "led" => RelayAnswer::Led,
        "full" => RelayAnswer::Full,
        "room" => {
            let revision =
                RelayRevision { room: next()?, epoch: next()?, number: next()?.parse().ok()? };
            let schema = StoredSchema::from_name(&next()?)?;
            let (is_new, taken) = (next()? == "1", next()?.parse().ok()?);
            let (max_members, is_locked) = (next()?.parse().ok()?, next()? == "1");
            let (closed, max_bytes) = (next()?.parse().ok()?, next()?.parse().ok()?);
            let max_variables = next()?.parse().ok()?;
            let bans: Vec<(String, String, String)> = from_redis_value(parts.next()?).ok()?;
            let ban = |(who, name, millis): (String, String, String)| {
                Some(RelayBan { who, name, millis: millis.parse().ok()? })
            };
            let bans = bans.into_iter().map(ban).collect::<Option<_>>()?;
            let variables = from_redis_value(parts.next()?).ok()?;
            let stored = StoredRoom { schema, variables };
            let room = RelayRoom {
                stored,
                max_members,
                max_variables,
                max_bytes,
                is_locked,
                closed,
                bans,
            };
            RelayAnswer::Room { revision, room, is_new, taken }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_lease_gets_its_time_once_more() {
        let time = RelayNews::TIME_TO_RENEW.as_millis();
        assert!(
            include_str!("room.lua").contains(&format!("'ZADD', nodes, now + {time}, over[at]"))
        );
    }
}
