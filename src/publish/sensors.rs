//! Samples to readings, status and health: one state machine a sensor.
//!
//! It owns what is known of each sensor (its filters, whether it fails and since when, its altitude reference) and fills
//! the slots of the [`Outbox`]. It knows no session and no clock.

mod configure;

pub use configure::Adopted;

use super::outbox::{Outbox, SlotId, SlotSpec};
use super::reading::Reading;
use super::reference::Reference;
use super::told::{Tell, Told};
use crate::clock::Stamp;
use crate::outputs::SourceId;
use crate::payload::{self, Health, SensorObject};
use crate::plan::{self, Plan};
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason, Sample, Values};
use std::time::Duration;

/// How often the age of an altitude's reference is told while nothing else changes.
const REFERENCE_INTERVAL: Duration = Duration::from_secs(60);

/// What the flow hands on besides the outbox.
#[derive(Default)]
pub struct Effects {
    /// Values that outputs of this board follow or require.
    pub followed: Vec<(SourceId, f64)>,
    /// Sea-level pressures (hPa) just worked out from a known elevation, by sensor, to be kept on disk.
    pub calibrated: Vec<(usize, f64)>,
}

/// Reads by their outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Successful reads.
    pub reads: u64,
    /// Failed reads.
    pub failures: u64,
}

/// Whether a failing sensor's cause has changed so that a person is to be told: from or to one of the board's set-up. A
/// chip that is out of order in one way when it is read, and in another when it is opened anew, is one failure.
fn is_news(told: Reason, now: Reason) -> bool {
    let is_of_the_set_up = |reason| matches!(reason, Reason::Absent | Reason::Permission | Reason::Busy);
    told != now && (is_of_the_set_up(told) || is_of_the_set_up(now))
}

enum State {
    Unknown,
    Ok,
    Failing { failure: Failure, since: Stamp, failures: u64, logged: Option<Reason> },
}

struct Sensor {
    number: usize,
    name: String,
    readings: Vec<Reading>,
    // Few sensors have one.
    reference: Option<Box<Reference>>,
    reference_told: Stamp,
    clear_when_failing: bool,
    json: Option<SlotId>,
    status: Option<SlotId>,
    health: Option<SlotId>,
    state: State,
    told: Told,
    /// When the last good read was.
    read: Stamp,
}

/// The flow of all sensors, each known by its number.
#[derive(Default)]
pub struct Sensors {
    /// By number.
    sensors: Vec<Sensor>,
    /// The next number nobody ever had.
    next: usize,
    counts: Counts,
    failing: usize,
}

impl Sensors {
    /// What one read of `sensor` gave; nothing if it is gone.
    pub fn sample(&mut self, sensor: usize, sample: &Sample, stamp: Stamp, outbox: &mut Outbox, effects: &mut Effects) {
        let Some(sensor) = self.place(sensor).map(|place| &mut self.sensors[place]) else { return };
        let outcome = match sample {
            Ok(values) => sensor.values(*values, stamp, outbox, effects),
            Err(failure) => Err(failure.clone()),
        };
        self.failing -= usize::from(sensor.is_failing());
        match outcome {
            Ok(()) => {
                self.counts.reads += 1;
                sensor.recovered(stamp, outbox);
            }
            Err(failure) => {
                self.counts.failures += 1;
                sensor.failed(&failure, stamp, outbox);
            }
        }
        self.failing += usize::from(sensor.is_failing());
    }

    /// Where the sensor of that number is.
    fn place(&self, number: usize) -> Option<usize> {
        // Until one is taken away, every one is at its number.
        let is_there = self.sensors.get(number).is_some_and(|sensor| sensor.number == number);
        if is_there { Some(number) } else { self.sensors.binary_search_by_key(&number, |sensor| sensor.number).ok() }
    }

    /// A sea-level pressure for `sensor`, in hPa; `false` if it is not one.
    pub fn sea_level(&mut self, sensor: usize, hpa: f64, stamp: Stamp, outbox: &mut Outbox) -> bool {
        let Some(sensor) = self.place(sensor).map(|place| &mut self.sensors[place]) else { return false };
        let Some(reference) = &mut sensor.reference else { return false };
        let first = reference.told(stamp.at) == payload::Reference::Missing;
        let accepted = reference.set(hpa, stamp);
        let due = first || stamp.at.since(sensor.reference_told.at) >= REFERENCE_INTERVAL;
        // The first one ends the health's `null` at once; before the first read there is no health to tell.
        if accepted && due && !matches!(sensor.state, State::Unknown) {
            sensor.tell_health(stamp, outbox);
        }
        accepted
    }

