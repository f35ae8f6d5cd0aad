//! Messages as clients send them.

use axum_cloud_variables::Dialect;

/// Returns the name, dialect and text of each message.
pub(crate) fn all() -> Vec<(&'static str, Dialect, String)> {
    let variables: Vec<_> = (0..10).map(|i| format!(r#""☁ {i}":"0""#)).collect();
    let variables = variables.join(",");
    let handshake = format!(
        r#"{{"kind":"handshake","room":"100","username":"player1","variables":{{{variables}}}}}"#
    );
    let value = "1234567890".repeat(4);
    vec![
        ("set", Dialect::Spec, format!(r#"{{"kind":"set","variable":"☁ 0","value":"{value}"}}"#)),
        (
            "set of Scratch",
            Dialect::Scratch,
            format!(
                r#"{{"method":"set","user":"player1","project_id":"100","name":"☁ 0","value":{value}}}"#
            ),
        ),
        (
            "set with escapes",
            Dialect::Spec,
            r#"{"kind":"set","variable":"\u2601 0","value":"\u00e9\ud83d\ude00\n\t\"q\""}"#.into(),
        ),
        (
            "set of 10 KB",
            Dialect::Spec,
            format!(r#"{{"kind":"set","variable":"☁ 0","value":"{}"}}"#, value.repeat(250)),
        ),
        ("handshake", Dialect::Spec, handshake),
    ]
}
