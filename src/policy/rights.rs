//! A ready-made policy: rights to write variables, by their names.

use super::{Policy, Verdict, Write};
use crate::names::is_of_a_username;

/// Rights by the names of variables: some variables only the host writes, and others belong to one
/// player. If these rights do not allow a write, it is ignored, and its sender receives the room's
/// value again.
///
/// A pattern is a name in which `*` stands for any number of characters, including none, and `{name}`
/// for the writer's username. Everyone may write a variable that no pattern matches. If several match,
/// all must allow it.
///
/// ```
/// use axum_cloud_variables::{RoomRegistry, policy::Rights};
///
/// let rooms = RoomRegistry::builder()
///     .policy(Rights::new().host_only("ball_*").owner_only("p_{name}"))
///     .build()?;
/// # Ok::<(), axum_cloud_variables::BuildError>(())
/// ```
///
/// The username identifies the owner, so ownership is as safe as usernames are: if two players may
/// share one ([`DuplicateNames::Allow`](crate::DuplicateNames)), both are owners.
///
/// A policy of the host's own can ask these rights first: `self.rights.write(write)`.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    host_only: Vec<String>,
    owner_only: Vec<OwnerPattern>,
}

/// A pattern with a username in it: the text before it, and the text after it.
#[derive(Debug, Clone)]
pub(crate) struct OwnerPattern {
    before: String,
    after: String,
}

impl Rights {
    /// Creates rights that allow everyone to write everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reserves variables for the host: no member may write those that the pattern matches.
    #[must_use]
    pub fn host_only(mut self, pattern: impl Into<String>) -> Self {
        self.host_only.push(pattern.into());
        self
    }

    /// Reserves each variable for the player whose username stands where the pattern has `{name}`.
    ///
    /// Each variable has no more than one owner. So a pattern may have stars on only one side of
    /// `{name}`, and between `{name}` and the nearest star there must be a character that is no letter,
    /// digit, mark, `_` or `-`: with `s_{name}_*`, `s_ann_b_x` would belong to both `ann` and `ann_b`.
    /// With `s_{name}.*` it does not, and a player with such a character in the username owns nothing
    /// by such a pattern.
    ///
    /// # Panics
    ///
    /// If the pattern has no `{name}`, or several, or if a variable could have several owners.
    #[must_use]
    pub fn owner_only(mut self, pattern: impl Into<String>) -> Self {
        self.owner_only.push(OwnerPattern::new(&pattern.into()));
        self
    }

    fn allows(&self, username: &str, name: &str) -> bool {
        let hosts = self.host_only.iter().any(|pattern| matches(pattern, name));
        let mut owned = self.owner_only.iter().filter(|pattern| pattern.is_owned(name));
        !hosts && owned.all(|pattern| pattern.owns(username, name))
    }
}

impl Policy for Rights {
    fn write(&self, write: &Write<'_>) -> Verdict {
        match self.allows(write.username(), write.name()) {
            true => Verdict::Accept,
            false => Verdict::Ignore,
        }
    }
}

const NAME: &str = "{name}";

impl OwnerPattern {
    /// Parses a pattern. Panics if it does not have exactly one `{name}`, or if a variable could have
    /// several owners.
    pub(crate) fn new(pattern: &str) -> Self {
        let parts = pattern.split_once(NAME).filter(|(_, after)| !after.contains(NAME));
        let Some((before, after)) = parts else {
            panic!("the pattern must have {{name}} once: {pattern:?}");
        };
        let owner = Self { before: before.into(), after: after.into() };
        assert!(
            owner.is_unambiguous(),
            "by this pattern a variable could have several owners: {pattern:?} (put a `.` or the \
             like between {{name}} and `*`, and stars on one side alone)"
        );
        owner
    }

