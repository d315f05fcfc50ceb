//! Reads `[outputs.*]`: what is driven, its limits, and what it follows and requires.

use super::inputs::{active, line};
use super::reader::View;
use super::sensors::{name_of, named};
use super::tree::{Data, Node};
use super::{Diagnostic, ExitState, Follow, InitialState, Interlock, Located, Output, Require, Rule, Source};
use crate::line::{Drive, Level, PwmId};
use std::time::Duration;

/// `[outputs.*]`
pub(super) fn outputs(root: &View<'_>) -> Vec<Output> {
    named(root, "outputs", |view| output(&view.only_known_keys()))
}

fn output(view: &View<'_>) -> Option<Output> {
    let pwm = view.node("pwm").is_some();
    let drive = drive(view);
    Some(Output {
        name: name_of(view),
        safe: level(view, "safe", pwm).unwrap_or_default(),
        initial: initial(view, pwm),
        on_exit: on_exit(view, pwm),
        on_server_loss: on_server_loss(view),
        max_on: view.plain("max_on"),
        min_off: view.plain("min_off"),
        renew_within: view.plain("renew_within"),
        interlock: view.table("interlock").and_then(|table| interlock(&table, &name_of(view))),
        accept_retained: view.value("accept_retained"),
        follow: view.table("follow").and_then(|table| follow(&table, pwm)),
        require: view.table("require").and_then(|table| require(&table)),
        topic: view.optional("topic"),
        qos: view.plain("qos"),
        retain: view.plain("retain"),
        // Last, so that everything else has been looked at where the drive is at fault.
        drive: drive?,
    })
}

fn drive(view: &View<'_>) -> Option<Located<Drive>> {
    let active = active(view);
    let origin;
    let value = if view.exactly_one(&["line", "pwm"])? == "line" {
        let line = line(view)?;
        origin = line.origin;
        Drive::Switch { line: line.value, active }
    } else {
        let table = view.table("pwm")?;
        origin = table.origin.clone();
        let frequency = table.required("frequency");
        Drive::Pwm { channel: channel(&table)?, frequency_hz: frequency?.value, active }
    };
    Some(Located { value, origin })
}

fn channel(table: &View<'_>) -> Option<PwmId> {
    if table.exactly_one(&["line", "chip"])? == "line" {
        if table.node("channel").is_some() {
            table.fault("channel", "goes with `chip` only", "a line's name already tells the channel");
        }
        return table.plain("line").map(PwmId::Line);
    }
    let (chip, channel) = (table.plain("chip"), table.required("channel"));
    Some(PwmId::Channel { chip: chip?, channel: channel?.value })
}

/// A level that stands for itself; `None` where the key is absent, is a word, or has been noted.
fn level(view: &View<'_>, name: &str, pwm: bool) -> Option<Level> {
    let node = view.node(name)?;
    let level = match &node.data {
        Data::Flag(on) => Some(Level::switch(*on)),
        Data::Text(text) if text.eq_ignore_ascii_case("on") => Some(Level::ON),
        Data::Text(text) if text.eq_ignore_ascii_case("off") => Some(Level::OFF),
        Data::Whole(percent) => Level::from_percent(*percent as f64),
        Data::Number(percent) => Level::from_percent(*percent),
        _ => None,
    };
    let number = matches!(node.data, Data::Whole(_) | Data::Number(_));
    if number && level.is_some() && !pwm {
        view.fault(name, format!("is {}, but this output only switches", node.data), "write \"on\" or \"off\"");
    } else if level.is_none() {
        view.misfit(name, node);
    }
    level
}

/// The value of a key that may be a word of its own.
fn word<'a>(view: &View<'a>, name: &str, words: &[&str]) -> Option<&'a str> {
    view.node(name)?.data.text().filter(|text| words.contains(text))
}

fn initial(view: &View<'_>, pwm: bool) -> InitialState {
    match word(view, "initial", &["safe", "last", "keep"]) {
        Some("last") => InitialState::Last,
        Some("keep") => InitialState::Keep,
        Some(_) => InitialState::Safe,
        None => level(view, "initial", pwm).map_or(InitialState::Safe, InitialState::Level),
    }
}

fn on_exit(view: &View<'_>, pwm: bool) -> ExitState {
    match word(view, "on_exit", &["safe", "keep"]) {
        Some("keep") => ExitState::Keep,
        Some(_) => ExitState::Safe,
        None => level(view, "on_exit", pwm).map_or(ExitState::Safe, ExitState::Level),
    }
}

fn on_server_loss(view: &View<'_>) -> Option<Duration> {
    if word(view, "on_server_loss", &["keep"]).is_some() {
        return None;
    }
    view.table("on_server_loss")?.required("after").map(|after| after.value)
}

