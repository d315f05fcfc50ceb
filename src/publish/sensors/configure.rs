//! The sensors of a plan: the first one, or another that goes on with what stays of the one before.
//!
//! A sensor keeps its number for as long as one of its name is configured. Invariant: a number is never given twice, so
//! that what comes late for a sensor that is gone is nobody's.

use super::{Sensor, Sensors, State};
use crate::clock::Stamp;
use crate::plan::{self, Plan};
use crate::publish::outbox::Outbox;
use std::collections::HashMap;

/// What became of one sensor of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// There was one of its name before.
    pub known: bool,
    /// It goes on, and what is published of it is not as it was: it is to be read now.
    pub republished: bool,
    /// What its altitude is worked out from is not known from before.
    pub fresh_reference: bool,
}

impl Sensors {
    /// The numbers of the plan's sensors, by their place in it.
    pub fn number(&mut self, plan: &Plan) -> Vec<usize> {
        let known: HashMap<&str, usize> = self.sensors.iter().map(|sensor| (&*sensor.name, sensor.number)).collect();
        let next = &mut self.next;
        let mut fresh = || {
            *next += 1;
            *next - 1
        };
        plan.sensors.iter().map(|sensor| known.get(&*sensor.name).copied().unwrap_or_else(&mut fresh)).collect()
    }

    /// Takes the plan's sensors up, under `numbers`, with a slot for each of their topics. One that was there before and
    /// has the `same_chip`, by its place in the plan, goes on as it was as far as nothing of it has changed.
    ///
    /// Gives what became of each, and the names of those that are gone.
    pub fn configure(
        &mut self,
        plan: &Plan,
        numbers: &[usize],
        same_chip: &dyn Fn(usize) -> bool,
        outbox: &mut Outbox,
        now: Stamp,
    ) -> (Vec<Adopted>, Vec<String>) {
        let old = std::mem::take(&mut self.sensors).into_iter();
        let mut old: HashMap<usize, Sensor> = old.map(|sensor| (sensor.number, sensor)).collect();
        let mut adopt = |(index, planned): (usize, &plan::Sensor)| {
            let mut sensor = Sensor::new(index, numbers[index], planned, plan, outbox);
            let before = old.remove(&sensor.number);
            let mut adopted = Adopted { known: before.is_some(), republished: false, fresh_reference: true };
            if let Some(before) = before.filter(|_| same_chip(index)) {
                (adopted.republished, adopted.fresh_reference) = sensor.inherit(before, outbox, now);
            }
            self.sensors.push(sensor);
            adopted
        };
        let adopted = plan.sensors.iter().enumerate().map(&mut adopt).collect();
        self.sensors.sort_unstable_by_key(|sensor| sensor.number);
        self.sensors.shrink_to_fit();
        self.failing = self.sensors.iter().filter(|sensor| sensor.is_failing()).count();
        let mut gone: Vec<_> = old.into_values().collect();
        gone.sort_unstable_by_key(|sensor| sensor.number);
        (adopted, gone.into_iter().map(|sensor| sensor.name).collect())
    }
}

impl Sensor {
    /// Goes on with what the same chip had before; whether anything is published otherwise now, and whether its altitude's
    /// reference is another one.
    fn inherit(&mut self, before: Self, outbox: &mut Outbox, now: Stamp) -> (bool, bool) {
        let shown = |sensor: &Self| (sensor.json, sensor.status, sensor.health, sensor.readings.len());
        let mut same = shown(self) == shown(&before);
        let source = |sensor: &Self| sensor.reference.as_ref().map(|reference| reference.source().clone());
        same &= source(self) == source(&before);
        let fresh_reference = match (&mut self.reference, &before.reference) {
            (Some(reference), Some(before)) => !reference.inherit(before),
            _ => true,
        };
        (self.state, self.told, self.reference_told) = (before.state, before.told, before.reference_told);
        self.read = before.read;
        for old in before.readings {
            match self.readings.iter_mut().find(|reading| reading.quantity == old.quantity) {
                Some(reading) => same &= reading.inherit(old),
                None => same = false,
            }
        }
        if !same {
            self.readings.iter_mut().for_each(|reading| reading.pipeline.publish_next());
            if !matches!(self.state, State::Unknown) {
                self.tell_status(outbox);
                self.tell_health(now, outbox);
            }
        }
        let clears = self.clear_when_failing && !before.clear_when_failing;
        if clears && self.is_failing() {
            self.forget_values(outbox);
        }
        (!same, fresh_reference)
    }
}
