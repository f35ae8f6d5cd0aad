//! The checks for safe usernames must not refuse real names: the most common names of the United States'
//! census, and some names in each of the world's scripts.

use axum_cloud_variables::{Alphabet, UsernameRules, internals::judge};

const CENSUS: &str = include_str!("names/us_census.txt");
const WORLD: &str = include_str!("names/world.txt");
/// Names that people have chosen for themselves, from the changelogs of packages.
const PLAYERS: &str = include_str!("names/players.txt");

/// Names that are reserved for the staff, and names that are profane words themselves.
const KEPT: [&str; 1] = ["Root"];
const PROFANE: [&str; 5] = ["Coon", "Dick", "Dykes", "Hooker", "Raper"];

/// Names with characters that Unicode's UTS 39 does not recommend for identifiers.
const BEYOND: [&str; 6] = ["Ὀδυσσεύς", "Գևորգ", "ශ්\u{200d}රී", "ຄຳແພງ", "ཚེ་རིང", "བསོད་ནམས"];

fn refused<'a>(rules: &UsernameRules, names: &'a str) -> Vec<&'a str> {
    names.lines().filter(|name| judge(rules, name).is_err()).collect()
}

#[test]
fn common_names_pass() {
    assert!(CENSUS.lines().count() > 3_000);
    let rules = UsernameRules::default();
    assert_eq!(refused(&rules, CENSUS), KEPT);
    let refused = refused(&rules.refuse_profanity(true), CENSUS);
    assert!(
        refused.iter().all(|name| [&KEPT[..], &PROFANE].concat().contains(name)),
        "{refused:?}"
    );
}

/// The filter refuses three of 500. With its word lists alone, it would refuse five.
#[test]
fn chosen_names_pass() {
    assert_eq!(PLAYERS.lines().count(), 500);
    let rules = UsernameRules::default();
    assert_eq!(refused(&rules, PLAYERS), [""; 0]);
    let refused = refused(&rules.refuse_profanity(true), PLAYERS);
    assert_eq!(refused, ["d3rpp", "djkoloski", "ffuugoo"]);
}

#[test]
fn the_worlds_names_pass_where_the_alphabet_is_unicode() {
    assert!(WORLD.lines().count() > 100);
    let rules = UsernameRules::default().alphabet(Alphabet::Unicode);
    assert_eq!(refused(&rules, WORLD), BEYOND);
    assert_eq!(refused(&rules.refuse_profanity(true), WORLD), BEYOND);
}
