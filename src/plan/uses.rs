//! Every topic a plan uses, for the `topics` subcommand and the access control list.

use super::{Plan, Reading, SeaLevel, Sensor, Source};
use crate::payload::Format;
use crate::quantity::Unit;
use crate::topic::{Piece, QoS};

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From this board to the server.
    Publish,
    /// From the server to this board.
    Subscribe,
}

impl Direction {
    /// `publish` or `subscribe`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

/// One use of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicUse {
    /// The topic.
    pub topic: String,
    /// Which way.
    pub direction: Direction,
    /// Of the publish, or the one asked for when subscribing.
    pub qos: QoS,
    /// Whether the server keeps it; false for subscriptions.
    pub retain: bool,
    /// What the payload looks like, for people.
    pub payload: String,
    /// The symbol of its unit, where there is one.
    pub unit: Option<String>,
    /// What it is, for people.
    pub what: String,
}

/// Every use of every topic, in the configuration's order.
pub fn topics(plan: &Plan) -> Vec<TopicUse> {
    let mut uses = Uses { plan, list: Vec::new() };
    uses.gateway();
    plan.sensors.iter().for_each(|sensor| uses.sensor(sensor));
    uses.inputs();
    uses.outputs();
    uses.sources();
    uses.list
}

struct Uses<'a> {
    plan: &'a Plan,
    list: Vec<TopicUse>,
}

impl Uses<'_> {
    fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str, what: String) -> &mut TopicUse {
        self.push(TopicUse {
            topic: topic.to_owned(),
            direction: Direction::Publish,
            qos,
            retain,
            payload: payload.to_owned(),
            unit: None,
            what,
        })
    }

    fn subscribe(&mut self, topic: &str, payload: &str, what: String) -> &mut TopicUse {
        self.push(TopicUse {
            topic: topic.to_owned(),
            direction: Direction::Subscribe,
            qos: self.plan.subscribe_qos,
            retain: false,
            payload: payload.to_owned(),
            unit: None,
            what,
        })
    }

    fn push(&mut self, entry: TopicUse) -> &mut TopicUse {
        self.list.push(entry);
        self.list.last_mut().expect("one was just pushed")
    }

    fn gateway(&mut self) {
        let plan = self.plan;
        let status = &plan.status_topic;
        self.publish(status, QoS::AtLeastOnce, true, "online / offline", "gateway status, and its will".into());
        self.subscribe(status, "online / offline", "gateway status, to notice a second agent of this name".into());
        if let Some(topic) = &plan.metrics_topic {
            self.publish(topic, plan.qos, plan.retain, "JSON object", "metrics".into());
        }
        if let Some(topic) = &plan.get_topic {
            self.subscribe(topic, "anything", "read and publish everything again".into());
        }
    }

    fn sensor(&mut self, sensor: &Sensor) {
        let plan = self.plan;
        let name = &sensor.name;
        for reading in &sensor.readings {
            self.reading(sensor, reading);
        }
        if let Some(topic) = &sensor.json_topic {
            let payload = r#"{"<quantity>":…,"time":"…"}"#;
            self.publish(topic, plan.qos, plan.retain, payload, format!("sensor {name}, all values"));
        }
        if let Some(topic) = &sensor.status_topic {
            self.publish(topic, plan.qos, plan.retain, "online / offline", format!("sensor {name}, status"));
        }
        if let Some(topic) = &sensor.health_topic {
            let payload = r#"{"state":"ok"} or {"state":"failing",…}"#;
            self.publish(topic, plan.qos, plan.retain, payload, format!("sensor {name}, health"));
        }
        if let SeaLevel::Topic { topic, unit, .. } = &sensor.sea_level {
            let entry = self.subscribe(topic, "number", format!("sensor {name}, sea-level pressure"));
            entry.unit = symbol(*unit);
        }
    }

    fn reading(&mut self, sensor: &Sensor, reading: &Reading) {
        let what = format!("sensor {}, {}", sensor.name, reading.quantity);
        let unit = reading.process.unit;
        if let Some(topic) = &reading.topic {
            let payload = payload_of(&reading.format, unit);
            self.publish(topic, reading.qos, reading.retain, &payload, what.clone()).unit = symbol(unit);
        }
        if let Some(topic) = &reading.history {
            let payload = r#"[{"time":"…","value":…,"unit":"…"},…]"#;
            let what = format!("{what}, history of an outage");
            self.publish(topic, QoS::AtLeastOnce, false, payload, what).unit = symbol(unit);
        }
    }

    fn inputs(&mut self) {
        for input in &self.plan.inputs {
            let (payload, unit) = match &input.spec.count {
                Some(count) => ("number", Some(count.unit.clone()).filter(|unit| !unit.is_empty())),
                None => ("ON / OFF", None),
            };
            let what = format!("input {}", input.spec.name);
            self.publish(&input.topic, input.qos, input.retain, payload, what).unit = unit;
        }
    }

    fn outputs(&mut self) {
        for output in &self.plan.outputs {
            let (name, pwm) = (&output.spec.name, output.spec.limits.pwm);
            let (state, command) = if pwm { ("0 to 100", ", 0 to 100") } else { ("ON / OFF", "") };
            let unit = pwm.then(|| Unit::Percent.symbol().to_owned());
            self.publish(&output.topic, output.qos, output.retain, state, format!("output {name}, state")).unit =
                unit.clone();
            let command = format!("ON / OFF / TOGGLE / AUTO{command}, or JSON");
            self.subscribe(&output.set, &command, format!("output {name}, commands")).unit = unit;
            if let Some(topic) = &output.reply {
                let payload = r#"{"id":…,"outcome":"done",…}"#;
                self.publish(topic, output.qos, false, payload, format!("output {name}, replies"));
            }
        }
    }

    fn sources(&mut self) {
        for (id, source) in self.plan.sources.iter().enumerate() {
            let Source::Topic { topic, unit } = source else { continue };
            let users = self.plan.outputs.iter().filter(|output| {
                let spec = &output.spec;
                let follows = spec.follow.as_ref().is_some_and(|follow| follow.source == id);
                follows || spec.require.as_ref().is_some_and(|require| require.source == id)
            });
            let users = users.map(|output| output.spec.name.as_str()).collect::<Vec<_>>().join(", ");
            self.subscribe(topic, "number", format!("followed by output {users}")).unit = unit.and_then(symbol);
        }
    }
}

