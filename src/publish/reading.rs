//! One reading on its way from a value to its slot: process, format, and what outputs of this board follow.

use super::history::History;
use super::outbox::{Outbox, SlotId, SlotSpec};
use super::sensors::Effects;
use crate::clock::Stamp;
use crate::outputs::SourceId;
use crate::payload::{Facts, Format};
use crate::plan::{self, Plan, Source};
use crate::process::{Outcome, Pipeline};
use crate::quantity::{Quantity, Unit};
use crate::sample::{Failure, Reason};

/// One quantity of one sensor.
pub(super) struct Reading {
    pub(super) quantity: Quantity,
    pub(super) pipeline: Pipeline,
    pub(super) format: Format,
    pub(super) decimals: u8,
    pub(super) unit: Unit,
    pub(super) slot: Option<SlotId>,
    /// Its history, where the sensor's JSON object is all that is published of it.
    pub(super) history: Option<u32>,
    /// Part of the sensor's JSON object.
    pub(super) in_object: bool,
    pub(super) source: Vec<SourceId>,
    /// The last processed value.
    pub(super) value: Option<f64>,
    /// What the payload of its slot tells, if that tells a time.
    told: Option<(f64, Stamp)>,
}

impl Reading {
    /// Adds the reading's slot, or its history where it has no topic of its own. `sensor` is its index in the plan.
    pub(super) fn new(sensor: usize, reading: &plan::Reading, plan: &Plan, outbox: &mut Outbox) -> Self {
        let unit = reading.process.unit;
        let history = reading.history.clone().map(|topic| History { topic, decimals: reading.decimals, unit });
        let series = history.map(|history| outbox.series(&history));
        let (slot, history) = match &reading.topic {
            Some(topic) => {
                let (qos, retain) = (reading.qos, reading.retain);
                let spec = SlotSpec { topic: topic.as_str().into(), qos, retain, series, lasting: false };
                (Some(outbox.add(spec)), None)
            }
            None => (None, series),
        };
        let wanted = Source::Reading { sensor, quantity: reading.quantity };
        Self {
            quantity: reading.quantity,
            pipeline: Pipeline::new(&reading.process),
            format: reading.format.clone(),
            decimals: reading.decimals,
            unit,
            slot,
            history,
            in_object: reading.in_object,
            source: (0..plan.sources.len()).filter(|id| plan.sources[*id] == wanted).collect(),
            value: None,
            told: None,
        }
    }

    /// Goes on with what the same quantity had before: its filters where they are the same. Whether nothing of it changed.
    pub(super) fn inherit(&mut self, before: Self) -> bool {
        let shown = |reading: &Self| (reading.slot, reading.history, reading.decimals, reading.in_object);
        let same_look = shown(self) == shown(&before) && self.format == before.format;
        let same_process = self.pipeline.spec() == before.pipeline.spec();
        if same_process {
            (self.pipeline, self.value) = (before.pipeline, before.value);
        }
        if same_look {
            self.told = before.told;
        }
        same_look && same_process
    }

    /// Processes one value; whether it was published.
    pub(super) fn push(
        &mut self,
        canonical: f64,
        stamp: Stamp,
        sensor: &str,
        outbox: &mut Outbox,
        effects: &mut Effects,
    ) -> Result<bool, Failure> {
        let (value, publish) = match self.pipeline.push(canonical, stamp.at) {
            Outcome::Publish(value) => (value, true),
            Outcome::Unchanged(value) => (value, false),
            Outcome::OutOfRange { value } => {
                let detail = format!("{} is {value} {}, outside its limits", self.quantity, self.unit);
                return Err(Failure::new(Reason::OutOfRange, detail));
            }
            Outcome::NotFinite => {
                return Err(Failure::new(Reason::OutOfRange, format!("{} is not a number", self.quantity)));
            }
        };
        log::debug!(sensor, quantity:% = self.quantity, value, unit = self.unit.symbol(), published = publish; "sample");
        self.value = Some(value);
        effects.followed.extend(self.source.iter().map(|source| (*source, value)));
        if let (true, Some(slot)) = (publish, self.slot) {
            self.told = self.format.tells_time().then_some((value, stamp));
            outbox.set_reading(slot, value, stamp, |into| self.encode(value, stamp, sensor, into));
        }
        Ok(publish)
    }

    fn encode(&self, value: f64, stamp: Stamp, sensor: &str, into: &mut Vec<u8>) {
        let Self { quantity, unit, decimals, .. } = *self;
        self.format.encode(value, &Facts { sensor, quantity, unit, decimals, when: stamp.into() }, into);
    }

    /// The clock has been set: what was told of its last value has another date now.
    pub(super) fn clock_set(&mut self, sensor: &str, now: Stamp, outbox: &mut Outbox) {
        let Some((value, stamp)) = self.told else { return };
        let dated = stamp.dated(now);
        if let (true, Some(slot)) = (dated != stamp, self.slot) {
            self.told = Some((value, dated));
            outbox.correct(slot, |into| self.encode(value, dated, sensor, into));
        }
    }
}
