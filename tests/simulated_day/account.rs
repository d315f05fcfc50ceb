//! The account of what was measured: every reading at QoS 1 or 2 must arrive, live or as history, or be counted as dropped.
//!
//! A reading is known by its topic and its time. It also knows the newest reading of each topic, which is what must be
//! retained once everything has settled.

use crate::support::server::Arrived;
use board2mqtt::clock::Stamp;
use board2mqtt::plan::Plan;
use board2mqtt::poll::Report;
use board2mqtt::quantity::Quantity;
use board2mqtt::topic::QoS;
use std::collections::{BTreeMap, BTreeSet};

/// A reading whose every good value is published.
struct Series {
    sensor: usize,
    quantity: Quantity,
    topic: String,
    min: f64,
    max: f64,
    retained: bool,
    newest: Option<String>,
}

/// The account.
#[derive(Default)]
pub struct Account {
    series: Vec<Series>,
    /// Live and history topics to the series.
    topics: BTreeMap<String, usize>,
    outstanding: BTreeSet<(usize, String)>,
    pub measured: u64,
    pub live: u64,
    pub history: u64,
}

impl Account {
    pub fn new(plan: &Plan) -> Self {
        let mut account = Self::default();
        for (sensor, planned) in plan.sensors.iter().enumerate() {
            for reading in &planned.readings {
                let (Some(topic), Some(history)) = (&reading.topic, &reading.history) else { continue };
                if reading.qos == QoS::AtMostOnce || reading.process.change.is_some() {
                    continue;
                }
                let number = account.series.len();
                account.topics.extend([(topic.clone(), number), (history.clone(), number)]);
                account.series.push(Series {
                    sensor,
                    quantity: reading.quantity,
                    topic: topic.clone(),
                    min: reading.process.min.unwrap_or(f64::NEG_INFINITY),
                    max: reading.process.max.unwrap_or(f64::INFINITY),
                    retained: reading.retain,
                    newest: None,
                });
            }
        }
        account
    }

    /// What was read.
    pub fn measured(&mut self, report: &Report) {
        let Ok(values) = &report.sample else { return };
        for (number, series) in self.series.iter_mut().enumerate().filter(|(_, s)| s.sensor == report.sensor) {
            let source = if series.quantity == Quantity::Altitude { Quantity::Pressure } else { series.quantity };
            if values.get(source).is_some_and(|value| (series.min..=series.max).contains(&value)) {
                let time = time(report.stamp);
                series.newest = Some(time.clone());
                self.outstanding.insert((number, time));
                self.measured += 1;
            }
        }
    }

    /// What the server has taken.
    pub fn arrived(&mut self, message: &Arrived) {
        let Some(series) = self.topics.get(&message.topic).copied() else { return };
        let is_live = self.series[series].topic == message.topic;
        let mut count = 0;
        for time in times(&message.payload) {
            self.outstanding.remove(&(series, time.to_owned()));
            count += 1;
        }
        if is_live { self.live += count } else { self.history += count }
    }

    /// Closes the account once everything has settled: what is missing must have been counted.
    pub fn settle(&mut self, dropped: u64) -> usize {
        let missing = self.outstanding.len();
        let first = self.outstanding.first().map(|(series, time)| (self.series[*series].topic.clone(), time.clone()));
        assert!(missing as u64 <= dropped, "{missing} readings are lost, {dropped} were counted; the first: {first:?}");
        self.outstanding.clear();
        missing
    }

    /// Nothing older than the newest is retained.
    pub fn inspect(&self, retained: &BTreeMap<String, Vec<u8>>) {
        for series in self.series.iter().filter(|series| series.retained) {
            let kept = retained.get(&series.topic).and_then(|payload| times(payload).next());
            assert_eq!(kept, series.newest.as_deref(), "{} is not the newest", series.topic);
        }
    }
}

/// A time as it stands in payloads.
fn time(stamp: Stamp) -> String {
    stamp.wall.map_or_else(|| (stamp.at.as_nanos() / 1_000_000).to_string(), |wall| wall.to_string())
}

/// The times in a payload: `"time":"…"`, or `"time":null,"uptime_ms":…`.
fn times(payload: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(payload).expect("payloads are text");
    text.split("\"time\":").skip(1).map(|rest| match rest.strip_prefix("null,\"uptime_ms\":") {
        Some(number) => number.split(|c: char| !c.is_ascii_digit()).next().expect("a number"),
        None => rest[1..].split('"').next().expect("a date"),
    })
}
