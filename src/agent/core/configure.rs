//! The core under a plan: the first one, or another that goes on with whatever is the same.
//!
//! A start is a reload from nothing. Invariant: what is the same before and after is not touched: no line is written, no
//! topic published, no timer restarted for it.

use super::differences::{Differences, Known};
use super::{Core, Slots};
use crate::clock::Stamp;
use crate::dispatch::Dispatch;
use crate::inputs::InputChange;
use crate::line::Level;
use crate::outputs::{self, Earlier, SourceId};
use crate::plan::{Plan, SeaLevel, Source};
use crate::publish::outbox::{Outbox, SlotSpec};
use crate::publish::sensors::Adopted;
use crate::quantity::{Quantity, Unit};
use crate::topic::QoS;
use std::collections::BTreeSet;

/// How a sensor's read compares with the one there was under its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Same {
    /// The same driver with the same options at the same place.
    pub chip: bool,
    /// And just as often.
    pub job: bool,
}

/// What is left to do after a configuration.
#[derive(Debug, Default)]
pub struct Configured {
    /// Sensors to be read now, by number.
    pub read_now: Vec<usize>,
    /// To be subscribed on a connection that stays.
    pub subscribe: Vec<(String, QoS)>,
    /// To be unsubscribed.
    pub unsubscribe: Vec<String>,
    /// What differs from before.
    pub differences: Differences,
}

/// What makes a source the same in two plans.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Identity {
    Topic { topic: String, unit: Option<Unit> },
    Reading { sensor: usize, quantity: Quantity, unit: Unit },
}

impl Core {
    /// The numbers of the plan's sensors, by their place in it: what reports of them are to bear.
    pub fn number(&mut self, plan: &Plan) -> Vec<usize> {
        self.sensors.number(plan)
    }

    /// Takes up a plan whose sensors have these `numbers`; `same` tells, by their place in the plan, how they are read.
    pub fn configure(&mut self, mut plan: Plan, clean_session: bool, numbers: &[usize], same: &[Same]) -> Configured {
        let now = self.clock.stamp();
        let sources = identities(&plan, numbers);
        let (old, new) = (Known { plan: &self.plan, sources: &self.sources }, Known { plan: &plan, sources: &sources });
        let mut configured = Configured { differences: Differences::between(&old, &new), ..Configured::default() };
        self.keep_totals(now);
        self.configure_lines(&plan, &sources, now);
        self.sources = sources;
        self.outbox.reconfigure();
        self.slots = Slots::add(&plan, &mut self.outbox);
        self.configure_sensors(&plan, numbers, same, &mut configured, now);
        self.configure_routes(Dispatch::new(&plan, numbers, clean_session), &mut configured);
        if plan.metrics_interval != self.plan.metrics_interval {
            self.next_metrics = now.at + plan.metrics_interval;
        }
        // Their topics live in the slots now; a thousand sensors would keep them twice.
        plan.sensors = Vec::new();
        self.plan = plan;
        self.tell_states(now);
        self.outbox.reconfigured();
        configured
    }

    fn configure_sensors(
        &mut self,
        plan: &Plan,
        numbers: &[usize],
        same: &[Same],
        configured: &mut Configured,
        now: Stamp,
    ) {
        let same = |index: usize| same.get(index).copied().unwrap_or_default();
        let same_chip = |index| same(index).chip;
        let (adopted, gone) = self.sensors.configure(plan, numbers, &same_chip, &mut self.outbox, now);
        self.restore_elevations(plan, numbers, &adopted, now);
        configured.differences.sensors(plan, &adopted, &gone, &|index| same(index).job);
        let again = numbers.iter().zip(&adopted).filter(|(_, adopted)| adopted.republished);
        configured.read_now = again.map(|(number, _)| *number).collect();
    }

    fn configure_routes(&mut self, dispatch: Dispatch, configured: &mut Configured) {
        let (subscribe, unsubscribe) = dispatch.changes(&self.dispatch);
        configured.subscribe = subscribe.into_iter().map(|(topic, qos)| (topic.to_owned(), qos)).collect();
        configured.unsubscribe = unsubscribe.into_iter().map(str::to_owned).collect();
        self.dispatch = dispatch;
    }

