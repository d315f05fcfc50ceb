//! `board2mqtt read`: reads sensors now and prints what they say, no server needed.
//!
//! Each bus has a thread, as in the daemon, so that one that hangs is told like any other failure and holds up no other.

use super::arguments::Arguments;
use super::setup::Checked;
use super::table::{Side, lines, widths};
use super::{Failed, count, setup, unknown, write_out};
use crate::board::Board;
use crate::clock::{Clock, SystemClock};
use crate::plan::{self, Plan};
use crate::poll::{Job, Poller, Report};
use crate::process::{Outcome, Pipeline};
use crate::publish::reference::Reference;
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason, Values};
use anyhow::anyhow;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

/// What all reads may take beyond their deadlines before one counts as hanging.
const GRACE: Duration = Duration::from_secs(1);

/// Reads once, or again at each sensor's interval.
pub fn run(arguments: &Arguments, names: &[String], as_json: bool, watch: bool) -> Result<(), Failed> {
    let checked = setup::load(arguments)?;
    let wanted = wanted(&checked, names)?;
    let plan = &checked.plan;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let board = setup::board(&checked, &clock)?;
    let buses = buses(plan, &wanted);
    let longest = buses.values().map(|jobs| jobs.iter().map(|job| job.deadline).sum()).max();
    let patience = longest.unwrap_or(Duration::ZERO) + GRACE;
    let (sender, reports) = mpsc::sync_channel(0);
    for jobs in buses.into_values() {
        start(jobs, &board, &clock, sender.clone())?;
    }
    let rows = first(plan, &wanted, &reports, clock.now() + patience, &*clock);
    let mut printer = Printer { as_json, widths: None };
    printer.print(&rows)?;
    if watch && !wanted.is_empty() {
        return reports.iter().try_for_each(|report| printer.print(&rows_of(&plan.sensors[report.sensor], &report)));
    }
    match rows.iter().filter(|row| row.failure.is_some()).count() {
        0 => Ok(()),
        failed => Err(anyhow!("{failed} of {} failed", count(rows.len(), "reading")).into()),
    }
}

fn wanted(checked: &Checked, names: &[String]) -> Result<Vec<usize>, Failed> {
    let sensors = &checked.plan.sensors;
    if names.is_empty() {
        return Ok((0..sensors.len()).collect());
    }
    let find = |name: &String| {
        let found = sensors.iter().position(|sensor| sensor.name == *name);
        found.ok_or_else(|| unknown("sensor", name, sensors.iter().map(|sensor| sensor.name.as_str())))
    };
    let mut wanted = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    wanted.sort_unstable();
    wanted.dedup();
    Ok(wanted)
}

/// The sensors by what they hang on.
fn buses(plan: &Plan, wanted: &[usize]) -> BTreeMap<Option<String>, Vec<Job>> {
    let mut buses: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for sensor in wanted {
        let job = Job::new(*sensor, &plan.sensors[*sensor]);
        buses.entry(job.place.as_ref().map(|place| place.bus.display().to_string())).or_default().push(job);
    }
    buses
}

/// Starts a thread that reads for ever, each sensor when it falls due, and ends with the process.
fn start(
    jobs: Vec<Job>,
    board: &Arc<dyn Board>,
    clock: &Arc<dyn Clock>,
    reports: SyncSender<Report>,
) -> io::Result<()> {
    let clock = clock.clone();
    let mut poller = Poller::new(jobs, board.clone(), clock.clone(), clock.now());
    let read = move || {
        while let Some(due) = poller.due() {
            clock.sleep_until(due);
            // Sending fails when nobody waits any more; then the process is about to end.
            poller.run(clock.now(), |_, _| (), |report| drop(reports.send(report)));
        }
    };
    std::thread::Builder::new().name("read".to_owned()).spawn(read).map(drop)
}

