//! The JSON that the inspector shows.

use std::{
    cmp::Ordering,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::{
    Site, Sort, Wanted, WhichPast,
    sampler::{Plots, Row},
    whole::WholePlots,
};
use crate::{
    ban::{Ban, BanTarget},
    registry::Room,
    room::{LastWriter, Look, PastEntry, PastWrite},
    wire::Dialect,
};

/// How many rooms a page has.
const PAGE: usize = 50;

/// How many characters of a value are shown.
const SHOWN: usize = 200;

/// How many past writes are shown.
const PAST: usize = 50;

/// The answer to `GET api/rooms`.
#[derive(Serialize)]
struct Listing<'a> {
    rooms: Vec<RoomRow<'a>>,
    /// How many were found, on all pages.
    found: usize,
    page: usize,
    pages: usize,
    stats: Stats,
    plots: WholePlots,
    /// `None` without a store.
    store: Option<Store>,
    /// `None` without a relay.
    relay: Option<Relay>,
    is_draining: bool,
    allows_actions: bool,
}

#[derive(Serialize)]
struct RoomRow<'a> {
    id: &'a str,
    members: usize,
    max_members: usize,
    is_locked: bool,
    variables: usize,
    bytes: usize,
    writes_per_second: f64,
}

#[derive(Serialize)]
struct Stats {
    rooms: usize,
    members: usize,
    sessions: usize,
    state_bytes: usize,
    state_bytes_limit: usize,
    writes: u64,
    deliveries: u64,
    corrections: u64,
}

#[derive(Serialize)]
struct Store {
    is_failing: bool,
    last_error: Option<String>,
    unsaved: usize,
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct Relay {
    is_failing: bool,
    last_error: Option<String>,
    rooms_waiting: usize,
}

/// The answer to `GET api/room`.
#[derive(Serialize)]
struct RoomView<'a> {
    id: &'a str,
    max_members: usize,
    is_locked: bool,
    bytes: usize,
    members: Vec<Member<'a>>,
    variables: Vec<Variable<'a>>,
    plots: Plots,
    bans: Vec<BanView<'a>>,
    /// A page of those that were found, the newest first.
    history: Vec<Past>,
    /// How many were found, and how many there are.
    history_found: usize,
    history_len: usize,
    allows_actions: bool,
}

#[derive(Serialize)]
struct Member<'a> {
    id: u64,
    username: &'a str,
    dialect: &'static str,
    /// The person, if the host has identified one.
    person: Option<&'a str>,
    is_read_only: bool,
    /// Milliseconds since 1970.
    connected_at: u64,
    round_trip_ms: Option<f64>,
    /// How many batches wait for it.
    waiting: usize,
}

/// A ban of a person or of a name.
#[derive(Serialize)]
struct BanView<'a> {
    /// `person` or `name`.
    kind: &'static str,
    who: &'a str,
    seconds_left: u64,
}

#[derive(Serialize)]
struct Variable<'a> {
    name: String,
    /// The beginning of the value.
    value: String,
    is_cut: bool,
    bytes: usize,
    /// The member that wrote it, if it is still in the room.
    by: Option<&'a str>,
    /// `member`, `left` or `other`: the host, the creator, or a member on another node.
    writer: &'static str,
    /// Milliseconds since 1970; `None` if it was not written yet.
    written_at: Option<u64>,
}

#[derive(Serialize)]
struct Past {
    /// Milliseconds since 1970.
    at: u64,
    by: Option<String>,
    variable: String,
    value: String,
}

impl Past {
    fn new(past: &PastWrite, most: usize) -> Self {
        let at = past.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let by = past.by.as_deref().map(Into::into);
        Self { at, by, variable: past.name.clone(), value: cut(&past.value, most).0 }
    }
}

impl Site {
    /// Renders a page of the rooms.
    pub(super) fn list(&self, wanted: &Wanted) -> String {
        let all = self.sampler.rows();
        let search = wanted.search.to_lowercase();
        let mut rows: Vec<&Row> = all
            .iter()
            .filter(|row| search.is_empty() || row.summary.id.to_lowercase().contains(&search))
            .collect();
        let order = |a: &&Row, b: &&Row| wanted.sort.order(a, b);
        let (found, inner) = (rows.len(), self.rooms.inner());
        // Includes rooms that are gone.
        let mut done = inner.activity_of_gone();
        all.iter().for_each(|row| done += row.summary.activity);
        let pages = found.div_ceil(PAGE).max(1);
        let page = wanted.page.min(pages - 1);
        // With many rooms, only those up to this page are sorted.
        let end = found.min((page + 1) * PAGE);
        if end < found {
            rows.select_nth_unstable_by(end, order);
            rows.truncate(end);
        }
        rows.sort_unstable_by(order);
        let stats = Stats {
            rooms: all.len(),
            members: all.iter().map(|row| row.summary.members).sum(),
            sessions: inner.drain.sessions(),
            state_bytes: inner.state_bytes(),
            state_bytes_limit: inner.rules.limits.state_bytes,
            writes: done.writes,
            deliveries: done.deliveries,
            corrections: done.corrections,
        };
        let store = self.rooms.store_stats().map(|store| Store {
            is_failing: store.is_failing,
            last_error: store.last_error.map(|(_, error)| error.to_string()),
            unsaved: store.unsaved,
            bytes: store.bytes,
        });
        let relay = self.rooms.relay_stats().map(|relay| Relay {
            is_failing: relay.is_failing,
            last_error: relay.last_error.map(|(_, error)| error.to_string()),
            rooms_waiting: relay.rooms_waiting,
        });
        text(&Listing {
            rooms: rows.into_iter().skip(page * PAGE).take(PAGE).map(row).collect(),
            found,
            page,
            pages,
            stats,
            plots: self.sampler.whole(wanted.span),
            store,
            relay,
            is_draining: self.rooms.is_draining(),
            allows_actions: self.page.allows_actions(),
        })
    }

