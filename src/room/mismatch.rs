//! The differences between the variables of a newcomer and those of the room.

use std::fmt;

use super::variables::Variables;
use crate::wire::Json;

/// The names that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The names of the room that the newcomer does not bring.
    pub(crate) missing: Vec<String>,
    /// The names that the newcomer brings and the room does not have.
    pub(crate) unknown: Vec<String>,
}

/// How many names a player is shown, and how many characters of each: a close frame has 123 bytes for its
/// reason.
const SHOWN: usize = 3;
const CHARACTERS: usize = 10;

impl Mismatch {
    pub(super) fn of(variables: &Variables, brought: &[(Json<'_>, Json<'_>)]) -> Self {
        let is_brought = |name: &str| brought.iter().any(|(other, _)| other.as_json() == name);
        let room = variables.values();
        let missing = room.iter().filter(|(name, _)| !is_brought(name.as_json()));
        let unknown = brought.iter().filter(|(name, _)| !variables.contains(name.as_json()));
        Self {
            missing: missing.map(|(name, _)| name.lossy()).collect(),
            unknown: unknown.map(|(name, _)| name.lossy().into_owned()).collect(),
        }
    }
}

/// Shows the first names of each kind, as many as fit a close frame.
impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_missing = self.missing.len().min(SHOWN - usize::from(!self.unknown.is_empty()));
        let kinds = [
            ("missing", &self.missing, of_missing),
            ("unknown", &self.unknown, SHOWN - of_missing),
        ];
        let mut separator = "";
        for (kind, names, shown) in kinds.iter().filter(|(_, names, _)| !names.is_empty()) {
            write!(f, "{separator}{kind}: ")?;
            separator = "; ";
            for (number, name) in names.iter().take(*shown).enumerate() {
                let comma = if number > 0 { ", " } else { "" };
                write!(f, "{comma}{}", Cut(name))?;
            }
            if names.len() > *shown {
                write!(f, ", …")?;
            }
        }
        Ok(())
    }
}

struct Cut<'a>(&'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(CHARACTERS) {
            Some((at, _)) => write!(f, "{}…", &self.0[..at]),
            None => f.write_str(self.0),
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::close::Close;

    fn mismatch(missing: &[&str], unknown: &[&str]) -> Mismatch {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Mismatch { missing: names(missing), unknown: names(unknown) }
    }

    #[test]
    fn a_player_reads_up_to_three_names() {
        for (missing, unknown, shown) in [
            (&["a"][..], &[][..], "missing: a"),
            (&[], &["a", "b", "c"], "unknown: a, b, c"),
            (&[], &["a", "b", "c", "d"], "unknown: a, b, c, …"),
            (&["a", "b", "c"], &["d", "e"], "missing: a, b, …; unknown: d, …"),
            (&["a"], &["d", "e"], "missing: a; unknown: d, e"),
            (&["a_very_long_name"], &[], "missing: a_very_lon…"),
        ] {
            assert_eq!(mismatch(missing, unknown).to_string(), shown);
        }
        let long = "x".repeat(1_000);
        let close = Close::names_differ(&mismatch(&[&long, &long], &[&long, &long]));
        assert!(close.reason().ends_with("; unknown: xxxxxxxxxx…, …)"), "{}", close.reason());
    }
}
