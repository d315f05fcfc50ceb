//! The validated plan: the configuration resolved against the registries, every name found, every topic rendered.
//!
//! It owns every fault that shows only when two tables, or a table and a registry, are looked at together; what is wrong
//! within one table the loader has refused. The flows take its types as they are.

mod acl;
mod claims;
mod contradictions;
#[cfg(test)]
mod fixture;
mod input;
mod interlock;
mod judge;
mod lines;
mod output;
mod reading;
mod report;
mod sensor;
mod session;
mod sources;
mod templates;
mod uses;

pub use acl::acl;
pub use judge::{Judged, judge};
pub use session::{PlanError, session};
pub use uses::{Direction, TopicUse, topics};

use crate::config::{Config, Diagnostic, Doubts};
use crate::inputs;
use crate::line::I2cPlace;
use crate::outputs;
use crate::payload::Format;
use crate::process;
use crate::quantity::{Quantity, Unit};
use crate::sensors::{Driver, Options};
use crate::topic::QoS;
use std::time::Duration;

/// Everything the flows need, resolved; the default is a plan of nothing.
#[derive(Default)]
pub struct Plan {
    /// The gateway's name.
    pub name: String,
    /// Retained `online` / `offline`, QoS 1.
    pub status_topic: String,
    /// Any message here: everything is read and published again.
    pub get_topic: Option<String>,
    /// Where metrics go.
    pub metrics_topic: Option<String>,
    /// How often.
    pub metrics_interval: Duration,
    /// QoS of sensor status, health and metrics.
    pub qos: QoS,
    /// Retain flag of sensor status, health and metrics.
    pub retain: bool,
    /// QoS of every subscription: 0 where the server keeps our session, so that nothing old is replayed.
    pub subscribe_qos: QoS,
    /// In the file's order.
    pub sensors: Vec<Sensor>,
    /// In the file's order.
    pub inputs: Vec<Input>,
    /// In the file's order; [`outputs::Limits::interlock`] holds indices into it.
    pub outputs: Vec<Output>,
    /// What outputs follow or require, by [`outputs::SourceId`].
    pub sources: Vec<Source>,
}

/// A sensor and its readings.
pub struct Sensor {
    /// The name in the configuration.
    pub name: String,
    /// Its driver.
    pub driver: &'static Driver,
    /// Where it hangs, for drivers that need a place.
    pub place: Option<I2cPlace>,
    /// The driver's options.
    pub options: Options,
    /// How often it is read.
    pub interval: Duration,
    /// How long a read may take.
    pub deadline: Duration,
    /// Where the sea-level pressure comes from, for sensors with an altitude.
    pub sea_level: SeaLevel,
    /// The retained value is removed while the sensor fails.
    pub clear_when_failing: bool,
    /// What is published of it, in the driver's order, altitude last. Quantities not asked for but followed by an output
    /// are here too, without topics.
    pub readings: Vec<Reading>,
    /// One JSON object with all quantities.
    pub json_topic: Option<String>,
    /// `online` / `offline`
    pub status_topic: Option<String>,
    /// The health JSON.
    pub health_topic: Option<String>,
}

/// Where the sea-level pressure comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum SeaLevel {
    /// hPa.
    Fixed(f64),
    /// A topic that somebody else publishes.
    Topic {
        /// The topic.
        topic: String,
        /// Of plain numbers on it.
        unit: Unit,
        /// Older values are not used.
        stale_after: Option<Duration>,
        /// hPa, while there is none.
        otherwise: Option<f64>,
    },
    /// Metres; the pressure is worked out once per boot.
    KnownElevation(f64),
}

/// One quantity of one sensor.
pub struct Reading {
    /// Which.
    pub quantity: Quantity,
    /// How it is processed.
    pub process: process::Spec,
    /// How it is written.
    pub format: Format,
    /// Digits after the point.
    pub decimals: u8,
    /// Its own topic.
    pub topic: Option<String>,
    /// Part of the sensor's JSON object; what is only followed is not.
    pub in_object: bool,
    /// Where what was measured during an outage goes.
    pub history: Option<String>,
    /// QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
}

