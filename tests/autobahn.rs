//! Autobahn's test suite against the WebSockets of sessions: RFC 6455 case by case, run by kosoku.
//! `tests/clients/install` fetches it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{collections::BTreeMap, env, fs, path::PathBuf, time::Duration};

use axum_cloud_variables::internals;
use serde::Deserialize;
use tokio::{process::Command, time::timeout};

/// The number of all cases, so that a missing one is noticed.
const CASES: usize = 517;

/// Those of cases 12.1 to 12.5 and 13.1 to 13.7 that send a thousand messages of 32 KiB and more each. They take
/// minutes, so they run under `tests/run --long`.
const LARGE: [u8; 9] = [8, 9, 10, 13, 14, 15, 16, 17, 18];
const COMPRESSED: usize = 12;

/// The longest message among them.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A timeout that is many times longer than the cases take.
const PATIENCE: Duration = Duration::from_secs(900);

/// The verdicts about the messages and about the close.
type Verdict<'a> = (&'a str, &'a str);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    behavior: String,
    behavior_close: String,
}

impl Outcome {
    fn verdict(&self) -> Verdict<'_> {
        (&self.behavior, &self.behavior_close)
    }
}

fn expected(case: &str) -> Verdict<'static> {
    match case {
        // Text that is not UTF-8 is refused when its frame is complete, not in the middle of it.
        "6.4.3" | "6.4.4" => ("NON-STRICT", "OK"),
        // The suite never judges these: a ping after a close, and close codes that the RFC leaves
        // undefined.
        "7.1.6" | "7.13.1" | "7.13.2" => ("INFORMATIONAL", "INFORMATIONAL"),
        _ => ("OK", "OK"),
    }
}

#[tokio::test]
async fn the_websockets_of_sessions_are_those_of_the_rfc() {
    let server = common::serve(internals::echo(MESSAGE_BYTES)).await;
    let reports = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("autobahn");
    _ = fs::remove_dir_all(&reports);
    let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/kosoku-0.1.0-b/bin/kosoku");
    let is_long = env::var("CLOUD_VARIABLES_LONG").is_ok();
    let large = LARGE.iter().flat_map(|case| [format!("12.*.{case}"), format!("13.*.{case}")]);
    let left_out = large.filter(|_| !is_long).flat_map(|case| ["--exclude".into(), case]);
    let run = Command::new(suite)
        .args([&server.to_string(), "--outdir", reports.to_str().unwrap()])
        .args(left_out)
        .kill_on_drop(true)
        .output();
    let run = timeout(PATIENCE, run).await.expect("the suite's end");
    let said = run.expect("kosoku: tests/clients/install fetches it").stderr;
    // The suite reports a run as failed if a case is unimplemented, so the test reads its reports.
    let index = fs::read_to_string(reports.join("index.json"));
    let index = index.unwrap_or_else(|_| panic!("no reports: {}", String::from_utf8_lossy(&said)));
    let servers: BTreeMap<String, BTreeMap<String, Outcome>> =
        serde_json::from_str(&index).unwrap();

    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    for (case, outcome) in servers.values().flatten() {
        *counts.entry(outcome.verdict()).or_insert(0) += 1;
        if outcome.verdict() != expected(case) {
            wrong.push(format!("{case}: {:?}, not {:?}", outcome.verdict(), expected(case)));
        }
    }
    println!("{counts:?}");
    assert!(wrong.is_empty(), "{wrong:#?}\nmore in {}", reports.display());
    let ran = if is_long { CASES } else { CASES - COMPRESSED * LARGE.len() };
    assert_eq!(counts.values().sum::<usize>(), ran, "cases that ran");
}
