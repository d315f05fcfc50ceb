//! One output's line on the board: requested when first driven, driven once it is there.
//!
//! It decides nothing: which level, and when to try again, is the guard's business.

use crate::board::{Board, Output};
use crate::line::{Drive, Initial, Level};
use crate::sample::{Failure, Reason};
use log::{info, warn};

/// A line, or the reason why there is none.
#[derive(Default)]
pub(super) struct Wire {
    output: Option<Box<dyn Output>>,
    failure: Option<Failure>,
}

impl Wire {
    /// Whether the line was requested.
    pub(super) const fn is_open(&self) -> bool {
        self.output.is_some()
    }

    /// Why the line cannot be driven, while it cannot.
    pub(super) const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Drives the line to `level`, or requests it with that level; says whether it worked.
    pub(super) fn put(&mut self, board: &dyn Board, name: &str, drive: &Drive, level: Level) -> bool {
        let outcome = match &mut self.output {
            Some(output) => output.set(level),
            None => board.output(drive, Initial::Level(level)).map(|output| self.output = Some(output)),
        };
        self.note(name, drive, outcome).is_some()
    }

    /// Requests the line as it is found. `Some(None)` if it is ours but its level cannot be told.
    pub(super) fn take_over(&mut self, board: &dyn Board, name: &str, drive: &Drive) -> Option<Option<Level>> {
        let outcome = board.output(drive, Initial::Keep).map(|output| self.output = Some(output));
        self.note(name, drive, outcome)?;
        let found = self.output.as_mut()?.level();
        Some(self.note(name, drive, found))
    }

    /// Keeps the failure and logs when it comes, when its cause changes and when it goes.
    fn note<T>(&mut self, name: &str, drive: &Drive, outcome: Result<T, Failure>) -> Option<T> {
        match outcome {
            Ok(done) => {
                if self.failure.take().is_some() {
                    info!(output = name, line:% = drive; "output can be driven again");
                }
                Some(done)
            }
            Err(failure) => {
                if self.failure.as_ref().is_none_or(|before| before.reason != failure.reason) {
                    warn!(output = name, line:% = drive, reason:% = failure.reason, detail = &*failure.detail; "output cannot be driven");
                }
                // A device that has gone (an unplugged expander) never comes back through the old handle.
                if failure.reason == Reason::Absent {
                    self.output = None;
                }
                self.failure = Some(failure);
                None
            }
        }
    }
}
