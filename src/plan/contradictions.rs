//! Settings of one output that cannot hold together. Rules of the guard it has none: it only says what could never work.

use super::report::Report;
use crate::config::{ExitState, InitialState, Output, Rule, Source};
use crate::line::Level;

/// Reports the contradictions of one output, at its name.
pub(super) fn check(output: &Output, report: &mut Report) {
    check_levels(output, report);
    check_safe(output, report);
    check_initial(output, report);
    check_exit(output, report);
    check_server_loss(output, report);
    check_rule(output, report);
    check_require(output, report);
}

/// A switch knows no levels between.
fn check_levels(output: &Output, report: &mut Report) {
    if output.drive.is_pwm() {
        return;
    }
    let initial = if let InitialState::Level(level) = output.initial { Some(level) } else { None };
    let on_exit = if let ExitState::Level(level) = output.on_exit { Some(level) } else { None };
    for (key, level) in [("safe", Some(output.safe)), ("initial", initial), ("on_exit", on_exit)] {
        if let Some(level) = level.filter(|level| ![Level::OFF, Level::ON].contains(level)) {
            let message = format!("`{key}` of switch `{}` cannot be {level} %", output.name.value);
            report.fault(&output.name.origin, message, "a switch is `\"on\"` or `\"off\"`; levels need `pwm`");
        }
    }
    if output.follow.as_ref().is_some_and(|follow| matches!(follow.rule, Rule::Curve(_))) {
        let message = format!("switch `{}` cannot follow a curve", output.name.value);
        report.fault(&output.name.origin, message, "`on_above` with `off_below`, or `on_below` with `off_above`");
    }
}

/// No limit may stand in the way of safe.
fn check_safe(output: &Output, report: &mut Report) {
    if !output.safe.is_on() {
        return;
    }
    let renewal_leads_nowhere = output.renew_within.is_some() && !output.drive.is_pwm();
    let limits = [
        ("max_on", output.max_on.is_some()),
        ("min_off", output.min_off.is_some()),
        ("renew_within", renewal_leads_nowhere),
    ];
    for (key, _) in limits.into_iter().filter(|(_, is_set)| *is_set) {
        let message = format!("`{key}` of `{}` limits being on, but its `safe` is on", output.name.value);
        report.fault(
            &output.name.origin,
            message,
            format!("safe must not be limited: remove `{key}`, or `safe = \"off\"`"),
        );
    }
}

fn check_initial(output: &Output, report: &mut Report) {
    let InitialState::Level(level) = output.initial else { return };
    for (key, is_set) in [("follow", output.follow.is_some()), ("require", output.require.is_some())] {
        if is_set && level != output.safe {
            let message =
                format!("`initial` of `{}` does not last: `{key}` has no value yet at start", output.name.value);
            report.warning(&output.name.origin, message, "without a value the output is safe");
        }
    }
}

/// Nobody keeps a limit once the agent has stopped.
fn check_exit(output: &Output, report: &mut Report) {
    let limits = [
        ("max_on", output.max_on.is_some()),
        ("renew_within", output.renew_within.is_some()),
        ("require", output.require.is_some()),
    ];
    for (key, _) in limits.into_iter().filter(|(_, is_set)| *is_set) {
        match output.on_exit {
            ExitState::Level(level) if level.is_on() && level != output.safe => {
                let message = format!("`on_exit` leaves `{}` on, where nothing keeps its `{key}`", output.name.value);
                report.fault(&output.name.origin, message, "use `on_exit = \"safe\"`");
            }
            ExitState::Keep => {
                let message =
                    format!("`on_exit` may leave `{}` on, where nothing keeps its `{key}`", output.name.value);
                report.warning(&output.name.origin, message, "`on_exit = \"safe\"` would not");
            }
            ExitState::Level(_) | ExitState::Safe => {}
        }
    }
}

fn check_server_loss(output: &Output, report: &mut Report) {
    let is_local = output.follow.as_ref().is_some_and(|follow| matches!(follow.source, Source::Reading(_)));
    if is_local && output.on_server_loss.is_some() {
        let message =
            format!("`{}` follows this board's own reading, yet goes safe without the server", output.name.value);
        report.warning(&output.name.origin, message, "`on_server_loss = \"keep\"` goes on following");
    }
}

fn check_rule(output: &Output, report: &mut Report) {
    let Some(follow) = &output.follow else { return };
    let message = match &follow.rule {
        Rule::OnAbove { on_above, off_below } if on_above < off_below => {
            format!("`on_above` {on_above} is below `off_below` {off_below}")
        }
        Rule::OnBelow { on_below, off_above } if on_below > off_above => {
            format!("`on_below` {on_below} is above `off_above` {off_above}")
        }
        Rule::Curve(points) if points.is_empty() => "`curve` has no points".to_owned(),
        Rule::Curve(points) if !points.is_sorted_by(|one, next| one.0 < next.0) => {
            "the values of `curve` do not rise".to_owned()
        }
        Rule::Curve(points) => match points.iter().find(|(_, percent)| Level::from_percent(*percent).is_none()) {
            Some((_, percent)) => format!("`curve` leads to {percent} %"),
            None => return,
        },
        Rule::OnAbove { .. } | Rule::OnBelow { .. } => return,
    };
    let help = "between the two limits nothing changes; a curve has rising values, and 0 to 100 %";
    report.fault(&follow.stale_after.origin, message, help);
}

