//! The picture in `ARCHITECTURE.md`, which shows which module may know which.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path};

/// The modules that a module, and those below it, must not name.
const MUST_NOT_KNOW: &[(&str, &[&str])] = &[
    ("room", &["registry", "session", "mount"]),
    ("wire", &["registry", "session", "mount", "room", "relay", "store"]),
    ("names", &["registry", "session", "mount", "room", "relay", "store"]),
    ("relay", &["registry", "session", "mount", "room"]),
    ("store", &["registry", "session", "mount", "room", "relay"]),
    ("session", &["mount", "relay", "store"]),
    ("client", &["registry", "session", "mount", "relay", "store", "policy"]),
];

fn sources(path: &Path, found: &mut Vec<(String, String)>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
    }
}

/// Returns the names of this crate's modules that a source imports or names.
fn known(source: &str) -> Vec<String> {
    let code: String = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let paths = code.match_indices("crate::").map(|(at, start)| &code[at + start.len()..]);
    let names = paths.flat_map(|path| match path.strip_prefix('{') {
        Some(group) => members(group),
        None => vec![first_name(path)],
    });
    names.collect()
}

/// Returns the first name of each path in a group of imports.
fn members(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut is_first) = (Vec::new(), 0, true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_first = true,
            letter if is_first && !letter.is_whitespace() => {
                names.push(first_name(&group[at..]));
                is_first = false;
            }
            _ => {}
        }
    }
    names
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// Returns whether a source is a test, which may know more modules.
fn is_test(path: &str) -> bool {
    ["model", "racing"].iter().any(|test| path.contains(test))
}

#[test]
fn modules_know_each_other_as_in_the_picture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (module, others) in MUST_NOT_KNOW {
        let mut found = Vec::new();
        for path in [root.join(module), root.join(format!("{module}.rs"))] {
            if path.exists() {
                sources(&path, &mut found);
            }
        }
        assert!(!found.is_empty(), "{module}");
        for (path, source) in found.into_iter().filter(|(path, _)| !is_test(path)) {
            let known = known(&source);
            wrong.extend(
                others
                    .iter()
                    .filter(|other| known.iter().any(|it| it == **other))
                    .map(|other| format!("{path} knows {other}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_modules_that_a_source_knows_are_found() {
    let source = "use crate::{\n    close::Close, // registry::no\n    room::{self, Shared},\n    wire,\n};\nfn f() { crate::relay::x() }";
    assert_eq!(known(source), ["close", "room", "wire", "relay"]);
}

/// Returns the paths that a span names: `a/{b,c}.rs` names two.
fn paths(span: &str) -> Vec<String> {
    let Some((before, rest)) = span.split_once('{') else { return vec![span.to_owned()] };
    let (choices, after) = rest.split_once('}').unwrap();
    choices.split(',').flat_map(|choice| paths(&format!("{before}{choice}{after}"))).collect()
}

/// The table in `ARCHITECTURE.md` names every source file, and no file that does not exist.
#[test]
fn the_table_names_every_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let spans = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let named: Vec<String> = spans.flat_map(paths).collect();
    // A star stands for all files below a folder.
    let folders: Vec<_> = named.iter().filter_map(|name| name.strip_suffix("*.rs")).collect();
    let gone: Vec<_> = named
        .iter()
        .filter(|name| !name.contains('*') && !root.join("src").join(name).exists())
        .collect();
    assert!(gone.is_empty(), "named, and not there: {gone:?}");
    let mut found = Vec::new();
    sources(&root.join("src"), &mut found);
    let base = format!("{}/", root.join("src").display());
    let missing: Vec<_> = found
        .iter()
        .map(|(path, _)| path.strip_prefix(&base).unwrap())
        .filter(|path| !named.iter().any(|name| name == path))
        .filter(|path| !folders.iter().any(|folder| path.starts_with(folder)))
        .collect();
    assert!(missing.is_empty(), "there, and not named: {missing:?}");
}
