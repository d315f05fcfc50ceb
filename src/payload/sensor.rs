//! One JSON object with all the quantities of a sensor: `{"altitude":30.5,"pressure":1009.6,…,"time":…}`.

use super::{TO_MEMORY, When, decimal};
use crate::quantity::Quantity;
use std::io::Write;

/// Writes the object member by member. A quantity that is not to be had is left out.
#[must_use = "the object is complete only after `finish`"]
pub struct SensorObject<'a> {
    into: &'a mut Vec<u8>,
}

impl<'a> SensorObject<'a> {
    /// Opens the object at the end of `into`.
    pub fn new(into: &'a mut Vec<u8>) -> Self {
        into.push(b'{');
        Self { into }
    }

    /// Adds a quantity, in its published unit, with so many digits after the point.
    pub fn push(&mut self, quantity: Quantity, value: f64, decimals: u8) {
        write!(self.into, "\"{quantity}\":").expect(TO_MEMORY);
        decimal(value, decimals, self.into);
        self.into.push(b',');
    }

    /// Adds the time and closes the object.
    pub fn finish(self, when: When) {
        when.encode("time", "uptime_ms", self.into);
        self.into.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::super::Boot;
    use super::*;
    use crate::clock::Wall;

    #[test]
    fn all_quantities_and_one_time() {
        let mut into = Vec::new();
        let mut object = SensorObject::new(&mut into);
        object.push(Quantity::Altitude, 30.51, 1);
        object.push(Quantity::Pressure, 1009.6, 1);
        object.finish(When { wall: Wall::parse("2026-01-31T12:00:00Z"), uptime_ms: 5, boot: Boot::This });
        let expected = r#"{"altitude":30.5,"pressure":1009.6,"time":"2026-01-31T12:00:00.000Z"}"#;
        assert_eq!(String::from_utf8(into).expect("text"), expected);
    }

    #[test]
    fn without_a_date_the_uptime() {
        let mut into = Vec::new();
        SensorObject::new(&mut into).finish(When { wall: None, uptime_ms: 5, boot: Boot::This });
        assert_eq!(into, br#"{"time":null,"uptime_ms":5}"#);
    }
}
