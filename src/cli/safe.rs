//! `board2mqtt safe`: every output to its safe level, without a daemon and without a configuration that can be read.
//!
//! It works from the table the daemon left in its runtime folder; only where there is none is the configuration asked.

use super::arguments::Arguments;
use super::{Failed, setup};
use crate::agent::SAFE_TABLE;
use crate::clock::{Clock, SystemClock};
use crate::outputs::SafeTable;
use anyhow::Context;
use std::sync::Arc;

/// Drives them. Every output is tried; one that fails does not stop the others.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let table = setup::runtime_folder().map(|folder| folder.join(SAFE_TABLE)).filter(|path| path.exists());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (table, board) = match table {
        Some(path) => {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let table = SafeTable::from_json(&text).with_context(|| path.display().to_string())?;
            // Whatever the board is, its lines are reached the plain way; the configuration may say it is a simulated one.
            let board = match setup::load(arguments) {
                Ok(checked) => setup::board(&checked, &clock)?,
                Err(_) => setup::plain_board(),
            };
            (table, board)
        }
        None => {
            let checked = setup::load(arguments)?;
            let specs: Vec<_> = checked.plan.outputs.iter().map(|output| output.spec.clone()).collect();
            let table = SafeTable::of(&specs);
            (table, setup::board(&checked, &clock)?)
        }
    };
    let mut failures = 0;
    // The lines are held until every one has been driven: closing one may let it go.
    let all = table.apply(&*board);
    for applied in &all {
        match &applied.line {
            Ok(_) => println!("{} {}", applied.name, applied.safe),
            Err(failure) => {
                eprintln!("board2mqtt: output {}: {failure}", applied.name);
                failures += 1;
            }
        }
    }
    match failures {
        0 => Ok(()),
        n => Err(anyhow::anyhow!("{n} outputs could not be driven to their safe level").into()),
    }
}
