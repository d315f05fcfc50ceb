//! The sea-level pressure an altitude is worked out from: fixed, from a topic, or from a known elevation.

use crate::clock::{Instant, Stamp};
use crate::payload;
use crate::plan::SeaLevel;
use crate::quantity::altitude;
use crate::sample::{Failure, Reason};

/// A sensor's reference and what is known of it.
pub struct Reference {
    source: SeaLevel,
    /// hPa, and when it came.
    current: Option<(f64, Instant)>,
}

impl Reference {
    /// A reference of which nothing is known yet, unless it is fixed.
    pub fn new(source: SeaLevel) -> Self {
        Self { source, current: None }
    }

    /// Takes over what another one knows, if it comes from the same source; whether it does.
    pub fn inherit(&mut self, before: &Self) -> bool {
        let same = match (&self.source, &before.source) {
            // How long it holds, and what stands in for it, may be another.
            (SeaLevel::Topic { topic, unit, .. }, SeaLevel::Topic { topic: old, unit: old_unit, .. }) => {
                (topic, unit) == (old, old_unit)
            }
            (new, old) => new == old,
        };
        if same {
            self.current = before.current;
        }
        same
    }

    /// Where it comes from.
    pub fn source(&self) -> &SeaLevel {
        &self.source
    }

    /// A value has arrived, or was kept from earlier in this boot; refused unless it is a pressure found on Earth's surface.
    pub fn set(&mut self, hpa: f64, stamp: Stamp) -> bool {
        let plausible = (500.0..=1200.0).contains(&hpa);
        if plausible {
            self.current = Some((hpa, stamp.at));
        }
        plausible
    }

    /// The elevation to work the pressure out from at the next reading.
    pub fn known_elevation(&self) -> Option<f64> {
        match self.source {
            SeaLevel::KnownElevation(metres) => Some(metres),
            _ => None,
        }
    }

    /// A known elevation is to be taken again at the next reading.
    pub fn retake(&mut self) {
        if self.known_elevation().is_some() {
            self.current = None;
        }
    }

    /// Whether it grows old.
    pub fn ages(&self) -> bool {
        !matches!(self.source, SeaLevel::Fixed(_))
    }

    /// What the health topic tells of it.
    pub fn told(&self, now: Instant) -> payload::Reference {
        match (self.ages(), self.current) {
            (false, _) => payload::Reference::Fixed,
            (true, None) => payload::Reference::Missing,
            (true, Some((_, at))) => payload::Reference::Age(now.since(at)),
        }
    }

    /// The altitude in metres at `pressure` (hPa); the second value is a reference just worked out, to be kept.
    ///
    /// # Errors
    /// `absent` while there is no reference, `out-of-range` for a pressure no altitude belongs to.
    pub fn altitude(&mut self, pressure: f64, stamp: Stamp) -> Result<(f64, Option<f64>), Failure> {
        let mut taken = None;
        if let (Some(elevation), None) = (self.known_elevation(), self.current) {
            let hpa = altitude::sea_level_pressure(pressure, elevation).ok_or_else(|| impossible(pressure))?;
            self.current = Some((hpa, stamp.at));
            taken = Some(hpa);
        }
        let sea_level = self.hpa(stamp.at)?;
        let metres = altitude::from_pressure(pressure, sea_level).ok_or_else(|| impossible(pressure))?;
        Ok((metres, taken))
    }

    fn hpa(&self, now: Instant) -> Result<f64, Failure> {
        let SeaLevel::Topic { topic, stale_after, otherwise, .. } = &self.source else {
            return match (&self.source, &self.current) {
                (SeaLevel::Fixed(hpa), _) | (_, Some((hpa, _))) => Ok(*hpa),
                _ => Err(Failure::new(Reason::Absent, "no sea-level pressure was taken yet")),
            };
        };
        let fresh = self.current.filter(|(_, at)| stale_after.is_none_or(|limit| now.since(*at) <= limit));
        fresh.map(|(hpa, _)| hpa).or(*otherwise).ok_or_else(|| {
            let state = if self.current.is_some() { "is stale" } else { "has not arrived yet" };
            Failure::new(
                Reason::Absent,
                format!("the sea-level pressure on `{topic}` {state} and no `otherwise` is configured"),
            )
        })
    }
}

fn impossible(pressure: f64) -> Failure {
    Failure::new(Reason::OutOfRange, format!("no altitude belongs to {pressure} hPa"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Stamp {
        Stamp { at: Instant::from_nanos(seconds * 1_000_000_000), wall: None }
    }

    fn topic(otherwise: Option<f64>) -> Reference {
        Reference::new(SeaLevel::Topic {
            topic: "weather/qnh".into(),
            unit: crate::quantity::Unit::Hectopascal,
            stale_after: Some(Duration::from_secs(60)),
            otherwise,
        })
    }

    #[test]
    fn a_topic_is_used_while_it_is_fresh() {
        let mut reference = topic(Some(1013.25));
        let altitude = |reference: &mut Reference, s| reference.altitude(1000.0, at(s)).expect("an altitude").0;
        assert!((altitude(&mut reference, 0) - 110.9).abs() < 0.1, "the fallback before it arrives");
        assert!(reference.set(1000.0, at(1)));
        assert!(altitude(&mut reference, 61).abs() < 1e-9);
        assert!((altitude(&mut reference, 62) - 110.9).abs() < 0.1, "the fallback when it is stale");
        assert_eq!(reference.told(at(62).at), payload::Reference::Age(Duration::from_secs(61)));
    }

    #[test]
    fn without_a_fallback_there_is_no_altitude() {
        let mut reference = topic(None);
        assert_eq!(reference.altitude(1000.0, at(0)).expect_err("none yet").reason, Reason::Absent);
        for nonsense in [0.0, f64::NAN, f64::INFINITY, -5.0, 101_325.0] {
            assert!(!reference.set(nonsense, at(1)), "{nonsense}");
        }
        assert!(reference.altitude(1000.0, at(1)).is_err());
    }

    #[test]
    fn a_known_elevation_is_taken_once_until_asked_again() {
        let mut reference = Reference::new(SeaLevel::KnownElevation(35.0));
        let (metres, taken) = reference.altitude(1000.0, at(0)).expect("an altitude");
        assert!((metres - 35.0).abs() < 1e-9 && taken.is_some());
        let (metres, taken) = reference.altitude(995.0, at(1)).expect("an altitude");
        assert!((metres - 77.3).abs() < 0.5, "{metres}");
        assert_eq!(taken, None);
        reference.retake();
        assert!(reference.altitude(995.0, at(2)).expect("an altitude").1.is_some());
    }
}
