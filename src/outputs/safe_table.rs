//! Every output's line and safe level, as the agent leaves them behind so that `board2mqtt safe` needs no configuration.
//!
//! It reads and writes JSON text, not files. Invariant: text that is not exactly such a table is refused whole.

use super::Spec;
use crate::board::{Board, Output};
use crate::line::{Drive, Initial, Level};
use crate::sample::Failure;
use serde::{Deserialize, Serialize};

/// Longer tables are refused unread, in bytes.
const MAX_LEN: usize = 1 << 20;

/// The format's version; another one is refused.
const VERSION: u32 = 1;

/// What is wrong with a table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Longer than any table the agent writes.
    #[error("the safe table has {0} bytes, at most 1048576 are allowed")]
    TooLong(usize),
    /// Not the JSON the agent writes.
    #[error("the safe table is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// Written by another version.
    #[error("the safe table has version {0}, this program knows version 1")]
    Version(u32),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    drive: Drive,
    safe: Level,
}

/// The outputs' names, lines and safe levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SafeTable {
    version: u32,
    outputs: Vec<Entry>,
}

/// What became of one output; the line is held for as long as this lives.
pub struct Applied {
    /// The output's name.
    pub name: String,
    /// The level it was to take.
    pub safe: Level,
    /// The held line, or why it could not be requested.
    pub line: Result<Box<dyn Output>, Failure>,
}

impl SafeTable {
    /// The table of these outputs.
    pub fn of(specs: &[Spec]) -> Self {
        let entry = |spec: &Spec| Entry { name: spec.name.clone(), drive: spec.drive.clone(), safe: spec.limits.safe };
        Self { version: VERSION, outputs: specs.iter().map(entry).collect() }
    }

    /// The table as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a table of strings and numbers is always JSON")
    }

    /// Reads what [`SafeTable::to_json`] wrote.
    ///
    /// # Errors
    /// Text over 1 MiB, anything but the known keys with values in range, another version.
    pub fn from_json(text: &str) -> Result<Self, TableError> {
        if text.len() > MAX_LEN {
            return Err(TableError::TooLong(text.len()));
        }
        let table: Self = serde_json::from_str(text)?;
        if table.version == VERSION { Ok(table) } else { Err(TableError::Version(table.version)) }
    }

    /// Requests every line with its safe level: those that are off when safe first, so that nothing is on together
    /// with what it is interlocked with. One that fails stops no other.
    pub fn apply(&self, board: &dyn Board) -> Vec<Applied> {
        let (on, off): (Vec<_>, Vec<_>) = self.outputs.iter().partition(|entry| entry.safe.is_on());
        let request = |entry: &Entry| Applied {
            name: entry.name.clone(),
            safe: entry.safe,
            line: board.output(&entry.drive, Initial::Level(entry.safe)),
        };
        off.into_iter().chain(on).map(request).collect()
    }
}
