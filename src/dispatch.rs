//! The flow from MQTT to lines: message → decode → guard → actuate; the echo is the state the [`Bank`] then reports.
//!
//! Topics are matched as a whole, so a message on any other topic is nobody's. What does not concern an output is handed
//! back as an [`Action`].

use crate::clock::Stamp;
use crate::command::{self, Reply};
use crate::mqtt::Message;
use crate::outputs::{Bank, SourceId};
use crate::payload;
use crate::plan::{Plan, SeaLevel, Source};
use crate::quantity::Unit;
use crate::topic::QoS;
use std::collections::HashMap;

/// This payload on the `get` topic takes known elevations anew.
const RETAKE_ELEVATION: &[u8] = b"calibrate";

/// What a message asks for beyond the outputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// An answer to a command, to be published on the output's reply topic.
    Reply {
        /// The output's index.
        output: usize,
        /// JSON.
        payload: Vec<u8>,
    },
    /// A sea-level pressure for a sensor, in hPa.
    SeaLevel {
        /// The sensor's number.
        sensor: usize,
        /// hPa.
        hpa: f64,
    },
    /// Everything is to be read and published again.
    Get {
        /// Known elevations are to be taken anew as well.
        retake_elevation: bool,
    },
    /// Somebody has published `offline` on our status topic.
    Contradicted,
    /// Our own `online` has come back from the server.
    Confirmed,
}

enum Target {
    Set { output: usize, pwm: bool },
    Source { id: SourceId, unit: Option<Unit> },
    SeaLevel { sensor: usize, unit: Unit },
    Get,
    Status,
}

impl Target {
    const fn sea_level(&self) -> Option<usize> {
        match self {
            Self::SeaLevel { sensor, .. } => Some(*sensor),
            _ => None,
        }
    }
}

/// Which topic concerns what.
#[derive(Default)]
pub struct Dispatch {
    targets: HashMap<String, Vec<Target>>,
    topics: Vec<(String, QoS)>,
}

impl Dispatch {
    /// The routes of a plan whose sensors have these `numbers`. `clean_session` tells whether a server may keep messages for
    /// us while we are away: then everything is subscribed at QoS 0, so that nothing old is replayed.
    pub fn new(plan: &Plan, numbers: &[usize], clean_session: bool) -> Self {
        let mut routes = Self { targets: HashMap::new(), topics: Vec::new() };
        let limit = if clean_session { QoS::ExactlyOnce } else { QoS::AtMostOnce };
        let status = limit.min(QoS::AtLeastOnce);
        routes.add(&plan.status_topic, status, Target::Status);
        for (output, planned) in plan.outputs.iter().enumerate() {
            let pwm = planned.spec.drive.is_pwm();
            routes.add(&planned.set, limit.min(QoS::AtLeastOnce), Target::Set { output, pwm });
        }
        for (id, source) in plan.sources.iter().enumerate() {
            if let Source::Topic { topic, unit } = source {
                routes.add(topic, limit.min(QoS::AtLeastOnce), Target::Source { id, unit: *unit });
            }
        }
        for (&sensor, planned) in numbers.iter().zip(&plan.sensors) {
            if let SeaLevel::Topic { topic, unit, .. } = &planned.sea_level {
                routes.add(topic, limit.min(QoS::AtLeastOnce), Target::SeaLevel { sensor, unit: *unit });
            }
        }
        if let Some(topic) = &plan.get_topic {
            routes.add(topic, limit.min(QoS::AtLeastOnce), Target::Get);
        }
        routes
    }

    fn add(&mut self, topic: &str, qos: QoS, target: Target) {
        let targets = self.targets.entry(topic.to_owned()).or_default();
        if targets.is_empty() {
            self.topics.push((topic.to_owned(), qos));
        }
        targets.push(target);
    }

