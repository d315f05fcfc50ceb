//! `board2mqtt check --probe`: opens each part of the hardware once and tells of each as soon as it is known.
//!
//! An output is taken over as it is found, so nothing moves. Each part is asked on a thread of its own that nobody waits
//! for beyond a deadline: one that hangs in the kernel is told like any other failure, and ends with the process.

use super::{Failed, count, write_out};
use crate::board::Board;
use crate::clock::Clock;
use crate::command::state_text;
use crate::line::Initial;
use crate::plan::{Plan, Sensor};
use crate::poll::{Job, Poller};
use crate::sample::{Failure, Reason};
use anyhow::anyhow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What opening a sensor may take beyond the deadline of its reads.
const GRACE: Duration = Duration::from_secs(1);
/// What a line may take. A PWM channel that is new waits a moment for its files' modes.
const LINE_DEADLINE: Duration = Duration::from_secs(3);

/// Asks for every part of the plan.
///
/// # Errors
/// How many parts cannot be used.
pub fn run(plan: &Plan, board: &Arc<dyn Board>, clock: &Arc<dyn Clock>) -> Result<(), Failed> {
    let mut failed = 0;
    let mut tell = |what: String, outcome: Result<String, Failure>| {
        failed += usize::from(outcome.is_err());
        let outcome = outcome.unwrap_or_else(|failure| failure.to_string());
        write_out(&format!("  {what}: {outcome}\n"))
    };
    let mut hanging = BTreeSet::new();
    for sensor in &plan.sensors {
        let place = sensor.place.as_ref().map_or("no bus".to_owned(), ToString::to_string);
        let outcome = ask_sensor(sensor, &mut hanging, board, clock);
        tell(format!("sensor {} ({} at {place})", sensor.name, sensor.driver.name), outcome)?;
    }
    for input in &plan.inputs {
        let (spec, board) = (input.spec.clone(), board.clone());
        let what = format!("input {} ({})", spec.name, spec.line);
        let is_active =
            move || board.input(&spec.line, spec.active, spec.bias, spec.edges()).and_then(|mut line| line.is_active());
        let word = |active| if active { "ON" } else { "OFF" }.to_owned();
        tell(what, within(LINE_DEADLINE, is_active).map(word))?;
    }
    for output in &plan.outputs {
        let (drive, board) = (output.spec.drive.clone(), board.clone());
        let level = move || board.output(&drive, Initial::Keep).and_then(|mut line| line.level());
        let word = |level| state_text(level, output.spec.drive.is_pwm()).into_owned();
        let what = format!("output {} ({})", output.spec.name, output.spec.drive);
        tell(what, within(LINE_DEADLINE, level).map(word))?;
    }
    let all = plan.sensors.len() + plan.inputs.len() + plan.outputs.len();
    match failed {
        0 => Ok(()),
        n => Err(anyhow!("{n} of {} of the hardware cannot be used as configured", count(all, "part")).into()),
    }
}

/// Opens and reads a sensor, unless one on the same bus hangs: a second transfer there would only hang too.
fn ask_sensor(
    sensor: &Sensor,
    hanging: &mut BTreeSet<PathBuf>,
    board: &Arc<dyn Board>,
    clock: &Arc<dyn Clock>,
) -> Result<String, Failure> {
    let bus = sensor.place.as_ref().map(|place| &place.bus);
    if bus.is_some_and(|bus| hanging.contains(bus)) {
        return Err(Failure::new(Reason::Timeout, "not asked, because its bus hangs"));
    }
    let mut poller = Poller::new(vec![Job::new(0, sensor)], board.clone(), clock.clone(), clock.now());
    let clock = clock.clone();
    let read = move || {
        let mut sample = None;
        poller.run(clock.now(), |_, _| (), |report| sample = Some(report.sample));
        Ok(sample.expect("it is due from the start"))
    };
    let sample = within(sensor.deadline + GRACE, read).inspect_err(|_| hanging.extend(bus.cloned()))?;
    sample.map(|_| "answers".to_owned())
}

/// What `ask` finds, or that it does not come to an end.
fn within<T: Send + 'static>(
    deadline: Duration,
    ask: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (answer, answered) = mpsc::sync_channel(1);
    // Nobody listens any more to one that comes too late.
    let asking = std::thread::Builder::new().name("probe".to_owned()).spawn(move || drop(answer.send(ask())));
    if let Err(error) = asking {
        return Err(Failure::new(Reason::Driver, format!("no thread to ask on: {error}")));
    }
    answered.recv_timeout(deadline).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => {
                Failure::new(Reason::Timeout, format!("no answer within {} ms: it hangs", deadline.as_millis()))
            }
            RecvTimeoutError::Disconnected => Failure::new(Reason::Driver, "it panicked"),
        })
    })
}