    /// Outputs and inputs: first whatever lets its line go does, then whoever wants one requests it.
    fn configure_lines(&mut self, plan: &Plan, sources: &[Identity], now: Stamp) {
        let kept = self.state.kept();
        let inputs: Vec<_> = plan.inputs.iter().map(|input| input.spec.clone()).collect();
        let counted = self.inputs.specs().filter(|spec| spec.count.is_some()).map(|spec| spec.name.clone());
        let counted: BTreeSet<_> = counted.collect();
        self.inputs.let_go(&inputs);
        let same_source = |old: SourceId, new: SourceId| self.sources.get(old) == Some(&sources[new]);
        let earlier = |output: &str| {
            let last = kept.levels.get(output).copied().and_then(Level::from_percent);
            Earlier { last, was_on: kept.was_on.contains(output) || last.is_some_and(Level::is_on) }
        };
        let outputs = plan.outputs.iter().map(|output| output.spec.clone()).collect();
        self.bank.reconfigure(outputs, &same_source, &earlier, now);
        self.inputs.reconfigure(inputs, now);
        for (index, input) in plan.inputs.iter().enumerate().filter(|(_, input)| !counted.contains(&input.spec.name)) {
            kept.totals.get(&input.spec.name).into_iter().for_each(|total| self.inputs.restore(index, *total));
        }
    }

    /// What has changed, and what a slot that says nothing yet should say.
    fn tell_states(&mut self, now: Stamp) {
        self.outbox.set(self.slots.status, |into| into.extend_from_slice(b"online"));
        self.echo(now);
        for output in 0..self.plan.outputs.len() {
            let level = self.bank.level(output);
            // A line that cannot be had has no state, whatever its topic said of another line.
            if level.is_some() != self.outbox.is_known(self.slots.outputs[output]) {
                self.echo_output(outputs::Change { output, level }, now);
            }
        }
        for input in 0..self.plan.inputs.len() {
            let state = self.inputs.state(input).filter(|_| !self.outbox.is_known(self.slots.inputs[input]));
            state.into_iter().for_each(|state| self.echo_input(InputChange { input, state }, now));
        }
    }

    /// Sea-level pressures taken earlier in this boot, for the same elevation, hold on.
    fn restore_elevations(&mut self, plan: &Plan, numbers: &[usize], adopted: &[Adopted], now: Stamp) {
        let fresh = (0..plan.sensors.len()).filter(|index| adopted[*index].fresh_reference);
        for (index, sensor) in fresh.map(|index| (index, &plan.sensors[index])) {
            let Some(kept) = self.state.kept().sea_level.get(&sensor.name) else { continue };
            let same = SeaLevel::KnownElevation(kept.elevation_m) == sensor.sea_level && kept.boot_id == self.boot_id;
            let hpa = kept.sea_level_hpa;
            if same && !self.sensors.sea_level(numbers[index], hpa, now, &mut self.outbox) {
                log::warn!(sensor = sensor.name.as_str(), hpa; "kept sea-level pressure out of range, ignored");
            }
        }
    }
}

impl Slots {
    fn add(plan: &Plan, outbox: &mut Outbox) -> Self {
        let status = outbox.add_first(SlotSpec::state(&plan.status_topic, QoS::AtLeastOnce, true));
        let mut add = |topic: &str, qos, retain| outbox.add(SlotSpec::state(topic, qos, retain));
        Self {
            status,
            outputs: plan.outputs.iter().map(|o| add(&o.topic, o.qos, o.retain)).collect(),
            inputs: plan.inputs.iter().map(|i| add(&i.topic, i.qos, i.retain)).collect(),
            metrics: plan.metrics_topic.as_ref().map(|topic| add(topic, plan.qos, plan.retain)),
        }
    }
}

/// What the plan's sources are, by their number.
fn identities(plan: &Plan, numbers: &[usize]) -> Vec<Identity> {
    let identity = |source: &Source| match source {
        Source::Topic { topic, unit } => Identity::Topic { topic: topic.clone(), unit: *unit },
        Source::Reading { sensor, quantity } => {
            let reading = plan.sensors[*sensor].readings.iter().find(|reading| reading.quantity == *quantity);
            let unit = reading.expect("a plan has the readings its outputs follow").process.unit;
            Identity::Reading { sensor: numbers[*sensor], quantity: *quantity, unit }
        }
    };
    plan.sources.iter().map(identity).collect()
}
