//! `board2mqtt check`: is this configuration good? `--probe`: and does the hardware agree?

use super::arguments::Arguments;
use super::setup::Checked;
use super::{Failed, count, setup, tell, write_out};
use crate::board::Board;
use crate::clock::{Clock, SystemClock};
use crate::command::state_text;
use crate::line::Initial;
use crate::plan::{self, Plan};
use crate::poll::Job;
use crate::sample::Failure;
use anyhow::anyhow;
use std::fs::File;
use std::sync::Arc;

/// Validates the configuration without hardware, or with it.
pub fn run(arguments: &Arguments, probe: bool) -> Result<(), Failed> {
    let checked = setup::load(arguments)?;
    checked.warnings.iter().for_each(|warning| tell(warning.trim_end()));
    missing_files(&checked).iter().for_each(|missing| tell(&format!("warning: {missing}; `run` needs it")));
    let (plan, path) = (&checked.plan, checked.path.display());
    let sensors = count(plan.sensors.len(), "sensor");
    let inputs = count(plan.inputs.len(), "input");
    let outputs = count(plan.outputs.len(), "output");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    setup::check_board(&checked, &clock)?;
    write_out(&format!("{path}: good: {sensors}, {inputs}, {outputs}\n"))?;
    if probe { probe_all(plan, &*setup::board(&checked, &clock)?, &clock) } else { Ok(()) }
}

/// Secrets and certificates that are not here: perhaps they are on the board.
fn missing_files(checked: &Checked) -> Vec<String> {
    let mqtt = &checked.config.mqtt;
    let secret = plan::session(&checked.config).err().map(|error| format!("{:#}", anyhow!(error)));
    let certificates = [&mqtt.ca, &mqtt.cert, &mqtt.key].into_iter().flatten().filter_map(|path| {
        let error = File::open(&path.value).err()?;
        Some(format!("{} cannot be read: {error}", path.value.display()))
    });
    secret.into_iter().chain(certificates).collect()
}

/// Opens each part once and tells of each as soon as it is known. An output is taken over as it is found: nothing moves.
fn probe_all(plan: &Plan, board: &dyn Board, clock: &Arc<dyn Clock>) -> Result<(), Failed> {
    let mut failed = 0;
    let mut tell = |what: String, outcome: Result<String, Failure>| {
        failed += usize::from(outcome.is_err());
        let outcome = outcome.unwrap_or_else(|failure| failure.to_string());
        write_out(&format!("  {what}: {outcome}\n"))
    };
    for (index, sensor) in plan.sensors.iter().enumerate() {
        let place = sensor.place.as_ref().map_or("no bus".to_owned(), ToString::to_string);
        let outcome = Job::new(index, sensor).open(board, clock).and_then(|mut opened| opened.read());
        tell(
            format!("sensor {} ({} at {place})", sensor.name, sensor.driver.name),
            outcome.map(|_| "answers".to_owned()),
        )?;
    }
    for input in &plan.inputs {
        let spec = &input.spec;
        let active =
            board.input(&spec.line, spec.active, spec.bias, spec.edges()).and_then(|mut line| line.is_active());
        let word = |active| if active { "ON" } else { "OFF" }.to_owned();
        tell(format!("input {} ({})", spec.name, spec.line), active.map(word))?;
    }
    for output in &plan.outputs {
        let spec = &output.spec;
        let level = board.output(&spec.drive, Initial::Keep).and_then(|mut line| line.level());
        let word = |level| state_text(level, spec.drive.is_pwm()).into_owned();
        tell(format!("output {} ({})", spec.name, spec.drive), level.map(word))?;
    }
    let all = plan.sensors.len() + plan.inputs.len() + plan.outputs.len();
    match failed {
        0 => Ok(()),
        n => Err(anyhow!("{n} of {} of the hardware cannot be used as configured", count(all, "part")).into()),
    }
}