    /// Returns the username of the owner of a variable of this name, if it has one.
    pub(crate) fn owner<'a>(&self, name: &'a str) -> Option<&'a str> {
        let owner = if let Some((literal, _)) = self.after.split_once('*') {
            // A username ends before the first separator.
            let rest = name.strip_prefix(&*self.before)?;
            &rest[..rest.find(literal)?]
        } else if let Some((_, literal)) = self.before.rsplit_once('*') {
            let rest = name.strip_suffix(&*self.after)?;
            &rest[rest.rfind(literal)? + literal.len()..]
        } else {
            name.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?
        };
        self.owns(owner, name).then_some(owner)
    }

    /// Returns whether each name that the pattern matches has one owner. Text beyond a separator never
    /// belongs to a username, because a username with a separator owns nothing.
    fn is_unambiguous(&self) -> bool {
        let has_separator = |literal: Option<&str>| {
            literal.is_none_or(|literal| !literal.chars().all(is_of_a_username))
        };
        let before = self.before.rsplit_once('*').map(|(_, literal)| literal);
        let after = self.after.split_once('*').map(|(literal, _)| literal);
        (before.is_none() || after.is_none()) && has_separator(before) && has_separator(after)
    }

    fn has_star(&self) -> bool {
        self.before.contains('*') || self.after.contains('*')
    }

    /// Returns whether a variable of this name belongs to a player.
    fn is_owned(&self, name: &str) -> bool {
        matches(&format!("{}*{}", self.before, self.after), name)
    }

    /// Returns whether a variable of this name belongs to this username. A star in the username is no
    /// wildcard.
    fn owns(&self, username: &str, name: &str) -> bool {
        if self.has_star() && !username.chars().all(is_of_a_username) {
            return false;
        }
        name.match_indices(username).any(|(at, _)| {
            let rest = &name[at + username.len()..];
            matches(&self.before, &name[..at]) && matches(&self.after, rest)
        })
    }
}

/// Returns whether a pattern with stars matches a text, which must have the pieces between the stars
/// one after the other.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<_> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_characters() {
        for (pattern, text) in [
            ("ball", "ball"),
            ("ball_*", "ball_"),
            ("ball_*", "ball_x"),
            ("*_x", "ball_x"),
            ("a*b*c", "a--b--b--c"),
            ("*", ""),
            ("**", "x"),
            ("☁ *", "☁ x"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("ball", "ball_x"), ("ball_*", "ball"), ("a*b", "ab-"), ("a*a", "a"), ("a*b*c", "acb")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn the_host_and_each_player_own_their_variables() {
        let rights =
            Rights::new().host_only("ball_*").owner_only("p_{name}").owner_only("{name}:*");
        assert!(!rights.allows("ann:x", "ann:x:y"), "it is ann's");
        for (username, name) in
            [("ann", "score"), ("ann", "p_ann"), ("ann", "ann:x"), ("a*", "p_a*"), ("ann", "ann")]
        {
            assert!(rights.allows(username, name), "{username} {name}");
        }
        for (username, name) in [
            ("ann", "ball_x"),
            ("ann", "p_ben"),
            ("ann", "p_ann2"),
            ("ann", "p_Ann"),
            ("ann", "p_"),
            ("a*", "p_abc"),
            ("n", "ann:x"),
            ("ann", "ben:ann:x"),
        ] {
            assert!(!rights.allows(username, name), "{username} {name}");
        }
    }

    #[test]
    fn no_pattern_gives_a_variable_two_owners() {
        for pattern in ["p_{name}", "{name}", "p_{name}_x", "s_{name}.*", "*/p_{name}", "{name}_:*"]
        {
            _ = Rights::new().owner_only(pattern);
        }
        for pattern in
            ["s_{name}_*", "{name}*", "*{name}", "*_{name}", "*:{name}:*", "s_{name}_*.", "", "x"]
        {
            let built = std::panic::catch_unwind(|| Rights::new().owner_only(pattern));
            assert!(built.is_err(), "{pattern}");
        }
        for (pattern, variable, owner) in [
            ("p_{name}", "p_ann_b", Some("ann_b")),
            ("p_{name}", "q_ann", None),
            ("s_{name}.*", "s_ann_b.hp.x", Some("ann_b")),
            ("*.x_{name}", "a.x_b.x_ann", Some("ann")),
            ("{name}_:*", "ann_:x", Some("ann")),
            ("{name}_:*", "ann:x", None),
        ] {
            assert_eq!(OwnerPattern::new(pattern).owner(variable), owner, "{pattern} {variable}");
        }
        // Of all usernames that could be in a variable's name, no more than one owns it.
        let names = ["ann", "ann_b", "b", "ann.b", "b.x", "x", "n"];
        for pattern in ["s_{name}.*", "{name}.*", "*.{name}", "*.x_{name}", "{name}_.*"] {
            let rights = Rights::new().owner_only(pattern);
            for start in names {
                for end in names {
                    for variable in [
                        format!("s_{start}.{end}"),
                        format!("{start}.{end}"),
                        format!("{start}.x_{end}"),
                        format!("{start}_.{end}"),
                    ] {
                        let is_owned = rights.owner_only[0].is_owned(&variable);
                        let owners = names.iter().filter(|name| rights.allows(name, &variable));
                        assert!(!is_owned || owners.count() <= 1, "{pattern} {variable}");
                    }
                }
            }
        }
    }
}
