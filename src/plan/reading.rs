//! One quantity of a sensor: its topics, its payload, and how it is processed.

use super::claims::Owner;
use super::templates::Fields;
use super::{Context, Reading};
use crate::config::{self, Located};
use crate::payload::Format;
use crate::process;
use crate::quantity::{Quantity, Unit};
use crate::topic::QoS;

/// What is published of one quantity: a quantity that is only followed has no topics.
pub(super) fn reading<'a>(
    sensor: &'a config::Sensor,
    quantity: Quantity,
    published: bool,
    json_topic: Option<&str>,
    cx: &mut Context<'a>,
) -> Reading {
    let table = sensor.readings.iter().find(|reading| *reading.quantity == quantity);
    let qos = table.and_then(|table| table.qos).unwrap_or(cx.config.mqtt.qos);
    let topic = if published { reading_topic(sensor, table, quantity, cx) } else { None };
    // Without a topic of its own a reading's history goes beside the object it is part of.
    let beside = json_topic.filter(|_| published && topic.is_none()).map(|object| format!("{object}/{quantity}"));
    let parent = topic.as_deref().or(beside.as_deref());
    Reading {
        quantity,
        process: process_of(table, quantity, cx),
        format: format_of(table, cx),
        decimals: table.and_then(|table| table.decimals).unwrap_or(quantity.default_decimals()),
        history: parent.and_then(|parent| history_topic(sensor, quantity, parent, qos, cx)),
        topic,
        in_object: published && json_topic.is_some(),
        qos,
        retain: table.and_then(|table| table.retain).unwrap_or(cx.config.mqtt.retain),
    }
}

fn reading_topic<'a>(
    sensor: &'a config::Sensor,
    table: Option<&'a config::Reading>,
    quantity: Quantity,
    cx: &mut Context<'a>,
) -> Option<String> {
    let fields = Fields { sensor: &sensor.name, quantity: quantity.name(), ..Fields::default() };
    let place = ["sensors", &sensor.name, "readings", quantity.name(), "topic"];
    if cx.report.doubts(&place) || cx.report.doubts(&["sensors", &sensor.name, "quantities"]) {
        return None;
    }
    let own = table.and_then(|table| table.topic.as_ref());
    let topic = match own {
        Some(text) => cx.templates.reading_topic(text, &fields, &mut cx.report)?,
        None => cx.templates.render(cx.templates.reading.as_ref()?, &fields, &mut cx.report)?,
    };
    let origin = own.map_or(&sensor.name.origin, |own| &own.origin);
    cx.claims.add(&topic, Owner::Reading(&sensor.name, quantity), origin);
    Some(topic)
}

/// Where an outage's readings go; none at QoS 0, which is never stored.
fn history_topic<'a>(
    sensor: &'a config::Sensor,
    quantity: Quantity,
    parent: &str,
    qos: QoS,
    cx: &mut Context<'a>,
) -> Option<String> {
    let place = ["sensors", &sensor.name, "readings", quantity.name(), "qos"];
    if qos == QoS::AtMostOnce || cx.report.doubts(&place) || cx.report.doubts(&["mqtt", "qos"]) {
        return None;
    }
    let fields = Fields { sensor: &sensor.name, quantity: quantity.name(), parent, ..Fields::default() };
    let topic = cx.templates.render(cx.templates.history.as_ref()?, &fields, &mut cx.report)?;
    cx.claims.add(&topic, Owner::History(&sensor.name, quantity), &sensor.name.origin);
    Some(topic)
}

fn format_of(table: Option<&config::Reading>, cx: &mut Context<'_>) -> Format {
    let Some(text) = table.and_then(|table| table.payload.as_ref()) else { return Format::Plain };
    Format::parse(text).unwrap_or_else(|error| {
        cx.report.fault(
            &text.origin,
            error.to_string(),
            "`plain`, `json`, or text with fields; a brace itself is `{{`",
        );
        Format::Plain
    })
}

fn process_of(table: Option<&config::Reading>, quantity: Quantity, cx: &mut Context<'_>) -> process::Spec {
    let unit = table.and_then(|table| table.unit.as_ref());
    if let Some(unit) = unit {
        check_unit(quantity, unit, cx);
    }
    if let Some(table) = table {
        check_filters(table, cx);
    }
    process::Spec {
        unit: unit.map_or(quantity.canonical(), |unit| unit.value),
        scale: table.map_or(1.0, |table| table.scale),
        offset: table.map_or(0.0, |table| table.offset),
        min: table.and_then(|table| table.min.as_ref()).map(|min| min.value),
        max: table.and_then(|table| table.max.as_ref()).map(|max| max.value),
        median: table.map_or(1, |table| table.median),
        average: table.map_or(1, |table| table.average),
        change: table.and_then(|table| table.change),
        at_least_every: table.and_then(|table| table.at_least_every.as_ref()).map(|every| every.value),
    }
}

