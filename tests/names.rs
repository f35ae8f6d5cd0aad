//! Username safety must not cost people their names: lists of real ones, the most common of the
//! United States' census and some of each of the world's scripts.

use axum_cloud_variables::{Alphabet, UsernameRules, internals::judge};

const CENSUS: &str = include_str!("names/us_census.txt");
const WORLD: &str = include_str!("names/world.txt");
/// Names that people have chosen for themselves, as the changelogs of packages mention them.
const PLAYERS: &str = include_str!("names/players.txt");

/// Names that are kept for the staff, and those that are profane words themselves.
const KEPT: [&str; 1] = ["Root"];
const PROFANE: [&str; 5] = ["Coon", "Dick", "Dykes", "Hooker", "Raper"];

/// Beyond the alphabet: what Unicode's UTS 39 does not recommend for identifiers.
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

/// Three of 500 are lost to the filter. By its word lists alone it would be five.
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
