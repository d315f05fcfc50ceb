//! Settings of one output that cannot hold together. It has no rules of the guard: it only says what could never work.
//!
//! What single keys of a table contradict (`off_below` above `on_above`) the loader has refused already.

use super::report::Report;
use crate::config::{ExitState, InitialState, Output, Source};

/// Reports the contradictions of one output, at its name.
pub(super) fn check(output: &Output, report: &mut Report) {
    let [safe, on_exit] = ["safe", "on_exit"].map(|key| !report.doubts(&["outputs", &output.name, key]));
    if safe {
        check_safe(output, report);
    }
    check_initial(output, report);
    if safe && on_exit {
        check_exit(output, report);
    }
    check_server_loss(output, report);
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

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::config::Config;
    use crate::line::Level;
    use std::time::Duration;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    fn with(output: Output) -> Config {
        let mut config = config();
        config.sensors.push(sensor("roof", "bmp280", Some(0x76)));
        config.outputs.push(output);
        config
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
}
