//! The contract of every relay.

mod requests;

use std::time::Duration;

use axum_cloud_variables::{
    relay::{
        Relay, RelayAnswer, RelayBan, RelayChange, RelayMessage, RelayNews, RelayNode,
        RelayRequest, RelayRevision, RelayRoom, RelayWrite, RelayWrites,
    },
    store::StoredSchema,
};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use requests::{
    MOST, ask, ban_of_eve, done, enter, join, leave, named, pairs, revision, room_of, share,
    values, write,
};

/// Longer than any step here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Checks that a [`Relay`] meets its contract, which takes some seconds. It must have no rooms yet, and a lease
/// that is longer than three seconds.
///
/// ```
/// use axum_cloud_variables::{testing::relay_contract, relay::MemoryRelay};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// relay_contract(&MemoryRelay::default()).await;
/// # }
/// ```
///
/// # Panics
///
/// Panics if the relay violates the contract. The message describes the violation.
pub async fn relay_contract(relay: &impl Relay) {
    values_and_messages(relay).await;
    sessions(relay).await;
    wanted_names(relay).await;
    changes(relay).await;
    leads(relay).await;
    drops(relay).await;
    terms(relay).await;
    losses(relay).await;
    removal(relay).await;
    forgetting(relay).await;
    announcements(relay).await;
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("waited too long for: {what}"),
    }
}

fn wrote(message: Option<RelayMessage>) -> RelayWrites {
    match message {
        Some(RelayMessage::Wrote(writes)) => writes,
        other => panic!("{other:?}"),
    }
}

/// Returns the number of the revision, the variables, and the last number that was taken.
async fn read(relay: &impl Relay, node: &str, room: &str) -> (u64, Vec<(String, String)>, u64) {
    let answer = ask(relay, node, room, RelayRequest::Read).await;
    let RelayAnswer::Room { revision, room, is_new: false, taken } = answer else {
        panic!("{answer:?}")
    };
    (revision.number, room.stored.variables, taken)
}

async fn room(relay: &impl Relay, id: &str) -> (RelayRevision, RelayRoom) {
    match ask(relay, "reader", id, RelayRequest::Read).await {
        RelayAnswer::Room { revision, room, .. } => (revision, room),
        other => panic!("{other:?}"),
    }
}

use RelayAnswer::{Banned, Fenced, Full, Led, Locked, Lost, NameInUse, Nowhere};
use RelayRequest::{Change, Lead, Read, Remove, Renew, Resign, Tell};

/// Creates a room of two nodes.
async fn make(relay: &impl Relay, id: &str) {
    ask(relay, "a", id, enter("e", Some(&[("x", "0")]))).await;
    ask(relay, "b", id, enter("", None)).await;
}