fn check_require(output: &Output, report: &mut Report) {
    let Some(require) = &output.require else { return };
    let message = match (require.below, require.above) {
        (None, None) => "`require` has neither `below` nor `above`".to_owned(),
        (Some(below), Some(above)) if below <= above => format!("no value is below {below} and above {above}"),
        _ => return,
    };
    report.fault(
        &require.stale_after.origin,
        message,
        "such as `require = { reading = \"flue.temperature\", below = 90, stale_after = \"30s\" }`",
    );
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::config::{Config, Follow, Require};
    use std::time::Duration;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    fn with(output: Output) -> Config {
        let mut config = config();
        config.sensors.push(sensor("roof", "bmp280", Some(0x76)));
        config.outputs.push(output);
        config
    }

    fn percent(percent: f64) -> Level {
        Level::from_percent(percent).expect("a level")
    }

    #[test]
    fn a_switch_has_no_levels_between() {
        let fault_ = fault(&with(Output { safe: percent(40.0), ..output("x", "1") }));
        assert_eq!(fault_.message, "`safe` of switch `x` cannot be 40 %");
        let both = Output {
            initial: InitialState::Level(percent(1.0)),
            on_exit: ExitState::Level(percent(99.0)),
            ..output("x", "1")
        };
        assert_eq!(told(&with(both)).len(), 2);
        plan(&with(Output { safe: percent(40.0), ..pwm("x", "1") }));
    }

    #[test]
    fn safe_is_never_limited() {
        let on = || Output { safe: Level::ON, ..output("x", "1") };
        for limited in [
            Output { max_on: SECOND, ..on() },
            Output { min_off: SECOND, ..on() },
            Output { renew_within: SECOND, ..on() },
        ] {
            let message = fault(&with(limited)).message;
            assert!(message.ends_with("of `x` limits being on, but its `safe` is on"), "{message}");
        }
        plan(&with(Output { renew_within: SECOND, safe: Level::ON, ..pwm("x", "1") }));
        plan(&with(Output { max_on: SECOND, min_off: SECOND, renew_within: SECOND, ..output("x", "1") }));
    }

    #[test]
    fn exit_keeps_no_limits() {
        let limited = |on_exit| Output { max_on: SECOND, on_exit, ..output("x", "1") };
        let message = fault(&with(limited(ExitState::Level(Level::ON)))).message;
        assert_eq!(message, "`on_exit` leaves `x` on, where nothing keeps its `max_on`");
        let message = warning(&with(limited(ExitState::Keep))).message;
        assert_eq!(message, "`on_exit` may leave `x` on, where nothing keeps its `max_on`");
        plan(&with(limited(ExitState::Level(Level::OFF))));
        plan(&with(Output { on_exit: ExitState::Level(Level::ON), ..output("x", "1") }));
    }

    #[test]
    fn what_does_not_last_is_told() {
        let follows = || Output { follow: Some(follow(local("roof.altitude"))), ..output("x", "1") };
        let initial = Output { initial: InitialState::Level(Level::ON), ..follows() };
        assert!(warning(&with(initial)).message.starts_with("`initial` of `x` does not last: `follow`"));
        let loses = Output { on_server_loss: SECOND, ..follows() };
        assert!(warning(&with(loses)).message.ends_with("yet goes safe without the server"));
        plan(&with(Output { on_server_loss: SECOND, follow: Some(follow(foreign("a"))), ..output("x", "1") }));
    }

    #[test]
    fn rules_must_be_possible() {
        let following = |rule, output| {
            let follow = Follow { rule, ..follow(local("roof.altitude")) };
            with(Output { follow: Some(follow), ..output })
        };
        for (rule, expected) in [
            (Rule::OnAbove { on_above: 1.0, off_below: 2.0 }, "`on_above` 1 is below `off_below` 2"),
            (Rule::OnBelow { on_below: 2.0, off_above: 1.0 }, "`on_below` 2 is above `off_above` 1"),
            (Rule::Curve(vec![]), "`curve` has no points"),
            (Rule::Curve(vec![(1.0, 0.0), (1.0, 5.0)]), "the values of `curve` do not rise"),
            (Rule::Curve(vec![(1.0, 0.0), (2.0, 101.0)]), "`curve` leads to 101 %"),
        ] {
            assert_eq!(fault(&following(rule, pwm("x", "1"))).message, expected);
        }
        plan(&following(Rule::OnAbove { on_above: 2.0, off_below: 2.0 }, output("x", "1")));
        let curve = Rule::Curve(vec![(1.0, 0.0), (2.0, 100.0)]);
        plan(&following(curve.clone(), pwm("x", "1")));
        assert_eq!(fault(&following(curve, output("x", "1"))).message, "switch `x` cannot follow a curve");
    }

    #[test]
    fn requirements_must_be_possible() {
        let requiring = |below, above| {
            let stale_after = at(Duration::from_secs(10), 0);
            let require = Require { source: local("roof.temperature"), below, above, stale_after };
            with(Output { require: Some(require), ..output("x", "1") })
        };
        assert_eq!(fault(&requiring(None, None)).message, "`require` has neither `below` nor `above`");
        assert_eq!(fault(&requiring(Some(1.0), Some(2.0))).message, "no value is below 1 and above 2");
        plan(&requiring(Some(2.0), Some(1.0)));
    }
}