/// An input.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// What it is.
    pub spec: inputs::Spec,
    /// Its state, or its total.
    pub topic: String,
    /// QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
}

/// An output.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// What it is and may do.
    pub spec: outputs::Spec,
    /// Its state.
    pub topic: String,
    /// Its commands.
    pub set: String,
    /// The replies.
    pub reply: Option<String>,
    /// QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
}

/// A value that outputs follow or require.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Somebody's topic; values are converted to `unit` where the payload names another.
    Topic {
        /// The topic.
        topic: String,
        /// The unit of plain numbers on it, and of the rules' numbers.
        unit: Option<Unit>,
    },
    /// A reading of this board, processed, in its published unit.
    Reading {
        /// Index into [`Plan::sensors`].
        sensor: usize,
        /// Which quantity.
        quantity: Quantity,
    },
}

/// What every part of the resolution works with.
struct Context<'a> {
    config: &'a Config,
    templates: templates::Templates<'a>,
    claims: claims::Claims<'a>,
    report: report::Report,
}

/// Resolves a configuration, and gives the warnings beside the plan.
///
/// # Errors
/// Every fault and warning there is, in the file's order.
pub fn build(config: &Config) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    build_doubting(config, Doubts::default())
}

/// The same, where some of it cannot be relied on: no fault is told that such a part could be the cause of.
fn build_doubting(config: &Config, doubts: Doubts) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut report = report::Report::doubting(doubts);
    let templates = templates::Templates::new(config, &mut report);
    let mut cx = Context { config, templates, claims: claims::Claims::default(), report };
    let [status, get, metrics] = gateway_topics(&mut cx);
    let drivers = sensor::drivers(&mut cx);
    let mut sources = sources::Sources::new(&drivers);
    let outputs = output::resolve(&mut sources, &mut cx);
    let sensors = sensor::resolve(&drivers, &sources, &mut cx);
    let inputs = input::resolve(&mut cx);
    lines::check(&mut cx);
    cx.claims.check(&mut cx.report);
    let warnings = cx.report.finish()?;
    let plan = Plan {
        name: config.name.value.clone(),
        status_topic: status.unwrap_or_default(),
        get_topic: get,
        metrics_topic: metrics,
        metrics_interval: config.metrics_interval,
        qos: config.mqtt.qos,
        retain: config.mqtt.retain,
        subscribe_qos: if config.mqtt.clean_session { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        sensors,
        inputs,
        outputs,
        sources: sources.found,
    };
    Ok((plan, warnings))
}

/// The status, get and metrics topics.
fn gateway_topics(cx: &mut Context<'_>) -> [Option<String>; 3] {
    use claims::Owner;
    let (templates, topics) = (&cx.templates, &cx.config.topics);
    let uses = [
        (Some(&templates.status), Owner::Status, Some(&topics.status)),
        (templates.get.as_ref(), Owner::Get, topics.get.as_ref()),
        (templates.metrics.as_ref(), Owner::Metrics, topics.metrics.as_ref()),
    ];
    uses.map(|(template, owner, written)| {
        let topic = templates.render(template?, &templates::Fields::default(), &mut cx.report)?;
        cx.claims.add(&topic, owner, &written?.origin);
        Some(topic)
    })
}

#[cfg(test)]
mod tests {
    use super::fixture::*;
    use super::*;
    use crate::config;
    use crate::topic::validate;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_empty_configuration_is_a_gateway_with_a_status() {
        let plan = plan(&config());
        assert_eq!(plan.status_topic, "board2mqtt/drone01/status");
        assert_eq!(plan.get_topic.as_deref(), Some("board2mqtt/drone01/get"));
        assert_eq!(plan.metrics_topic.as_deref(), Some("board2mqtt/drone01/metrics"));
        assert!(plan.sensors.is_empty() && plan.inputs.is_empty() && plan.outputs.is_empty());
    }

