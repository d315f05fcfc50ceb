//! Interlocks by name to interlocks by index, made symmetric: who must not be on together.

use super::Output;
use super::report::{Report, allowed};
use crate::config::{self, InitialState};
use crate::line::Level;

/// Fills the interlock part of every output's limits.
///
/// Both sides of a pair get the longer gap; an output that names no conflict of its own takes `switch` only when everyone
/// who names it does. That no output names itself the loader has seen to.
pub(super) fn resolve(written: &[config::Output], outputs: &mut [Output], report: &mut Report) {
    for (index, output) in written.iter().enumerate() {
        for name in output.interlock.iter().flat_map(|interlock| &interlock.with) {
            match written.iter().position(|other| other.name == *name) {
                Some(other) => {
                    link(outputs, index, other);
                    link(outputs, other, index);
                }
                None if report.may_name("outputs", name) => {}
                None => {
                    let others = written.iter().map(|other| other.name.value.as_str()).filter(|n| *n != *output.name);
                    report.fault(&name.origin, format!("no output is called `{}`", name.value), allowed(name, others));
                }
            }
        }
    }
    for index in 0..outputs.len() {
        let partners = outputs[index].spec.limits.interlock.clone();
        let limits = &mut outputs[index].spec.limits;
        let theirs = || partners.iter().filter_map(|partner| written[*partner].interlock.as_ref());
        let own = written[index].interlock.as_ref();
        limits.gap = own.into_iter().chain(theirs()).map(|interlock| interlock.gap).max().unwrap_or_default();
        limits.switch = match own {
            Some(own) => own.switch,
            None => !partners.is_empty() && theirs().all(|interlock| interlock.switch),
        };
        check_pairs(written, index, &partners, report);
    }
}

fn link(outputs: &mut [Output], from: usize, to: usize) {
    let interlock = &mut outputs[from].spec.limits.interlock;
    if !interlock.contains(&to) {
        interlock.push(to);
    }
}

/// States that both outputs of a pair are led to without a command, each pair once.
fn check_pairs(written: &[config::Output], index: usize, partners: &[usize], report: &mut Report) {
    let initial = |output: &config::Output| match output.initial {
        InitialState::Safe => Some(output.safe),
        InitialState::Level(level) => Some(level),
        InitialState::Last | InitialState::Keep => None,
    };
    let exit = |output: &config::Output| match output.on_exit {
        config::ExitState::Safe => Some(output.safe),
        config::ExitState::Level(level) => Some(level),
        config::ExitState::Keep => None,
    };
    let one = &written[index];
    for other in partners.iter().filter(|partner| **partner > index).map(|partner| &written[*partner]) {
        let both = |key, state: &dyn Fn(&config::Output) -> Option<Level>| {
            // Where a state is not given it is the safe one.
            let doubtful = |output: &config::Output, key| report.doubts(&["outputs", &output.name, key]);
            let certain = |output: &config::Output| !doubtful(output, key) && !doubtful(output, "safe");
            [one, other].into_iter().all(|output| state(output).is_some_and(Level::is_on) && certain(output))
        };
        let safe = both("safe", &|output| Some(output.safe));
        let states = [
            ("safe", safe),
            ("initial", !safe && both("initial", &initial)),
            ("on_exit", !safe && both("on_exit", &exit)),
        ];
        for (key, _) in states.into_iter().filter(|(_, is_on)| *is_on) {
            let message =
                format!("`{}` and `{}` are interlocked, but `{key}` of both is on", one.name.value, other.name.value);
            report.fault(&other.name.origin, message, format!("one of them needs `{key} = \"off\"`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use crate::config::{Config, ExitState, InitialState, Interlock, Output};
    use crate::line::Level;
    use std::time::Duration;

    fn interlocked(with: &[&str], switch: bool, gap_ms: u64) -> Option<Interlock> {
        let with = with.iter().map(|name| located(name)).collect();
        Some(Interlock { with, switch, gap: Duration::from_millis(gap_ms) })
    }

    fn outputs(outputs: impl IntoIterator<Item = Output>) -> Config {
        Config { outputs: outputs.into_iter().collect(), ..config() }
    }

    #[test]
    fn an_interlock_binds_both_sides() {
        let plan = plan(&outputs([
            Output { interlock: interlocked(&["down", "stop"], true, 100), ..output("up", "1") },
            Output { interlock: interlocked(&["up"], false, 250), ..output("down", "2") },
            output("stop", "3"),
            output("lamp", "4"),
        ]));
        let of = |i: usize| {
            let limits = &plan.outputs[i].spec.limits;
            (limits.interlock.clone(), limits.switch, limits.gap.as_millis())
        };
        assert_eq!(of(0), (vec![1, 2], true, 250));
        assert_eq!(of(1), (vec![0], false, 250));
        assert_eq!(of(2), (vec![0], true, 100));
        assert_eq!(of(3), (vec![], false, 0));
    }

    #[test]
    fn names_must_be_others() {
        let unknown =
            outputs([Output { interlock: interlocked(&["dwn"], false, 0), ..output("up", "1") }, output("down", "2")]);
        let fault_ = fault(&unknown);
        assert_eq!(fault_.message, "no output is called `dwn`");
        assert_eq!(fault_.help.as_deref(), Some("did you mean `down`? there is `down`"));
    }

    #[test]
    fn no_pair_is_led_to_both_on() {
        let on = |output: Output| Output { safe: Level::ON, ..output };
        let base = || [Output { interlock: interlocked(&["b"], false, 0), ..output("a", "1") }, output("b", "2")];
        let [a, b] = base();
        assert_eq!(fault(&outputs([on(a), on(b)])).message, "`a` and `b` are interlocked, but `safe` of both is on");
        let with = |change: fn(Output) -> Output| outputs(base().map(change));
        let initial = with(|o| Output { initial: InitialState::Level(Level::ON), ..o });
        assert_eq!(fault(&initial).message, "`a` and `b` are interlocked, but `initial` of both is on");
        let exit = with(|o| Output { on_exit: ExitState::Level(Level::ON), ..o });
        assert_eq!(fault(&exit).message, "`a` and `b` are interlocked, but `on_exit` of both is on");
        let [a, b] = base();
        plan(&outputs([on(a), b]));
    }
}
