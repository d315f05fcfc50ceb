//! How much of one sensor's failing is told in the log: a sensor that flaps is a few lines, not hundreds.

use crate::clock::Instant;
use std::time::Duration;

/// Failures told one by one within [`WINDOW`]; after the last of them the rest of it is silent.
const AT_MOST: u8 = 6;
/// What fails on is told again after this time, flapping or not.
const WINDOW: Duration = Duration::from_secs(600);

/// What to say of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// That it fails.
    Failure,
    /// That it fails again and again, and that the next ones are not told.
    Flapping,
    /// Nothing.
    Nothing,
}

/// What was told of one sensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    since: Instant,
    count: u8,
}

impl Told {
    /// A failure that was not told yet.
    pub fn failure(&mut self, now: Instant) -> Tell {
        if self.count == 0 || now.since(self.since) >= WINDOW {
            *self = Self { since: now, count: 0 };
        }
        if self.count == AT_MOST {
            return Tell::Nothing;
        }
        self.count += 1;
        if self.count == AT_MOST { Tell::Flapping } else { Tell::Failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flapping_sensor_is_a_few_lines_and_heard_again_later() {
        let mut told = Told::default();
        let mut tell = |seconds: u64| told.failure(Instant::from_nanos(seconds * 1_000_000_000));
        let first: Vec<_> = (0..600).map(&mut tell).filter(|tell| *tell != Tell::Nothing).collect();
        assert_eq!(first, [&[Tell::Failure; 5][..], &[Tell::Flapping]].concat());
        assert_eq!(tell(600), Tell::Failure);
    }
}
