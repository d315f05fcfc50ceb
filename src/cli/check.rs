//! `board2mqtt check`: is this configuration good? `--probe`: and does the hardware agree?

use super::arguments::Arguments;
use super::setup::Checked;
use super::{Failed, count, probe, setup, tell, write_out};
use crate::clock::{Clock, SystemClock};
use crate::plan;
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
    if probe { probe::run(plan, &setup::board(&checked, &clock)?, &clock) } else { Ok(()) }
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
