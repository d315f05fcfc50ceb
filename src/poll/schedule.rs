//! The schedule of one resource: which sensor is due when, and one read.
//!
//! Due times lie on a grid of whole intervals from the start, so the cadence never drifts; a time that has passed while
//! another sensor was slow is skipped, not caught up. Invariant: a driver's panic or late answer is a [`Failure`].

use super::Report;
use crate::board::{Board, Delay};
use crate::clock::{Clock, Instant};
use crate::line::I2cPlace;
use crate::plan;
use crate::sample::{Failure, Reason, Sample};
use crate::sensors::{Attach, Attachment, Driver, Options, Sensor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// A failing sensor is asked at least this often, or once an interval where that is longer.
const MAX_BACK_OFF: Duration = Duration::from_secs(10);

/// A sensor to be polled.
#[derive(Clone)]
pub struct Job {
    /// The sensor's index in the plan.
    pub sensor: usize,
    /// Its driver.
    pub driver: &'static Driver,
    /// Where it hangs.
    pub place: Option<I2cPlace>,
    /// The driver's options.
    pub options: Options,
    /// How often it is read.
    pub interval: Duration,
    /// How long a read may take.
    pub deadline: Duration,
}

struct Entry {
    job: Job,
    sensor: Option<Box<dyn Sensor>>,
    due: Instant,
    failures: u32,
}

/// The schedule of the sensors that share a resource.
pub struct Poller {
    entries: Vec<Entry>,
    board: Arc<dyn Board>,
    clock: Arc<dyn Clock>,
}

impl Poller {
    /// All of `jobs` are due at `start` for the first time.
    pub fn new(jobs: Vec<Job>, board: Arc<dyn Board>, clock: Arc<dyn Clock>, start: Instant) -> Self {
        let entries = jobs.into_iter().map(|job| Entry { job, sensor: None, due: start, failures: 0 }).collect();
        Self { entries, board, clock }
    }

    /// When the next read is due.
    pub fn due(&self) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.due).min()
    }

    /// The longest a read may take.
    pub fn deadline(&self) -> Duration {
        self.entries.iter().map(|entry| entry.job.deadline).max().unwrap_or_default()
    }

    /// Every sensor is due now, once; the grid stays as it is.
    pub fn read_now(&mut self, now: Instant) {
        self.entries.iter_mut().for_each(|entry| entry.due = entry.due.min(now));
    }

    /// Reads whatever is due at `now`. `begin` is told of each sensor before it is read.
    pub fn run(&mut self, now: Instant, mut begin: impl FnMut(usize, Instant), mut report: impl FnMut(Report)) {
        for entry in &mut self.entries {
            if entry.due > now {
                continue;
            }
            let started = self.clock.now();
            begin(entry.job.sensor, started);
            let mut sample = entry.read(&*self.board, &self.clock);
            let stamp = self.clock.stamp();
            let took = stamp.at.since(started);
            if sample.is_ok() && took > entry.job.deadline {
                sample = Err(late(took, entry.job.deadline));
            }
            entry.schedule(sample.is_err(), stamp.at);
            report(Report { sensor: entry.job.sensor, stamp, sample });
        }
    }
}

impl Entry {
    /// One read; after a failure the sensor is opened anew the next time.
    fn read(&mut self, board: &dyn Board, clock: &Arc<dyn Clock>) -> Sample {
        let (job, opened) = (&self.job, &mut self.sensor);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let sensor = match opened {
                Some(sensor) => sensor,
                None => opened.insert(job.open(board, clock)?),
            };
            sensor.read()
        }));
        let sample = outcome.unwrap_or_else(|panic| Err(panicked(&*panic)));
        if sample.is_err() {
            self.sensor = None;
        }
        sample
    }

    /// The next time on the grid after `now`; a failing sensor is asked less and less often.
    fn schedule(&mut self, failed: bool, now: Instant) {
        let interval = self.job.interval;
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        let back_off = interval.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        let wait = if failed { back_off.min(MAX_BACK_OFF.max(interval)) } else { interval };
        let passed = now.since(self.due).as_nanos() / interval.as_nanos();
        let skipped = wait.as_nanos() / interval.as_nanos() - 1;
        let steps = u32::try_from(passed + skipped + 1).unwrap_or(u32::MAX);
        self.due = self.due + interval.saturating_mul(steps);
    }
}

impl Job {
    /// The job of a planned sensor.
    pub fn new(sensor: usize, planned: &plan::Sensor) -> Self {
        Self {
            sensor,
            driver: planned.driver,
            place: planned.place.clone(),
            options: planned.options.clone(),
            interval: planned.interval,
            deadline: planned.deadline,
        }
    }

    /// Opens the sensor: bus, identity, configuration.
    ///
    /// # Errors
    /// Those of the board and of the driver.
    pub fn open(&self, board: &dyn Board, clock: &Arc<dyn Clock>) -> Result<Box<dyn Sensor>, Failure> {
        let attachment = match (self.driver.attach, &self.place) {
            (Attach::I2c(_), Some(place)) => Attachment::I2c {
                bus: board.i2c(place, self.deadline)?,
                address: place.address,
                delay: Delay::new(clock.clone()),
            },
            _ => Attachment::None,
        };
        (self.driver.open)(attachment, &self.options)
    }
}

fn late(took: Duration, deadline: Duration) -> Failure {
    Failure::new(
        Reason::Timeout,
        format!("the read took {} ms, its deadline is {} ms", took.as_millis(), deadline.as_millis()),
    )
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Failure::new(Reason::Driver, format!("the driver panicked: {text}"))
}
