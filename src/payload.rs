//! Both ways of encoding: readings to payloads, and other people's payloads to numbers.
//!
//! Everything is appended to a buffer of the caller's, so that a reading costs no allocation. What is written is never
//! `-0`, NaN or infinity; a date nobody knows yet is `null` with the `uptime_ms` beside it.

mod health;
mod history;
mod number;
mod sensor;

pub use health::{Health, Reference};
pub use history::{History, MAX_HISTORY, MAX_HISTORY_RECORD};
pub use number::{MAX_NUMBER, NumberError, number};
pub use sensor::SensorObject;

use crate::clock::{Stamp, Wall};
use crate::quantity::{Quantity, Unit};
use crate::topic::{Piece, TopicError, parse_template};
use std::io::Write;

/// What [`write!`] into a `Vec` cannot do.
const TO_MEMORY: &str = "writing to memory succeeds";

/// How a reading is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A decimal number.
    #[default]
    Plain,
    /// `{"value":…,"unit":…,"time":…}`
    Json,
    /// Text with `{value} {unit} {time} {sensor} {quantity}`.
    Template(Vec<Piece>),
}

/// The fields a payload template may name.
pub const FIELDS: [&str; 5] = ["value", "unit", "time", "sensor", "quantity"];

/// What is known of a reading beside its value.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The sensor's name.
    pub sensor: &'a str,
    /// What is measured.
    pub quantity: Quantity,
    /// The unit of the value.
    pub unit: Unit,
    /// Digits after the point.
    pub decimals: u8,
    /// When it was measured.
    pub when: When,
}

impl Format {
    /// `plain`, `json`, or else a template; doubled braces stand for themselves.
    ///
    /// # Errors
    /// A field that is not one of [`FIELDS`], or a brace left open.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        match text {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => parse_template(text, &FIELDS).map(Self::Template),
        }
    }

    /// Whether payloads say when a value was measured.
    pub fn tells_time(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Json => true,
            Self::Template(pieces) => {
                pieces.iter().any(|piece| matches!(piece, Piece::Field(field) if *field == "time"))
            }
        }
    }

    /// Appends a reading's payload to `into`. In a template an unknown date is the word `unknown`.
    pub fn encode(&self, value: f64, facts: &Facts<'_>, into: &mut Vec<u8>) {
        match self {
            Self::Plain => decimal(value, facts.decimals, into),
            Self::Json => {
                into.extend_from_slice(b"{\"value\":");
                decimal(value, facts.decimals, into);
                write!(into, ",\"unit\":\"{}\",", facts.unit).expect(TO_MEMORY);
                facts.when.encode("time", "uptime_ms", into);
                into.push(b'}');
            }
            Self::Template(pieces) => pieces.iter().for_each(|piece| match piece {
                Piece::Text(text) => into.extend_from_slice(text.as_bytes()),
                Piece::Field(field) => facts.encode_field(field, value, into),
            }),
        }
    }
}

impl Facts<'_> {
    fn encode_field(&self, field: &str, value: f64, into: &mut Vec<u8>) {
        match (field, self.when.wall) {
            ("value", _) => decimal(value, self.decimals, into),
            ("unit", _) => into.extend_from_slice(self.unit.symbol().as_bytes()),
            ("sensor", _) => into.extend_from_slice(self.sensor.as_bytes()),
            ("quantity", _) => into.extend_from_slice(self.quantity.name().as_bytes()),
            (_, Some(wall)) => write!(into, "{wall}").expect(TO_MEMORY),
            (_, None) => into.extend_from_slice(b"unknown"),
        }
    }
}

/// When something was measured, as payloads tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// The date, where it is known.
    pub wall: Option<Wall>,
    /// Milliseconds of the boot it was measured in.
    pub uptime_ms: u64,
    /// Which boot that was.
    pub boot: Boot,
}

/// Which boot an uptime belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// The one this gateway runs in.
    This,
    /// An earlier one, by its identity where that is still known.
    Earlier(Option<u128>),
}