fn check_filters(table: &config::Reading, cx: &mut Context<'_>) {
    if let (None, Some(every)) = (table.change, &table.at_least_every) {
        let message = "`at_least_every` has no effect without `change`: every reading is published";
        cx.report.warning(&every.origin, message, "give a `change`, or remove it");
    }
}

/// Reports a unit that belongs to another quantity.
pub(super) fn check_unit(quantity: Quantity, unit: &Located<Unit>, cx: &mut Context<'_>) {
    let fitting = Unit::of(quantity);
    if !fitting.contains(unit) {
        let symbols: Vec<_> = fitting.iter().map(|unit| unit.symbol()).filter(|symbol| !symbol.is_empty()).collect();
        let help = if symbols.is_empty() { "it has none".to_owned() } else { format!("one of {}", symbols.join(", ")) };
        cx.report.fault(&unit.origin, format!("`{}` is no unit of {quantity}", unit.value), help);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use crate::config::{self, Config};
    use crate::payload::Format;
    use crate::quantity::{Quantity, Unit};
    use crate::topic::QoS;
    use std::time::Duration;

    fn with(table: config::Reading) -> Config {
        let sensor = config::Sensor { readings: vec![table], ..sensor("roof", "lm75", Some(0x48)) };
        Config { sensors: vec![sensor], ..config() }
    }

    fn table() -> config::Reading {
        reading(Quantity::Temperature)
    }

    #[test]
    fn a_table_overrides_the_defaults() {
        let plan = plan(&with(config::Reading {
            topic: Some(located("sensors/drone40/temperature")),
            unit: Some(at(Unit::Fahrenheit, 0)),
            decimals: Some(0),
            payload: Some(located("{value} F")),
            retain: Some(false),
            ..table()
        }));
        let reading = &plan.sensors[0].readings[0];
        assert_eq!(reading.topic.as_deref(), Some("sensors/drone40/temperature"));
        assert_eq!(reading.history.as_deref(), Some("sensors/drone40/temperature/history"));
        assert!(matches!(reading.format, Format::Template(_)));
        assert_eq!((reading.process.unit, reading.decimals, reading.retain), (Unit::Fahrenheit, 0, false));
    }

    #[test]
    fn without_a_table_the_quantity_decides() {
        let mut config = with(table());
        config.sensors[0].readings.clear();
        let plan = plan(&config);
        let reading = &plan.sensors[0].readings[0];
        assert_eq!(reading.topic.as_deref(), Some("board2mqtt/drone01/roof/temperature"));
        assert_eq!((reading.process.unit, reading.decimals, reading.qos), (Unit::Celsius, 2, QoS::AtLeastOnce));
        assert_eq!((reading.process.scale, reading.process.median), (1.0, 1));
    }

    #[test]
    fn qos_0_has_no_history() {
        let plan = plan(&with(config::Reading { qos: Some(QoS::AtMostOnce), ..table() }));
        assert_eq!(plan.sensors[0].readings[0].history, None);
    }

    #[test]
    fn history_goes_beside_the_object_where_there_are_no_single_topics() {
        let mut config = with(table());
        config.topics.reading = None;
        config.topics.sensor = Some(located("{base}/{sensor}"));
        let plan = plan(&config);
        let reading = &plan.sensors[0].readings[0];
        assert_eq!(reading.topic, None);
        assert_eq!(reading.history.as_deref(), Some("board2mqtt/drone01/roof/temperature/history"));
    }

    #[test]
    fn units_and_payloads_must_fit() {
        let unit = config::Reading { unit: Some(at(Unit::Foot, 0)), ..table() };
        let told = fault(&with(unit));
        assert_eq!(told.message, "`ft` is no unit of temperature");
        assert_eq!(told.help.as_deref(), Some("one of °C, °F, K"));
        let payload = config::Reading { payload: Some(located("{valve}")), ..table() };
        assert!(fault(&with(payload)).message.starts_with("unknown field `{valve}`"));
        let every = config::Reading { at_least_every: Some(at(Duration::from_secs(4), 0)), ..table() };
        assert!(warning(&with(every)).message.contains("no effect without `change`"));
    }

    #[test]
    fn one_topic_for_two_readings_is_refused() {
        let mut config = with(config::Reading { topic: Some(located("x")), ..table() });
        config.sensors.push(config::Sensor {
            readings: vec![config::Reading { topic: Some(located("x")), ..table() }],
            ..sensor("cellar", "lm75", Some(0x49))
        });
        let told = told(&config);
        let expected =
            "two things publish on `x`: the temperature of sensor `roof` and the temperature of sensor `cellar`";
        assert!(told.contains(&expected.to_owned()), "{told:?}");
        assert_eq!(told.len(), 2, "the topic and its history");
    }
}