async fn values_and_messages(relay: &impl Relay) {
    let ask = async |node, room, request| ask(relay, node, room, request).await;
    // There is no room at first, and one node creates it.
    assert_eq!(ask("a", "r", Read).await, Nowhere);
    assert_eq!(ask("a", "r", enter("", None)).await, Nowhere);
    assert_eq!(ask("a", "r", Renew).await, Nowhere);
    let created = ask("a", "r", enter("e", Some(&[("x", "0"), ("☁\\n", "")]))).await;
    let RelayAnswer::Room { revision: here, room, is_new: true, taken: 0 } = created else {
        panic!()
    };
    assert_eq!(here, revision("e", 0));
    assert_eq!(room, room_of(&[("x", "0"), ("☁\\n", "")]));
    let other = ask("b", "r", enter("f", Some(&[("y", "0")]))).await;
    let RelayAnswer::Room { revision: there, is_new: false, .. } = other else { panic!() };
    assert_eq!(here, there);
    assert_eq!(read(relay, "b", "r").await.1, pairs(&[("x", "0"), ("☁\\n", "")]));

    // All subscribers receive messages in order, and a write that is sent again changes nothing.
    let mut heard = relay.subscribe("r").await.unwrap();
    let mut elsewhere = relay.subscribe("other").await.unwrap();
    assert_eq!(ask("a", "r", write(1, &[("x", "1"), ("x", "2")])).await, done(1, 2));
    let second = write(1, &[("x", "3"), ("new {}", "\\\"\\ud800")]);
    assert_eq!(ask("b", "r", second).await, done(2, 2));
    assert_eq!(ask("a", "r", write(1, &[("x", "1"), ("x", "2")])).await, done(2, 2));
    assert_eq!(ask("a", "r", write(2, &[("x", "2")])).await, done(2, 2));
    assert_eq!(ask("a", "r", write(7, &[("x", "4")])).await, done(3, 7), "numbers may be left out");
    let mut messages = Vec::new();
    for _ in 0..3 {
        let message = wrote(within("message", heard.next()).await);
        messages.push((message.revision.number, message.node, message.first, message.writes));
    }
    let expected = [
        (1, "a".to_owned(), 1, values(&[("x", "1"), ("x", "2")])),
        (2, "b".to_owned(), 1, values(&[("x", "3"), ("new {}", "\\\"\\ud800")])),
        (3, "a".to_owned(), 7, values(&[("x", "4")])),
    ];
    assert_eq!(messages, expected);
    // An answer includes the last number that was taken before, so that a node notices if the broker has lost
    // any.
    for (first, before) in [(8, 7), (9, 8), (9, 9)] {
        let write = write(first, &[("x", "4")]);
        let answer = relay.request("r", named("a"), &write).await.unwrap();
        let RelayAnswer::Done { before: there, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(there, before);
    }
    // In the order of their creation, as in all reads below.
    let there = pairs(&[("x", "4"), ("☁\\n", ""), ("new {}", "\\\"\\ud800")]);
    assert_eq!(read(relay, "a", "r").await, (5, there.clone(), 9));
    assert_eq!(read(relay, "b", "r").await, (5, there, 2));

    // Another room has its own order.
    ask("a", "other", enter("e", Some(&[]))).await;
    assert_eq!(ask("a", "other", write(1, &[("z", "1")])).await, done(1, 1));
    let message = wrote(within("message", elsewhere.next()).await);
    assert_eq!((message.revision.number, message.first), (1, 1));
    assert_eq!(message.writes, values(&[("z", "1")]));
    assert_eq!(read(relay, "a", "r").await.0, 5);
    for odd in ["{}", "a}b", "{", "%7B", "☁"] {
        ask("a", odd, enter(odd, Some(&[("id", odd)]))).await;
    }
    assert_eq!(read(relay, "a", "{").await.1, pairs(&[("id", "{")]));

    // A node that is not in the room changes nothing there.
    let tell = Tell(RelayNews::Kept { node: "a".into(), session: 1 });
    let change = Change { number: 1, change: RelayChange::Closed };
    let (lead, remove) = (Lead { number: 1, lead: 1 }, Remove { number: 1 });
    let write = write(9, &[("x", "no")]);
    for request in [write, share(1, 1, "guest"), Renew, leave(1, &[]), tell, change, lead, remove] {
        assert_eq!(ask("c", "r", request).await, Fenced);
    }
    assert_eq!(ask("b", "r", Renew).await, done(5, 2));
}

/// A name belongs to one session, unless all sessions with it share it. The number of sessions is limited. A
/// session that ends frees its name and its place.
async fn sessions(relay: &impl Relay) {
    let id = "sessions";
    make(relay, id).await;
    let ask = async |node, request| ask(relay, node, id, request).await;
    assert_eq!(ask("a", join(1, 1, "ann", &[])).await, done(0, 1));
    let name_in_use = NameInUse { node: "a".into(), session: 1 };
    assert_eq!(ask("b", join(1, 1, "ann", &[])).await, name_in_use);
    assert_eq!(ask("a", join(2, 1, "ann", &[])).await, done(0, 2), "its answer was lost");
    assert_eq!(ask("b", share(2, 2, "ann")).await, name_in_use, "sharing needs the leave of both");
    assert_eq!(ask("b", share(3, 2, "guest")).await, done(0, 3));
    assert_eq!(ask("b", share(4, 3, "guest")).await, done(0, 4));
    assert_eq!(ask("b", join(5, 4, "bob", &[])).await, Full);
    assert_eq!(ask("b", join(6, 4, "bob", &[3, 77])).await, done(0, 6));
    assert_eq!(ask("b", leave(7, &[1])).await, done(0, 7), "another node's");
    assert!(matches!(ask("b", join(8, 5, "ann", &[4])).await, NameInUse { .. }));
    assert_eq!(ask("b", share(9, 6, "guest")).await, Full, "who is refused replaces nobody");
    assert_eq!(ask("a", leave(3, &[1])).await, done(0, 3));
    let name_in_use = NameInUse { node: "b".into(), session: 2 };
    assert_eq!(ask("b", join(9, 5, "guest", &[])).await, done(0, 9), "a number that was taken");
    assert_eq!(ask("a", join(4, 5, "guest", &[])).await, name_in_use, "the other has it still");
    assert_eq!(ask("b", join(10, 5, "ann", &[2])).await, done(0, 10));
    // A request that arrives late, after later ones, does nothing; neither does a refused one.
    assert_eq!(ask("b", leave(7, &[5])).await, done(0, 10));
    assert_eq!(ask("b", leave(12, &[4, 5])).await, done(0, 12));
    assert_eq!(ask("b", join(11, 7, "late", &[])).await, done(0, 12));
    assert_eq!(ask("b", share(8, 6, "guest")).await, done(0, 12));
    for n in 0..3 {
        assert_eq!(
            ask("a", share(5 + n, 10 + n, "guest")).await,
            done(0, 5 + n),
            "nobody is there"
        );
    }
    assert_eq!(ask("b", share(13, 8, "guest")).await, Full);
    // If a process enters under another name, its earlier sessions end.
    let RelayRequest::Enter { epoch, .. } = enter("", None) else { panic!() };
    let known = Some(revision("e", 0));
    let again = RelayRequest::Enter { create: None, epoch, known, was: Some("a".into()) };
    let RelayAnswer::Room { is_new: false, taken: 0, .. } = ask("c", again).await else { panic!() };
    assert_eq!(ask("a", Renew).await, Fenced);
    assert_eq!(ask("b", share(14, 8, "guest")).await, done(0, 14));
}

/// The node of a session whose name is wanted stays only if it renews its lease. Otherwise the name is soon free.
async fn wanted_names(relay: &impl Relay) {
    let id = "wanted";
    make(relay, id).await;
    let ask = async |node, request| ask(relay, node, id, request).await;
    ask("c", enter("", None)).await;
    assert_eq!(ask("a", join(1, 1, "ann", &[])).await, done(0, 1));
    assert_eq!(ask("c", join(1, 1, "sue", &[])).await, done(0, 1));
    let began = Instant::now();
    for node in ["a", "c", "nobody"] {
        let node = node.to_owned();
        let wanted = RelayNews::Wanted {
            node,
            session: 1,
            person: None,
            resume: None,
            replaces: false,
            age: 0,
        };
        ask("b", Tell(wanted)).await;
    }
    assert_eq!(ask("a", Renew).await, done(0, 1));
    let free = async {
        for number in 1.. {
            match ask("b", join(number, number, "sue", &[])).await {
                NameInUse { node, session } => assert_eq!((&*node, session), ("c", 1)),
                answer => return assert_eq!(answer, done(0, number)),
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    within("a free name", free).await;
    assert!(began.elapsed() >= RelayNews::TIME_TO_RENEW, "{:?}", began.elapsed());
    assert_eq!(ask("c", Renew).await, Fenced);
    assert_eq!(ask("a", Renew).await, done(0, 1), "it renewed in time");
}

/// Changes of a room are part of its order, for all nodes and for those that read it.
async fn changes(relay: &impl Relay) {
    let id = "changes";
    make(relay, id).await;
    let mut heard = relay.subscribe(id).await.unwrap();
    let ask = async |node, request| ask(relay, node, id, request).await;
    let ban = |name: &str, millis| RelayChange::Ban {
        who: format!("name:{name}"),
        name: format!("{name} \n☁"),
        millis,
    };
    let all = [
        RelayChange::Locked(true),
        RelayChange::MaxMembers(1),
        RelayChange::MaxBytes(7_000),
        RelayChange::MaxVariables(40),
        RelayChange::Schema(StoredSchema::Growing),
        ban("eve", 100_000),
        ban("sue", 0),
    ];
    for (number, change) in (1..).zip(&all) {
        let request = Change { number, change: change.clone() };
        assert_eq!(ask("a", request.clone()).await, done(number, number));
        assert_eq!(ask("a", request).await, done(number, number), "once");
        let (node, change) = ("a".to_owned(), change.clone());
        let expected =
            RelayMessage::Changed { revision: revision("e", number), node, number, change };
        assert_eq!(within("change", heard.next()).await, Some(expected));
    }
    let (_, there) = room(relay, id).await;
    assert_eq!((there.is_locked, there.max_members, there.closed), (true, 1, 0));
    assert_eq!((there.max_bytes, there.max_variables), (7_000, 40));
    assert_eq!(there.stored.schema, StoredSchema::Growing);
    let [RelayBan { who, name, millis: 90_000..=100_000 }] = &*there.bans else {
        panic!("{there:?}")
    };
    assert_eq!((&**who, &**name), ("name:eve", "eve \n☁"));

    assert_eq!(ask("b", share(1, 1, "guest")).await, Locked);
    let unlock = Change { number: 8, change: RelayChange::Locked(false) };
    assert_eq!(ask("a", unlock).await, done(8, 8));
    assert_eq!(ask("b", join(2, 1, "eve", &[])).await, Banned);
    assert_eq!(ask("b", join(3, 1, "sue", &[])).await, done(8, 3));
    assert_eq!(ask("b", share(4, 2, "guest")).await, Full);
    // Sessions that were closed have also left the broker, and later sessions may stay.
    let close = Change { number: 9, change: RelayChange::Closed };
    assert_eq!(ask("a", close).await, done(9, 9));
    assert_eq!(ask("b", join(5, 3, "sue", &[])).await, done(9, 5));
    assert_eq!(room(relay, id).await.1.closed, 9);

    // News is delivered, but is not part of the order.
    let (node, resume) = ("a".into(), Some("secret".into()));
    let news = RelayNews::Wanted { node, session: 1, person: None, resume, replaces: true, age: 7 };
    assert_eq!(ask("b", Tell(news.clone())).await, done(9, 5));
    for _ in 0..2 {
        within("the rest", heard.next()).await;
    }
    assert_eq!(within("news", heard.next()).await, Some(RelayMessage::Told(news)));
}

/// Only one node leads, under one lead.
async fn leads(relay: &impl Relay) {
    let id = "leads";
    make(relay, id).await;
    let ask = async |node, request| ask(relay, node, id, request).await;
    let lead = |number, lead| Lead { number, lead };
    let resign = |number, lead| Resign { number, lead };
    assert_eq!(ask("a", lead(1, 1)).await, done(0, 1));
    assert_eq!(ask("a", lead(2, 1)).await, done(0, 2));
    assert_eq!(ask("a", lead(3, 2)).await, Led);
    assert_eq!(ask("b", lead(1, 1)).await, Led);
    assert_eq!(ask("b", resign(2, 1)).await, done(0, 2), "another's");
    assert_eq!(ask("a", resign(4, 2)).await, done(0, 4), "another's");
    assert_eq!(ask("b", lead(3, 1)).await, Led);
    assert_eq!(ask("a", resign(5, 1)).await, done(0, 5));
    assert_eq!(ask("a", lead(4, 1)).await, done(0, 5), "it comes late");
    assert_eq!(ask("b", lead(4, 1)).await, done(0, 4));
}

/// Variables are dropped, and writes to variables that do not exist are left out.
async fn drops(relay: &impl Relay) {
    let id = "drops";
    ask(relay, "a", id, enter("e", Some(&[("x", "0"), ("☁", ""), ("new {}", "1")]))).await;
    let mut heard = relay.subscribe(id).await.unwrap();
    let write = |name: &str, value: Option<&str>, creates| {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        RelayWrite { name, value, creates, by: Some("ann".into()), was: None, unless: None }
    };
    let writes = vec![
        write("x", None, false),
        write("x", Some("left out"), false),
        write("y", Some("1"), true),
        write("y", Some("2"), false),
        write("y", None, false),
        write("new {}", None, false),
        write("new {}", Some("back"), true),
        write("new {}", Some("again"), false),
        write("never", Some("there"), false),
        write("z", None, false),
    ];
    let write_all = RelayRequest::Write { first: 1, most: MOST, writes: writes.clone() };
    assert_eq!(ask(relay, "a", id, write_all).await, done(1, 10));
    let message = wrote(within("message", heard.next()).await);
    assert_eq!((message.most, message.writes), (MOST, writes));
    assert_eq!(read(relay, "a", id).await.1, pairs(&[("☁", ""), ("new {}", "again")]));
    // There is space for two.
    let writes = vec![
        write("third", Some("no"), true),
        write("☁", Some("set"), true),
        write("new {}", None, false),
        write("third", Some("yes"), true),
        write("fourth", Some("no"), true),
        write("third", Some("yes!"), false),
    ];
    let write_all = RelayRequest::Write { first: 11, most: 2, writes };
    assert_eq!(ask(relay, "a", id, write_all).await, done(2, 16));
    assert_eq!(wrote(within("message", heard.next()).await).revision.number, 2);
    assert_eq!(read(relay, "a", id).await.1, pairs(&[("☁", "set"), ("third", "yes!")]));
}

/// Writes that apply only if a variable still has a value, or if no session has a name.
async fn terms(relay: &impl Relay) {
    let id = "terms";
    ask(relay, "a", id, enter("e", Some(&[("x", "0"), ("n", "\"5")]))).await;
    assert_eq!(ask(relay, "a", id, share(1, 1, "ann")).await, done(0, 1));
    let mut heard = relay.subscribe(id).await.unwrap();
    let write = |name: &str, value: &str, was: Option<&str>| RelayWrite {
        name: name.into(),
        value: Some(value.into()),
        creates: true,
        by: None,
        was: was.map(str::to_owned),
        unless: None,
    };
    let unless = |write: RelayWrite, name: &str| RelayWrite { unless: Some(name.into()), ..write };
    let writes = vec![
        write("x", "1", Some("0")),
        write("x", "no", Some("0")),
        write("x", "2", Some("1")),
        write("n", "6", Some("5")),
        write("new", "no", Some("0")),
        write("new", "1", Some("")),
        unless(write("x", "no", None), "ann"),
        unless(write("n", "7", None), "bob"),
        RelayWrite { value: None, ..unless(write("new", "", None), "ann") },
        write("x", "3", Some("2")),
    ];
    let all = RelayRequest::Write { first: 2, most: MOST, writes: writes.clone() };
    assert_eq!(ask(relay, "a", id, all).await, done(1, 11));
    let message = wrote(within("message", heard.next()).await);
    assert_eq!(message.left_out, [8, 10], "for what the broker alone knows");
    assert_eq!(message.writes[1].was.as_deref(), Some("0"), "and what depends on values is told");
    let there = pairs(&[("x", "3"), ("n", "7"), ("new", "1")]);
    assert_eq!(read(relay, "a", id).await.1, there);
}

/// A node that has more than the broker restores it.
async fn losses(relay: &impl Relay) {
    let id = "losses";
    make(relay, id).await;
    assert_eq!(ask(relay, "a", id, write(1, &[("x", "1")])).await, done(1, 1));
    assert_eq!(ask(relay, "b", id, join(1, 1, "bob", &[])).await, done(1, 1));
    let give_back = |known: RelayRevision, epoch: &str| {
        let (who, name) = ("name:eve".into(), "Eve 1".into());
        let ban = RelayBan { who, name, millis: 100_000 };
        let room =
            RelayRoom { is_locked: true, closed: 4, bans: vec![ban], ..room_of(&[("y", "7")]) };
        let (create, epoch) = (Some(room), epoch.to_owned());
        RelayRequest::Enter { create, epoch, known: Some(known), was: None }
    };
    // The broker has as much, or a later epoch: the node enters the existing room.
    for (known, epoch) in [(1, "e"), (9, "other")] {
        let known = RelayRevision { room: "e".into(), epoch: epoch.into(), number: known };
        let there = ask(relay, "c", id, give_back(known, "no")).await;
        let RelayAnswer::Room { revision: there, is_new: false, .. } = there else { panic!() };
        assert_eq!(there, revision("e", 1));
    }
    let other = RelayRevision { room: "other".into(), epoch: "e".into(), number: 9 };
    assert_eq!(ask(relay, "c", id, give_back(other, "no")).await, Nowhere);
    // The broker takes nothing of a node that knows that more was taken.
    for request in [Renew, Read, write(3, &[("x", "3")]), join(3, 7, "sue", &[])] {
        let knows = RelayNode { name: "a", acknowledged: 2 };
        assert_eq!(relay.request(id, knows, &request).await.unwrap(), Lost);
        let knows = RelayNode { name: "a", acknowledged: 1 };
        assert_eq!(relay.request(id, knows, &Renew).await.unwrap(), done(1, 1));
    }
    // The broker has less: the node's room continues, without other nodes.
    let given = ask(relay, "d", id, give_back(revision("e", 5), "f")).await;
    let RelayAnswer::Room { revision: there, room: given, is_new: true, taken: 0 } = given else {
        panic!()
    };
    assert_eq!(there, RelayRevision { room: "e".into(), epoch: "f".into(), number: 6 });
    assert_eq!((given.is_locked, given.closed, &*given.bans[0].name), (true, 4, "Eve 1"));
    assert_eq!(given.stored.variables, pairs(&[("y", "7")]));
    assert_eq!(ask(relay, "b", id, Renew).await, Fenced);
    let join = ask(relay, "d", id, join(1, 1, "bob", &[])).await;
    assert_eq!(join, Locked, "as it was");
    // The broker has nothing.
    let given = ask(relay, "d", "lost", give_back(revision("e", 5), "f")).await;
    let RelayAnswer::Room { revision: there, is_new: true, .. } = given else { panic!() };
    assert_eq!(there, RelayRevision { room: "e".into(), epoch: "f".into(), number: 6 });
}

/// The broker deletes a room when a node leaves it and no other node is in it.
async fn forgetting(relay: &impl Relay) {
    let id = "forgotten";
    make(relay, id).await;
    let forget = |room: &str| RelayRequest::Forget { room: room.into() };
    assert_eq!(ask(relay, "a", id, join(1, 1, "ann", &[])).await, done(0, 1));
    assert_eq!(ask(relay, "a", id, forget("other")).await, Nowhere, "it had another room");
    assert_eq!(ask(relay, "a", id, forget("e")).await, done(0, 1));
    assert_eq!(ask(relay, "a", id, Renew).await, Fenced, "it is out");
    assert_eq!(ask(relay, "b", id, join(1, 1, "ann", &[])).await, done(0, 1), "the name is free");
    assert_eq!(ask(relay, "b", id, forget("e")).await, done(0, 1));
    assert_eq!(ask(relay, "b", id, Renew).await, Nowhere);
}

/// News that belongs to no room reaches only the subscribers of the empty id.
async fn announcements(relay: &impl Relay) {
    make(relay, "beside").await;
    let mut heard = relay.subscribe("").await.unwrap();
    let mut elsewhere = relay.subscribe("beside").await.unwrap();
    let (node, person) = ("a".to_owned(), "account \"7\" ☁".to_owned());
    let kick = RelayNews::Kick { node, person, code: 4004, reason: "enough".into() };
    relay.announce(&kick).await.unwrap();
    assert_eq!(within("a kick", heard.next()).await, Some(RelayMessage::Told(kick)));
    ask(relay, "a", "beside", write(1, &[("x", "1")])).await;
    wrote(within("a write", elsewhere.next()).await);
}

/// A room that is removed leaves nothing behind, except its bans.
async fn removal(relay: &impl Relay) {
    let id = "removed";
    make(relay, id).await;
    let ban = ban_of_eve(100_000);
    ask(relay, "a", id, Change { number: 1, change: ban }).await;
    let mut heard = relay.subscribe(id).await.unwrap();
    assert_eq!(ask(relay, "a", id, Remove { number: 1 }).await, done(1, 1), "it was taken");
    assert_eq!(ask(relay, "a", id, Remove { number: 2 }).await, done(1, 1));
    let removed = RelayMessage::Told(RelayNews::Removed { room: "e".into() });
    assert_eq!(within("news", heard.next()).await, Some(removed));
    assert_eq!(ask(relay, "b", id, Renew).await, Nowhere);
    // A node that missed the removal neither creates the room again nor enters its successor.
    let restore = RelayRequest::Enter {
        create: Some(room_of(&[])),
        epoch: "f".into(),
        known: Some(revision("e", 1)),
        was: Some("b".into()),
    };
    assert_eq!(ask(relay, "b", id, restore.clone()).await, Nowhere);
    let created = ask(relay, "b", id, enter("g", Some(&[]))).await;
    let RelayAnswer::Room { room, is_new: true, taken: 0, .. } = created else { panic!() };
    assert_eq!(room.stored.variables, []);
    assert_eq!(ask(relay, "c", id, restore.clone()).await, Nowhere);
    let joined = ask(relay, "b", id, join(1, 1, "ann", &[])).await;
    assert_eq!(joined, RelayAnswer::Done { revision: revision("g", 0), before: 1 });
    assert_eq!(ask(relay, "b", id, join(2, 2, "eve", &[])).await, Banned);
    // This still holds if the successor is removed too.
    ask(relay, "b", id, Remove { number: 3 }).await;
    assert_eq!(ask(relay, "c", id, restore).await, Nowhere);
}