impl When {
    /// Appends `"time":"…"`, or `"time":null,"uptime_ms":…`, under the names given. An uptime of an earlier boot has
    /// `"boot":"…"` beside it, spelled as the kernel does.
    fn encode(&self, time: &str, uptime: &str, into: &mut Vec<u8>) {
        match self.wall {
            Some(wall) => write!(into, "\"{time}\":\"{wall}\""),
            None => write!(into, "\"{time}\":null,\"{uptime}\":{}", self.uptime_ms),
        }
        .expect(TO_MEMORY);
        match (self.wall, self.boot) {
            (Some(_), _) | (None, Boot::This) => {}
            (None, Boot::Earlier(None)) => into.extend_from_slice(b",\"boot\":null"),
            (None, Boot::Earlier(Some(id))) => {
                let id = format!("{id:032x}");
                let (a, b, c, d, e) = (&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
                write!(into, ",\"boot\":\"{a}-{b}-{c}-{d}-{e}\"").expect(TO_MEMORY);
            }
        }
    }
}

impl From<Stamp> for When {
    fn from(stamp: Stamp) -> Self {
        Self { wall: stamp.wall, uptime_ms: stamp.at.as_nanos() / 1_000_000, boot: Boot::This }
    }
}

/// Appends `value` with so many digits after the point, never as a negative zero.
///
/// A value that is not finite, which processing lets none be, becomes `null`: nobody takes that for a number.
pub fn decimal(value: f64, decimals: u8, into: &mut Vec<u8>) {
    if !value.is_finite() {
        into.extend_from_slice(b"null");
        return;
    }
    let start = into.len();
    write!(into, "{value:.*}", usize::from(decimals)).expect(TO_MEMORY);
    let written = &into[start..];
    // Rounding decides what is zero, so the digits are asked, not the value.
    if written[0] == b'-' && written[1..].iter().all(|byte| matches!(byte, b'0' | b'.')) {
        into.remove(start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Instant;
    use proptest::prelude::*;

    fn facts(wall: Option<&str>) -> Facts<'static> {
        let at = Instant::from_nanos(1_234_567_890);
        let stamp = Stamp { at, wall: wall.map(|text| Wall::parse(text).expect("a date")) };
        Facts { sensor: "roof", quantity: Quantity::Altitude, unit: Unit::Metre, decimals: 1, when: stamp.into() }
    }

    fn encoded(format: &str, value: f64, facts: &Facts<'_>) -> String {
        let mut into = Vec::new();
        Format::parse(format).expect("a format").encode(value, facts, &mut into);
        String::from_utf8(into).expect("text")
    }

    #[test]
    fn plain_is_a_decimal_number_without_a_negative_zero() {
        for (value, decimals, expected) in [
            (30.5, 1, "30.5"),
            (30.55, 1, "30.6"),
            (-0.0, 0, "0"),
            (-0.04, 1, "0.0"),
            (-0.05, 1, "-0.1"),
            (-0.5, 0, "0"),
            (-0.6, 0, "-1"),
            (1e21, 0, "1000000000000000000000"),
            (1e-12, 9, "0.000000000"),
        ] {
            let facts = Facts { decimals, ..facts(None) };
            assert_eq!(encoded("plain", value, &facts), expected);
        }
    }

    #[test]
    fn json_is_the_documented_object() {
        let known = facts(Some("2026-01-31T12:00:00.250Z"));
        assert_eq!(encoded("json", 30.5, &known), r#"{"value":30.5,"unit":"m","time":"2026-01-31T12:00:00.250Z"}"#);
        let unknown = r#"{"value":0.0,"unit":"m","time":null,"uptime_ms":1234}"#;
        assert_eq!(encoded("json", -0.0, &facts(None)), unknown);
    }

    #[test]
    fn templates_have_every_field() {
        let known = facts(Some("2026-01-31T12:00:00.250Z"));
        assert_eq!(encoded("{value} feet", 100.0, &Facts { decimals: 0, ..known }), "100 feet");
        let all = "{sensor}/{quantity}={value}{unit}@{time}";
        assert_eq!(encoded(all, 1.0, &known), "roof/altitude=1.0m@2026-01-31T12:00:00.250Z");
        assert_eq!(encoded("{time}", 1.0, &facts(None)), "unknown");
        assert_eq!(encoded(r#"{{"v":{value}}}"#, 1.0, &known), r#"{"v":1.0}"#);
        assert!(Format::parse("{values}").is_err());
    }

    #[test]
    fn encoding_allocates_nothing_once_the_buffer_has_grown() {
        let mut into = Vec::with_capacity(256);
        let before = into.as_ptr();
        for format in ["plain", "json", "{value} {unit} {time}"] {
            let format = Format::parse(format).expect("a format");
            into.clear();
            format.encode(-273.15, &facts(Some("2026-01-31T12:00:00.250Z")), &mut into);
        }
        assert_eq!(into.as_ptr(), before);
    }

    proptest! {
        #[test]
        fn numbers_are_plain_decimals_that_parse_back(value in any::<f64>(), decimals in 0u8..10) {
            let mut into = Vec::new();
            decimal(value, decimals, &mut into);
            let text = String::from_utf8(into).expect("text");
            if value.is_finite() {
                let back: f64 = text.parse().expect("a number");
                prop_assert!(!(back == 0.0 && back.is_sign_negative()));
                prop_assert!((back - value).abs() <= 0.5 * 10f64.powi(-i32::from(decimals)) + value.abs() * 1e-15);
                prop_assert!(text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-')));
            } else {
                prop_assert_eq!(text, "null");
            }
        }
    }
}
