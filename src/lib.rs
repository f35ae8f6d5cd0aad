#![doc = include_str!("lib.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// Lets `MemoryRelay` and `MemoryStore` be written as a host would write them: tests and a model include
/// them.
extern crate self as axum_cloud_variables;

mod ban;
mod budget;
#[cfg(feature = "client")]
pub mod client;
mod close;
mod deflate;
#[cfg(any(doc, doctest))]
pub mod docs;
pub mod events;
mod host_data;
mod identity;
#[cfg(feature = "inspector")]
mod inspector;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod internals;
mod limits;
mod log_limit;
mod metrics;
mod mount;
mod names;
pub mod policy;
mod rate;
mod redacted;
mod registry;
pub mod relay;
mod room;
mod serve;
mod session;
pub mod store;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use ban::{Ban, BanTarget};
pub use close::{CloseCode, LeaveCause};
#[cfg(feature = "deflate")]
pub use deflate::Compression;
pub use identity::Identity;
#[cfg(feature = "inspector")]
pub use inspector::Inspector;
pub use limits::Limits;
pub use mount::{ClientAddress, InvalidOrigin, Mount, MountLayer, MountService, Origins};
pub use names::{Alphabet, DuplicateNames, UsernameRules};
pub use registry::{
    BuildError, Creators, ImportReport, Lead, NotReady, OpenError, OpenRoom, RelayStats, Room,
    RoomError, RoomRegistry, RoomRegistryBuilder, ShutdownReport, Stats, StoreStats, StoredSummary,
    TransferError, UpdateError, WeakRoomRegistry,
};
pub use room::{Activity, MemberId, MemberInfo, RoomSummary, Schema, SetError};
pub use serve::{GracefulServe, Serve, serve, tune_socket};
pub use wire::{Dialect, ScratchFraming, ScratchValues};

/// Compiles the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the threat model's examples.
#[cfg(doctest)]
#[doc = include_str!("../SECURITY.md")]
struct Security;
