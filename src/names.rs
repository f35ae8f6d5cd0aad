//! Usernames: the rules that accept them, and the names that count as the same.

mod key;
#[cfg(feature = "profanity")]
mod profanity;

use std::{fmt, sync::Arc};

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_security::{GeneralSecurityProfile, MixedScript};

pub(crate) use key::NameKey;

/// The characters that a username may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Alphabet {
    /// `A-Z`, `a-z`, `0-9`, `_` and `-`. The default.
    #[default]
    Ascii,
    /// `_`, `-` and the characters that Unicode allows in identifiers (UTS 39), all of one script: `Zoë`, `Зоя`,
    /// `さくら`, but no mixture that looks like another name.
    Unicode,
    /// Every character. Names are still compared as people see them.
    Any,
}

type Check = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// The rules for the usernames of handshakes. Any other username is refused with 4002 and the reason.
///
/// By default, a username has 1 to 20 characters of [`Alphabet::Ascii`], and is none of a short list of
/// names such as `admin`, `moderator` or `server`, not even in letters that look alike.
///
/// ```
/// use axum_cloud_variables::{Alphabet, RoomRegistry, UsernameRules};
///
/// let rooms = RoomRegistry::builder()
///     .usernames(
///         UsernameRules::default()
///             .length(3, 16)
///             .alphabet(Alphabet::Unicode)
///             .check(|name| match name.starts_with("bot_") {
///                 true => Err("that name is kept for bots".into()),
///                 false => Ok(()),
///             }),
///     )
///     .build()?;
/// # Ok::<(), axum_cloud_variables::BuildError>(())
/// ```
#[derive(Clone)]
pub struct UsernameRules {
    min: usize,
    max: usize,
    alphabet: Alphabet,
    impersonation: bool,
    #[cfg(feature = "profanity")]
    refuse_profanity: bool,
    check: Option<Arc<Check>>,
}

impl Default for UsernameRules {
    fn default() -> Self {
        Self {
            min: 1,
            max: 20,
            alphabet: Alphabet::default(),
            impersonation: false,
            #[cfg(feature = "profanity")]
            refuse_profanity: false,
            check: None,
        }
    }
}

impl UsernameRules {
    /// Creates rules that accept every name of 1 to 1,000 characters, including `admin` and the like.
    #[must_use]
    pub fn any() -> Self {
        Self { max: 1_000, alphabet: Alphabet::Any, impersonation: true, ..Self::default() }
    }

    /// Sets the minimum and the maximum number of characters. Default 1 and 20.
    #[must_use]
    pub fn length(mut self, min: usize, max: usize) -> Self {
        (self.min, self.max) = (min, max);
        self
    }

    /// Sets the characters that are accepted. Default [`Alphabet::Ascii`].
    #[must_use]
    pub fn alphabet(mut self, alphabet: Alphabet) -> Self {
        self.alphabet = alphabet;
        self
    }

    /// Accepts names such as `admin` too. Default `false`.
    #[must_use]
    pub fn allow_impersonation(mut self, allow: bool) -> Self {
        self.impersonation = allow;
        self
    }

    /// Refuses names in which rustrict finds profanity, except common names of people. Of 500 names
    /// that people chose for themselves, 3 are refused. Default `false`. The word lists take 18 MB,
    /// once per process.
    #[cfg(feature = "profanity")]
    #[must_use]
    pub fn refuse_profanity(mut self, refuse: bool) -> Self {
        if refuse {
            // Reads the word lists now, rather than while the first player joins.
            _ = profanity::is_profane("");
        }
        self.refuse_profanity = refuse;
        self
    }

    /// Sets a check of the host's, which runs after all others. Its `Err` is the reason that the player
    /// reads (up to 123 bytes of it). Default: none.
    #[must_use]
    pub fn check<F>(mut self, check: F) -> Self
    where
        F: Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    {
        self.check = Some(Arc::new(check));
        self
    }

    /// Judges a name exactly as the name of a handshake, for a form in which players choose one.
    ///
    /// # Errors
    ///
    /// Returns a sentence for the player if the name is refused.
    ///
    /// ```
    /// use axum_cloud_variables::UsernameRules;
    ///
    /// let rules = UsernameRules::default().length(3, 16);
    /// assert_eq!(rules.judge("ann"), Ok(()));
    /// assert_eq!(rules.judge("an"), Err("a username must have 3 to 16 characters".into()));
    /// ```
    pub fn judge(&self, name: &str) -> Result<(), String> {
        if !(self.min..=self.max).contains(&name.chars().count()) {
            return Err(format!("a username must have {} to {} characters", self.min, self.max));
        }
        // Some keyboards write one letter as several characters, and some write characters that Unicode
        // has replaced.
        if !name.nfc().all(|c| self.accepts(c)) {
            return Err(match self.alphabet {
                Alphabet::Ascii => "a username may have A-Z, a-z, 0-9, _ and - only".into(),
                Alphabet::Unicode | Alphabet::Any => {
                    "a username may have letters, digits, _ and - only".into()
                }
            });
        }
        if self.alphabet != Alphabet::Any && !marks_well(name) {
            return Err("a username may not begin with a mark, or have more than 4 in a row".into());
        }
        if self.alphabet != Alphabet::Any && !name.is_single_script() {
            return Err("a username may not mix the letters of several scripts".into());
        }
        if !self.impersonation && key::impersonates(name) {
            return Err("that username is kept for the people who run the game".into());
        }
        #[cfg(feature = "profanity")]
        if self.refuse_profanity && profanity::is_profane(name) {
            return Err("that username is not allowed: try another one".into());
        }
        self.check.as_ref().map_or(Ok(()), |check| check(name))
    }

