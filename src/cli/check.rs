//! `board2mqtt check`: is this configuration good? `--probe`: and does the hardware agree?

use super::arguments::Arguments;
use super::{Failed, setup, write_out};
use crate::board::Board;
use crate::clock::{Clock, SystemClock};
use crate::line::Initial;
use crate::plan::Plan;
use crate::poll::Job;
use std::fmt::Write;
use std::sync::Arc;

/// Validates the configuration without hardware, or with it.
pub fn run(arguments: &Arguments, probe: bool) -> Result<(), Failed> {
    let checked = setup::load(arguments)?;
    checked.warnings.iter().for_each(|warning| eprintln!("{}", warning.trim_end()));
    let plan = &checked.plan;
    let mut text = format!(
        "{}: good: {}, {}, {}\n",
        checked.path.display(),
        count(plan.sensors.len(), "sensor"),
        count(plan.inputs.len(), "input"),
        count(plan.outputs.len(), "output")
    );
    let mut missing = 0;
    if probe {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let board = setup::board(&checked, &clock)?;
        for (what, outcome) in probe_all(plan, &*board, &clock) {
            missing += usize::from(outcome.is_err());
            let outcome = outcome.unwrap_or_else(|failure| failure);
            writeln!(text, "  {what}: {outcome}").expect("a string takes what is written");
        }
    }
    write_out(&text)?;
    match missing {
        0 => Ok(()),
        1 => Err(anyhow::anyhow!("one part of the hardware is missing").into()),
        n => Err(anyhow::anyhow!("{n} parts of the hardware are missing").into()),
    }
}

/// `1 sensor`, `2 sensors`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Opens each part once. An output is requested as it is found, so nothing moves.
fn probe_all(plan: &Plan, board: &dyn Board, clock: &Arc<dyn Clock>) -> Vec<(String, Result<String, String>)> {
    let sensors = plan.sensors.iter().enumerate().map(|(index, sensor)| {
        let job = Job {
            sensor: index,
            driver: sensor.driver,
            place: sensor.place.clone(),
            options: sensor.options.clone(),
            interval: sensor.interval,
            deadline: sensor.deadline,
        };
        let place = sensor.place.as_ref().map_or("no bus".to_owned(), ToString::to_string);
        let outcome = job.open(board, clock).and_then(|mut opened| opened.read());
        (
            format!("sensor {} ({} at {place})", sensor.name, sensor.driver.name),
            outcome.map(|_| "answers".to_owned()).map_err(|failure| failure.to_string()),
        )
    });
    let inputs = plan.inputs.iter().map(|input| {
        let spec = &input.spec;
        let outcome = board.input(&spec.line, spec.active, spec.bias).and_then(|mut line| line.is_active());
        let outcome = outcome.map(|active| if active { "ON" } else { "OFF" }.to_owned());
        (format!("input {} ({})", spec.name, spec.line), outcome.map_err(|failure| failure.to_string()))
    });
    let outputs = plan.outputs.iter().map(|output| {
        let spec = &output.spec;
        let outcome = board.output(&spec.drive, Initial::Keep).and_then(|mut line| line.level());
        let outcome = outcome.map(|level| format!("{level} %"));
        (format!("output {} ({})", spec.name, spec.drive), outcome.map_err(|failure| failure.to_string()))
    });
    sensors.chain(inputs).chain(outputs).collect()
}
