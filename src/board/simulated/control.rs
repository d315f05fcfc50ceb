//! The handle by which tests and the demo reach behind a simulated board. It does nothing by itself.

use super::lines::Line;
use super::schedule::Place;
use super::{Fault, Parts, Weather, World};
use crate::clock::Instant;
use crate::sample::{Failure, Reason};
use std::path::Path;
use std::sync::{Arc, PoisonError};

/// A handle on what is behind a simulated board; clones reach the same one, also after the board itself is gone.
///
/// Lines and channels are called as the configuration prints them: `GPIO17`, `gpiochip0:4`, `pwmchip0:0`. Levels are
/// physical.
#[derive(Clone)]
pub struct Control(Arc<World>);

impl Control {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self(world)
    }

    /// Puts weather around a sensor in place of the script's, or gives it back to the script with `None`.
    ///
    /// # Errors
    /// `absent`: there is no such sensor.
    pub fn set_weather(&self, sensor: &str, weather: Option<Weather>) -> Result<(), Failure> {
        let sensor = self.sensor(sensor)?;
        self.0.sky.fixed.lock().unwrap_or_else(PoisonError::into_inner)[sensor] = weather;
        Ok(())
    }

    /// The air around a sensor now.
    ///
    /// # Errors
    /// `absent`: there is no such sensor.
    pub fn weather(&self, sensor: &str) -> Result<Weather, Failure> {
        self.sensor(sensor).map(|sensor| self.0.sky.at(sensor))
    }

    /// Sets a sensor's fault, or ends it with `None`.
    ///
    /// # Errors
    /// `absent`: there is no such sensor.
    pub fn set_fault(&self, sensor: &str, fault: Option<Fault>) -> Result<(), Failure> {
        let sensor = self.sensor(sensor)?;
        self.0.set_fault(&Place::Sensor(sensor), fault);
        Ok(())
    }

    /// Sets the fault of a whole bus, or ends it with `None`; those of its sensors stay.
    pub fn set_bus_fault(&self, bus: &Path, fault: Option<Fault>) {
        self.0.set_fault(&Place::Bus(bus.to_owned()), fault);
    }

    /// Makes room for what another configuration has: a chip in still air for each new sensor, a level for each new input.
    pub fn extend(&self, parts: &Parts) {
        self.0.extend(parts);
    }

    /// Unplugs a bus's adapter in the middle of whatever it does and plugs another in: what was open on the first hangs for
    /// ever, what opens anew finds the chips freshly switched on.
    pub fn replug(&self, bus: &Path) {
        self.0.replug(bus);
    }

    /// Brings an input to a logical level, now.
    ///
    /// # Errors
    /// `absent`: there is no such input.
    pub fn set_input(&self, input: &str, on: bool) -> Result<(), Failure> {
        let index = self.0.parts.inputs.iter().position(|known| known.name == input);
        let index = index.ok_or_else(|| absent("input", input))?;
        self.0.drive_input(index, on, self.0.clock.now());
        Ok(())
    }

    /// Drives a line from outside, now; an input on it sees an edge.
    ///
    /// # Errors
    /// `busy`: an output drives it.
    pub fn drive(&self, line: &str, high: bool) -> Result<(), Failure> {
        self.line(line).drive(high, self.0.clock.now())
    }

    /// Whether a line is high; `None` while nothing has driven it.
    pub fn is_high(&self, line: &str) -> Option<bool> {
        self.line(line).physical().map(|level| level.is_on())
    }

    /// The part of the time a channel is high, 0 to 100; `None` while nothing has driven it.
    pub fn percent(&self, line: &str) -> Option<f64> {
        self.line(line).physical().map(|level| level.percent())
    }

    /// Makes setting an output fail, or work again. Requesting it works.
    pub fn fail_output(&self, line: &str, fails: bool) {
        self.line(line).fail(fails);
    }

    /// How often a line has been requested.
    pub fn requests(&self, line: &str) -> u64 {
        self.line(line).requests()
    }

    /// How often an output has driven a line, its initial level included.
    pub fn writes(&self, line: &str) -> u64 {
        self.line(line).writes()
    }

    /// How many output writes the trace could not take.
    pub fn lost_in_trace(&self) -> u64 {
        self.0.lines.lost_in_trace()
    }

    /// Does what the script has due by `now`, on a board made by [`super::Simulated::by_hand`]. Edges are stamped with
    /// the time they were due.
    pub fn advance(&self, now: Instant) {
        self.0.play(now);
    }

    fn line(&self, line: &str) -> Arc<Line> {
        self.0.lines.line(line)
    }

    fn sensor(&self, name: &str) -> Result<usize, Failure> {
        let position = self.0.parts.sensors.iter().position(|sensor| sensor.name == name);
        position.ok_or_else(|| absent("sensor", name))
    }
}

fn absent(kind: &str, name: &str) -> Failure {
    Failure::new(Reason::Absent, format!("the simulated board has no {kind} {name}"))
}
