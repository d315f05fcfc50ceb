//! The health of a sensor: `{"state":"ok"}`, or `{"state":"failing","reason":"nack","since":"…","detail":"…","failures":12}`
//! with a sentence for people in `detail`.
//!
//! A sensor with an altitude that depends on a reference which may grow old (a topic, an elevation not yet taken) has
//! `reference_age_s` too: seconds since its sea-level pressure was learnt, `null` while none has been.

use super::{TO_MEMORY, When};
use crate::sample::Reason;
use std::io::Write;
use std::time::Duration;

/// What altitude is computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reference {
    /// A fixed number, or there is no altitude: nothing is said.
    #[default]
    Fixed,
    /// None has been learnt yet: `null`.
    Missing,
    /// Learnt so long ago.
    Age(Duration),
}

/// A sensor's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health<'a> {
    /// The last read gave values.
    Ok,
    /// It did not.
    Failing {
        /// Why.
        reason: Reason,
        /// The cause and its remedy, for people.
        detail: &'a str,
        /// When the first read failed; without a date `"since":null,"since_uptime_ms":…`.
        since: When,
        /// How many reads have failed since.
        failures: u64,
    },
}

impl Health<'_> {
    /// Appends the JSON object to `into`.
    pub fn encode(&self, reference: Reference, into: &mut Vec<u8>) {
        match self {
            Self::Ok => into.extend_from_slice(b"{\"state\":\"ok\""),
            Self::Failing { reason, detail, since, failures } => {
                write!(into, "{{\"state\":\"failing\",\"reason\":\"{reason}\",").expect(TO_MEMORY);
                since.encode("since", "since_uptime_ms", into);
                into.extend_from_slice(b",\"detail\":");
                serde_json::to_writer(&mut *into, detail).expect(TO_MEMORY);
                write!(into, ",\"failures\":{failures}").expect(TO_MEMORY);
            }
        }
        match reference {
            Reference::Fixed => {}
            Reference::Missing => into.extend_from_slice(b",\"reference_age_s\":null"),
            Reference::Age(age) => write!(into, ",\"reference_age_s\":{}", age.as_secs()).expect(TO_MEMORY),
        }
        into.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::super::Boot;
    use super::*;
    use crate::clock::Wall;

    fn encoded(health: Health<'_>, reference: Reference) -> String {
        let mut into = Vec::new();
        health.encode(reference, &mut into);
        String::from_utf8(into).expect("text")
    }

    #[test]
    fn the_documented_objects() {
        let since = When { wall: Wall::parse("2026-01-31T12:00:00Z"), uptime_ms: 7, boot: Boot::This };
        let detail = "its id is 0x55, not \"0x58\"";
        let failing = Health::Failing { reason: Reason::WrongChip, detail, since, failures: 12 };
        assert_eq!(encoded(Health::Ok, Reference::Fixed), r#"{"state":"ok"}"#);
        assert_eq!(
            encoded(failing, Reference::Fixed),
            r#"{"state":"failing","reason":"wrong-chip","since":"2026-01-31T12:00:00.000Z","detail":"its id is 0x55, not \"0x58\"","failures":12}"#
        );
    }

    #[test]
    fn references_tell_their_age() {
        let age = Reference::Age(Duration::from_millis(61_900));
        assert_eq!(encoded(Health::Ok, age), r#"{"state":"ok","reference_age_s":61}"#);
        assert_eq!(encoded(Health::Ok, Reference::Missing), r#"{"state":"ok","reference_age_s":null}"#);
    }

    #[test]
    fn without_a_date_the_uptime() {
        let since = When { wall: None, uptime_ms: 7, boot: Boot::This };
        let failing = Health::Failing { reason: Reason::Nack, detail: "nobody", since, failures: 1 };
        assert_eq!(
            encoded(failing, Reference::Fixed),
            r#"{"state":"failing","reason":"nack","since":null,"since_uptime_ms":7,"detail":"nobody","failures":1}"#
        );
    }
}
