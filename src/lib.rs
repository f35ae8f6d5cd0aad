#![doc = include_str!("lib.md")]

/// `MemoryRelay` and `MemoryStore` stand as a host would write them: tests and a model include them.
extern crate self as axum_cloud_variables;

mod ban;
mod budget;
#[cfg(feature = "client")]
pub mod client;
mod close;
#[cfg(all(feature = "client", feature = "testing"))]
pub mod docs;
mod host_data;
mod identity;
#[cfg(feature = "inspector")]
mod inspector;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod internals;
mod limits;
mod metrics;
mod mount;
mod names;
mod policy;
mod rate;
mod redacted;
mod registry;
mod relay;
mod room;
mod serve;
mod session;
mod store;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use ban::{Ban, BanTarget};
pub use close::{CloseCode, LeaveCause};
pub use identity::Identity;
#[cfg(feature = "inspector")]
pub use inspector::Inspector;
pub use limits::Limits;
pub use mount::{Mount, MountLayer, MountService, Origins};
pub use names::{Alphabet, DuplicateNames, UsernameRules};
pub use policy::{Join, Policy, Rejection, Rights, Verdict, Write};
pub use registry::{
    BuildError, Creators, Imported, Lead, OpenError, OpenRoom, RelayStats, Room, RoomError,
    RoomRegistry, RoomRegistryBuilder, Stats, StoreStats, StoredSummary, TransferError,
    UpdateError, WeakRoomRegistry,
};
#[cfg(feature = "redis")]
pub use relay::RedisRelay;
pub use relay::{
    MemoryRelay, Relay, RelayAnswer, RelayBan, RelayChange, RelayError, RelayMessage,
    RelayMessages, RelayNews, RelayNode, RelayRequest, RelayRevision, RelayRoom, RelaySession,
    RelayWrite, RelayWrites,
};
pub use room::{
    Activity, Events, MemberId, MemberInfo, PastWrite, RoomEvent, RoomSummary, Schema, SetError,
    Writer,
};
pub use serve::{Serve, serve};
#[cfg(feature = "redb")]
pub use store::RedbStore;
pub use store::{Change, MemoryStore, RoomStore, StoreError, StoredBan, StoredRoom, StoredSchema};
pub use wire::{Dialect, ScratchFraming, ScratchValues};

/// Compiles the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles those of the threat model.
#[cfg(doctest)]
#[doc = include_str!("../SECURITY.md")]
struct Security;
