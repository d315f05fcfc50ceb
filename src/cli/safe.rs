//! `board2mqtt safe`: every output to its safe level, without a daemon and without a configuration that can be read.
//!
//! It works from the table the daemon left in its runtime folder; only where there is none that can be read is the
//! configuration asked. Invariant: no line is let go before every one was driven.

use super::arguments::Arguments;
use super::{Failed, count, setup, tell};
use crate::agent::SAFE_TABLE;
use crate::board::Board;
use crate::clock::{Clock, SystemClock};
use crate::command::state_text;
use crate::outputs::SafeTable;
use anyhow::{Context, anyhow};
use std::io::Write;
use std::sync::Arc;

/// Drives them. Every output is tried; one that fails does not stop the others.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let (table, board) = match left_behind() {
        Ok(Some(found)) => found,
        Ok(None) => configured(arguments)?,
        Err(error) => {
            tell(&format!("board2mqtt: the table the daemon left is of no use, the configuration is asked: {error:#}"));
            configured(arguments)?
        }
    };
    let all = table.apply(&*board);
    let mut failures = 0;
    for applied in &all {
        let state = state_text(applied.safe, applied.pwm);
        match &applied.line {
            // Nobody need be listening: what counts is done.
            Ok(_) => drop(writeln!(std::io::stdout(), "{} {state}", applied.name)),
            Err(failure) => {
                tell(&format!("board2mqtt: output {}: {failure}", applied.name));
                failures += 1;
            }
        }
    }
    match failures {
        0 => Ok(()),
        n => Err(anyhow!("{} could not be driven to the safe level", count(n, "output")).into()),
    }
}

/// The table the daemon left, and the board it was about.
fn left_behind() -> anyhow::Result<Option<(SafeTable, Arc<dyn Board>)>> {
    let Some(text) = setup::in_runtime_folder(SAFE_TABLE, |path| std::fs::read_to_string(path))? else {
        return Ok(None);
    };
    let table = SafeTable::from_json(&text).with_context(|| SAFE_TABLE.to_owned())?;
    let board = setup::board_of(table.board(), table.trace())?;
    Ok(Some((table, board)))
}

/// What the configuration says.
fn configured(arguments: &Arguments) -> Result<(SafeTable, Arc<dyn Board>), Failed> {
    let checked = setup::load(arguments)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let board = setup::board(&checked, &clock)?;
    let specs: Vec<_> = checked.plan.outputs.iter().map(|output| output.spec.clone()).collect();
    Ok((SafeTable::of(&specs, &*board), board))
}
