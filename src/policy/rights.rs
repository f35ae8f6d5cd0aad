//! A ready-made policy: who may write which variable, by its name.

use super::{Policy, Verdict, Write};

/// Rights by the names of variables: those that only the host writes, and those that belong to one
/// player. A write that they do not allow is ignored, and its writer sees the room's value again.
///
/// A pattern is a name in which `*` stands for any characters, none included, and `{name}` for the
/// writer's username. What no pattern matches, everyone may write; where several do, all must allow
/// it.
///
/// ```
/// use axum_cloud_variables::{Rights, RoomRegistry};
///
/// let rooms = RoomRegistry::builder()
///     .policy(Rights::new().host_only("ball_*").owner_only("p_{name}"))
///     .build()?;
/// # Ok::<(), axum_cloud_variables::BuildError>(())
/// ```
///
/// An owner is told by the username, so owning is as sure as usernames are: where two may share one
/// ([`DuplicateNames::Allow`](crate::DuplicateNames)), both own.
///
/// A policy of the host's own can ask it first: `self.rights.write(write)`.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    host_only: Vec<String>,
    owner_only: Vec<String>,
}

impl Rights {
    /// Everyone may write everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Variables that no member may write, only the host.
    #[must_use]
    pub fn host_only(mut self, pattern: impl Into<String>) -> Self {
        self.host_only.push(pattern.into());
        self
    }

    /// Variables that belong to the player whose username stands where the pattern has `{name}`.
    ///
    /// # Panics
    ///
    /// If the pattern has no `{name}`, or several.
    #[must_use]
    pub fn owner_only(mut self, pattern: impl Into<String>) -> Self {
        let pattern = pattern.into();
        assert!(
            pattern.matches(NAME).count() == 1,
            "a pattern of owner_only must have {{name}} once: {pattern:?}"
        );
        self.owner_only.push(pattern);
        self
    }

    fn allows(&self, username: &str, name: &str) -> bool {
        let hosts = self.host_only.iter().any(|pattern| matches(pattern, name));
        let owned = |pattern: &&String| matches(&pattern.replace(NAME, "*"), name);
        let own = |pattern: &String| match pattern.split_once(NAME) {
            Some((before, after)) => owns(before, after, username, name),
            None => false,
        };
        !hosts && self.owner_only.iter().filter(owned).all(own)
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

/// The username stands for itself, also if it has a star.
fn owns(before: &str, after: &str, username: &str, name: &str) -> bool {
    name.match_indices(username)
        .filter(|(at, _)| name.is_char_boundary(*at))
        .any(|(at, _)| matches(before, &name[..at]) && matches(after, &name[at + username.len()..]))
}

/// Whether a pattern with stars matches a text: the pieces between the stars, one after the other.
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
    fn what_is_the_hosts_and_what_is_a_players() {
        let rights =
            Rights::new().host_only("ball_*").owner_only("p_{name}").owner_only("{name}:*");
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
}