    /// The clock has been set: what is told of the last readings, and since when a sensor fails, has another date now.
    pub fn clock_set(&mut self, stamp: Stamp, outbox: &mut Outbox) {
        self.sensors.iter_mut().for_each(|sensor| sensor.clock_set(stamp, outbox));
    }

    /// Known elevations are taken again at the next reading.
    pub fn retake_elevations(&mut self) {
        self.sensors.iter_mut().filter_map(|sensor| sensor.reference.as_mut()).for_each(|reference| reference.retake());
    }

    /// The next sample of every sensor is published, changed or not.
    pub fn publish_next(&mut self) {
        let readings = self.sensors.iter_mut().flat_map(|sensor| &mut sensor.readings);
        readings.for_each(|reading| reading.pipeline.publish_next());
    }

    /// A sensor's name, empty if it is gone.
    pub fn name(&self, sensor: usize) -> &str {
        self.place(sensor).map_or("", |place| &self.sensors[place].name)
    }

    /// How many sensors there are.
    pub fn len(&self) -> usize {
        self.sensors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sensors.is_empty()
    }

    /// The known elevation in metres that a sensor's sea-level pressure is worked out from.
    pub fn known_elevation(&self, sensor: usize) -> Option<f64> {
        self.sensors[self.place(sensor)?].reference.as_ref()?.known_elevation()
    }

    /// Reads so far, by their outcome.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many sensors fail now.
    pub fn failing(&self) -> usize {
        self.failing
    }
}

impl Sensor {
    /// A sensor of which nothing is known; `index` is its place in the plan.
    fn new(index: usize, number: usize, sensor: &plan::Sensor, plan: &Plan, outbox: &mut Outbox) -> Self {
        let readings = sensor.readings.iter().map(|reading| Reading::new(index, reading, plan, outbox)).collect();
        let json = sensor.json_topic.as_ref();
        let json =
            json.map(|topic| outbox.add(SlotSpec { lasting: false, ..SlotSpec::state(topic, plan.qos, plan.retain) }));
        let mut state_slot = |topic: &Option<String>| {
            let spec = |topic: &String| SlotSpec::state(topic, plan.qos, plan.retain);
            topic.as_ref().map(|topic| outbox.add(spec(topic)))
        };
        let with_altitude = sensor.readings.iter().any(|reading| reading.quantity == Quantity::Altitude);
        Self {
            number,
            name: sensor.name.clone(),
            readings,
            reference: with_altitude.then(|| Box::new(Reference::new(sensor.sea_level.clone()))),
            reference_told: Stamp::default(),
            clear_when_failing: sensor.clear_when_failing,
            status: state_slot(&sensor.status_topic),
            health: state_slot(&sensor.health_topic),
            json,
            state: State::Unknown,
            told: Told::default(),
            read: Stamp::default(),
        }
    }

    const fn is_failing(&self) -> bool {
        matches!(self.state, State::Failing { .. })
    }

    /// Processes and publishes each reading; the first that is impossible makes the read a failed one.
    fn values(
        &mut self,
        mut values: Values,
        stamp: Stamp,
        outbox: &mut Outbox,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        let mut outcome = Ok(());
        self.read = stamp;
        if let (Some(reference), Some(pressure)) = (&mut self.reference, values.get(Quantity::Pressure)) {
            match reference.altitude(pressure, stamp) {
                Ok((metres, taken)) => {
                    values = values.with(Quantity::Altitude, metres);
                    effects.calibrated.extend(taken.map(|hpa| (self.number, hpa)));
                }
                Err(failure) => outcome = Err(failure),
            }
        }
        let mut published = false;
        let mut histories = Vec::new();
        for reading in &mut self.readings {
            let Some(canonical) = values.get(reading.quantity) else { continue };
            match reading.push(canonical, stamp, &self.name, outbox, effects) {
                Ok(sent) => {
                    published |= sent && reading.in_object;
                    histories.extend(reading.history.zip(reading.value).filter(|_| sent));
                }
                Err(failure) => outcome = Err(failure),
            }
        }
        if let (true, Some(slot)) = (published, self.json) {
            outbox.set_object(slot, &histories, stamp, |into| self.object(stamp, into));
        }
        outcome
    }

