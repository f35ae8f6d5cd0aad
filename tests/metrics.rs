//! The figures that the recorder of the metrics crate receives.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use axum_cloud_variables::{CloseCode, RoomRegistry};
use common::{Server, page};
use metrics_exporter_prometheus::PrometheusBuilder;

#[tokio::test]
async fn a_recorder_knows_rooms_writes_and_closes() {
    let prometheus = PrometheusBuilder::new().install_recorder().unwrap();
    let server = Server::with(RoomRegistry::builder()).await;
    let mut ann = server.join("arena", "ann", &[("x", "0")]).await;
    let mut bob = server.join("arena", "bob", &[("x", "0")]).await;
    for n in 0..10 {
        ann.set("x", &n.to_string()).await;
    }
    bob.until("x", "9").await;
    assert_eq!(server.refusal("arena", "eve", &[("y", "0")]).await.0, 4001);
    let room = server.rooms.room("arena").unwrap();
    room.kick(room.members()[0].id, CloseCode::Kicked, "enough").await.unwrap();
    assert_eq!(ann.closed().await.0, 4004);

    let url = server.url();
    let (addr, path) = url.trim_start_matches("ws://").split_once('/').unwrap();
    assert_eq!(page(addr, &format!("/{path}")).await.0, 426);
    server.rooms.record_metrics();
    let text = prometheus.render();
    for line in [
        "cloud_variables_rooms 1",
        "cloud_variables_members 1",
        "cloud_variables_writes_total 10",
        "cloud_variables_deliveries_total 10",
        "cloud_variables_corrections_total 0",
        "cloud_variables_closes_total{code=\"4001\"} 1",
        "cloud_variables_closes_total{code=\"4004\"} 1",
        "cloud_variables_closes_total{code=\"1001\"} 0",
        "cloud_variables_refused_upgrades_total{status=\"426\"} 1",
        "cloud_variables_refused_upgrades_total{status=\"403\"} 0",
        "cloud_variables_join_seconds_count 2",
        "# TYPE cloud_variables_state_bytes gauge",
        "# HELP cloud_variables_deliveries_total Sets that were to be sent to members.",
    ] {
        assert!(text.lines().any(|said| said == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("cloud_variables_store"), "there is no store");
    // A room that is gone still counts.
    room.remove().await.unwrap();
    server.rooms.record_metrics();
    assert!(prometheus.render().contains("cloud_variables_writes_total 10"));
}
