//! Profane names, by the word lists of the rustrict crate.

use std::{collections::HashSet, sync::LazyLock};

use rustrict::{CensorStr, Type};

/// Names of people in which the filter reads other words, by the census of the United States: Hoang,
/// Kumar, Yamashita.
static NAMES: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("passing.txt").lines().collect());

/// Mild words pass, and so do digits at the end, in which the filter reads letters.
pub(super) fn is_profane(name: &str) -> bool {
    let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_name = |part: &&str| NAMES.contains(&*part.to_ascii_lowercase());
    let rest: Vec<_> = letters.split(['_', '-']).filter(|part| !is_name(part)).collect();
    rest.join("_").is(Type::MODERATE_OR_HIGHER)
}
