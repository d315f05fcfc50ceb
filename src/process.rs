//! One reading's processing, in the order of the documentation: convert, × scale, + offset, min/max, median, average, change.
//!
//! It knows no topic and no clock; its memory is bounded by the filters' lengths and taken once, when it is built. What
//! comes out is always a finite number or a refusal.

use crate::clock::Instant;
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
    /// Publish only when the value has moved this far from the last one published; 0 is any movement.
    pub change: Option<f64>,
    /// …or when this long has passed since. Without `change` every value is published anyway.
    pub at_least_every: Option<Duration>,
}

/// What became of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Publish this; local followers take it too.
    Publish(f64),
    /// For local followers only: it has not moved far enough to be published.
    Unchanged(f64),
    /// Outside `min` and `max`: the read has failed with `out-of-range`.
    OutOfRange {
        /// What it would have been, in the published unit; finite.
        value: f64,
    },
    /// Not a number, or infinite: the read has failed with `out-of-range`.
    NotFinite,
}

impl Outcome {
    /// The processed value, for everyone on this board; `None` when the read has failed.
    pub const fn value(self) -> Option<f64> {
        match self {
            Self::Publish(value) | Self::Unchanged(value) => Some(value),
            Self::OutOfRange { .. } | Self::NotFinite => None,
        }
    }
}

/// The state of one reading's processing.
#[derive(Clone, Debug)]
pub struct Pipeline {
    spec: Spec,
    /// Absent where neither a median nor a mean is asked for, as for most readings.
    filters: Option<Box<Filters>>,
    published: Option<(f64, Instant)>,
}

#[derive(Clone, Debug)]
struct Filters {
    median: Window,
    average: Window,
    sorted: Vec<f64>,
}

impl Filters {
    fn new(spec: &Spec) -> Option<Box<Self>> {
        let wanted = spec.median > 1 || spec.average > 1;
        wanted.then(|| {
            Box::new(Self {
                median: Window::new(spec.median),
                average: Window::new(spec.average),
                sorted: Vec::with_capacity(spec.median.max(1)),
            })
        })
    }

    fn pass(&mut self, value: f64) -> f64 {
        self.median.push(value);
        let value = self.median.median(&mut self.sorted);
        self.average.push(value);
        self.average.mean()
    }
}

impl Pipeline {
    /// A pipeline that has seen nothing; takes all the memory it will ever need.
    pub fn new(spec: &Spec) -> Self {
        Self { filters: Filters::new(spec), published: None, spec: spec.clone() }
    }

    /// How it processes.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Takes a value in the quantity's canonical unit, read at `now`.
    ///
    /// A refused value counts as a failure of the sensor: the pipeline starts over, as after [`Pipeline::reset`].
    pub fn push(&mut self, canonical: f64, now: Instant) -> Outcome {
        let value = self.spec.unit.from_canonical(canonical) * self.spec.scale + self.spec.offset;
        if !value.is_finite() {
            self.reset();
            return Outcome::NotFinite;
        }
        if self.spec.min.is_some_and(|min| value < min) || self.spec.max.is_some_and(|max| value > max) {
            self.reset();
            return Outcome::OutOfRange { value };
        }
        let value = self.filters.as_mut().map_or(value, |filters| filters.pass(value));
        if !self.is_due(value, now) {
            return Outcome::Unchanged(value);
        }
        self.published = Some((value, now));
        Outcome::Publish(value)
    }

    /// To be called when a read has failed: the next value is published, and the filters forget what was before the gap.
    pub fn reset(&mut self) {
        if let Some(filters) = &mut self.filters {
            filters.median.clear();
            filters.average.clear();
        }
        self.published = None;
    }

    /// The next value is published whether it has moved or not (a reconnect, a `get`); the filters keep their samples.
    pub fn publish_next(&mut self) {
        self.published = None;
    }

    fn is_due(&self, value: f64, now: Instant) -> bool {
        let (Some(change), Some((last, at))) = (self.spec.change, self.published) else { return true };
        has_moved(last, value, change)
            || self.spec.at_least_every.is_some_and(|every| now.since(at) + slack(every) >= every)
    }
}

/// Whether two values are `change` apart, forgiving what binary fractions lose: 20.1 and 20.2 are 0.1 apart.
fn has_moved(last: f64, value: f64, change: f64) -> bool {
    let distance = (value - last).abs();
    let rounding = 4.0 * f64::EPSILON * last.abs().max(value.abs());
    distance > 0.0 && distance + rounding >= change
}

/// How much too early counts as in time: 5 %, at most 50 ms. A read that comes a hair before its time, because the one
/// before was a hair late, would otherwise wait for one whole interval more.
fn slack(every: Duration) -> Duration {
    (every / 20).min(Duration::from_millis(50))
}

