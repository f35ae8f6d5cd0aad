//! The metrics, through the facade of the metrics crate. Without that feature nothing is recorded.

use std::time::Duration;

#[cfg(feature = "metrics")]
use metrics::{
    Unit::{Bytes, Count, Seconds},
    counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

#[cfg(feature = "metrics")]
use crate::{close::CloseCode, policy::Judging, registry::RoomRegistry};

/// Records a join, and the time since the session began.
pub(crate) fn joined(time: Duration) {
    #[cfg(feature = "metrics")]
    histogram!("cloud_variables_join_seconds").record(time);
    _ = time;
}

/// Records that the server ended a session with this code.
pub(crate) fn closed(code: u16) {
    #[cfg(feature = "metrics")]
    counter!("cloud_variables_closes_total", "code" => code.to_string()).increment(1);
    _ = code;
}

/// Records that a request was not upgraded, and answered with this status.
pub(crate) fn refused(status: u16) {
    #[cfg(feature = "metrics")]
    counter!("cloud_variables_refused_upgrades_total", "status" => status.to_string()).increment(1);
    _ = status;
}

/// Records that there was no memory for a write.
pub(crate) fn starved() {
    #[cfg(feature = "metrics")]
    counter!("cloud_variables_memory_refusals_total").increment(1);
}

/// Records that a ping was answered after this time.
pub(crate) fn answered(time: Duration) {
    #[cfg(feature = "metrics")]
    histogram!("cloud_variables_round_trip_seconds").record(time);
    _ = time;
}

/// Records how long a commit of the store took, and whether it succeeded.
pub(crate) fn committed(time: Duration, is_done: bool) {
    #[cfg(feature = "metrics")]
    histogram!("cloud_variables_store_commit_seconds", "ok" => is_done.to_string()).record(time);
    _ = (time, is_done);
}

/// Records how long a request to the broker took, and whether it was answered.
pub(crate) fn asked(time: Duration, is_done: bool) {
    #[cfg(feature = "metrics")]
    histogram!("cloud_variables_relay_request_seconds", "ok" => is_done.to_string()).record(time);
    _ = (time, is_done);
}

#[cfg(feature = "metrics")]
impl RoomRegistry {
    /// Passes the current gauges and counters of this registry to the recorder of the process (that of
    /// the metrics crate). To be called before they are read: when a Prometheus endpoint renders them,
    /// or every few seconds. Joins, round trips, commits, requests to a broker, and closes are recorded
    /// as they happen. The guide [operations](crate::docs::operations) lists all names. The metrics
    /// belong to the process: of several registries, only one should be recorded, because each would
    /// overwrite the gauges of the others.
    ///
    /// ```
    /// use axum_cloud_variables::RoomRegistry;
    ///
    /// let rooms = RoomRegistry::new();
    /// rooms.record_metrics();
    /// ```
    pub fn record_metrics(&self) {
        Judging::refuse();
        describe();
        exist();
        let stats = self.stats();
        gauge!("cloud_variables_rooms").set(stats.rooms as f64);
        gauge!("cloud_variables_members").set(stats.members as f64);
        gauge!("cloud_variables_sessions").set(stats.sessions as f64);
        gauge!("cloud_variables_state_bytes").set(stats.state_bytes as f64);
        counter!("cloud_variables_writes_total").absolute(stats.activity.writes);
        counter!("cloud_variables_deliveries_total").absolute(stats.activity.deliveries);
        counter!("cloud_variables_corrections_total").absolute(stats.activity.corrections);
        if let Some(store) = self.store_stats() {
            gauge!("cloud_variables_store_unsaved_values").set(store.unsaved as f64);
            gauge!("cloud_variables_store_is_failing").set(f64::from(u8::from(store.is_failing)));
            if let Some(bytes) = store.bytes {
                gauge!("cloud_variables_store_bytes").set(bytes as f64);
            }
        }
        if let Some(relay) = self.relay_stats() {
            gauge!("cloud_variables_relay_is_failing").set(f64::from(u8::from(relay.is_failing)));
            gauge!("cloud_variables_relay_waiting_rooms").set(relay.rooms_waiting as f64);
        }
    }
}

/// Makes counters exist before they first count, because Prometheus sees no increase in a first value.
#[cfg(feature = "metrics")]
fn exist() {
    for code in CloseCode::numbers() {
        counter!("cloud_variables_closes_total", "code" => code.to_string()).increment(0);
    }
    for status in [400, 401, 403, 426, 429, 503] {
        let status = status.to_string();
        counter!("cloud_variables_refused_upgrades_total", "status" => status).increment(0);
    }
    counter!("cloud_variables_memory_refusals_total").increment(0);
}

#[cfg(feature = "metrics")]
fn describe() {
    for (name, unit, text) in [
        ("cloud_variables_rooms", Count, "Rooms in memory."),
        ("cloud_variables_members", Count, "Members of all rooms."),
        ("cloud_variables_sessions", Count, "Sessions, before and after their handshake."),
        ("cloud_variables_state_bytes", Bytes, "Bytes that count towards Limits::state_bytes."),
        ("cloud_variables_store_unsaved_values", Count, "Values that wait for the next commit."),
        ("cloud_variables_store_is_failing", Count, "1 if the last commit failed, otherwise 0."),
        ("cloud_variables_store_bytes", Bytes, "The size of the store."),
        ("cloud_variables_relay_is_failing", Count, "1 if the last request failed, otherwise 0."),
        (
            "cloud_variables_relay_waiting_rooms",
            Count,
            "Rooms whose writes wait because the broker does not answer.",
        ),
    ] {
        describe_gauge!(name, unit, text);
    }
    for (name, text) in [
        ("cloud_variables_writes_total", "Values that became a variable's."),
        ("cloud_variables_deliveries_total", "Sets that were to be sent to members."),
        ("cloud_variables_corrections_total", "Sets that sent a member the room's value again."),
        ("cloud_variables_memory_refusals_total", "Writes for which there was no memory at first."),
        ("cloud_variables_closes_total", "Sessions that the server ended, by close code."),
        ("cloud_variables_refused_upgrades_total", "Requests that were not upgraded, by status."),
    ] {
        describe_counter!(name, Count, text);
    }
    for (name, text) in [
        ("cloud_variables_join_seconds", "From the beginning of a session to its join."),
        ("cloud_variables_round_trip_seconds", "From a ping to its answer."),
        (
            "cloud_variables_store_commit_seconds",
            "Commits of the store, by whether they succeeded.",
        ),
        (
            "cloud_variables_relay_request_seconds",
            "Requests to the broker, by whether it answered.",
        ),
    ] {
        describe_histogram!(name, Seconds, text);
    }
}
