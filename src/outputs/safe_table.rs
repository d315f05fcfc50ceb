//! Every output's line and safe level, and the board they are on, as the agent leaves them behind so that
//! `board2mqtt safe` needs no configuration.
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

/// The board, and the outputs' names, lines and safe levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SafeTable {
    version: u32,
    board: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    outputs: Vec<Entry>,
}

/// What became of one output; the line is held for as long as this lives.
pub struct Applied {
    /// The output's name.
    pub name: String,
    /// The level it was to take.
    pub safe: Level,
    /// Whether levels between OFF and ON mean something.
    pub pwm: bool,
    /// The held line, or why it could not be requested.
    pub line: Result<Box<dyn Output>, Failure>,
}

impl SafeTable {
    /// The table of these outputs on this board.
    pub fn of(specs: &[Spec], board: &dyn Board) -> Self {
        let entry = |spec: &Spec| Entry { name: spec.name.clone(), drive: spec.drive.clone(), safe: spec.limits.safe };
        let (kind, trace) = (board.kind().to_owned(), board.trace().map(str::to_owned));
        Self { version: VERSION, board: kind, trace, outputs: specs.iter().map(entry).collect() }
    }

    /// The word of [`Board::kind`] for the board the lines are on.
    pub fn board(&self) -> &str {
        &self.board
    }

    /// Where a simulated board is to note the writes.
    pub fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
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
            pwm: entry.drive.is_pwm(),
            line: board.output(&entry.drive, Initial::Level(entry.safe)),
        };
        off.into_iter().chain(on).map(request).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FakeBoard, switch};
    use super::*;
    use crate::line::{Active, LineId, PwmId};

    fn specs() -> Vec<Spec> {
        let mut fan = switch("fan");
        fan.limits.safe = Level::ON;
        fan.drive = Drive::Pwm {
            channel: PwmId::Channel { chip: "pwmchip0".to_owned(), channel: 1 },
            frequency_hz: 25_000,
            active: Active::Low,
        };
        let mut valve = switch("valve");
        valve.drive =
            Drive::Switch { line: LineId::Offset { chip: "gpiochip1".to_owned(), offset: 6 }, active: Active::Low };
        vec![fan, switch("beacon"), valve]
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let table = SafeTable::of(&specs(), &FakeBoard::default());
        assert_eq!(SafeTable::from_json(&table.to_json()).expect("its own text"), table);
        assert_eq!(
            SafeTable::of(&specs()[1..2], &FakeBoard::default()).to_json(),
            r#"{"version":1,"board":"fake","outputs":[{"name":"beacon","drive":{"switch":{"line":{"name":"beacon"},"active":"high"}},"safe":0}]}"#
        );
    }

    #[test]
    fn anything_else_is_refused_whole() {
        let good = SafeTable::of(&specs(), &FakeBoard::default()).to_json();
        for (find, replace) in [
            ("\"version\":1", "\"version\":2"),
            ("\"safe\":10000", "\"safe\":10001"),
            ("\"safe\":10000", "\"safe\":-1"),
            ("\"offset\":6", "\"offset\":6,\"extra\":1"),
            ("\"name\":\"fan\",", ""),
            ("\"board\":\"fake\",", ""),
            ("\"active\":\"low\"", "\"active\":\"LOW\""),
            ("{\"version\"", "{\"extra\":0,\"version\""),
        ] {
            let bad = good.replacen(find, replace, 1);
            assert_ne!(bad, good, "{find}");
            assert!(SafeTable::from_json(&bad).is_err(), "{bad}");
        }
        for end in 0..good.len() {
            assert!(SafeTable::from_json(&good[..end]).is_err(), "torn at {end}");
        }
        assert!(matches!(SafeTable::from_json(&" ".repeat(MAX_LEN + 1)), Err(TableError::TooLong(_))));
    }

    #[test]
    fn every_line_is_led_to_safe_off_before_on_whatever_fails() {
        let board = FakeBoard::default();
        board.break_line("beacon", true);
        let applied = SafeTable::of(&specs(), &FakeBoard::default()).apply(&board);
        let outcomes: Vec<_> = applied.iter().map(|one| (one.name.as_str(), one.safe, one.line.is_ok())).collect();
        assert_eq!(outcomes, [("beacon", Level::OFF, false), ("valve", Level::OFF, true), ("fan", Level::ON, true)]);
        assert_eq!(board.writes("gpiochip1:6"), [Level::OFF]);
        assert_eq!(board.writes("pwmchip0:1"), [Level::ON]);
    }
}
