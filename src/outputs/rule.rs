//! What a followed value asks for and whether a required one permits: conversions only, no time, no state.
//!
//! Invariant: whatever number arrives, the answer is a level the output can take, or none.

use super::{Require, Rule};
use crate::line::Level;

impl Rule {
    /// The level `value` leads to; `before` is what held until now and stays between the thresholds.
    ///
    /// `None` for a curve without points or with impossible percentages, which the plan does not let through.
    pub(super) fn level(&self, value: f64, before: Level) -> Option<Level> {
        match self {
            Self::OnAbove { on_above, off_below } => Some(threshold(value > *on_above, value < *off_below, before)),
            Self::OnBelow { on_below, off_above } => Some(threshold(value < *on_below, value > *off_above, before)),
            Self::Curve(points) => interpolate(points, value).and_then(Level::from_percent),
        }
    }
}

/// Off wins over on, so that thresholds written the wrong way round cannot hold an output on.
const fn threshold(on: bool, off: bool, before: Level) -> Level {
    if off {
        Level::OFF
    } else if on {
        Level::ON
    } else {
        before
    }
}

/// Straight lines through `points`, which rise in their first number; flat beyond the ends.
fn interpolate(points: &[(f64, f64)], value: f64) -> Option<f64> {
    let above = points.partition_point(|(x, _)| *x <= value);
    match (above.checked_sub(1).and_then(|below| points.get(below)), points.get(above)) {
        (Some((x0, y0)), Some((x1, y1))) => Some(y0 + (y1 - y0) * ((value - x0) / (x1 - x0))),
        (Some((_, y)), None) | (None, Some((_, y))) => Some(*y),
        (None, None) => None,
    }
}

impl Require {
    /// Whether `value` lies strictly inside the limits.
    pub(super) fn permits(&self, value: f64) -> bool {
        value.is_finite()
            && self.below.is_none_or(|limit| value < limit)
            && self.above.is_none_or(|limit| value > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn thresholds_have_hysteresis_and_their_edges_belong_to_the_middle() {
        let beacon = Rule::OnAbove { on_above: 400.0, off_below: 380.0 };
        let heater = Rule::OnBelow { on_below: 18.0, off_above: 20.0 };
        for (rule, value, before, after) in [
            (&beacon, 400.1, Level::OFF, Level::ON),
            (&beacon, 400.0, Level::OFF, Level::OFF),
            (&beacon, 380.0, Level::ON, Level::ON),
            (&beacon, 379.9, Level::ON, Level::OFF),
            (&heater, 17.9, Level::OFF, Level::ON),
            (&heater, 18.0, Level::OFF, Level::OFF),
            (&heater, 20.0, Level::ON, Level::ON),
            (&heater, 20.1, Level::ON, Level::OFF),
        ] {
            assert_eq!(rule.level(value, before), Some(after), "{rule:?} at {value}");
        }
    }

    #[test]
    fn thresholds_the_wrong_way_round_never_hold_on() {
        let rule = Rule::OnAbove { on_above: 10.0, off_below: 20.0 };
        assert_eq!(rule.level(15.0, Level::ON), Some(Level::OFF));
    }

    #[test]
    fn a_curve_is_straight_between_its_points_and_flat_beyond() {
        let fan = Rule::Curve(vec![(24.0, 0.0), (26.0, 20.0), (34.0, 100.0)]);
        for (value, percent) in
            [(-40.0, 0.0), (24.0, 0.0), (25.0, 10.0), (26.0, 20.0), (30.0, 60.0), (34.0, 100.0), (1e9, 100.0)]
        {
            assert_eq!(fan.level(value, Level::OFF).map(Level::percent), Some(percent), "at {value}");
        }
        assert_eq!(Rule::Curve(vec![]).level(1.0, Level::ON), None);
        assert_eq!(Rule::Curve(vec![(0.0, 120.0)]).level(1.0, Level::ON), None);
    }

    #[test]
    fn a_curve_may_jump() {
        let step = Rule::Curve(vec![(0.0, 0.0), (10.0, 20.0), (10.0, 80.0), (20.0, 100.0)]);
        assert_eq!(step.level(10.0, Level::OFF).map(Level::percent), Some(80.0));
        assert_eq!(step.level(5.0, Level::OFF).map(Level::percent), Some(10.0));
    }

    #[test]
    fn a_requirement_holds_strictly_inside_its_limits() {
        let flue = Require { source: 0, below: Some(90.0), above: Some(-20.0), stale_after: Duration::from_secs(30) };
        for (value, holds) in
            [(89.9, true), (90.0, false), (-20.0, false), (-19.9, true), (f64::NAN, false), (f64::NEG_INFINITY, false)]
        {
            assert_eq!(flue.permits(value), holds, "at {value}");
        }
        let free = Require { below: None, above: None, ..flue };
        assert!(!free.permits(f64::INFINITY) && free.permits(0.0));
    }
}