    fn clock_set(&mut self, now: Stamp, outbox: &mut Outbox) {
        let Self { name, readings, .. } = self;
        readings.iter_mut().for_each(|reading| reading.clock_set(name, now, outbox));
        let dated = self.read.dated(now);
        if self.is_failing() {
            self.tell_health(now, outbox);
        } else if let (true, Some(slot)) = (dated != self.read, self.json) {
            outbox.correct(slot, |into| self.object(dated, into));
        }
        self.read = dated;
    }

    /// The JSON object with all quantities, as they are now.
    fn object(&self, stamp: Stamp, into: &mut Vec<u8>) {
        let mut object = SensorObject::new(into);
        for reading in self.readings.iter().filter(|reading| reading.in_object) {
            reading.value.into_iter().for_each(|value| object.push(reading.quantity, value, reading.decimals));
        }
        object.finish(stamp.into());
    }

    fn recovered(&mut self, stamp: Stamp, outbox: &mut Outbox) {
        let told_long_ago = stamp.at.since(self.reference_told.at) >= REFERENCE_INTERVAL;
        match std::mem::replace(&mut self.state, State::Ok) {
            State::Ok if self.reference.as_ref().is_some_and(|reference| reference.ages()) && told_long_ago => {
                self.tell_health(stamp, outbox);
            }
            State::Ok => {}
            before => {
                if let State::Failing { failures, since, logged: Some(_), .. } = before {
                    let seconds = stamp.at.since(since.at).as_secs();
                    log::info!(sensor = self.name.as_str(), failures, seconds; "sensor is back");
                }
                self.tell_status(outbox);
                self.tell_health(stamp, outbox);
            }
        }
    }

    fn failed(&mut self, failure: &Failure, stamp: Stamp, outbox: &mut Outbox) {
        let (since, failures, same, logged) = match &self.state {
            State::Failing { since, failures, failure: before, logged } => {
                (*since, failures + 1, before.reason == failure.reason && !(failures + 1).is_power_of_two(), *logged)
            }
            _ => (stamp, 1, false, None),
        };
        log::debug!(sensor = self.name.as_str(), reason:% = failure.reason, detail = failure.detail.as_ref(); "no sample");
        let news = logged.is_none_or(|told| is_news(told, failure.reason));
        let logged = if news { self.log_failure(failure, stamp).or(logged) } else { logged };
        self.state = State::Failing { failure: failure.clone(), since, failures, logged };
        if failures == 1 {
            self.tell_status(outbox);
            self.forget_values(outbox);
        }
        if !same {
            self.tell_health(stamp, outbox);
        }
    }

    /// What a person was told, if anything.
    fn log_failure(&mut self, failure: &Failure, stamp: Stamp) -> Option<Reason> {
        let (sensor, reason, detail) = (self.name.as_str(), failure.reason.as_str(), failure.detail.as_ref());
        match self.told.failure(stamp.at) {
            Tell::Failure => log::warn!(sensor, reason, detail; "sensor fails"),
            Tell::Flapping => log::warn!(sensor, reason, detail; "sensor fails again and again, told less often now"),
            Tell::Nothing => return None,
        }
        Some(failure.reason)
    }

    /// What was measured before a failure does not filter what comes after it.
    fn forget_values(&mut self, outbox: &mut Outbox) {
        for reading in &mut self.readings {
            reading.pipeline.reset();
            reading.value = None;
            if let (true, Some(slot)) = (self.clear_when_failing, reading.slot) {
                outbox.clear(slot);
            }
        }
        if let (true, Some(slot)) = (self.clear_when_failing, self.json) {
            outbox.clear(slot);
        }
    }

    fn tell_status(&self, outbox: &mut Outbox) {
        let Some(slot) = self.status else { return };
        let word: &[u8] = if matches!(self.state, State::Ok) { b"online" } else { b"offline" };
        outbox.set(slot, |into| into.extend_from_slice(word));
    }

    fn tell_health(&mut self, stamp: Stamp, outbox: &mut Outbox) {
        self.reference_told = stamp;
        let Some(slot) = self.health else { return };
        let health = match &self.state {
            State::Failing { failure, since, failures, .. } => {
                let (reason, detail) = (failure.reason, failure.detail.as_ref());
                Health::Failing { reason, detail, since: since.dated(stamp).into(), failures: *failures }
            }
            State::Unknown | State::Ok => Health::Ok,
        };
        let reference = self.reference.as_ref().map(|reference| reference.told(stamp.at)).unwrap_or_default();
        outbox.set(slot, |into| health.encode(reference, into));
    }
}
