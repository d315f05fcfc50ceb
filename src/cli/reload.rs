//! What `run` does on SIGHUP before anything is applied: reads the file again, judges it as `check` does, and refuses what
//! only a start can change.
//!
//! Invariant: whoever is told of a refusal in one line finds the whole report on stderr, as at the start.

use super::setup::{self, Checked};
use super::{Failed, Refused, tell};
use crate::agent::reload::{Configuration, Read, Refusal};
use crate::board::simulated;
use crate::clock::{Clock, SystemClock};
use crate::config::{BoardKind, Config, Diagnostic, Origin, Simulated};
use std::path::PathBuf;
use std::sync::Arc;

/// What only a start can change.
struct Fixed {
    board: BoardKind,
    simulated: Simulated,
    buffer: Option<PathBuf>,
}

impl Fixed {
    fn of(config: &Config) -> Self {
        Self { board: config.board.value, simulated: config.simulated.clone(), buffer: config.buffer.path.clone() }
    }

    /// A fault for each of them that `new` wants otherwise.
    fn faults(&self, new: &Config) -> Vec<Diagnostic> {
        let place = |given: Option<&Origin>| given.cloned().unwrap_or_default();
        let (script, trace) = (&new.simulated.script, &new.simulated.trace);
        let differ = [
            (self.board != new.board.value, "`kind` in [board]", new.board.origin.clone()),
            (self.simulated.script != *script, "`script` in [simulated]", place(script.as_ref().map(|s| &s.origin))),
            (self.simulated.trace != *trace, "`trace` in [simulated]", place(trace.as_ref().map(|t| &t.origin))),
            (self.buffer != new.buffer.path, "`path` in [buffer]", Origin::default()),
        ];
        let differ = differ.into_iter().filter(|(differs, ..)| *differs);
        let fault = |(_, key, origin)| {
            Diagnostic::fault(&origin, format!("{key} is not as it was when the daemon started: that needs a restart"))
                .help("systemctl restart board2mqtt, or put it back")
        };
        differ.map(fault).collect()
    }
}

/// The configuration a daemon was started with, to be read again.
pub struct Again {
    path: PathBuf,
    fixed: Fixed,
}

impl Again {
    /// From the file as it was at the start.
    pub fn new(started_with: &Checked) -> Self {
        Self { path: started_with.path.clone(), fixed: Fixed::of(&started_with.config) }
    }

    /// What reads it; a simulated board is given what a new configuration has.
    pub fn on(self, board: Option<simulated::Control>) -> Arc<Read> {
        Arc::new(move || {
            let checked = setup::load_file(&self.path);
            checked.and_then(|checked| configuration(checked, &self.fixed, board.as_ref())).map_err(refuse)
        })
    }
}

/// Shows the whole report, and hands its beginning on.
fn refuse(failed: Failed) -> Refusal {
    let Refused { text, first, faults } = match failed {
        Failed::Configuration(refused) => refused,
        Failed::Usage(wrong) => wrong.into(),
        Failed::AtRunTime(error) => format!("{error:#}").into(),
    };
    log::error!(faults; "configuration refused, the one before goes on");
    tell(text.trim_end());
    Refusal { first, faults }
}

fn configuration(checked: Checked, fixed: &Fixed, board: Option<&simulated::Control>) -> Result<Configuration, Failed> {
    let faults = fixed.faults(&checked.config);
    if !faults.is_empty() {
        return Err(Failed::Configuration(checked.source.report(faults).into()));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    setup::check_board(&checked, &clock)?;
    let session = setup::session(&checked)?;
    checked.warnings.iter().for_each(|warning| tell(warning.trim_end()));
    if let Some(board) = board {
        board.extend(&setup::simulated_parts(&checked));
    }
    Ok(setup::configuration(checked, session))
}
