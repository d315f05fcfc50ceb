//! What outputs, inputs and sensors have become: to their topics, and to the file of what outlives a restart.

use super::Core;
use crate::clock::Stamp;
use crate::command::state_text;
use crate::inputs::{InputChange, State};
use crate::outputs::{self, Initial};
use crate::payload;
use crate::state::Calibration;

impl Core {
    /// Publishes what outputs and inputs have become, and keeps what is to outlive a restart.
    pub(super) fn echo(&mut self, now: Stamp) {
        let mut changes = std::mem::take(&mut self.scratch.outputs);
        self.bank.changes(&mut changes);
        for change in changes.drain(..) {
            self.echo_output(change, now);
        }
        self.scratch.outputs = changes;
        let mut changes = std::mem::take(&mut self.scratch.inputs);
        self.inputs.changes(&mut changes);
        for change in changes.drain(..) {
            self.echo_input(change, now);
        }
        self.scratch.inputs = changes;
    }

    pub(super) fn echo_output(&mut self, change: outputs::Change, now: Stamp) {
        let slot = self.slots.outputs[change.output];
        let output = &self.plan.outputs[change.output].spec;
        let Some(level) = change.level else {
            // What the line is, nobody knows: no state is better than a wrong one.
            self.outbox.clear(slot);
            return;
        };
        let pwm = output.drive.is_pwm();
        self.outbox.set(slot, |into| into.extend_from_slice(state_text(level, pwm).as_bytes()));
        let last = output.initial == Initial::Last && !self.stopping;
        // How long ago it went off, nobody can tell after a restart, so `min_off` counts anew then.
        let was_on = output.limits.min_off.is_some() && level.is_on();
        if last || was_on {
            self.state.change(now.at, |kept| {
                kept.levels.extend(last.then(|| (output.name.clone(), level.percent())));
                kept.was_on.extend(was_on.then(|| output.name.clone()));
            });
        }
    }

    pub(super) fn echo_input(&mut self, change: InputChange, now: Stamp) {
        let slot = self.slots.inputs[change.input];
        match change.state {
            State::Level(active) => {
                let word: &[u8] = if active { b"ON" } else { b"OFF" };
                self.outbox.set(slot, |into| into.extend_from_slice(word));
            }
            State::Count(total) => {
                let spec = &self.plan.inputs[change.input].spec;
                let decimals = spec.count.as_ref().map_or(0, |count| decimals_of(count.per_pulse));
                self.outbox.set(slot, |into| payload::decimal(total, decimals, into));
                self.keep_total(change.input, total, now);
            }
        }
    }

    /// Keeps the totals as they are: they are published less often, and a restart is to find all pulses.
    pub(super) fn keep_totals(&mut self, now: Stamp) {
        for input in 0..self.plan.inputs.len() {
            self.inputs.total(input).into_iter().for_each(|total| self.keep_total(input, total, now));
        }
    }

    fn keep_total(&mut self, input: usize, total: f64, now: Stamp) {
        let name = &self.plan.inputs[input].spec.name;
        if self.state.kept().totals.get(name) != Some(&total) {
            self.state.change(now.at, |kept| _ = kept.totals.insert(name.clone(), total));
        }
    }

    pub(super) fn keep_elevation(&mut self, sensor: usize, sea_level_hpa: f64, now: Stamp) {
        let Some(elevation_m) = self.sensors.known_elevation(sensor) else { return };
        let calibration = Calibration { boot_id: self.boot_id.clone(), elevation_m, sea_level_hpa };
        let name = self.sensors.name(sensor).to_owned();
        log::info!(sensor = name.as_str(), sea_level_hpa; "sea-level pressure taken from the known elevation");
        self.state.change(now.at, |kept| drop(kept.sea_level.insert(name, calibration)));
    }
}

/// The digits after the point that a total of such pulses can have.
fn decimals_of(per_pulse: f64) -> u8 {
    let text = per_pulse.to_string();
    text.split_once('.').map_or(0, |(_, digits)| digits.len().min(9) as u8)
}
