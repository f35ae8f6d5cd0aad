//! The targets of links in the project's texts exist, and the dashboard asks only for recorded metrics.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const TEXTS: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benches/README.md",
];

/// Returns the anchors that GitHub makes of headings.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>()
            .replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for name in TEXTS {
        let file = Path::new(ROOT).join(name);
        let text = fs::read_to_string(&file).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split([')', ' ']).next().unwrap();
            count += 1;
            if link.starts_with("https://") {
                let host = link.split('/').nth(2).unwrap();
                assert!(host.contains('.') && !host.contains('@'), "{name}: {link}");
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{name}: {link}");
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&target).unwrap());
                assert!(
                    anchors.iter().any(|there| there == anchor),
                    "{name}: {link} of {anchors:?}"
                );
            }
        }
    }
    assert!(count > 25, "{count}");
}

#[test]
fn the_dashboard_and_the_guide_know_the_metrics() {
    let recorded = fs::read_to_string(format!("{ROOT}/src/metrics.rs")).unwrap();
    let names = |text: &str| -> Vec<String> {
        let rests = text.split("cloud_variables_").skip(1);
        let name =
            |rest: &str| rest.chars().take_while(|c| c.is_lowercase() || *c == '_').collect();
        let mut names: Vec<String> = rests.map(name).collect();
        names.sort();
        names.dedup();
        names
    };
    let recorded = names(&recorded);
    for text in ["src/docs/operations.md", "examples/grafana/dashboard.json"] {
        let known = names(&fs::read_to_string(format!("{ROOT}/{text}")).unwrap());
        let unknown: Vec<_> =
            known.iter().filter(|name| name.contains('_') && !recorded.contains(name)).collect();
        assert!(unknown.is_empty(), "{text}: {unknown:?}");
    }
    let listed = fs::read_to_string(format!("{ROOT}/src/docs/operations.md")).unwrap();
    for name in &recorded {
        assert!(listed.contains(&format!("`cloud_variables_{name}")), "{name} is not in the guide");
    }
}
