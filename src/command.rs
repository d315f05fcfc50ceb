//! What a command asks of an output, what can be wrong with it, and the reply. Words and parsing, no I/O, no clock.
//!
//! A payload is hostile until parsed: whatever the bytes, [`parse()`] gives a [`Command`] or a [`Malformed`], in memory
//! bounded by [`MAX_PAYLOAD`]. Nothing is guessed: a member nobody knows, or one given twice, refuses the whole command.

mod parse;
mod reply;

pub use parse::parse;
pub use reply::{Reply, state_text};

use crate::clock::Wall;
use crate::line::Level;
use std::time::Duration;

/// Longer payloads on a command topic are refused unread, in bytes.
pub const MAX_PAYLOAD: usize = 4096;

/// The longest `id` in bytes, as JSON.
pub const MAX_ID: usize = 256;

/// The longest `for`.
pub const MAX_HOLD: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What is wanted of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// ON: a switch on, a PWM output at its last level above zero, or 100 %.
    On,
    /// OFF.
    Off,
    /// The other of ON and OFF.
    Toggle,
    /// Back to `follow`.
    Auto,
    /// A level (PWM only).
    Level(Level),
}

/// A parsed command.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// What is wanted.
    pub wish: Wish,
    /// `for`: how long, then back to what held before (`follow`, or safe).
    pub hold: Option<Duration>,
    /// `id`: given back in the reply as it came.
    pub id: Option<serde_json::Value>,
    /// `expires`: not to be carried out after this date.
    pub expires: Option<Wall>,
}

/// Why a payload is no command. Never shows the payload itself.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{detail}")]
pub struct Malformed {
    /// [`Refusal::Malformed`] or [`Refusal::Oversize`].
    pub refusal: Refusal,
    /// The command's `id`, where that much could be understood, for the reply.
    pub id: Option<serde_json::Value>,
    /// For the log: what is wrong and what is allowed.
    pub detail: &'static str,
}

/// Why a command was not carried out, in the words of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It was a retained message met when subscribing.
    Retained,
    /// Its `expires` has passed, or the date is not known.
    Expired,
    /// Not a command.
    Malformed,
    /// Longer than [`MAX_PAYLOAD`].
    Oversize,
    /// An interlocked output is on.
    Interlock,
    /// `for` is longer than `max_on`.
    MaxOn,
    /// The output was on less than `min_off` ago.
    MinOff,
    /// The required reading is missing, stale or beyond its limit.
    Require,
    /// The line could not be driven.
    Hardware,
}

impl Refusal {
    /// The word in the reply.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retained => "retained",
            Self::Expired => "expired",
            Self::Malformed => "malformed",
            Self::Oversize => "oversize",
            Self::Interlock => "interlock",
            Self::MaxOn => "max-on",
            Self::MinOff => "min-off",
            Self::Require => "require",
            Self::Hardware => "hardware",
        }
    }
}
