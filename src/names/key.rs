//! The key under which usernames are compared.

use std::{
    array,
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use caseless::Caseless;
use unicode_normalization::UnicodeNormalization;
use unicode_security::skeleton;

/// The key that two usernames share if a person would take one for the other: the username after
/// compatibility normalization (NFKC), case folding, and replacement of characters that look alike (UTS
/// 39, 'skeleton').
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NameKey(Arc<str>);

impl NameKey {
    pub(crate) fn new(name: &str) -> Self {
        if name.is_ascii() {
            let keys = name.bytes().filter_map(|c| ASCII.get(usize::from(c)));
            return Self(keys.map(String::as_str).collect::<String>().into());
        }
        Self(key(name).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn key(name: &str) -> String {
    let folded: String = name.nfkc().default_case_fold().nfkc().collect();
    // The skeleton of a digit may be a capital letter.
    skeleton(&folded).default_case_fold().collect()
}

/// The keys of single characters: in ASCII no key depends on the neighbours of its character.
static ASCII: LazyLock<[String; 128]> =
    LazyLock::new(|| array::from_fn(|c| key(char::from(c as u8).encode_utf8(&mut [0; 4]))));

/// Names under which a stranger could pass for the people who run the game.
static IMPERSONATIONS: LazyLock<HashSet<NameKey>> = LazyLock::new(|| {
    let names = [
        "admin",
        "administrator",
        "mod",
        "moderator",
        "official",
        "owner",
        "root",
        "server",
        "staff",
        "support",
        "sysadmin",
        "system",
    ];
    names.map(NameKey::new).into()
});

/// Returns whether a name, without signs at its edges, reads as that of a person who runs the game.
pub(super) fn impersonates(name: &str) -> bool {
    IMPERSONATIONS.contains(&NameKey::new(name.trim_matches(['_', '-'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_an_ascii_name_is_that_of_its_characters() {
        let all: String = (0..128).map(char::from).collect();
        for name in [&all, "Player1", "m0dErator", "rn-ni_vv", ""] {
            assert_eq!(&*NameKey::new(name).0, key(name), "{name:?}");
        }
    }

    #[test]
    fn names_that_look_alike_share_a_key() {
        for (a, b) in [
            ("Ann", "ann"),
            ("ANN", "aNN"),
            ("ann", "ａｎｎ"),
            ("Bob1", "BOBl"),
            ("paypal", "pаypal"),
            ("STRASSE", "straße"),
            ("é", "e\u{301}"),
            ("O0o", "oo0"),
        ] {
            assert_eq!(NameKey::new(a), NameKey::new(b), "{a} {b}");
        }
        for (a, b) in [("ann", "anna"), ("p1", "p2"), ("ann", "ann_"), ("e", "é")] {
            assert_ne!(NameKey::new(a), NameKey::new(b), "{a} {b}");
        }
    }
}