    /// Renders a room; `None` if there is none with this id.
    pub(super) fn show(&self, WhichPast { id, search, page }: &WhichPast) -> Option<String> {
        let (now, today) = (Instant::now(), SystemTime::now());
        let since_1970 = today.duration_since(UNIX_EPOCH).unwrap_or_default();
        let moment = |age: Duration| since_1970.saturating_sub(age).as_millis() as u64;
        let room = self.rooms.room(id)?;
        let Look { summary, members, variables } = room.look(now)?;
        let bans = room.bans();
        let (history, history_found) = found(&room, search, *page, now, today);
        let view = RoomView {
            id: &summary.id,
            max_members: summary.max_members,
            is_locked: summary.locked,
            bytes: summary.bytes,
            members: members
                .iter()
                .map(|member| Member {
                    id: u64::from(member.info.id),
                    username: &member.info.username,
                    dialect: match member.info.dialect {
                        Dialect::Spec => "specification",
                        Dialect::Forkphorus2020 => "forkphorus 2020",
                        Dialect::Scratch => "Scratch",
                    },
                    person: member.info.identity.id(),
                    is_read_only: member.info.identity.is_read_only(),
                    connected_at: moment(member.age(now)),
                    round_trip_ms: member.round_trip().map(|time| time.as_secs_f64() * 1e3),
                    waiting: member.waiting(),
                })
                .collect(),
            variables: variables
                .iter()
                .map(|variable| {
                    let (name, whole) = variable.texts();
                    let (value, is_cut) = cut(&whole, SHOWN);
                    let (by, writer) = match &variable.by {
                        LastWriter::Member(name) => (Some(&**name), "member"),
                        LastWriter::Left => (None, "left"),
                        LastWriter::Other => (None, "other"),
                    };
                    let (bytes, written_at) = (whole.len(), variable.age.map(moment));
                    Variable { name, value, is_cut, bytes, by, writer, written_at }
                })
                .collect(),
            plots: self.sampler.plots(id),
            bans: bans.iter().map(BanView::of).collect(),
            history,
            history_found,
            history_len: room.past_len(),
            allows_actions: self.page.allows_actions(),
        };
        Some(text(&view))
    }

    /// Returns a line for each past write, the oldest first. Each line is rendered when it is requested.
    pub(super) fn history(&self, id: &str) -> Option<impl Iterator<Item = String> + use<>> {
        let past = self.rooms.room(id)?.past(usize::MAX);
        let (now, today) = (Instant::now(), SystemTime::now());
        let line =
            move |past: PastEntry| text(&Past::new(&past.look(now, today), usize::MAX)) + "\n";
        Some(past.into_iter().map(line))
    }
}

impl<'a> BanView<'a> {
    fn of(ban: &'a Ban) -> Self {
        let (kind, who) = match &ban.target {
            BanTarget::Person(id) => ("person", id),
            BanTarget::Name(name) => ("name", name),
        };
        Self { kind, who, seconds_left: ban.left.as_secs() }
    }
}

/// Returns a page of the past writes that contain the searched text, the newest first, and how many there are on
/// all pages.
fn found(
    room: &Room,
    search: &str,
    page: usize,
    now: Instant,
    today: SystemTime,
) -> (Vec<Past>, usize) {
    let shown = |entry: &PastEntry| Past::new(&entry.look(now, today), SHOWN);
    let skipped = page.saturating_mul(PAST);
    if search.is_empty() {
        // The room is locked for no more entries than this page and the newer ones.
        let past = room.past(skipped.saturating_add(PAST));
        return (past.iter().rev().skip(skipped).map(shown).collect(), room.past_len());
    }
    let search = search.to_lowercase();
    let matches = |past: &Past| {
        let by = past.by.as_deref().unwrap_or_default();
        [by, &past.variable, &past.value].iter().any(|text| text.to_lowercase().contains(&search))
    };
    let past = room.past(usize::MAX);
    let matching: Vec<_> = past.iter().rev().map(shown).filter(matches).collect();
    let count = matching.len();
    (matching.into_iter().skip(skipped).take(PAST).collect(), count)
}

impl Sort {
    /// Compares rooms for this order, with equal ones by id.
    fn order(self, a: &Row, b: &Row) -> Ordering {
        let (x, y) = (&a.summary, &b.summary);
        let order = match self {
            Self::Id => Ordering::Equal,
            Self::Members => y.members.cmp(&x.members),
            Self::Variables => y.variables.cmp(&x.variables),
            Self::WritesPerSecond => b.writes_per_second.total_cmp(&a.writes_per_second),
            Self::Bytes => y.bytes.cmp(&x.bytes),
        };
        order.then_with(|| x.id.cmp(&y.id))
    }
}

fn row(row: &Row) -> RoomRow<'_> {
    let summary = &row.summary;
    RoomRow {
        id: &summary.id,
        members: summary.members,
        max_members: summary.max_members,
        is_locked: summary.locked,
        variables: summary.variables,
        bytes: summary.bytes,
        writes_per_second: (row.writes_per_second * 10.0).round() / 10.0,
    }
}

/// Returns the first `most` characters of a text, and whether there are more.
fn cut(text: &str, most: usize) -> (String, bool) {
    match text.char_indices().nth(most) {
        Some((end, _)) => (text[..end].into(), true),
        None => (text.into(), false),
    }
}

fn text(view: &impl Serialize) -> String {
    serde_json::to_string(view).unwrap_or_default()
}
