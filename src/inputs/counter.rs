//! Pulses to a total. Pure; the total of an earlier run is given back to it.
//!
//! Invariant: pulses are counted as a whole number and multiplied once, so that no rounding error ever adds up.

use super::debounce::Passed;
use super::{CountSpec, Counted};

/// How far from a whole number of pulses, relative to it, a restored total may be and still be one.
const WHOLE: f64 = 1e-9;

/// The total of one counting input.
#[derive(Clone, Debug)]
pub struct Counter {
    counted: Counted,
    per_pulse: f64,
    /// What an earlier run had that is no whole number of pulses (`per_pulse` was another one then).
    base: f64,
    pulses: u64,
}

impl Counter {
    /// Starts at zero.
    pub const fn new(spec: &CountSpec) -> Self {
        Self { counted: spec.counted, per_pulse: spec.per_pulse, base: 0.0, pulses: 0 }
    }

    /// Adds the total of an earlier run to what was counted since the start; anything but a finite number is ignored.
    pub fn restore(&mut self, total: f64) {
        if !total.is_finite() {
            return;
        }
        let pulses = (total / self.per_pulse).round();
        let is_whole = (1.0..9e15).contains(&pulses) && (pulses * self.per_pulse - total).abs() <= WHOLE * total.abs();
        if is_whole {
            self.pulses = self.pulses.saturating_add(pulses as u64);
        } else {
            self.base += total;
        }
    }

    /// Counts what passed the debouncing; says whether the total changed.
    pub const fn count(&mut self, passed: Passed) -> bool {
        let pulses = match self.counted {
            Counted::Activation => passed.activations,
            Counted::Deactivation => passed.deactivations,
            Counted::Both => passed.activations + passed.deactivations,
        };
        self.pulses = self.pulses.saturating_add(pulses);
        pulses > 0
    }

    /// What was restored and counted, in the unit of the specification.
    pub fn total(&self) -> f64 {
        self.base + self.pulses as f64 * self.per_pulse
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn counter(counted: Counted, per_pulse: f64) -> Counter {
        Counter::new(&CountSpec { counted, per_pulse, unit: "mm".to_owned(), interval: Duration::from_secs(60) })
    }

    const THREE_UP_TWO_DOWN: Passed = Passed { activations: 3, deactivations: 2 };

    #[test]
    fn each_kind_counts_its_changes() {
        for (counted, total) in [(Counted::Activation, 3.0), (Counted::Deactivation, 2.0), (Counted::Both, 5.0)] {
            let mut counter = counter(counted, 1.0);
            assert!(counter.count(THREE_UP_TWO_DOWN));
            assert_eq!(counter.total(), total);
        }
        assert!(!counter(Counted::Deactivation, 1.0).count(Passed { activations: 1, deactivations: 0 }));
    }

    #[test]
    fn a_million_pulses_over_a_thousand_restarts_do_not_drift() {
        let mut total = 0.0;
        for _ in 0..1_000 {
            let mut rain = counter(Counted::Activation, 0.2794);
            rain.restore(total);
            for _ in 0..1_000 {
                rain.count(Passed { activations: 1, deactivations: 1 });
            }
            total = rain.total();
        }
        assert_eq!(total, 1_000_000.0 * 0.2794);
    }

    #[test]
    fn a_total_counted_with_another_worth_is_kept() {
        let mut rain = counter(Counted::Activation, 0.25);
        rain.count(THREE_UP_TWO_DOWN);
        rain.restore(10.1);
        assert_eq!(rain.total(), 10.85);
        rain.restore(f64::NAN);
        rain.restore(f64::INFINITY);
        assert_eq!(rain.total(), 10.85);
    }

    #[test]
    fn strange_worths_count_too() {
        let mut backwards = counter(Counted::Both, -1.0);
        backwards.restore(-4.0);
        backwards.count(THREE_UP_TWO_DOWN);
        assert_eq!(backwards.total(), -9.0);
        let mut nothing = counter(Counted::Both, 0.0);
        nothing.restore(7.0);
        nothing.count(THREE_UP_TWO_DOWN);
        assert_eq!(nothing.total(), 7.0);
    }
}