fn symbol(unit: Unit) -> Option<String> {
    Some(unit.symbol().to_owned()).filter(|symbol| !symbol.is_empty())
}

fn payload_of(format: &Format, unit: Unit) -> String {
    match format {
        Format::Plain => "number".to_owned(),
        Format::Json => format!(r#"{{"value":…,"unit":"{unit}","time":"…"}}"#),
        Format::Template(pieces) => pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Field(field) => format!("{{{field}}}"),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::config;
    use crate::quantity::Quantity;
    use std::time::Duration;

    fn config_with_everything() -> config::Config {
        let mut config = config();
        let count = config::Count {
            edge: config::CountEdge::Falling,
            per_pulse: 0.2794,
            unit: "mm".into(),
            interval: Duration::from_secs(60),
        };
        let table = config::Reading {
            topic: Some(located("sensors/{gateway}/{quantity}")),
            payload: Some(located("{value} feet")),
            unit: Some(at(Unit::Foot, 0)),
            ..reading(Quantity::Altitude)
        };
        config.topics.sensor = Some(located("{base}/{sensor}"));
        config.sensors.push(config::Sensor {
            readings: vec![table],
            quantities: Some(vec![at(Quantity::Altitude, 0)]),
            ..sensor("roof", "bmp280", Some(0x76))
        });
        config.sensors.push(sensor("cellar", "lm75", Some(0x48)));
        config.inputs.push(config::Input { count: Some(count), ..input("rain", "GPIO22") });
        config.outputs.push(config::Output { follow: Some(follow(foreign("a/b"))), ..output("beacon", "GPIO17") });
        config.outputs.push(pwm("fan", "GPIO18"));
        config
    }

    #[test]
    fn every_topic_is_listed_with_what_travels_on_it() {
        let plan = plan(&config_with_everything());
        let lines: Vec<_> = topics(&plan)
            .into_iter()
            .map(|u| {
                let retain = if u.retain { "r" } else { "-" };
                let unit = u.unit.unwrap_or_default();
                let topic = u.topic.replace("board2mqtt/drone01", "~");
                format!("{} {} {}{retain} | {} | {unit}", u.direction.as_str(), topic, u.qos, u.payload)
            })
            .collect();
        let expected = [
            "publish ~/status 1r | online / offline | ",
            "subscribe ~/status 1- | online / offline | ",
            "publish ~/metrics 1r | JSON object | ",
            "subscribe ~/get 1- | anything | ",
            "publish sensors/drone01/altitude 1r | {value} feet | ft",
            r#"publish sensors/drone01/altitude/history 1- | [{"time":"…","value":…,"unit":"…"},…] | ft"#,
            r#"publish ~/roof 1r | {"<quantity>":…,"time":"…"} | "#,
            "publish ~/roof/status 1r | online / offline | ",
            r#"publish ~/roof/health 1r | {"state":"ok"} or {"state":"failing",…} | "#,
            "publish ~/cellar/temperature 1r | number | °C",
            r#"publish ~/cellar/temperature/history 1- | [{"time":"…","value":…,"unit":"…"},…] | °C"#,
            r#"publish ~/cellar 1r | {"<quantity>":…,"time":"…"} | "#,
            "publish ~/cellar/status 1r | online / offline | ",
            r#"publish ~/cellar/health 1r | {"state":"ok"} or {"state":"failing",…} | "#,
            "publish ~/rain 1r | number | mm",
            "publish ~/beacon 1r | ON / OFF | ",
            "subscribe ~/beacon/set 1- | ON / OFF / TOGGLE / AUTO, or JSON | ",
            r#"publish ~/beacon/reply 1- | {"id":…,"outcome":"done",…} | "#,
            "publish ~/fan 1r | 0 to 100 | %",
            "subscribe ~/fan/set 1- | ON / OFF / TOGGLE / AUTO, 0 to 100, or JSON | %",
            r#"publish ~/fan/reply 1- | {"id":…,"outcome":"done",…} | "#,
            "subscribe a/b 1- | number | ft",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_kept_session_subscribes_at_qos_0() {
        let mut config = config_with_everything();
        config.mqtt.clean_session = false;
        let uses = topics(&plan(&config));
        let subscriptions = uses.iter().filter(|u| u.direction == Direction::Subscribe);
        assert!(subscriptions.clone().count() > 3 && { subscriptions }.all(|u| u.qos == QoS::AtMostOnce));
    }
}
