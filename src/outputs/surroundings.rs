//! What the interlocked outputs mean for one output. Pure; it holds nothing from one decision to the next.

use super::state::{Line, State};
use crate::clock::Instant;
use std::time::Duration;

/// What the interlocked outputs mean for this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// One is on, or nobody knows whether it is.
    on: bool,
    /// One could not be switched off if we asked.
    stuck: bool,
    /// One waits for its gap to carry out a command.
    claimed: bool,
    /// All gaps are over from here on…
    clear_at: Instant,
    /// …and from here on those that began with a change that was seen.
    seen_clear_at: Instant,
}

impl Surroundings {
    /// Adds one interlocked output; `gap` is the longer one of the two.
    pub fn meet(&mut self, other: &State, gap: Duration) {
        self.on |= !other.line.is_off();
        self.stuck |= !matches!(other.line, Line::At(_));
        self.claimed |= other.claims();
        let clear_at = other.off_since.map_or(Instant::default(), |since| since + gap);
        self.clear_at = self.clear_at.max(clear_at);
        if other.was_on {
            self.seen_clear_at = self.seen_clear_at.max(clear_at);
        }
    }

    /// Whether one of them is on, or nobody knows whether it is.
    pub(super) const fn is_on(&self) -> bool {
        self.on
    }

    /// Whether one of them can only be waited for.
    pub(super) const fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Whether one of them waits to carry out a command.
    pub(super) const fn is_claimed(&self) -> bool {
        self.claimed
    }

    /// When every gap is over that began with a switch-off that was seen.
    pub(super) const fn seen_clear_at(&self) -> Instant {
        self.seen_clear_at
    }

    /// When every gap is over.
    pub(super) const fn clear_at(&self) -> Instant {
        self.clear_at
    }
}
