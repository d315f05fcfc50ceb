//! Who publishes on a topic, who is commanded by it, who follows it, and which of these exclude each other.

use super::report::Report;
use crate::config::{Origin, Severity};
use crate::quantity::Quantity;
use std::collections::HashMap;
use std::fmt;

/// What a topic is used for. Names are the configuration's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner<'a> {
    Status,
    Get,
    Metrics,
    Reading(&'a str, Quantity),
    History(&'a str, Quantity),
    SensorObject(&'a str),
    SensorStatus(&'a str),
    Health(&'a str),
    SeaLevel(&'a str),
    Input(&'a str),
    Output(&'a str),
    Set(&'a str),
    Reply(&'a str),
    Followed(&'a str),
}

/// Which way messages go, and what they do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Published,
    Commanded,
    Followed,
}

impl Owner<'_> {
    const fn role(self) -> Role {
        match self {
            Self::Get | Self::Set(_) => Role::Commanded,
            Self::SeaLevel(_) | Self::Followed(_) => Role::Followed,
            _ => Role::Published,
        }
    }
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status => f.write_str("the gateway's status"),
            Self::Get => f.write_str("the command to read everything"),
            Self::Metrics => f.write_str("the metrics"),
            Self::Reading(sensor, quantity) => write!(f, "the {quantity} of sensor `{sensor}`"),
            Self::History(sensor, quantity) => write!(f, "the {quantity} history of sensor `{sensor}`"),
            Self::SensorObject(sensor) => write!(f, "all values of sensor `{sensor}`"),
            Self::SensorStatus(sensor) => write!(f, "the status of sensor `{sensor}`"),
            Self::Health(sensor) => write!(f, "the health of sensor `{sensor}`"),
            Self::SeaLevel(sensor) => write!(f, "the sea-level pressure for sensor `{sensor}`"),
            Self::Input(input) => write!(f, "input `{input}`"),
            Self::Output(output) => write!(f, "the state of output `{output}`"),
            Self::Set(output) => write!(f, "the commands of output `{output}`"),
            Self::Reply(output) => write!(f, "the replies of output `{output}`"),
            Self::Followed(output) => write!(f, "what output `{output}` follows or requires"),
        }
    }
}

/// Every use of every topic, in the order they were made.
#[derive(Default)]
pub(super) struct Claims<'a> {
    claims: Vec<(String, Owner<'a>, &'a Origin)>,
}

impl<'a> Claims<'a> {
    /// Records that `owner` uses `topic`; `origin` is where it says so, or whom it belongs to.
    pub fn add(&mut self, topic: &str, owner: Owner<'a>, origin: &'a Origin) {
        self.claims.push((topic.to_owned(), owner, origin));
    }

    /// Reports every topic that cannot serve all who want it.
    pub fn check(&self, report: &mut Report) {
        let mut users: HashMap<&str, Vec<Owner<'_>>> = HashMap::with_capacity(self.claims.len());
        for (topic, owner, origin) in &self.claims {
            let earlier = users.entry(topic).or_default();
            // One is enough to tell, and a fault more than a warning.
            let worst = earlier
                .iter()
                .filter_map(|other| conflict(topic, *other, *owner))
                .min_by_key(|(severity, ..)| *severity == Severity::Warning);
            match worst {
                Some((Severity::Fault, message, help)) => report.fault(origin, message, help),
                Some((Severity::Warning, message, help)) => report.warning(origin, message, help),
                None => {}
            }
            earlier.push(*owner);
        }
    }

    /// The topics in use.
    #[cfg(test)]
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.claims.iter().map(|(topic, ..)| topic.as_str())
    }
}

/// What is wrong with one topic serving both, and the remedy.
fn conflict(topic: &str, one: Owner<'_>, other: Owner<'_>) -> Option<(Severity, String, String)> {
    use Role::{Commanded, Followed, Published};
    let (one, other) = if other.role() < one.role() { (other, one) } else { (one, other) };
    let message = match (one.role(), other.role()) {
        (Followed, Followed) => return None,
        (Published, Followed) => {
            let message = format!("`{topic}` comes from this board itself: {other} is {one}");
            let help = match one {
                Owner::Reading(sensor, quantity) => format!("`reading = \"{sensor}.{quantity}\"` needs no server"),
                _ => "follow what comes from elsewhere".to_owned(),
            };
            return Some((Severity::Warning, message, help));
        }
        (Published, Published) => format!("two things publish on `{topic}`: {one} and {other}"),
        (Published, Commanded) => format!("`{topic}` is both published and commanded: {one} and {other}"),
        _ => format!("`{topic}` has two meanings here: {one} and {other}"),
    };
    let help = "give one of them a `topic` of its own, or change a template in `[topics]`";
    Some((Severity::Fault, message, help.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Severity::{Fault, Warning};

    #[test]
    fn what_excludes_each_other_is_told() {
        let cases = [
            (Owner::Status, Owner::Input("door"), Some(Fault)),
            (Owner::Set("fan"), Owner::Output("fan"), Some(Fault)),
            (Owner::Set("fan"), Owner::Set("pump"), Some(Fault)),
            (Owner::Get, Owner::Followed("fan"), Some(Fault)),
            (Owner::Reading("roof", Quantity::Altitude), Owner::Followed("fan"), Some(Warning)),
            (Owner::SeaLevel("roof"), Owner::Followed("fan"), None),
        ];
        for (one, other, severity) in cases {
            for (one, other) in [(one, other), (other, one)] {
                let origin = Origin::default();
                let mut claims = Claims::default();
                claims.add("a", one, &origin);
                claims.add("b", Owner::Metrics, &origin);
                claims.add("a", other, &origin);
                let mut report = Report::default();
                claims.check(&mut report);
                let told = report.finish().unwrap_or_else(|faults| faults);
                assert_eq!(told.first().map(|d| d.severity), severity, "{one} / {other}");
                assert!(told.len() <= 1);
            }
        }
    }
}
