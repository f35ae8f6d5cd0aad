//! A room: its members, its variables and their order. It does not know about sockets or the registry, and
//! knows only as much of a store or a broker as it is given.

mod activity;
mod backlog;
mod batch;
mod broadcast;
mod convergence;
mod duty;
mod event;
mod history;
mod host;
mod intake;
mod join;
mod life;
#[cfg(feature = "inspector")]
mod look;
mod members;
mod mismatch;
mod opening;
mod order;
mod owner;
mod presence;
#[cfg(all(test, shuttle))]
mod racing;
mod receipts;
mod replica;
mod session_handle;
mod shared;
mod snapshot;
mod state;
mod summary;
mod takeover;
mod terms;
mod unsaved;
mod variables;

pub use activity::Activity;
pub(crate) use batch::Batch;
pub(crate) use convergence::CLIENT_LAG;
#[cfg(any(all(test, not(shuttle)), feature = "__internals"))]
pub(crate) use duty::Due;
pub(crate) use event::Watchers;
pub use event::{Events, MemberInfo, RegistryEvent, RoomEvent, Writer};
pub(crate) use history::Entry as PastEntry;
pub use history::PastWrite;
pub use host::SetError;
pub(crate) use join::{JoinError, Joined, Newcomer, Refusal};
#[cfg(feature = "inspector")]
pub(crate) use look::{LastWriter, Look};
pub use members::MemberId;
pub(crate) use mismatch::Mismatch;
pub(crate) use opening::{Opening, ReopenError};
pub(crate) use order::{Outlook, Submitted, Write, WriteCost, WriteError};
pub(crate) use replica::{AtBroker, Caller, Heard, Pace, Progress, Reply, Step, Wish};
pub(crate) use session_handle::{Outlet, SessionHandle};
pub(crate) use shared::{Caretaker, Shared, Task};
pub(crate) use snapshot::{Next, Snapshot};
pub use state::Schema;
pub(crate) use state::{Eviction, Rules, Start, State};
pub use summary::RoomSummary;
pub(crate) use takeover::{Challenged, Holder, Outlived, Wanted};
pub(crate) use terms::{Ack, Outcome};
pub(crate) use unsaved::Taken;
