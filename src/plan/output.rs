//! Outputs: their limits, what they follow and require, and their topics.

use super::claims::Owner;
use super::sources::Sources;
use super::templates::Fields;
use super::{Context, Output, contradictions, interlock};
use crate::config::{self, ExitState, InitialState};
use crate::outputs::{Exit, Follow, Initial, Limits, Require, Rule, Spec};

/// Resolves all outputs; what they follow and require is added to `sources`.
pub(super) fn resolve(sources: &mut Sources<'_>, cx: &mut Context<'_>) -> Vec<Output> {
    let config = cx.config;
    let mut outputs = Vec::with_capacity(config.outputs.len());
    for output in &config.outputs {
        contradictions::check(output, &mut cx.report);
        outputs.push(output_of(output, sources, cx));
    }
    interlock::resolve(&config.outputs, &mut outputs, &mut cx.report);
    outputs
}

fn output_of<'a>(output: &'a config::Output, sources: &mut Sources<'_>, cx: &mut Context<'a>) -> Output {
    let [topic, set, reply] = topics(output, cx);
    Output {
        spec: Spec {
            name: output.name.value.clone(),
            drive: output.drive.value.clone(),
            limits: limits(output),
            initial: match output.initial {
                InitialState::Safe => Initial::Level(output.safe),
                InitialState::Level(level) => Initial::Level(level),
                InitialState::Last => Initial::Last,
                InitialState::Keep => Initial::Keep,
            },
            on_exit: match output.on_exit {
                ExitState::Safe => Exit::Level(output.safe),
                ExitState::Level(level) => Exit::Level(level),
                ExitState::Keep => Exit::Keep,
            },
            accept_retained: output.accept_retained,
            follow: output.follow.as_ref().and_then(|follow| follow_of(follow, &output.name, sources, cx)),
            require: output.require.as_ref().and_then(|require| require_of(require, &output.name, sources, cx)),
        },
        topic: topic.unwrap_or_default(),
        set: set.unwrap_or_default(),
        reply,
        qos: output.qos.unwrap_or(cx.config.mqtt.qos),
        retain: output.retain.unwrap_or(cx.config.mqtt.retain),
    }
}

/// The limits but for the interlock, which needs all outputs.
fn limits(output: &config::Output) -> Limits {
    Limits {
        safe: output.safe,
        pwm: output.drive.is_pwm(),
        max_on: output.max_on,
        min_off: output.min_off,
        renew_within: output.renew_within,
        on_server_loss: output.on_server_loss,
        interlock: Vec::new(),
        switch: false,
        gap: std::time::Duration::ZERO,
    }
}

fn follow_of<'a>(
    follow: &'a config::Follow,
    output: &'a str,
    sources: &mut Sources<'_>,
    cx: &mut Context<'a>,
) -> Option<Follow> {
    let source = sources.resolve(&follow.source, &follow.stale_after, output, cx)?;
    let rule = match &follow.rule {
        config::Rule::OnAbove { on_above, off_below } => Rule::OnAbove { on_above: *on_above, off_below: *off_below },
        config::Rule::OnBelow { on_below, off_above } => Rule::OnBelow { on_below: *on_below, off_above: *off_above },
        config::Rule::Curve(points) => Rule::Curve(points.clone()),
    };
    Some(Follow { source, rule, stale_after: follow.stale_after.value })
}

fn require_of<'a>(
    require: &'a config::Require,
    output: &'a str,
    sources: &mut Sources<'_>,
    cx: &mut Context<'a>,
) -> Option<Require> {
    let source = sources.resolve(&require.source, &require.stale_after, output, cx)?;
    Some(Require { source, below: require.below, above: require.above, stale_after: require.stale_after.value })
}

/// The state, its commands and the replies.
fn topics<'a>(output: &'a config::Output, cx: &mut Context<'a>) -> [Option<String>; 3] {
    let fields = Fields { output: &output.name, ..Fields::default() };
    let state = match &output.topic {
        _ if cx.report.doubts(&["outputs", &output.name, "topic"]) => None,
        Some(text) => cx.templates.output_topic(text, &fields, &mut cx.report),
        None => cx.templates.render(&cx.templates.output, &fields, &mut cx.report),
    };
    let Some(state) = state else { return [None, None, None] };
    let origin = output.topic.as_ref().map_or(&output.name.origin, |own| &own.origin);
    cx.claims.add(&state, Owner::Output(&output.name), origin);
    let fields = Fields { parent: &state, ..fields };
    let [set, reply] = [
        (Some(&cx.templates.set), Owner::Set(&output.name)),
        (cx.templates.reply.as_ref(), Owner::Reply(&output.name)),
    ]
    .map(|(template, owner)| {
        let topic = cx.templates.render(template?, &fields, &mut cx.report)?;
        cx.claims.add(&topic, owner, &output.name.origin);
        Some(topic)
    });
    [Some(state), set, reply]
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::line::Level;

    #[test]
    fn topics_hang_on_the_state() {
        let mut config = config();
        config.outputs.push(output("beacon", "GPIO17"));
        config.outputs.push(config::Output { topic: Some(located("yard/siren")), ..output("siren", "GPIO18") });
        let plan = plan(&config);
        let of = |i: usize| {
            let output = &plan.outputs[i];
            (output.topic.clone(), output.set.clone(), output.reply.clone())
        };
        let base = "board2mqtt/drone01/beacon";
        assert_eq!(of(0), (base.into(), format!("{base}/set"), Some(format!("{base}/reply"))));
        assert_eq!(of(1), ("yard/siren".into(), "yard/siren/set".into(), Some("yard/siren/reply".into())));
    }

    #[test]
    fn safe_is_where_start_and_exit_lead_by_default() {
        let mut config = config();
        let full = Level::ON;
        config.outputs.push(config::Output { safe: full, ..pwm("fan", "GPIO18") });
        config.outputs.push(config::Output {
            initial: InitialState::Last,
            on_exit: ExitState::Keep,
            ..output("x", "a")
        });
        let plan = plan(&config);
        let of = |i: usize| (plan.outputs[i].spec.initial, plan.outputs[i].spec.on_exit);
        assert_eq!(of(0), (Initial::Level(full), Exit::Level(full)));
        assert_eq!(of(1), (Initial::Last, Exit::Keep));
        assert!(plan.outputs[0].spec.limits.pwm && !plan.outputs[1].spec.limits.pwm);
    }

    #[test]
    fn one_command_topic_for_two_outputs_is_refused() {
        let mut config = config();
        config.topics.set = located("{base}/all/set");
        config.topics.reply = None;
        config.outputs.push(output("a", "1"));
        config.outputs.push(output("b", "2"));
        assert_eq!(
            fault(&config).message,
            "`board2mqtt/drone01/all/set` has two meanings here: the commands of output `a` and the commands of output `b`"
        );
    }
}
