//! The air around the simulated sensors, as a pure function of time: nothing runs while nobody reads.
//!
//! With a script it follows the script's straight lines; without one it plays a flight. A test may put any weather in
//! its place.

use super::chips::Weather;
use super::script::{Air, Pressure};
use crate::quantity::altitude::{self, STANDARD_SEA_LEVEL_HPA};
use std::f64::consts::TAU;
use std::time::Duration;

/// Where a scripted sensor is before its first step: sea level, a mild day.
pub(super) const STILL: Weather =
    Weather { pressure_hpa: STANDARD_SEA_LEVEL_HPA, temperature_c: 20.0, humidity_percent: 50.0 };

/// Seconds up and down again.
pub(super) const FLIGHT: f64 = 90.0;

/// hPa in the standard atmosphere at `metres` (−1,000 to 11,000).
pub(super) fn pressure_at(metres: f64) -> f64 {
    // The sea-level pressure under 1 hPa at that altitude is how much larger the one is than the other.
    altitude::sea_level_pressure(1.0, metres).map_or(STANDARD_SEA_LEVEL_HPA, |ratio| STANDARD_SEA_LEVEL_HPA / ratio)
}

/// The air on a plausible flight: from 30 m to 130 m (98 ft to 427 ft) and back in [`FLIGHT`] seconds, colder above by
/// the standard lapse rate, drifting by ±1.5 °C in ten minutes. Every sensor of a board stands in slightly other air.
pub(super) fn flight(elapsed: Duration, sensor: usize) -> Weather {
    let seconds = elapsed.as_secs_f64();
    let altitude = 80.0 - 50.0 * (TAU * seconds / FLIGHT).cos();
    let drift = 1.5 * (TAU * seconds / 600.0).sin();
    Weather {
        pressure_hpa: pressure_at(altitude),
        temperature_c: 23.5 + 0.3 * (sensor % 7) as f64 + drift - 0.0065 * (altitude - 30.0),
        humidity_percent: 45.0 + 8.0 * (TAU * seconds / 240.0).sin(),
    }
}

/// What a script makes of the air around one sensor.
#[derive(Clone, Debug)]
pub(super) struct Tracks {
    pressure: Track,
    temperature: Track,
    humidity: Track,
}

impl Default for Tracks {
    fn default() -> Self {
        Self {
            pressure: Track::from(STILL.pressure_hpa),
            temperature: Track::from(STILL.temperature_c),
            humidity: Track::from(STILL.humidity_percent),
        }
    }
}

impl Tracks {
    /// Adds a step; steps come in the order of their times.
    pub(super) fn push(&mut self, at: Duration, over: Duration, target: Air) {
        match target.pressure {
            Some(Pressure::Hpa(to)) => self.pressure.push(at, over, to, false),
            Some(Pressure::Altitude(to)) => self.pressure.push(at, over, to, true),
            None => {}
        }
        target.temperature.inspect(|to| self.temperature.push(at, over, *to, false));
        target.humidity.inspect(|to| self.humidity.push(at, over, *to, false));
    }

    /// The air at a time since the start of the lap.
    pub(super) fn at(&self, time: Duration) -> Weather {
        Weather {
            pressure_hpa: self.pressure.at(time),
            temperature_c: self.temperature.at(time),
            humidity_percent: self.humidity.at(time),
        }
    }
}

/// One number over time: it stays where it is until a move begins, and a move begun cuts off the one before.
#[derive(Clone, Debug)]
struct Track {
    start: f64,
    moves: Vec<Move>,
}

#[derive(Clone, Debug)]
struct Move {
    at: Duration,
    over: Duration,
    from: f64,
    to: f64,
    /// `from` and `to` are metres and the line is straight in metres; the value is the pressure there.
    in_altitude: bool,
}

impl From<f64> for Track {
    fn from(start: f64) -> Self {
        Self { start, moves: Vec::new() }
    }
}

impl Track {
    fn push(&mut self, at: Duration, over: Duration, to: f64, in_altitude: bool) {
        let now = self.at(at);
        let from = if in_altitude {
            altitude::from_pressure(now, STANDARD_SEA_LEVEL_HPA).map_or(to, |metres| metres.clamp(-1_000.0, 11_000.0))
        } else {
            now
        };
        self.moves.push(Move { at, over, from, to, in_altitude });
    }

    fn at(&self, time: Duration) -> f64 {
        let begun = self.moves.partition_point(|step| step.at <= time);
        begun.checked_sub(1).map_or(self.start, |last| self.moves[last].at(time))
    }
}

impl Move {
    fn at(&self, time: Duration) -> f64 {
        let gone = time.saturating_sub(self.at);
        let part = if gone >= self.over { 1.0 } else { gone.as_secs_f64() / self.over.as_secs_f64() };
        let value = self.from + (self.to - self.from) * part;
        if self.in_altitude { pressure_at(value) } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn temperature(celsius: f64) -> Air {
        Air { temperature: Some(celsius), ..Air::default() }
    }

    fn metres(weather: Weather) -> f64 {
        altitude::from_pressure(weather.pressure_hpa, STANDARD_SEA_LEVEL_HPA).expect("an altitude")
    }

    #[test]
    fn a_move_is_a_straight_line_that_the_next_one_cuts_off() {
        let mut tracks = Tracks::default();
        tracks.push(s(10), s(10), temperature(30.0));
        tracks.push(s(15), s(5), temperature(0.0));
        tracks.push(s(40), s(0), temperature(-5.0));
        let got = [0, 10, 12, 15, 16, 20, 39, 40].map(|time| tracks.at(s(time)).temperature_c);
        assert_eq!(got, [20.0, 20.0, 22.0, 25.0, 20.0, 0.0, 0.0, -5.0]);
        assert_eq!(tracks.at(s(50)).humidity_percent, STILL.humidity_percent);
    }

    #[test]
    fn a_climb_is_straight_in_metres() {
        let mut tracks = Tracks::default();
        tracks.push(s(0), s(0), Air { pressure: Some(Pressure::Altitude(1_000.0)), ..Air::default() });
        tracks.push(s(0), s(100), Air { pressure: Some(Pressure::Altitude(5_000.0)), ..Air::default() });
        assert!((metres(tracks.at(s(50))) - 3_000.0).abs() < 1e-6);
        tracks.push(s(200), s(0), Air { pressure: Some(Pressure::Hpa(950.5)), ..Air::default() });
        assert_eq!(tracks.at(s(200)).pressure_hpa, 950.5);
    }

    #[test]
    fn the_pressure_at_an_altitude_is_the_inverse_of_the_altitude() {
        for altitude in [-1_000.0, -30.0, 0.0, 121.92, 8_848.0, 11_000.0] {
            let weather = Weather { pressure_hpa: pressure_at(altitude), ..STILL };
            assert!((metres(weather) - altitude).abs() < 1e-6, "{altitude}");
        }
    }

    #[test]
    fn the_flight_crosses_the_limits_of_the_story_both_ways() {
        let feet: Vec<f64> = (0..=90).map(|time| metres(flight(s(time), 0)) / 0.3048).collect();
        assert!((feet[0] * 0.3048 - 30.0).abs() < 0.01 && (feet[45] * 0.3048 - 130.0).abs() < 0.01);
        assert!(feet[45] > 400.0 && feet[0] < 380.0 && feet[90] < 380.0);
        assert!(feet.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 12.0), "no jumps");
        let weather = flight(s(45), 3);
        assert!((15.0..30.0).contains(&weather.temperature_c) && (30.0..60.0).contains(&weather.humidity_percent));
    }
}
