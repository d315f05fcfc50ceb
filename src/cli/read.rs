//! `board2mqtt read`: reads sensors now and prints what they say, no server needed.

use super::arguments::Arguments;
use super::setup::Checked;
use super::{Failed, setup, write_out};
use crate::board::Board;
use crate::clock::{Clock, SystemClock};
use crate::plan::{self, Plan};
use crate::poll::{Job, Poller, Report};
use crate::process::{Outcome, Pipeline};
use crate::publish::reference::Reference;
use crate::quantity::Quantity;
use crate::sample::Values;
use serde_json::json;
use std::fmt::Write;
use std::sync::Arc;

/// Reads once, or again at each sensor's interval.
pub fn run(arguments: &Arguments, names: &[String], as_json: bool, watch: bool) -> Result<(), Failed> {
    let checked = setup::load(arguments)?;
    let wanted = wanted(&checked, names)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let board = setup::board(&checked, &clock)?;
    let mut reader = Reader::new(checked.plan, &wanted, board, clock.clone());
    let mut widest = true;
    loop {
        let rows = reader.read(clock.now());
        let failed = rows.iter().filter(|row| row.failure.is_some()).count();
        write_out(&if as_json { lines(&rows) } else { table(&rows, std::mem::take(&mut widest)) })?;
        match (watch, failed) {
            (true, _) => clock.sleep_until(reader.due().unwrap_or_default()),
            (false, 0) => return Ok(()),
            (false, n) => return Err(anyhow::anyhow!("{n} of {} readings failed", rows.len()).into()),
        }
    }
}

fn wanted(checked: &Checked, names: &[String]) -> Result<Vec<usize>, Failed> {
    let sensors = &checked.plan.sensors;
    if names.is_empty() {
        return Ok((0..sensors.len()).collect());
    }
    let find = |name: &String| {
        let all = || sensors.iter().map(|sensor| sensor.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = sensors.iter().position(|sensor| sensor.name == *name);
        found.ok_or_else(|| anyhow::anyhow!("no sensor is called `{name}`; there are: {}", all()).into())
    };
    names.iter().map(find).collect()
}

/// One line of the table.
struct Row {
    sensor: String,
    quantity: Option<Quantity>,
    value: Option<String>,
    unit: &'static str,
    failure: Option<String>,
    time: Option<String>,
}

struct Reader {
    plan: Plan,
    poller: Poller,
    clock: Arc<dyn Clock>,
}

impl Reader {
    fn new(plan: Plan, wanted: &[usize], board: Arc<dyn Board>, clock: Arc<dyn Clock>) -> Self {
        let jobs = wanted.iter().map(|index| {
            let sensor = &plan.sensors[*index];
            Job {
                sensor: *index,
                driver: sensor.driver,
                place: sensor.place.clone(),
                options: sensor.options.clone(),
                interval: sensor.interval,
                deadline: sensor.deadline,
            }
        });
        let poller = Poller::new(jobs.collect(), board, clock.clone(), clock.now());
        Self { plan, poller, clock }
    }

    fn due(&self) -> Option<crate::clock::Instant> {
        self.poller.due()
    }

    fn read(&mut self, now: crate::clock::Instant) -> Vec<Row> {
        let mut reports = Vec::new();
        self.poller.run(now.max(self.clock.now()), |_, _| (), |report| reports.push(report));
        reports.iter().flat_map(|report| rows(&self.plan.sensors[report.sensor], report)).collect()
    }
}

fn rows(sensor: &plan::Sensor, report: &Report) -> Vec<Row> {
    let row = |quantity| Row {
        sensor: sensor.name.clone(),
        quantity,
        value: None,
        unit: "",
        failure: None,
        time: report.stamp.wall.map(|wall| wall.to_string()),
    };
    let values = match &report.sample {
        Ok(values) => *values,
        Err(failure) => return vec![Row { failure: Some(failure.to_string()), ..row(None) }],
    };
    sensor
        .readings
        .iter()
        .map(|reading| published(sensor, reading, values, report, row(Some(reading.quantity))))
        .collect()
}

/// What would be published of one quantity now, without what only time can give (filters, a topic's sea-level pressure).
fn published(sensor: &plan::Sensor, reading: &plan::Reading, values: Values, report: &Report, row: Row) -> Row {
    let altitude = || {
        let pressure = values.get(Quantity::Pressure)?;
        Some(Reference::new(sensor.sea_level.clone()).altitude(pressure, report.stamp).map(|(metres, _)| metres))
    };
    let canonical = match reading.quantity {
        Quantity::Altitude => altitude(),
        quantity => values.get(quantity).map(Ok),
    };
    let canonical = match canonical {
        Some(Ok(canonical)) => canonical,
        Some(Err(failure)) => return Row { failure: Some(failure.to_string()), ..row },
        None => return Row { failure: Some("the sensor does not give it".to_owned()), ..row },
    };
    let unit = reading.process.unit.symbol();
    match Pipeline::new(&reading.process).push(canonical, report.stamp.at) {
        Outcome::Publish(value) | Outcome::Unchanged(value) => {
            let decimals = usize::from(reading.decimals);
            Row { value: Some(format!("{value:.decimals$}")), unit, ..row }
        }
        Outcome::OutOfRange { value } => Row { failure: Some(format!("out-of-range: {value} {unit}")), ..row },
        Outcome::NotFinite => Row { failure: Some("out-of-range: not a number".to_owned()), ..row },
    }
}

fn table(rows: &[Row], with_head: bool) -> String {
    let mut text = String::new();
    if with_head {
        text.push_str("sensor            quantity           value  unit\n");
    }
    for row in rows {
        let quantity = row.quantity.map(Quantity::name).unwrap_or_default();
        let shown = row.failure.as_ref().or(row.value.as_ref()).map(String::as_str).unwrap_or_default();
        writeln!(text, "{:<16}  {quantity:<12}  {shown:>10}  {}", row.sensor, row.unit)
            .expect("a string takes what is written");
    }
    text
}

/// One JSON object a line, so that `--watch` can be piped.
fn lines(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let number = row.value.as_ref().and_then(|value| value.parse::<f64>().ok());
        let object = json!({
            "sensor": row.sensor,
            "quantity": row.quantity.map(Quantity::name),
            "value": number,
            "unit": row.value.as_ref().map(|_| row.unit),
            "time": row.time,
            "failure": row.failure,
        });
        format!("{object}\n")
    };
    rows.iter().map(line).collect()
}
