//! GPIO inputs: edges to states and totals. Pure state machines over the edges a board delivers; no topic, no file.
//!
//! [`Debounce`] and [`Counter`] are pure; [`Inputs`] owns the lines and feeds them.

mod bank;
mod counter;
mod debounce;

pub use bank::{InputChange, Inputs, State};
pub use counter::Counter;
pub use debounce::{Debounce, Passed};

use crate::line::{Active, Bias, LineId};
use std::time::Duration;

/// What an input is.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The name in the configuration.
    pub name: String,
    /// The line.
    pub line: LineId,
    /// Which level is ON.
    pub active: Active,
    /// The bias.
    pub bias: Bias,
    /// A level must stand this long to be believed.
    pub debounce: Duration,
    /// What is counted, if anything.
    pub count: Option<CountSpec>,
}

/// Which debounced changes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// To ON.
    Activation,
    /// To OFF.
    Deactivation,
    /// Both.
    Both,
}

/// How pulses become a total.
#[derive(Clone, Debug, PartialEq)]
pub struct CountSpec {
    /// Which changes count.
    pub counted: Counted,
    /// What one is worth.
    pub per_pulse: f64,
    /// Its unit, any text.
    pub unit: String,
    /// How often the total is published while it changes.
    pub interval: Duration,
}