fn interlock(view: &View<'_>, own: &str) -> Option<Interlock> {
    let (switch, gap) = (view.choice("conflict", [false, true]), view.value("gap"));
    let Some(node) = view.node("with") else {
        view.missing("with");
        return None;
    };
    let Data::List(items) = &node.data else {
        view.misfit("with", node);
        return None;
    };
    if !(1..=64).contains(&items.len()) {
        let found = format!("must name 1 to 64 outputs, found {}", items.len());
        view.fault("with", found, "name the outputs that must not be on together with this one");
        return None;
    }
    let mut with: Vec<Located<String>> = Vec::new();
    for item in items {
        let message = match item.data.text() {
            None => format!("has {}, which is no name", item.data),
            Some(name) if name == own => "has this output itself".to_owned(),
            Some(name) if with.iter().any(|other| other.value == name) => format!("has {} twice", item.data),
            Some(name) => {
                with.push(Located { value: name.to_owned(), origin: item.origin.clone() });
                continue;
            }
        };
        let fault = Diagnostic::fault(&item.origin, format!("{} {message}", view.name_of("with")));
        view.context.note(fault.help("name other outputs, each once"));
        view.doubt("with");
    }
    Some(Interlock { with, switch, gap })
}

fn source(view: &View<'_>) -> Option<Source> {
    let unit = view.optional("unit");
    if view.exactly_one(&["topic", "reading"])? == "topic" {
        return Some(Source::Topic(view.optional("topic")?, unit));
    }
    if view.node("unit").is_some() {
        view.fault("unit", "goes with `topic` only", "a reading is taken in the unit it is published in");
    }
    view.optional("reading").map(Source::Reading)
}

fn follow(view: &View<'_>, pwm: bool) -> Option<Follow> {
    let source = source(view);
    let rule = rule(view, pwm);
    let stale_after = view.required("stale_after");
    Some(Follow { source: source?, rule: rule?, stale_after: stale_after? })
}

fn rule(view: &View<'_>, pwm: bool) -> Option<Rule> {
    const FORMS: &str = "give `on_above` and `off_below`, or `on_below` and `off_above`, or `curve`";
    const KEYS: [&str; 5] = ["on_above", "off_below", "on_below", "off_above", "curve"];
    let given = KEYS.map(|name| view.node(name).is_some());
    let [on_above, off_below, on_below, off_above] =
        ["on_above", "off_below", "on_below", "off_above"].map(|name| view.plain::<f64>(name));
    match given {
        [true, true, false, false, false] => {
            let (on_above, off_below) = (on_above?, off_below?);
            if off_below > on_above {
                view.fault("off_below", "must not be above `on_above`", "between the two the output stays as it is");
            }
            Some(Rule::OnAbove { on_above, off_below })
        }
        [false, false, true, true, false] => {
            let (on_below, off_above) = (on_below?, off_above?);
            if off_above < on_below {
                view.fault("off_above", "must not be below `on_below`", "between the two the output stays as it is");
            }
            Some(Rule::OnBelow { on_below, off_above })
        }
        [false, false, false, false, true] => curve(view, pwm),
        [false, false, false, false, false] => {
            view.fault_here("does not say when the output is on", FORMS);
            None
        }
        _ => {
            let found: Vec<_> =
                KEYS.iter().zip(given).filter(|(_, given)| *given).map(|(key, _)| format!("`{key}`")).collect();
            view.fault_here(format!("has {}", found.join(", ")), FORMS);
            None
        }
    }
}

fn curve(view: &View<'_>, pwm: bool) -> Option<Rule> {
    let node = view.node("curve")?;
    if !pwm {
        view.fault("curve", "needs a `pwm` output", "a switch follows with `on_above` and `off_below`");
    }
    let Data::List(items) = &node.data else {
        view.misfit("curve", node);
        return None;
    };
    if !(2..=32).contains(&items.len()) {
        view.fault("curve", format!("has {} points", items.len()), "a curve has 2 to 32 points [value, percent]");
    }
    let mut points: Vec<(f64, f64)> = Vec::new();
    for item in items {
        let message = match point(item) {
            None => "has a point that is not [value, percent] with a percentage from 0 to 100",
            Some((value, _)) if points.last().is_some_and(|(before, _)| *before >= value) => {
                "has a point whose value is not above the one before"
            }
            Some(point) => {
                points.push(point);
                continue;
            }
        };
        let fault = Diagnostic::fault(&item.origin, format!("{} {message}", view.name_of("curve")));
        view.context.note(fault.help("for example [[24, 0], [26, 20], [34, 100]]"));
    }
    Some(Rule::Curve(points))
}

fn point(item: &Node) -> Option<(f64, f64)> {
    let number = |node: &Node| super::values::Fit::fit(&node.data, super::keys::Kind::Number);
    let Data::List(pair) = &item.data else { return None };
    let [value, percent] = pair.as_slice() else { return None };
    let (value, percent) = (number(value)?, number(percent)?);
    Level::from_percent(percent).map(|_| (value, percent))
}

fn require(view: &View<'_>) -> Option<Require> {
    let source = source(view);
    let (below, above) = (view.plain("below"), view.plain("above"));
    if view.node("below").is_none() && view.node("above").is_none() {
        view.fault_here("does not say what must hold", "give `below`, `above` or both");
    }
    if let (Some(below), Some(above)) = (below, above)
        && above >= below
    {
        view.fault("above", "must be less than `below`", "the value must be above the one and below the other");
    }
    let stale_after = view.required("stale_after");
    Some(Require { source: source?, below, above, stale_after: stale_after? })
}