/// The last few values, oldest overwritten first.
#[derive(Clone, Debug)]
struct Window {
    values: Vec<f64>,
    len: usize,
    next: usize,
}

impl Window {
    fn new(size: usize) -> Self {
        let size = size.max(1);
        Self { values: Vec::with_capacity(size), len: size, next: 0 }
    }

    fn push(&mut self, value: f64) {
        if self.values.len() < self.len {
            self.values.push(value);
        } else {
            self.values[self.next] = value;
            self.next = (self.next + 1) % self.len;
        }
    }

    fn clear(&mut self) {
        self.values.clear();
        self.next = 0;
    }

    /// The middle value, of an even number (while the window fills) the mean of the two middle ones.
    fn median(&self, sorted: &mut Vec<f64>) -> f64 {
        sorted.clear();
        sorted.extend_from_slice(&self.values);
        sorted.sort_unstable_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { mean(&sorted[middle - 1..=middle]) }
    }

    fn mean(&self) -> f64 {
        mean(&self.values)
    }
}

/// The mean of finite values, itself finite: each is divided before it is added, so that the sum cannot overflow, and
/// nothing is carried from one call to the next, so that no error adds up.
fn mean(values: &[f64]) -> f64 {
    match values {
        [value] => *value,
        _ => {
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
            let sum: f64 = values.iter().sum();
            let mean = if sum.is_finite() {
                sum / values.len() as f64
            } else {
                values.iter().map(|value| value / values.len() as f64).sum()
            };
            mean.clamp(low, high)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the filters' memory is.
    fn buffers(pipeline: &Pipeline) -> Option<[*const f64; 3]> {
        let filters = pipeline.filters.as_ref()?;
        Some([filters.median.values.as_ptr(), filters.average.values.as_ptr(), filters.sorted.as_ptr()])
    }
    use proptest::prelude::*;

    fn spec() -> Spec {
        Spec {
            unit: Unit::Metre,
            scale: 1.0,
            offset: 0.0,
            min: None,
            max: None,
            median: 1,
            average: 1,
            change: None,
            at_least_every: None,
        }
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn converts_then_scales_then_adds() {
        let mut pipeline = Pipeline::new(&Spec { unit: Unit::Foot, scale: 2.0, offset: -50.0, ..spec() });
        let Outcome::Publish(value) = pipeline.push(30.48, at(0)) else { panic!("published") };
        assert!((value - 150.0).abs() < 1e-9, "{value}");
    }

    #[test]
    fn limits_are_in_the_published_unit_and_inclusive() {
        let mut pipeline = Pipeline::new(&Spec { min: Some(-10.0), max: Some(10.0), ..spec() });
        assert_eq!(pipeline.push(10.0, at(0)), Outcome::Publish(10.0));
        assert_eq!(pipeline.push(-10.0, at(0)), Outcome::Publish(-10.0));
        assert_eq!(pipeline.push(10.5, at(0)), Outcome::OutOfRange { value: 10.5 });
        assert_eq!(pipeline.push(f64::NAN, at(0)), Outcome::NotFinite);
        assert_eq!(pipeline.push(f64::NEG_INFINITY, at(0)), Outcome::NotFinite);
    }

    #[test]
    fn median_drops_a_spike_before_the_average_sees_it() {
        let mut pipeline = Pipeline::new(&Spec { median: 3, average: 2, ..spec() });
        let values: Vec<_> = [1.0, 1.0, 900.0, 1.0, 1.0].map(|v| pipeline.push(v, at(0)).value()).to_vec();
        assert_eq!(values, [Some(1.0); 5]);
        assert_eq!(pipeline.push(5.0, at(0)).value(), Some(1.0));
        assert_eq!(pipeline.push(5.0, at(0)).value(), Some(3.0), "mean of the medians 1 and 5");
    }

    #[test]
    fn small_changes_reach_followers_only() {
        let mut pipeline = Pipeline::new(&Spec { change: Some(0.1), ..spec() });
        assert_eq!(pipeline.push(20.1, at(0)), Outcome::Publish(20.1));
        assert_eq!(pipeline.push(20.15, at(1)), Outcome::Unchanged(20.15));
        assert_eq!(
            pipeline.push(20.2, at(2)),
            Outcome::Publish(20.2),
            "exactly the change, whatever binary makes of it"
        );
        assert_eq!(pipeline.push(20.11, at(3)), Outcome::Unchanged(20.11), "counted from the last one published");
    }

    #[test]
    fn a_change_of_zero_is_any_movement() {
        let mut pipeline = Pipeline::new(&Spec { change: Some(0.0), ..spec() });
        assert_eq!(pipeline.push(1.0, at(0)), Outcome::Publish(1.0));
        assert_eq!(pipeline.push(1.0, at(1)), Outcome::Unchanged(1.0));
        assert_eq!(pipeline.push(1.000_001, at(2)), Outcome::Publish(1.000_001));
    }

    #[test]
    fn jitter_does_not_cost_an_interval() {
        let every = Some(Duration::from_secs(4));
        let mut pipeline = Pipeline::new(&Spec { change: Some(100.0), at_least_every: every, ..spec() });
        // Every other one of those due comes 9 ms late, the next is 9 ms too early for it.
        let late = |k: u64| if k.is_multiple_of(8) { 9 } else { 0 };
        let published: Vec<_> =
            (0..13).filter(|k| matches!(pipeline.push(0.0, at(k * 1000 + late(*k))), Outcome::Publish(_))).collect();
        assert_eq!(published, [0, 4, 8, 12]);
    }

    #[test]
    fn a_failure_starts_over() {
        let mut pipeline = Pipeline::new(&Spec { change: Some(10.0), median: 3, max: Some(1000.0), ..spec() });
        for _ in 0..3 {
            pipeline.push(5.0, at(0));
        }
        pipeline.reset();
        assert_eq!(pipeline.push(6.0, at(1)), Outcome::Publish(6.0));
        pipeline.push(2000.0, at(2));
        assert_eq!(pipeline.push(7.0, at(3)), Outcome::Publish(7.0), "a refused value is a failure");
        pipeline.publish_next();
        assert_eq!(pipeline.push(8.0, at(4)), Outcome::Publish(7.5), "asked for; the filter goes on");
    }

    fn any_spec() -> impl Strategy<Value = Spec> {
        let unit = prop::sample::select(Unit::of(crate::quantity::Quantity::Temperature));
        let limit = || prop::option::of(-1e3..1e3);
        (unit, any::<f64>(), any::<f64>(), limit(), limit(), 1usize..9, 1usize..9, prop::option::of(0.0..10.0))
            .prop_map(|(unit, scale, offset, min, max, median, average, change)| Spec {
                unit,
                scale,
                offset,
                min,
                max,
                median,
                average,
                change,
                at_least_every: Some(Duration::from_secs(3)),
            })
    }

    proptest! {
        #[test]
        fn nothing_but_finite_numbers_within_limits_comes_out(spec in any_spec(), values in prop::collection::vec(any::<f64>(), 1..40)) {
            let mut pipeline = Pipeline::new(&spec);
            for (second, value) in values.into_iter().enumerate() {
                match pipeline.push(value, at(second as u64 * 1000)) {
                    Outcome::Publish(value) | Outcome::Unchanged(value) => {
                        prop_assert!(value.is_finite());
                        prop_assert!(spec.min.is_none_or(|min| value >= min) && spec.max.is_none_or(|max| value <= max));
                    }
                    Outcome::OutOfRange { value } => prop_assert!(value.is_finite()),
                    Outcome::NotFinite => {}
                }
            }
        }

        #[test]
        fn filters_stay_within_what_they_saw(values in prop::collection::vec(-1e6..1e6f64, 1..60), median in 1usize..10, average in 1usize..10) {
            let mut pipeline = Pipeline::new(&Spec { median, average, ..spec() });
            for (k, value) in values.iter().enumerate() {
                let seen = &values[(k + 1).saturating_sub(median + average - 1)..=k];
                let out = pipeline.push(*value, at(0)).value().expect("finite");
                prop_assert!(seen.iter().any(|v| *v <= out) && seen.iter().any(|v| *v >= out));
            }
        }

        #[test]
        fn silence_never_lasts_longer_than_asked(values in prop::collection::vec(-1e3..1e3f64, 30..60), jitter in prop::collection::vec(0u64..20, 60)) {
            let every = Some(Duration::from_secs(5));
            let mut pipeline = Pipeline::new(&Spec { change: Some(1e9), at_least_every: every, ..spec() });
            let mut silent = 0;
            for (second, value) in values.iter().enumerate() {
                let published = matches!(pipeline.push(*value, at(second as u64 * 1000 + jitter[second])), Outcome::Publish(_));
                silent = if published { 0 } else { silent + 1 };
                prop_assert!(silent < 5, "{silent} readings without one published");
            }
        }

        #[test]
        fn memory_is_taken_once(values in prop::collection::vec(any::<f64>(), 50)) {
            let mut pipeline = Pipeline::new(&Spec { median: 7, average: 5, ..spec() });
            let before = buffers(&pipeline);
            values.iter().for_each(|value| { pipeline.push(*value, at(0)); });
            prop_assert_eq!(before, buffers(&pipeline));
        }
    }
}
