//! The account of what was measured: every reading at QoS 1 or 2 must arrive, live or as history, or be counted as dropped.
//!
//! A reading is known by its topic and its time: what the clock said then, or, where somebody has set the clock since, what
//! the clock would say now of when it was. It also knows the newest reading of each topic, which is what must be
//! retained once everything has settled.

use crate::support::server::Arrived;
use board2mqtt::clock::{Stamp, Wall};
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
    /// Its uptime, and what the clock said then.
    newest: Option<(u64, Option<i64>)>,
}

/// When a reading was taken, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Time {
    Date(i64),
    Uptime(u64),
}

/// Clocks that differ by more than this many milliseconds: somebody has set one.
const SET_MS: u64 = 60_000;

/// The account.
#[derive(Default)]
pub struct Account {
    series: Vec<Series>,
    /// Live and history topics to the series.
    topics: BTreeMap<String, usize>,
    /// By series and uptime, with what the clock said then.
    outstanding: BTreeMap<(usize, u64), Option<i64>>,
    /// What the clock was ahead of the uptime, whenever somebody looked.
    ahead: BTreeSet<i64>,
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
                let (uptime, date) = (uptime(report.stamp), report.stamp.wall.map(|wall| wall.0));
                series.newest = Some((uptime, date));
                self.outstanding.insert((number, uptime), date);
                self.measured += 1;
            }
        }
    }

    /// What the clock says.
    pub fn look_at_clock(&mut self, now: Stamp) {
        let ahead = |wall: Wall| wall.0 - i64::try_from(uptime(now)).expect("some years");
        self.ahead.extend(now.wall.map(ahead));
    }

    /// What the server has taken.
    pub fn arrived(&mut self, message: &Arrived) {
        let Some(series) = self.topics.get(&message.topic).copied() else { return };
        let is_live = self.series[series].topic == message.topic;
        let mut count = 0;
        for time in times(&message.payload) {
            if let Some(uptime) = self.find(series, time) {
                self.outstanding.remove(&(series, uptime));
            }
            count += 1;
        }
        if is_live { self.live += count } else { self.history += count }
    }

    /// The uptimes that a date may be counted from.
    fn counted(&self, date: i64) -> impl Iterator<Item = u64> {
        self.ahead.iter().filter_map(move |ahead| u64::try_from(date - ahead).ok())
    }

    /// The uptime of an outstanding reading with this time.
    fn find(&self, series: usize, time: Time) -> Option<u64> {
        let date = match time {
            Time::Uptime(uptime) => return Some(uptime),
            Time::Date(date) => date,
        };
        let is_it = |uptime: &u64| match self.outstanding.get(&(series, *uptime)) {
            None => false,
            Some(None) => true,
            Some(Some(told)) => *told == date || told.abs_diff(date) > SET_MS,
        };
        let told = || {
            let mut all = self.outstanding.range((series, 0)..=(series, u64::MAX));
            all.find_map(|((_, uptime), told)| (*told == Some(date)).then_some(*uptime))
        };
        // What the clock said stands while nobody has set it.
        self.counted(date).find(is_it).or_else(told)
    }

    /// Closes the account once everything has settled: what is missing must have been counted.
    pub fn settle(&mut self, dropped: u64) -> usize {
        let missing = self.outstanding.len();
        let first = self.outstanding.first_key_value();
        let first = first.map(|((series, uptime), date)| (&self.series[*series].topic, uptime, date));
        assert!(missing as u64 <= dropped, "{missing} readings are lost, {dropped} were counted; the first: {first:?}");
        self.outstanding.clear();
        missing
    }

    /// Nothing older than the newest is retained.
    pub fn inspect(&self, retained: &BTreeMap<String, Vec<u8>>) {
        for series in self.series.iter().filter(|series| series.retained) {
            let kept = retained.get(&series.topic).and_then(|payload| times(payload).next());
            let is_newest = match (kept, series.newest) {
                (Some(Time::Date(date)), Some((uptime, told))) => {
                    told == Some(date) || self.counted(date).any(|at| at == uptime)
                }
                (Some(Time::Uptime(at)), Some((uptime, _))) => at == uptime,
                (kept, newest) => kept.is_none() && newest.is_none(),
            };
            assert!(is_newest, "{} is {kept:?}, not the newest: {:?}", series.topic, series.newest);
        }
    }
}

fn uptime(stamp: Stamp) -> u64 {
    stamp.at.as_nanos() / 1_000_000
}

/// The times in a payload: `"time":"…"`, or `"time":null,"uptime_ms":…`.
fn times(payload: &[u8]) -> impl Iterator<Item = Time> {
    let text = std::str::from_utf8(payload).expect("payloads are text");
    text.split("\"time\":").skip(1).map(|rest| match rest.strip_prefix("null,\"uptime_ms\":") {
        Some(number) => {
            let digits = number.split(|c: char| !c.is_ascii_digit()).next();
            Time::Uptime(digits.and_then(|digits| digits.parse().ok()).expect("a number"))
        }
        None => Time::Date(rest[1..].split('"').next().and_then(Wall::parse).expect("a date").0),
    })
}
