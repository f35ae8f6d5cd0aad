//! Limits in a host's configuration file, as people write them.

use std::time::Duration;

use axum_cloud_variables::Limits;

fn expected() -> Limits {
    Limits::default()
        .members_per_room(32)
        .idle_timeout(Duration::from_secs(90))
        .takeover_probe(Duration::from_millis(1_500))
}

#[test]
fn limits_are_read_from_toml_and_yaml() {
    let toml = r#"
        members_per_room = 32
        idle_timeout = "1m 30s"
        takeover_probe = "1500ms"
    "#;
    assert_eq!(toml::from_str::<Limits>(toml).unwrap(), expected());
    let yaml = "members_per_room: 32\nidle_timeout: 90s\ntakeover_probe: 1s 500ms\n";
    assert_eq!(serde_yaml_ng::from_str::<Limits>(yaml).unwrap(), expected());
    // They are also written so that they can be read again.
    let written = serde_yaml_ng::to_string(&expected()).unwrap();
    assert!(written.contains("idle_timeout: 1m 30s"), "{written}");
    assert_eq!(serde_yaml_ng::from_str::<Limits>(&written).unwrap(), expected());
}

#[test]
fn a_key_that_is_no_limit_is_refused() {
    let error = toml::from_str::<Limits>("members_per_rom = 32").unwrap_err();
    assert!(error.to_string().contains("members_per_rom"), "{error}");
    toml::from_str::<Limits>("idle_timeout = \"soon\"").unwrap_err();
}
