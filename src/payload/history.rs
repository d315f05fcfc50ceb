//! Arrays of what was measured during an outage: `[{"time":…,"value":…,"unit":…},…]`, oldest first, bounded in size.

use super::{TO_MEMORY, When, decimal};
use crate::quantity::Unit;
use std::io::Write;

/// The longest array in bytes.
pub const MAX_HISTORY: usize = 16 * 1024;

/// No single record is longer than this in bytes: the longest finite number has 309 digits and nine after the point.
pub const MAX_HISTORY_RECORD: usize = 450;

/// Writes one array record by record, until it is full.
#[must_use = "the array is complete only after `finish`"]
pub struct History<'a> {
    into: &'a mut Vec<u8>,
    start: usize,
    records: usize,
    unit: Unit,
    decimals: u8,
}

impl<'a> History<'a> {
    /// Opens an array at the end of `into`, of values in that unit with so many digits after the point.
    pub fn new(into: &'a mut Vec<u8>, unit: Unit, decimals: u8) -> Self {
        let start = into.len();
        into.push(b'[');
        Self { into, start, records: 0, unit, decimals }
    }

    /// Adds a record and tells whether it found room; if not, nothing is written and the array is to be finished.
    ///
    /// An empty array has room for any record.
    #[must_use = "a record that found no room belongs into the next array"]
    pub fn push(&mut self, when: When, value: f64) -> bool {
        let before = self.into.len();
        self.into.extend_from_slice(if self.records == 0 { b"{" } else { b",{" });
        when.encode("time", "uptime_ms", self.into);
        self.into.extend_from_slice(b",\"value\":");
        decimal(value, self.decimals, self.into);
        write!(self.into, ",\"unit\":\"{}\"}}", self.unit).expect(TO_MEMORY);
        let has_room = self.into.len() - self.start < MAX_HISTORY;
        if has_room {
            self.records += 1;
        } else {
            self.into.truncate(before);
        }
        has_room
    }

    /// How many records it holds.
    pub const fn len(&self) -> usize {
        self.records
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Closes the array.
    pub fn finish(self) {
        self.into.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::super::Boot;
    use super::*;
    use crate::clock::Wall;
    use proptest::prelude::*;

    #[test]
    fn records_are_the_documented_objects() {
        let mut into = b"before ".to_vec();
        let mut history = History::new(&mut into, Unit::Foot, 0);
        assert!(history.is_empty());
        let undated = |boot| When { wall: None, uptime_ms: 1009, boot };
        let dated = When { wall: Wall::parse("2026-01-31T12:00:00Z"), ..undated(Boot::Earlier(None)) };
        assert!(history.push(dated, 100.2));
        assert!(history.push(undated(Boot::This), -0.2));
        assert!(history.push(undated(Boot::Earlier(Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef))), 3.0));
        assert!(history.push(undated(Boot::Earlier(None)), 4.0));
        assert_eq!(history.len(), 4);
        history.finish();
        let expected = concat!(
            r#"before [{"time":"2026-01-31T12:00:00.000Z","value":100,"unit":"ft"},"#,
            r#"{"time":null,"uptime_ms":1009,"value":0,"unit":"ft"},"#,
            r#"{"time":null,"uptime_ms":1009,"boot":"01234567-89ab-cdef-0123-456789abcdef","value":3,"unit":"ft"},"#,
            r#"{"time":null,"uptime_ms":1009,"boot":null,"value":4,"unit":"ft"}]"#
        );
        assert_eq!(String::from_utf8(into).expect("text"), expected);
    }

    #[test]
    fn an_empty_array_is_one() {
        let mut into = Vec::new();
        History::new(&mut into, Unit::One, 0).finish();
        assert_eq!(into, b"[]");
    }

    proptest! {
        #[test]
        fn arrays_are_json_within_the_limit(values in prop::collection::vec(-1e308..1e308f64, 1..400), decimals in 0u8..10, wall in prop::option::of(0i64..4_000_000_000_000)) {
            let mut into = Vec::new();
            let mut history = History::new(&mut into, Unit::MillimetreOfMercury, decimals);
            let when = When { wall: wall.map(Wall), uptime_ms: u64::MAX, boot: Boot::Earlier(Some(u128::MAX)) };
            let kept = values.iter().take_while(|value| history.push(when, **value)).count();
            prop_assert_eq!(history.len(), kept);
            history.finish();
            prop_assert!(into.len() <= MAX_HISTORY);
            prop_assert!(kept == values.len() || into.len() > MAX_HISTORY - MAX_HISTORY_RECORD);
            prop_assert!(kept >= 1);
            let array: Vec<serde_json::Value> = serde_json::from_slice(&into).expect("JSON");
            prop_assert_eq!(array.len(), kept);
        }
    }
}