    /// What to subscribe to on every connect.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&str, QoS)> {
        self.topics.iter().map(|(topic, qos)| (topic.as_str(), *qos))
    }

    /// What to subscribe to, and what no longer, where these routes take the place of `before`.
    ///
    /// Among the first is a filter that was there already where a sensor newly takes its sea-level pressure from it: only
    /// then does the server give out the retained one again.
    pub fn changes<'a>(&'a self, before: &'a Self) -> (Vec<(&'a str, QoS)>, Vec<&'a str>) {
        let heard = |topic: &str, number: usize| {
            before
                .targets
                .get(topic)
                .is_some_and(|targets| targets.iter().any(|target| target.sea_level() == Some(number)))
        };
        let is_new = |(topic, _): &(&str, QoS)| {
            let mut sensors = self.targets[*topic].iter().filter_map(Target::sea_level);
            !before.targets.contains_key(*topic) || sensors.any(|sensor| !heard(topic, sensor))
        };
        let added = self.subscriptions().filter(is_new).collect();
        let gone = before.topics.iter().filter(|(topic, _)| !self.targets.contains_key(topic));
        (added, gone.map(|(topic, _)| topic.as_str()).collect())
    }

    /// Carries out one message.
    pub fn message(&self, message: &Message, bank: &mut Bank, now: Stamp, actions: &mut Vec<Action>) {
        let Some(targets) = self.targets.get(&message.topic) else {
            log::debug!(topic = message.topic.as_str(); "message on a topic nobody asked for");
            return;
        };
        for target in targets {
            match target {
                Target::Set { output, pwm } => actions.push(set(*output, *pwm, message, bank, now)),
                Target::Source { id, unit } => source(*id, *unit, message, bank, now),
                Target::SeaLevel { sensor, unit } => {
                    let hpa = number(message, Some(*unit)).map(|value| unit.to_canonical(value));
                    actions.extend(hpa.map(|hpa| Action::SeaLevel { sensor: *sensor, hpa }));
                }
                Target::Get if message.retain => {}
                Target::Get => {
                    let retake_elevation = message.payload.as_ref() == RETAKE_ELEVATION;
                    actions.push(Action::Get { retake_elevation });
                }
                Target::Status if message.payload.as_ref() == b"offline" => actions.push(Action::Contradicted),
                Target::Status if message.payload.as_ref() == b"online" => actions.push(Action::Confirmed),
                Target::Status => {}
            }
        }
    }
}

/// A command: decode → guard → actuate; its reply.
fn set(output: usize, pwm: bool, message: &Message, bank: &mut Bank, now: Stamp) -> Action {
    let (id, outcome) = match command::parse(&message.payload, pwm) {
        Ok(command) => {
            let outcome = bank.command(output, &command, message.retain, now);
            (command.id, outcome)
        }
        Err(malformed) => (malformed.id, Err(malformed.refusal)),
    };
    if let Err(refusal) = outcome {
        log::debug!(topic = message.topic.as_str(), reason = refusal.as_str(); "command refused");
    }
    let reply = Reply { id, refusal: outcome.err(), state: bank.level(output), pwm };
    let mut payload = Vec::with_capacity(64);
    reply.encode(&mut payload);
    Action::Reply { output, payload }
}

/// A followed value. A retained one may be of any age, and nothing moves for a value of unknown age.
fn source(id: SourceId, unit: Option<Unit>, message: &Message, bank: &mut Bank, now: Stamp) {
    if message.retain {
        log::debug!(topic = message.topic.as_str(); "retained value not followed, its age is unknown");
    } else if let Some(value) = number(message, unit) {
        bank.value(id, value, now);
    }
}

/// The number in a payload, in `unit`.
fn number(message: &Message, unit: Option<Unit>) -> Option<f64> {
    let (value, written) = match payload::number(&message.payload) {
        Ok(number) => number,
        Err(error) => {
            log::debug!(topic = message.topic.as_str(), error:% = error; "payload is not a number");
            return None;
        }
    };
    match (written, unit) {
        (Some(written), Some(unit)) if written.quantity() == unit.quantity() => {
            Some(unit.from_canonical(written.to_canonical(value)))
        }
        (Some(written), Some(unit)) => {
            log::debug!(topic = message.topic.as_str(), unit = written.symbol(), expected = unit.symbol(); "payload has a unit of another quantity");
            None
        }
        _ => Some(value),
    }
}