/// The first report of every sensor in the configuration's order; what has not come at `end` hangs.
fn first(
    plan: &Plan,
    wanted: &[usize],
    reports: &Receiver<Report>,
    end: crate::clock::Instant,
    clock: &dyn Clock,
) -> Vec<Row> {
    let mut told: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
    while told.len() < wanted.len() {
        let Ok(report) = reports.recv_timeout(end.since(clock.now())) else { break };
        told.entry(report.sensor).or_insert_with(|| rows_of(&plan.sensors[report.sensor], &report));
    }
    let hangs = |sensor: usize| {
        let detail = "the read does not end: the bus, or a chip on it, hangs";
        let failure = Failure::new(Reason::Timeout, detail);
        vec![Row { failure: Some(failure), ..Row::of(&plan.sensors[sensor]) }]
    };
    wanted.iter().flat_map(|sensor| told.remove(sensor).unwrap_or_else(|| hangs(*sensor))).collect()
}

/// One line of the table.
struct Row {
    sensor: String,
    quantity: Option<Quantity>,
    value: Option<String>,
    unit: &'static str,
    failure: Option<Failure>,
    time: Option<String>,
}

impl Row {
    fn of(sensor: &plan::Sensor) -> Self {
        Self { sensor: sensor.name.clone(), quantity: None, value: None, unit: "", failure: None, time: None }
    }
}

fn rows_of(sensor: &plan::Sensor, report: &Report) -> Vec<Row> {
    let row = |quantity| Row { quantity, time: report.stamp.wall.map(|wall| wall.to_string()), ..Row::of(sensor) };
    let values = match &report.sample {
        Ok(values) => *values,
        Err(failure) => return vec![Row { failure: Some(failure.clone()), ..row(None) }],
    };
    let readings = sensor.readings.iter();
    readings.map(|reading| published(sensor, reading, values, report, row(Some(reading.quantity)))).collect()
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
    let absent = || Err(Failure::new(Reason::Driver, "the sensor does not give it"));
    let canonical = match canonical.unwrap_or_else(absent) {
        Ok(canonical) => canonical,
        Err(failure) => return Row { failure: Some(failure), ..row },
    };
    let unit = reading.process.unit.symbol();
    let outside = |what: String| Some(Failure::new(Reason::OutOfRange, what));
    match Pipeline::new(&reading.process).push(canonical, report.stamp.at) {
        Outcome::Publish(value) | Outcome::Unchanged(value) => {
            let decimals = usize::from(reading.decimals);
            Row { value: Some(format!("{value:.decimals$}")), unit, ..row }
        }
        Outcome::OutOfRange { value } => Row { failure: outside(format!("{value} {unit}")), ..row },
        Outcome::NotFinite => Row { failure: outside("not a number".to_owned()), ..row },
    }
}

/// Prints rows as they come, in columns as wide as those of the first ones.
struct Printer {
    as_json: bool,
    widths: Option<[usize; 4]>,
}

impl Printer {
    fn print(&mut self, rows: &[Row]) -> Result<(), Failed> {
        let text = if self.as_json { rows.iter().map(as_line).collect() } else { self.table(rows) };
        write_out(&text)
    }

    fn table(&mut self, rows: &[Row]) -> String {
        let head = ["sensor", "quantity", "value", "unit"].map(str::to_owned);
        let cells = |row: &Row| {
            let quantity = row.quantity.map(Quantity::name).unwrap_or("-").to_owned();
            // A failure is a sentence: it stands where nothing follows.
            let unit = row.failure.as_ref().map_or(row.unit.to_owned(), ToString::to_string);
            [row.sensor.clone(), quantity, row.value.clone().unwrap_or("-".to_owned()), unit]
        };
        let head = self.widths.is_none().then_some(head);
        let all: Vec<_> = head.into_iter().chain(rows.iter().map(cells)).collect();
        let widths = *self.widths.get_or_insert_with(|| widths(&all));
        lines(&all, [Side::Left, Side::Left, Side::Right, Side::Left], widths)
    }
}

/// One JSON object a line, so that `--watch` can be piped.
fn as_line(row: &Row) -> String {
    let number = row.value.as_ref().and_then(|value| value.parse::<f64>().ok());
    let object = json!({
        "sensor": row.sensor,
        "quantity": row.quantity.map(Quantity::name),
        "value": number,
        "unit": row.value.as_ref().map(|_| row.unit),
        "time": row.time,
        "failure": row.failure.as_ref().map(ToString::to_string),
    });
    format!("{object}\n")
}
