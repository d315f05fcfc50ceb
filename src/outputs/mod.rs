//! GPIO and PWM outputs and the guard that keeps them inside their limits. No topic, no file, no clock.
//!
//! [`guard`] decides, purely; [`Bank`] owns the lines and does what the guard says; [`SafeTable`] is what is left behind
//! for the day the agent has died. Nothing but [`Bank`] and [`SafeTable::apply`] ever drives a line.

mod bank;
#[cfg(test)]
mod fake;
pub mod guard;
mod life_cycle;
#[cfg(test)]
mod properties;
mod rule;
mod safe_table;
mod state;
mod surroundings;
mod wire;

pub use bank::{Bank, Change};
pub use safe_table::{Applied, SafeTable, TableError};

use crate::line::{Drive, Level};
use std::time::Duration;

/// What an output is and may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The name in the configuration.
    pub name: String,
    /// The line or PWM channel.
    pub drive: Drive,
    /// Its limits.
    pub limits: Limits,
    /// Its level when it is requested.
    pub initial: Initial,
    /// Its level when the agent stops.
    pub on_exit: Exit,
    /// Whether a retained command met when subscribing may be carried out.
    pub accept_retained: bool,
    /// What drives it when nobody commands it.
    pub follow: Option<Follow>,
    /// What must hold for it to be anything but safe.
    pub require: Option<Require>,
}

/// The limits the guard enforces.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Where every fault leads.
    pub safe: Level,
    /// Whether levels between OFF and ON are allowed.
    pub pwm: bool,
    /// Longest time on; repeating ON does not extend it.
    pub max_on: Option<Duration>,
    /// Shortest time off.
    pub min_off: Option<Duration>,
    /// ON must be repeated this often.
    pub renew_within: Option<Duration>,
    /// Safe after the server has been away this long, counted from start too, until the next command.
    pub on_server_loss: Option<Duration>,
    /// Outputs (by index) that must not be on together with this one, symmetric.
    pub interlock: Vec<usize>,
    /// Whether a conflict switches the others off first instead of refusing.
    pub switch: bool,
    /// Both off this long before one may be on.
    pub gap: Duration,
}

/// The level when the output is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// This level.
    Level(Level),
    /// The one of the earlier run, kept on disk by the agent; safe where there is none.
    Last,
    /// As it is found.
    Keep,
}

/// What is known of an output from earlier runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Earlier {
    /// The level it had last, for [`Initial::Last`].
    pub last: Option<Level>,
    /// It was on once, so that `min_off` counts from the start.
    pub was_on: bool,
}

/// The level when the agent stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// This level.
    Level(Level),
    /// As it is.
    Keep,
}

/// An index into the values that outputs follow or require; `plan` gives it, `dispatch` feeds it.
pub type SourceId = usize;

/// What drives an output when nobody commands it.
#[derive(Clone, Debug, PartialEq)]
pub struct Follow {
    /// Whose value.
    pub source: SourceId,
    /// How it leads to a level.
    pub rule: Rule,
    /// Safe when the value is older, or while there is none.
    pub stale_after: Duration,
}

/// How a followed value leads to a level.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// On above the first, off below the second, unchanged between.
    OnAbove {
        /// Greater: on.
        on_above: f64,
        /// Less: off.
        off_below: f64,
    },
    /// On below the first, off above the second, unchanged between.
    OnBelow {
        /// Less: on.
        on_below: f64,
        /// Greater: off.
        off_above: f64,
    },
    /// Straight lines through these points (value, percent), flat beyond the ends.
    Curve(Vec<(f64, f64)>),
}

/// What must hold for an output to be anything but safe.
#[derive(Clone, Debug, PartialEq)]
pub struct Require {
    /// Whose value.
    pub source: SourceId,
    /// It must be less.
    pub below: Option<f64>,
    /// It must be more.
    pub above: Option<f64>,
    /// It must not be older.
    pub stale_after: Duration,
}
