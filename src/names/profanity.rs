//! Profane names, by the word lists of the rustrict crate.

use std::{collections::HashSet, sync::LazyLock};

use rustrict::{CensorStr, Type};

/// Names and words in which the filter mistakenly finds other words: names of people, from the census
/// of the United States and from generators of names (Hoang, Kumar, Yamashita), and words of games
/// (bitcoin).
static PASSING: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("passing.txt").lines().collect());

/// The length from which a passing word may stand anywhere in a name. Shorter ones pass only as a part
/// of their own: in `ho_fan`, but not in `whore`.
const LONG: usize = 5;

/// Returns whether a name is profane. Mild words pass, and so do digits at the end, in which the filter
/// reads letters, and the `xXx` that players put around their names.
pub(super) fn is_profane(name: &str) -> bool {
    let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let plain = letters.trim_matches(['x', 'X']);
    let letters = if plain.chars().count() < 3 { letters } else { plain };
    let rest: Vec<_> = letters
        .split(['_', '-'])
        .map(str::to_ascii_lowercase)
        .filter(|part| !PASSING.contains(&**part))
        .map(|part| without_passing(&part))
        .collect();
    rest.join("_").is(Type::MODERATE_OR_HIGHER)
}

/// Replaces each passing word by a sign, so that the text around it is not read as one word.
fn without_passing(part: &str) -> String {
    let mut rest = part.to_owned();
    let words = PASSING.iter().filter(|word| word.len() >= LONG && part.contains(**word));
    let mut words: Vec<_> = words.collect();
    // If two overlap, the longer one counts.
    words.sort_unstable_by_key(|word| (usize::MAX - word.len(), **word));
    for word in words {
        rest = rest.replace(word, "_");
    }
    rest
}