    #[test]
    fn none_turns_a_topic_off() {
        let mut config = config();
        config.topics = config::Topics {
            history: None,
            sensor_status: None,
            health: None,
            reply: None,
            get: None,
            metrics: None,
            ..config.topics
        };
        config.sensors.push(sensor("roof", "lm75", Some(0x48)));
        config.outputs.push(output("beacon", "GPIO17"));
        let topics: Vec<_> = topics(&plan(&config)).into_iter().map(|entry| entry.topic).collect();
        let base = "board2mqtt/drone01";
        assert_eq!(
            topics,
            [
                format!("{base}/status"),
                format!("{base}/status"),
                format!("{base}/roof/temperature"),
                format!("{base}/beacon"),
                format!("{base}/beacon/set"),
            ]
        );
    }

    #[test]
    fn every_topic_that_is_used_was_checked_for_conflicts() {
        let mut config = config();
        config.topics.sensor = Some(located("{base}/{sensor}"));
        let sea_level = config::SeaLevel::Topic {
            topic: located("weather/qnh"),
            unit: Unit::Hectopascal,
            stale_after: None,
            otherwise: None,
        };
        let barometer =
            config::Sensor { sea_level_pressure: Some(at(sea_level, 0)), ..sensor("roof", "bme280", Some(0x77)) };
        config.sensors.push(barometer);
        config.inputs.push(input("door", "GPIO27"));
        config.outputs.push(config::Output { follow: Some(follow(foreign("a/b"))), ..pwm("fan", "GPIO18") });
        let mut report = report::Report::default();
        let templates = templates::Templates::new(&config, &mut report);
        let mut cx = Context { config: &config, templates, claims: claims::Claims::default(), report };
        gateway_topics(&mut cx);
        let drivers = sensor::drivers(&mut cx);
        let mut sources = sources::Sources::new(&drivers);
        output::resolve(&mut sources, &mut cx);
        sensor::resolve(&drivers, &sources, &mut cx);
        input::resolve(&mut cx);
        let claimed: BTreeSet<_> = cx.claims.topics().map(str::to_owned).collect();
        let used: BTreeSet<_> = topics(&plan(&config)).into_iter().map(|entry| entry.topic).collect();
        assert_eq!(claimed, used);
    }
    proptest! {
        #[test]
        fn whatever_the_templates_a_plan_has_only_valid_topics_with_one_publisher(
            base in "[a{}+$/]{0,6}|x|\\{gateway\\}",
            reading in "[a{}#/]{0,6}|\\{base\\}/\\{sensor\\}(/\\{quantity\\})?|a",
            set in "[a{}/]{0,6}|\\{output_topic\\}(/set)?|\\{base\\}/\\{output\\}",
            followed in "[a/+]{0,4}|x/roof/temperature",
        ) {
            let mut config = config();
            config.topics.base = located(&base);
            config.topics.reading = Some(located(&reading));
            config.topics.set = located(&set);
            config.sensors.push(sensor("roof", "bmp280", Some(0x76)));
            config.outputs.push(config::Output { follow: Some(follow(foreign(&followed))), ..output("beacon", "1") });
            config.outputs.push(output("siren", "2"));
            if let Ok((plan, _)) = build(&config) {
                let uses = topics(&plan);
                prop_assert!(uses.iter().all(|entry| validate(&entry.topic).is_ok()));
                let published: Vec<_> = uses.iter().filter(|entry| entry.direction == Direction::Publish).collect();
                let distinct: BTreeSet<_> = published.iter().map(|entry| &entry.topic).collect();
                prop_assert_eq!(distinct.len(), published.len());
                prop_assert!(plan.outputs.iter().all(|output| !distinct.contains(&output.set)));
            }
        }
    }
}
