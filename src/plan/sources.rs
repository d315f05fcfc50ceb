//! What outputs follow or require: `sensor.quantity` of this board, or somebody's topic, each resolved once.

use super::claims::Owner;
use super::report::allowed;
use super::sensor::{measured, measures};
use super::{Context, Source};
use crate::config::{self, Located};
use crate::outputs::SourceId;
use crate::quantity::Quantity;
use crate::sensors::Driver;
use std::time::Duration;

/// The sources found so far; a place in the list is a [`SourceId`].
pub(super) struct Sources<'d> {
    drivers: &'d [Option<&'static Driver>],
    pub found: Vec<Source>,
}

impl<'d> Sources<'d> {
    /// None yet; `drivers` are those of the configuration's sensors.
    pub fn new(drivers: &'d [Option<&'static Driver>]) -> Self {
        Self { drivers, found: Vec::new() }
    }

    /// Whether an output follows or requires this quantity of that sensor.
    pub fn wants(&self, sensor: usize, quantity: Quantity) -> bool {
        self.found.contains(&Source::Reading { sensor, quantity })
    }

    /// Resolves what `output` follows or requires; `None` where something is wrong, which has then been reported.
    pub fn resolve<'a>(
        &mut self,
        source: &'a config::Source,
        stale_after: &Located<Duration>,
        output: &'a str,
        cx: &mut Context<'a>,
    ) -> Option<SourceId> {
        let source = match source {
            config::Source::Topic(topic, unit) => {
                let name = cx.templates.foreign_topic(topic, &mut cx.report)?;
                cx.claims.add(&name, Owner::Followed(output), &topic.origin);
                Source::Topic { topic: name, unit: unit.as_ref().map(|unit| unit.value) }
            }
            config::Source::Reading(name) => self.local(name, stale_after, cx)?,
        };
        Some(self.found.iter().position(|found| *found == source).unwrap_or_else(|| {
            self.found.push(source);
            self.found.len() - 1
        }))
    }

    fn local(&self, name: &Located<String>, stale_after: &Located<Duration>, cx: &mut Context<'_>) -> Option<Source> {
        let Some((sensor, quantity)) = name.rsplit_once('.') else {
            let help = "write it as `sensor.quantity`, such as `roof.temperature`";
            cx.report.fault(&name.origin, format!("`{}` names no reading", name.value), help);
            return None;
        };
        let sensors = &cx.config.sensors;
        let Some(index) = sensors.iter().position(|s| s.name.value == sensor) else {
            if cx.report.may_name("sensors", sensor) {
                return None;
            }
            let help = allowed(sensor, sensors.iter().map(|s| s.name.value.as_str()));
            cx.report.fault(&name.origin, format!("no sensor is called `{sensor}`"), help);
            return None;
        };
        let driver = self.drivers[index]?;
        let Some(quantity) = Quantity::from_name(quantity).filter(|quantity| measures(driver, *quantity)) else {
            let help = allowed(quantity, measured(driver).map(Quantity::name));
            cx.report.fault(&name.origin, format!("sensor `{sensor}` has no `{quantity}`"), help);
            return None;
        };
        let interval = sensors[index].interval;
        if stale_after.value <= interval && !cx.report.doubts(&["sensors", sensor, "interval"]) {
            let (stale, every) = (humantime::format_duration(stale_after.value), humantime::format_duration(interval));
            let message = format!("`stale_after` of {stale} is over before `{sensor}` is read again, every {every}");
            cx.report.fault(&stale_after.origin, message, "more than two intervals forgive one failed read");
        }
        Some(Source::Reading { sensor: index, quantity })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use crate::config::Config;
    use crate::plan::Source;
    use crate::quantity::Quantity;
    use std::time::Duration;

    fn following(source: crate::config::Source) -> Config {
        let mut config = config();
        config.sensors.push(sensor("roof", "bmp280", Some(0x76)));
        config.outputs.push(crate::config::Output { follow: Some(follow(source)), ..output("fan", "GPIO5") });
        config
    }

    #[test]
    fn readings_are_found_by_sensor_and_quantity() {
        let plan = plan(&following(local("roof.temperature")));
        assert_eq!(plan.sources, [Source::Reading { sensor: 0, quantity: Quantity::Temperature }]);
        assert_eq!(plan.outputs[0].spec.follow.as_ref().map(|follow| follow.source), Some(0));
    }

    #[test]
    fn misspelt_readings_get_a_proposal() {
        for (name, message, help) in [
            ("roof", "`roof` names no reading", "sensor.quantity"),
            ("rof.temperature", "no sensor is called `rof`", "did you mean `roof`?"),
            ("roof.temprature", "sensor `roof` has no `temprature`", "did you mean `temperature`?"),
            ("roof.humidity", "sensor `roof` has no `humidity`", "`altitude`"),
        ] {
            let fault = fault(&following(local(name)));
            assert_eq!(fault.message, message);
            assert!(fault.help.as_ref().expect("help").contains(help), "{fault:?}");
        }
    }

    #[test]
    fn stale_after_must_outlast_the_interval() {
        let mut config = following(local("roof.altitude"));
        config.sensors[0].interval = Duration::from_secs(10);
        assert_eq!(fault(&config).message, "`stale_after` of 10s is over before `roof` is read again, every 10s");
    }

    #[test]
    fn one_source_serves_all_who_follow_it() {
        let mut config = following(foreign("a/b"));
        config.outputs.push(crate::config::Output { follow: Some(follow(foreign("a/b"))), ..output("siren", "GPIO6") });
        config
            .outputs
            .push(crate::config::Output { follow: Some(follow(local("roof.altitude"))), ..output("x", "GPIO7") });
        let plan = plan(&config);
        let ids: Vec<_> = plan.outputs.iter().map(|o| o.spec.follow.as_ref().expect("follows").source).collect();
        assert_eq!((ids, plan.sources.len()), (vec![0, 0, 1], 2));
    }

    #[test]
    fn followed_topics_are_checked() {
        assert_eq!(fault(&following(foreign("a/#"))).message, "a topic must not contain the wildcard `#`");
        let own = warning(&following(foreign("board2mqtt/drone01/roof/altitude")));
        assert!(own.help.expect("help").contains("`reading = \"roof.altitude\"`"));
    }
}
