//! A room: its members, its variables and their order. It knows neither sockets, nor the registry, nor a
//! store or broker beyond what is told of it.

mod activity;
mod backlog;
mod batch;
mod contest;
#[cfg(all(test, not(shuttle)))]
mod convergence;
mod duty;
mod event;
mod history;
mod host;
mod join;
mod life;
mod link;
#[cfg(feature = "inspector")]
mod look;
mod members;
mod opening;
mod order;
mod outgoing;
#[cfg(all(test, shuttle))]
mod racing;
mod replica;
mod settle;
mod shared;
mod snapshot;
mod state;
mod summary;
mod unsaved;
mod variables;

pub use activity::Activity;
pub(crate) use batch::Batch;
#[cfg(any(all(test, not(shuttle)), feature = "internals"))]
pub(crate) use duty::Due;
pub(crate) use event::Watchers;
pub use event::{Events, MemberInfo, RoomEvent};
pub(crate) use history::Entry as PastEntry;
pub use history::PastWrite;
pub use host::SetError;
pub(crate) use host::{closed, entries};
pub(crate) use join::{Challenged, JoinError, Joined, Newcomer, Refusal, ban_keys};
pub(crate) use link::{Link, Outlet};
#[cfg(feature = "inspector")]
pub(crate) use look::{Look, Writer};
pub use members::MemberId;
pub(crate) use opening::Opening;
pub(crate) use order::{Outlook, Write, WriteError};
pub(crate) use replica::{Heard, Pace, Progress, Step, Wish};
pub(crate) use settle::CLIENT_LAG;
pub(crate) use shared::{Caretaker, Shared, Task};
pub(crate) use snapshot::Snapshot;
pub use state::Schema;
pub(crate) use state::{Eviction, Rules, Start, State};
pub use summary::RoomSummary;
pub(crate) use unsaved::Taken;
