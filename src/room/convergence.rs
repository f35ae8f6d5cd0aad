//! How members come to see the same: who is corrected after writes that met, and when.

mod contest;
#[cfg(all(test, not(shuttle)))]
mod model;
mod settle;

pub(crate) use settle::CLIENT_LAG;
pub(super) use settle::Settle;