    fn accepts(&self, c: char) -> bool {
        match self.alphabet {
            Alphabet::Any => true,
            Alphabet::Ascii => c.is_ascii_alphanumeric() || "_-".contains(c),
            Alphabet::Unicode => {
                // Half of the world's scripts write vowels and tones as marks.
                "_-".contains(c) || c.identifier_allowed() && is_of_a_username(c)
            }
        }
    }
}

/// Returns whether a character may stand in a username, unless any character may.
pub(crate) fn is_of_a_username(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c) || "_-".contains(c)
}

/// Returns whether each mark stands on a character, and no more than four are in a row: Burmese has
/// four, and UTS 39 (section 5.4) allows as many.
fn marks_well(name: &str) -> bool {
    let mut room = 0;
    name.chars().all(|c| {
        room = if is_combining_mark(c) { room - 1 } else { 4 };
        room >= 0
    })
}

impl fmt::Debug for UsernameRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsernameRules")
            .field("min", &self.min)
            .field("max", &self.max)
            .field("alphabet", &self.alphabet)
            .field("impersonation", &self.impersonation)
            .finish_non_exhaustive()
    }
}

/// The outcome if a newcomer brings the username of a member of the room, of any dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DuplicateNames {
    /// The newcomer is refused with 4002, unless the member does not answer a ping within
    /// [`Limits::takeover_probe`](crate::Limits#structfield.takeover_probe) or has the newcomer's
    /// [`Identity::id`](crate::Identity::id). The default, except in
    /// [`Dialect::Scratch`](crate::Dialect::Scratch).
    #[default]
    Reject,
    /// The newcomer takes the name, and the member is closed with 4002.
    Replace,
    /// Both play under the name, if the rules of both allow it: a member of a dialect with another rule
    /// keeps its name for itself. The default in [`Dialect::Scratch`](crate::Dialect::Scratch), because
    /// there a player often has two tabs, and a tool two connections.
    Allow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_short_ascii() {
        let rules = UsernameRules::default();
        for name in ["a", "player123456", "A-_9", "abcdefghijklmnopqrst", "moderate", "rooted"] {
            assert_eq!(rules.judge(name), Ok(()), "{name}");
        }
        for name in ["", "abcdefghijklmnopqrstu", "a b", "é", "a\u{202e}b", "a\n", "☁"] {
            assert!(rules.judge(name).is_err(), "{name}");
        }
    }

    #[test]
    fn nobody_passes_for_the_staff() {
        let rules = UsernameRules::default();
        for name in ["admin", "ADMIN", "adrnin", "_admin_", "m0d", "SERVER"] {
            assert!(rules.judge(name).is_err(), "{name}");
            assert_eq!(rules.clone().allow_impersonation(true).judge(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn unicode_names_are_of_one_script() {
        let rules = UsernameRules::default().alphabet(Alphabet::Unicode);
        for name in ["Zoë", "Зоя", "さくら", "陈伟", "José-1", "김민준", "ஆதி", "น้อง", "မြို့သူ"]
        {
            assert_eq!(rules.judge(name), Ok(()), "{name}");
        }
        for name in [
            "pаypal",
            "a b",
            "a\u{200d}b",
            "a\u{202e}b",
            "😀",
            "①",
            "\u{301}a",
            "a\u{300}\u{301}\u{302}\u{303}\u{304}",
        ] {
            assert!(rules.judge(name).is_err(), "{name}");
        }
    }

    #[test]
    fn any_name_is_any_name() {
        let rules = UsernameRules::any();
        for name in ["admin", "two words", "pаypal", "\u{301}\u{202e}\n😀", &"x".repeat(1_000)] {
            assert_eq!(rules.judge(name), Ok(()), "{name}");
        }
        for name in ["", &"x".repeat(1_001)] {
            assert!(rules.judge(name).is_err());
        }
    }

    #[test]
    fn the_host_has_the_last_word() {
        let rules = UsernameRules::default().check(|name| match name {
            "zed" => Err("no zed".into()),
            _ => Ok(()),
        });
        assert_eq!(rules.judge("zed"), Err("no zed".into()));
        assert_eq!(rules.judge("ann"), Ok(()));
    }

    #[cfg(feature = "profanity")]
    #[test]
    fn profanity_is_refused_on_request() {
        let rules = UsernameRules::default().refuse_profanity(true);
        for name in [
            "fuck_you",
            "Hoang_fuck",
            "f_kumar_uck",
            "xXfuckXx",
            "fbitcoinuck",
            "bitch99",
            "sh1thead",
            "n1gg3r",
            "whore",
            "xxx",
            "f_u_c_k",
        ] {
            assert_eq!(UsernameRules::default().judge(name), Ok(()), "{name}");
            assert!(rules.judge(name).is_err(), "{name}");
        }
        for name in [
            "Scunthorpe",
            "Nga_Hoang",
            "ann",
            "player1",
            "player100493",
            "classic",
            "Weiner",
            "xXxGamerxXx",
            "bitcoin",
            "MobyDick",
            "Matsushita",
            "chrisdickinson",
        ] {
            assert_eq!(rules.judge(name), Ok(()), "{name}");
        }
    }
}
