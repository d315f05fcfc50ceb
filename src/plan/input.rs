//! Inputs: what counts in logical terms, and their topics.

use super::claims::Owner;
use super::templates::Fields;
use super::{Context, Input};
use crate::config::{self, CountEdge};
use crate::inputs::{CountSpec, Counted, Spec};
use crate::line::Active;

/// Resolves all inputs.
pub(super) fn resolve(cx: &mut Context<'_>) -> Vec<Input> {
    cx.config.inputs.iter().map(|input| input_of(input, cx)).collect()
}

fn input_of<'a>(input: &'a config::Input, cx: &mut Context<'a>) -> Input {
    let fields = Fields { input: &input.name, ..Fields::default() };
    let topic = match &input.topic {
        _ if cx.report.doubts(&["inputs", &input.name, "topic"]) => None,
        Some(text) => cx.templates.input_topic(text, &fields, &mut cx.report),
        None => cx.templates.render(&cx.templates.input, &fields, &mut cx.report),
    };
    if let Some(topic) = &topic {
        let origin = input.topic.as_ref().map_or(&input.name.origin, |own| &own.origin);
        cx.claims.add(topic, Owner::Input(&input.name), origin);
    }
    Input {
        spec: Spec {
            name: input.name.value.clone(),
            line: input.line.value.clone(),
            active: input.active,
            bias: input.bias,
            debounce: input.debounce,
            count: input.count.as_ref().map(|count| count_of(count, input.active)),
        },
        topic: topic.unwrap_or_default(),
        qos: input.qos.unwrap_or(cx.config.mqtt.qos),
        retain: input.retain.unwrap_or(cx.config.mqtt.retain),
    }
}

/// The configuration counts physical edges, the gateway logical changes.
fn count_of(count: &config::Count, active: Active) -> CountSpec {
    let counted = match (count.edge, active) {
        (CountEdge::Both, _) => Counted::Both,
        (CountEdge::Rising, Active::High) | (CountEdge::Falling, Active::Low) => Counted::Activation,
        (CountEdge::Rising, Active::Low) | (CountEdge::Falling, Active::High) => Counted::Deactivation,
    };
    CountSpec { counted, per_pulse: count.per_pulse, unit: count.unit.clone(), interval: count.interval }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::topic::QoS;
    use std::time::Duration;

    #[test]
    fn physical_edges_become_logical_changes() {
        for (edge, active, expected) in [
            (CountEdge::Falling, Active::High, Counted::Deactivation),
            (CountEdge::Falling, Active::Low, Counted::Activation),
            (CountEdge::Rising, Active::High, Counted::Activation),
            (CountEdge::Rising, Active::Low, Counted::Deactivation),
            (CountEdge::Both, Active::Low, Counted::Both),
        ] {
            let count = config::Count { edge, per_pulse: 0.2, unit: "mm".into(), interval: Duration::from_secs(60) };
            assert_eq!(count_of(&count, active).counted, expected);
        }
    }

    #[test]
    fn topics_and_defaults() {
        let mut config = config();
        config.inputs.push(input("door", "GPIO27"));
        config.inputs.push(config::Input {
            topic: Some(located("{base}/gates/{input}")),
            qos: Some(QoS::AtMostOnce),
            retain: Some(false),
            ..input("gate", "GPIO22")
        });
        let plan = plan(&config);
        let seen: Vec<_> = plan.inputs.iter().map(|i| (i.topic.as_str(), i.qos, i.retain)).collect();
        assert_eq!(
            seen,
            [
                ("board2mqtt/drone01/door", QoS::AtLeastOnce, true),
                ("board2mqtt/drone01/gates/gate", QoS::AtMostOnce, false)
            ]
        );
    }
}
