//! Tests the room under a scheduler that tries interleavings of its members, the task that looks after it,
//! and eviction: `RUSTC_WORKSPACE_WRAPPER=tests/with-shuttle cargo test --all-features --lib racing`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use shuttle::{
    future::{block_on, spawn, yield_now},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use super::{Eviction, JoinError, MemberId, Newcomer, Outlet, Rules, Shared, State, Write};
use crate::{
    budget::Budget,
    close::LeaveCause,
    limits::Limits,
    session::{Item, Outbox},
    wire::{self, ClientMessage, Dialect, Json, ScratchValues},
};

const ITERATIONS: usize = 3_000;

type View = BTreeMap<String, String>;

fn variables() -> Vec<(Json<'static>, Json<'static>)> {
    ["x", "y"].map(|name| (Json::from_plain(name), Json::from_plain("0"))).into()
}

fn room() -> Arc<Shared> {
    let rules = Arc::new(Rules {
        tick: Duration::ZERO,
        settle: Some(Duration::ZERO),
        limits: Limits::default().backlog_batches(1),
        ..Rules::new(Instant::now())
    });
    let budget = Budget::new(usize::MAX);
    let state = State::new(
        &rules,
        &"room".into(),
        Some(&variables()),
        &budget,
        &Arc::default(),
        Instant::now(),
    )
    .unwrap();
    Arc::new(Shared::alone(state))
}

/// An outlet that records whether its member was pushed.
#[derive(Debug, Default)]
struct Pushed(AtomicBool);

impl Outlet for Pushed {
    fn push(&self) {
        self.0.store(true, SeqCst);
    }
}

struct Member {
    room: Arc<Shared>,
    pushed: Arc<Pushed>,
    id: MemberId,
    outbox: Outbox,
    view: View,
}

impl Member {
    fn join(room: &Arc<Shared>) -> Result<Self, JoinError> {
        let (variables, pushed) = (variables(), Arc::new(Pushed::default()));
        let guest = Newcomer::guest(Dialect::Spec, Some(&variables), Instant::now());
        let joined = room
            .change(|state, now| state.join(Newcomer { outlet: pushed.clone(), ..guest }, now))?;
        let id = joined.id;
        let outbox = Outbox::new(room.clone(), Dialect::Spec, joined);
        // The snapshot is available without a push.
        pushed.push();
        Ok(Self { room: room.clone(), pushed, id, outbox, view: View::new() })
    }

    fn write(&mut self, name: &str, value: String) {
        let write = Write {
            member: self.id,
            // The member has proven nothing, so every write may be contested.
            base: 0,
            name: &Json::from_plain(name),
            value: Some(&Json::from_plain(&value)),
            was: None,
            ack: None,
        };
        self.view.insert(name.into(), value);
        self.room.submit(&write).unwrap();
    }

    /// Applies the frames that wait, if the member was pushed.
    fn read(&mut self) {
        if !self.pushed.0.swap(false, SeqCst) {
            return;
        }
        while let Some(Item::Frame(frame)) = self.outbox.next(false) {
            for line in frame.as_text().split('\n') {
                let message = wire::decode(Dialect::Spec, ScratchValues::default(), line);
                let Ok(ClientMessage::Set { name, value: Some(value), .. }) = message else {
                    panic!("{line}");
                };
                self.view.insert(name.as_json().into(), value.as_json().into());
            }
        }
    }
}

#[test]
fn members_that_race_agree() {
    shuttle::check_random(
        || {
            let room = room();
            let members = (0..3).map(|i| {
                let room = room.clone();
                spawn(async move {
                    let mut member = Member::join(&room).unwrap();
                    for n in 0..3 {
                        member.write(["x", "y"][(i + n) % 2], format!("{i}.{n}"));
                        yield_now().await;
                        member.read();
                        if i == 2 && n == 1 {
                            room.leave(member.id, LeaveCause::Closed);
                            member = Member::join(&room).unwrap();
                        }
                    }
                    member
                })
            });
            let members: Vec<_> = members.collect();
            block_on(async {
                let mut there = Vec::new();
                for member in members {
                    there.push(member.await.unwrap());
                }
                // Waits until no task looks after the room any more, and nothing is under way.
                while room.state.read().alarm.is_some() {
                    yield_now().await;
                }
                let values = room.state.read().variables.values();
                let truth: View = values
                    .iter()
                    .map(|(name, value)| (name.as_json().into(), value.as_json().into()))
                    .collect();
                for member in &mut there {
                    member.read();
                    assert_eq!(member.view, truth);
                }
            });
        },
        ITERATIONS,
    );
}

#[test]
fn nobody_joins_an_evicted_room() {
    shuttle::check_random(
        || {
            let room = room();
            let Ok(first) = Member::join(&room) else { panic!("the room is there") };
            room.leave(first.id, LeaveCause::Closed);
            let since = Instant::now();
            let joining = {
                let room = room.clone();
                spawn(async move { Member::join(&room).is_ok() })
            };
            let evicting = {
                let room = room.clone();
                spawn(async move { room.evict(since) })
            };
            block_on(async {
                let joined = joining.await.unwrap();
                let expected = if joined { Eviction::InUse } else { Eviction::Evicted };
                assert_eq!(evicting.await.unwrap(), expected);
            });
        },
        ITERATIONS,
    );
}
