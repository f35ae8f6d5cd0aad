//! The browser's module as an npm package, with its declarations: packed, installed, and used from TypeScript.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{path::Path, process::Command};

use common::Folder;

/// A game, and mistakes that the compiler finds.
const GAME: &str = r#"
import { connect, type Closed, type Cloud } from 'axum-cloud-variables';

const cloud = connect('/cloud', { room: 'lobby', username: 'ann', variables: { score: '0', x: '1' } });
cloud.vars.score = '1';
cloud.on('set', (name: 'score' | 'x', value: string) => console.log(name, value)).on('open', () => {});
cloud.on('close', ({ code, reconnecting }: Closed) => console.log(code + 1, reconnecting));
const stands: Promise<string> = cloud.update('score', (old) => +old + 1);
const grows: Cloud = connect<string>(new URL('wss://example.org/cloud'), { room: 'a', username: 'b', variables: {} });
grows.vars.anything = '1';
cloud.close();

// @ts-expect-error: there is no such variable
cloud.vars.points = '1';
// @ts-expect-error: a value is a text
cloud.vars.score = 1;
// @ts-expect-error: only the client knows
cloud.connected = true;
// @ts-expect-error: there is no such event
cloud.on('message', () => {});
// @ts-expect-error: a room is needed
connect('/cloud', { username: 'ann', variables: {} });
export { stands };
"#;

fn run(program: &str, arguments: &[&str], folder: &str) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

#[test]
fn the_package_is_installed_and_its_declarations_hold() {
    let folder = Folder::new("package");
    let (root, here) = (env!("CARGO_MANIFEST_DIR"), folder.file(""));
    let source = format!("{root}/src/client");
    let packed = run("npm", &["pack", "--silent", "--pack-destination", &here, &source], &here);
    let packed = packed.trim();
    std::fs::write(folder.file("package.json"), r#"{"type":"module","private":true}"#).unwrap();
    let install = ["install", "--offline", "--no-audit", "--no-fund", "--silent"];
    run("npm", &[&install[..], &[&format!("./{packed}")]].concat(), &here);
    let installed = folder.file("node_modules/axum-cloud-variables");
    for file in ["client.js", "client.d.ts", "package.json"] {
        assert!(Path::new(&installed).join(file).exists(), "{file}");
    }

    std::fs::write(folder.file("game.ts"), GAME).unwrap();
    let compiler = format!("{root}/target/clients/typescript-5.9.3/bin/tsc");
    let options =
        ["--noEmit", "--strict", "--module", "nodenext", "--lib", "esnext,dom", "game.ts"];
    run("node", &[&[&*compiler], &options[..]].concat(), &here);
    let script = "import { connect } from 'axum-cloud-variables'; console.log(typeof connect)";
    assert_eq!(run("node", &["--input-type=module", "-e", script], &here).trim(), "function");
}

#[test]
fn the_package_has_the_version_of_the_crate() {
    let package: serde_json::Value =
        serde_json::from_str(include_str!("../src/client/package.json")).unwrap();
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
}
