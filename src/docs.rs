//! Guides.
//!
//! - [Your first game](first_game)
//! - [Testing your game](testing)

#[doc = include_str!("docs/first_game.md")]
pub mod first_game {}

#[doc = include_str!("docs/testing.md")]
pub mod testing {}
