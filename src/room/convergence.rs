//! The rules by which members come to see the same values: which writers are corrected after concurrent
//! writes, and when.

mod contest;
#[cfg(all(test, not(shuttle)))]
mod model;
mod settle;

pub(crate) use settle::CLIENT_LAG;
pub(super) use settle::Settle;
