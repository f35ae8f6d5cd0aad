//! The key under which usernames are compared.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use caseless::Caseless;
use unicode_normalization::UnicodeNormalization;
use unicode_security::skeleton;

/// What two usernames share if a person takes one for the other: the same after compatibility
/// normalization (NFKC), case folding and replacing what looks alike (UTS 39, 'skeleton').
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NameKey(Arc<str>);

impl NameKey {
    pub(crate) fn new(name: &str) -> Self {
        let folded: String = name.nfkc().default_case_fold().nfkc().collect();
        // The skeleton of a digit may be a capital letter.
        Self(skeleton(&folded).default_case_fold().collect::<String>().into())
    }
}

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

/// Whether a name, its edges cleaned of signs, reads as that of somebody who runs the game.
pub(super) fn impersonates(name: &str) -> bool {
    IMPERSONATIONS.contains(&NameKey::new(name.trim_matches(['_', '-'])))
}

#[cfg(test)]
mod tests {
    use super::*;

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
