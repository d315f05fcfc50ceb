//! What differs between two plans, in the words of the configuration, for the log. Nothing is decided by it.

use super::configure::Identity;
use crate::outputs::{self, SourceId};
use crate::plan::{self, Plan};
use crate::publish::sensors::Adopted;

/// The most names of a kind that are told.
const MOST: usize = 20;

/// What differs, as it is called in the configuration: `sensors.roof`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// New.
    pub added: Vec<String>,
    /// There before and after, not quite as it was.
    pub changed: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
}

/// A plan, and what its sources are.
pub(super) struct Known<'a> {
    pub plan: &'a Plan,
    pub sources: &'a [Identity],
}

impl Differences {
    /// Of everything but sensors.
    pub(super) fn between(old: &Known<'_>, new: &Known<'_>) -> Self {
        let mut differences = Self::default();
        let whole = |plan: &Plan| (plan.name.clone(), plan.status_topic.clone(), plan.get_topic.clone());
        if whole(old.plan) != whole(new.plan) {
            differences.changed.push("gateway".to_owned());
        }
        let metrics = |plan: &Plan| (plan.metrics_topic.clone(), plan.metrics_interval);
        if metrics(old.plan) != metrics(new.plan) {
            differences.changed.push("metrics".to_owned());
        }
        let same = |one: &plan::Output, other: &plan::Output| {
            plan::Output { spec: renumbered(one, other, old, new), ..one.clone() } == *other
        };
        differences.table("outputs", &old.plan.outputs, &new.plan.outputs, |output| &output.spec.name, same);
        let same = |one: &plan::Input, other: &plan::Input| one == other;
        differences.table("inputs", &old.plan.inputs, &new.plan.inputs, |input| &input.spec.name, same);
        differences
    }

    /// Of the plan's sensors, of which `gone` are no more.
    pub(super) fn sensors(
        &mut self,
        plan: &Plan,
        adopted: &[Adopted],
        gone: &[String],
        same_job: &dyn Fn(usize) -> bool,
    ) {
        for (index, (sensor, adopted)) in plan.sensors.iter().zip(adopted).enumerate() {
            let called = format!("sensors.{}", sensor.name);
            if !adopted.known {
                self.added.push(called);
            } else if adopted.republished || !same_job(index) {
                self.changed.push(called);
            }
        }
        self.removed.extend(gone.iter().map(|name| format!("sensors.{name}")));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Tells the log.
    pub fn tell(&self, reconnects: bool) {
        if self.is_empty() && !reconnects {
            log::info!("configuration reloaded, nothing has changed");
            return;
        }
        let [added, changed, removed] = [&self.added, &self.changed, &self.removed].map(|names| list(names));
        log::info!(added, changed, removed, reconnects; "configuration reloaded");
    }

    fn table<T>(
        &mut self,
        table: &str,
        old: &[T],
        new: &[T],
        name: impl Fn(&T) -> &String,
        same: impl Fn(&T, &T) -> bool,
    ) {
        let called = |one: &T| format!("{table}.{}", name(one));
        for one in new {
            match old.iter().find(|old| name(old) == name(one)) {
                None => self.added.push(called(one)),
                Some(old) if !same(old, one) => self.changed.push(called(one)),
                Some(_) => {}
            }
        }
        let gone = old.iter().filter(|old| !new.iter().any(|new| name(new) == name(old)));
        self.removed.extend(gone.map(called));
    }
}

/// The specification of `one` with the numbers that partners and sources have in the new plan.
fn renumbered(one: &plan::Output, other: &plan::Output, old: &Known<'_>, new: &Known<'_>) -> outputs::Spec {
    let mut spec = one.spec.clone();
    let partner = |number: &usize| {
        let name = &old.plan.outputs[*number].spec.name;
        new.plan.outputs.iter().position(|output| output.spec.name == *name)
    };
    spec.limits.interlock = spec.limits.interlock.iter().filter_map(partner).collect();
    let renumber = |source: &mut SourceId, now: SourceId| {
        if old.sources[*source] == new.sources[now] {
            *source = now;
        }
    };
    if let (Some(follow), Some(now)) = (&mut spec.follow, &other.spec.follow) {
        renumber(&mut follow.source, now.source);
    }
    if let (Some(require), Some(now)) = (&mut spec.require, &other.spec.require) {
        renumber(&mut require.source, now.source);
    }
    spec
}

/// The first of the names, and how many more there are.
fn list(names: &[String]) -> String {
    let more = names.len().saturating_sub(MOST);
    let shown = names[..names.len() - more].join(" ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let names: Vec<String> = (0..23).map(|number| format!("sensors.s{number}")).collect();
        assert_eq!(list(&names[..2]), "sensors.s0 sensors.s1");
        assert!(list(&names).ends_with("sensors.s19 and 3 more"));
        assert_eq!(list(&[]), "");
    }
}
