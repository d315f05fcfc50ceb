//! GPIO inputs: edges to states and totals. Pure state machines over the edges a board delivers; no topic, no file.
//!
//! [`Debounce`] and [`Counter`] are pure; [`Inputs`] owns the lines and feeds them.

mod bank;
mod counter;
mod debounce;

pub use bank::{InputChange, Inputs, State};
pub use counter::Counter;
pub use debounce::{Debounce, Passed};

use crate::line::{Active, Bias, Edges, LineId};
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

impl Spec {
    /// The edges to ask the board for: of pulses counted as they come, only the kind that counts.
    ///
    /// Asked for both kinds, the kernel tells them apart by reading the level some time after the interrupt, and a pulse
    /// that is over by then shows no change.
    pub fn edges(&self) -> Edges {
        match &self.count {
            Some(count) if self.debounce.is_zero() => count.counted.into(),
            _ => Edges::Both,
        }
    }
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

impl From<Counted> for Edges {
    fn from(counted: Counted) -> Self {
        match counted {
            Counted::Activation => Self::Activations,
            Counted::Deactivation => Self::Deactivations,
            Counted::Both => Self::Both,
        }
    }
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
