//! One reading's processing, in the order of the documentation: convert, × scale, + offset, min/max, median, average, change.
//!
//! It knows no topic and no clock; its memory is bounded by the filters' lengths.

use crate::quantity::Unit;
use std::time::Duration;

/// How one reading is processed. Every number is in `unit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// What is published.
    pub unit: Unit,
    /// Factor.
    pub scale: f64,
    /// Added after the factor.
    pub offset: f64,
    /// Below this the read has failed.
    pub min: Option<f64>,
    /// Above this the read has failed.
    pub max: Option<f64>,
    /// Running median over so many samples; 1 is none.
    pub median: usize,
    /// Running mean over so many samples; 1 is none.
    pub average: usize,
    /// Publish only when the value has moved this far from the last one published.
    pub change: Option<f64>,
    /// …or when this long has passed since.
    pub at_least_every: Option<Duration>,
}
