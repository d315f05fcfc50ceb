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
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// A failing sensor is asked at least this often, or once an interval where that is longer.
const MAX_BACK_OFF: Duration = Duration::from_secs(10);

/// A sensor to be polled.
#[derive(Clone)]
pub struct Job {
    /// The sensor's number, which comes back in each [`Report`].
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
    job: Arc<Job>,
    sensor: Option<Box<dyn Sensor>>,
    due: Instant,
    /// Where its grid begins.
    origin: Instant,
    failures: u32,
}

/// The schedule of the sensors that share a resource.
pub struct Poller {
    entries: Vec<Entry>,
    /// The earliest due time of all, which the main loop asks for after every event.
    due: Option<Instant>,
    board: Arc<dyn Board>,
    clock: Arc<dyn Clock>,
}

impl Poller {
    /// All of `jobs` are due at `start` for the first time.
    pub fn new(jobs: Vec<impl Into<Arc<Job>>>, board: Arc<dyn Board>, clock: Arc<dyn Clock>, start: Instant) -> Self {
        let mut poller = Self { entries: Vec::new(), due: None, board, clock };
        poller.configure(jobs.into_iter().map(Into::into).collect(), &[], start);
        poller
    }

    /// Goes on with `jobs`: a sensor whose job is the same keeps its driver, its grid and its back-off, any other is opened
    /// anew and due `now`. Those in `read_now`, by number, are due now as well, once.
    pub fn configure(&mut self, jobs: Vec<Arc<Job>>, read_now: &[usize], now: Instant) {
        let old = std::mem::take(&mut self.entries).into_iter();
        let mut old: HashMap<usize, Entry> = old.map(|entry| (entry.job.sensor, entry)).collect();
        let adopt = |job: Arc<Job>| match old.remove(&job.sensor).filter(|entry| *entry.job == *job) {
            Some(entry) => Entry { job, ..entry },
            None => Entry { job, sensor: None, due: now, origin: now, failures: 0 },
        };
        self.entries = jobs.into_iter().map(adopt).collect();
        let asked = self.entries.iter_mut().filter(|entry| read_now.contains(&entry.job.sensor));
        asked.for_each(|entry| entry.due = entry.due.min(now));
        self.due = earliest(&self.entries);
    }

    /// Its sensors.
    pub fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.entries.iter().map(|entry| &entry.job)
    }

    /// When the next read is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The longest a read may take.
    pub fn deadline(&self) -> Duration {
        self.entries.iter().map(|entry| entry.job.deadline).max().unwrap_or_default()
    }

    /// Every sensor is due now, once; the grid stays as it is.
    pub fn read_now(&mut self, now: Instant) {
        self.entries.iter_mut().for_each(|entry| entry.due = entry.due.min(now));
        self.due = earliest(&self.entries);
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
        self.due = earliest(&self.entries);
    }
}

fn earliest(entries: &[Entry]) -> Option<Instant> {
    entries.iter().map(|entry| entry.due).min()
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
        let passed = now.since(self.origin).as_nanos() / interval.as_nanos();
        let skipped = wait.as_nanos() / interval.as_nanos() - 1;
        let next = (passed + skipped + 1) * interval.as_nanos();
        self.due = self.origin + Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX));
    }
}

impl PartialEq for Job {
    /// The same sensor, read just so.
    fn eq(&self, other: &Self) -> bool {
        let how = |job: &Self| (job.sensor, job.interval, job.deadline);
        how(self) == how(other) && self.same_chip(other)
    }
}

impl Job {
    /// Whether it is the same driver with the same options at the same place.
    pub fn same_chip(&self, other: &Self) -> bool {
        std::ptr::eq(self.driver, other.driver) && (&self.place, &self.options) == (&other.place, &other.options)
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::simulated::{Parts, Simulated};
    use crate::clock::ManualClock;
    use crate::quantity::Quantity;
    use crate::sample::Values;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    thread_local! {
        /// What the next reads do; after the last of them all is well.
        static NEXT: RefCell<VecDeque<Read>> = const { RefCell::new(VecDeque::new()) };
        static OPENED: Cell<u32> = const { Cell::new(0) };
        static CLOCK: RefCell<Option<Arc<ManualClock>>> = const { RefCell::new(None) };
    }

    #[derive(Clone, Copy)]
    enum Read {
        Takes(u64),
        Fails,
        Panics,
    }

    struct Scripted;

    impl Sensor for Scripted {
        fn read(&mut self) -> Sample {
            match NEXT.with_borrow_mut(VecDeque::pop_front) {
                Some(Read::Takes(ms)) => CLOCK.with_borrow(|clock| {
                    clock.as_ref().expect("a clock").advance(Duration::from_millis(ms));
                }),
                Some(Read::Fails) => return Err(Failure::new(Reason::Nack, "nobody answers")),
                Some(Read::Panics) => panic!("index out of bounds"),
                None => {}
            }
            Ok(Values::new().with(Quantity::Count, 1.0))
        }
    }

    fn open(_: Attachment, _: &Options) -> Result<Box<dyn Sensor>, Failure> {
        OPENED.set(OPENED.get() + 1);
        Ok(Box::new(Scripted))
    }

    static DRIVER: Driver = Driver {
        name: "scripted",
        chips: "",
        accuracy: "",
        attach: Attach::None,
        quantities: &[Quantity::Count],
        options: &[],
        open,
    };

    const START: Instant = Instant::from_nanos(7_000_000_123);

    struct Rig {
        clock: Arc<ManualClock>,
        poller: Poller,
    }

    fn job(sensor: usize, interval_ms: u64) -> Job {
        let (interval, deadline) = (Duration::from_millis(interval_ms), Duration::from_millis(500));
        Job { sensor, driver: &DRIVER, place: None, options: Options::default(), interval, deadline }
    }

    impl Rig {
        fn new(intervals_ms: &[u64], reads: &[Read]) -> Self {
            let clock = Arc::new(ManualClock::new(START));
            NEXT.set(reads.iter().copied().collect());
            OPENED.set(0);
            CLOCK.set(Some(clock.clone()));
            let board = Simulated::by_hand(Parts::default(), None, None, clock.clone()).expect("a board");
            let jobs = intervals_ms.iter().enumerate().map(|(sensor, ms)| job(sensor, *ms)).collect();
            Self { poller: Poller::new(jobs, Arc::new(board), clock.clone(), START), clock }
        }

        /// Waits for the next read as the thread does; milliseconds from the start to its begin, sensor, reason for no value.
        fn next(&mut self) -> Vec<(u64, usize, Option<Reason>)> {
            self.clock.sleep_until(self.poller.due().expect("a sensor"));
            self.run()
        }

        fn run(&mut self) -> Vec<(u64, usize, Option<Reason>)> {
            let (mut begun, mut reports) = (Vec::new(), Vec::new());
            let begin = |_, at: Instant| begun.push(at.since(START).as_millis() as u64);
            self.poller.run(self.clock.now(), begin, |report| reports.push(report));
            let told = reports.into_iter().map(|report| (report.sensor, report.sample.err().map(|f| f.reason)));
            begun.into_iter().zip(told).map(|(at, (sensor, reason))| (at, sensor, reason)).collect()
        }

        fn times(&mut self, count: usize) -> Vec<u64> {
            (0..count).flat_map(|_| self.next()).map(|(at, ..)| at).collect()
        }
    }

    #[test]
    fn the_cadence_lies_on_a_grid_from_the_start_and_never_drifts() {
        let mut rig = Rig::new(&[100], &[Read::Takes(30); 10_000]);
        let times = rig.times(10_000);
        assert!(times.iter().enumerate().all(|(k, at)| *at == k as u64 * 100), "each a whole number of intervals");
    }

    #[test]
    fn what_fell_due_during_a_slow_read_is_skipped_not_caught_up() {
        let mut rig = Rig::new(&[100], &[Read::Takes(1), Read::Takes(350), Read::Takes(1), Read::Takes(100)]);
        assert_eq!(rig.times(6), [0, 100, 500, 600, 800, 900]);
    }

    #[test]
    fn a_slow_sensor_delays_its_neighbour_and_moves_nobodys_grid() {
        let mut rig = Rig::new(&[1_000, 100], &[Read::Takes(250)]);
        assert_eq!(rig.next(), [(0, 0, None), (250, 1, None)]);
        assert_eq!(rig.times(2), [300, 400]);
    }

    #[test]
    fn a_failing_sensor_is_asked_less_and_less_often_and_at_once_regularly_when_it_is_back() {
        let mut rig = Rig::new(&[1_000], &[Read::Fails; 8]);
        let seconds: Vec<u64> = rig.times(12).into_iter().map(|ms| ms / 1_000).collect();
        assert_eq!(seconds, [0, 1, 3, 7, 15, 25, 35, 45, 55, 56, 57, 58]);
        let mut slow = Rig::new(&[60_000], &[Read::Fails; 3]);
        assert_eq!(slow.times(5), [0, 60_000, 120_000, 180_000, 240_000], "never less often than its interval");
    }

    #[test]
    fn after_a_failure_the_sensor_is_opened_anew() {
        let mut rig = Rig::new(&[1_000], &[Read::Takes(1), Read::Fails, Read::Takes(1)]);
        rig.times(2);
        assert_eq!(OPENED.get(), 1);
        rig.times(2);
        assert_eq!(OPENED.get(), 2);
    }

    #[test]
    fn a_late_answer_is_a_time_out_and_a_panic_is_the_drivers_failure() {
        let mut rig = Rig::new(&[10_000], &[Read::Takes(500), Read::Takes(501), Read::Panics]);
        let reasons: Vec<_> = (0..4).flat_map(|_| rig.next()).map(|(_, _, reason)| reason).collect();
        assert_eq!(reasons, [None, Some(Reason::Timeout), Some(Reason::Driver), None]);
    }

    #[test]
    fn a_read_out_of_turn_leaves_the_grid_as_it_is() {
        let mut rig = Rig::new(&[1_000, 250], &[]);
        rig.next();
        rig.clock.advance(Duration::from_millis(130));
        rig.poller.read_now(rig.clock.now());
        assert_eq!(rig.run(), [(130, 0, None), (130, 1, None)]);
        assert_eq!(rig.times(4), [250, 500, 750, 1_000, 1_000]);
    }

    #[test]
    fn under_other_jobs_the_same_ones_keep_driver_grid_and_back_off() {
        let mut rig = Rig::new(&[1_000, 300, 400], &[Read::Takes(0), Read::Takes(0), Read::Fails]);
        rig.next();
        rig.clock.advance(Duration::from_millis(250));
        assert_eq!(OPENED.get(), 3);
        // 0 goes on, 1 is read otherwise, 2 fails and goes on failing, 3 is new; and the order is another one.
        let jobs = [job(3, 500), job(2, 400), job(1, 350), job(0, 1_000)].map(Arc::new).to_vec();
        rig.poller.configure(jobs, &[], rig.clock.now());
        assert_eq!(rig.run(), [(250, 3, None), (250, 1, None)]);
        assert_eq!(OPENED.get(), 5);
        assert_eq!(rig.next(), [(400, 2, None)]);
        assert_eq!(rig.next(), [(600, 1, None)]);
        assert_eq!(rig.times(5), [750, 800, 950, 1_000, 1_200]);
        assert_eq!(OPENED.get(), 6, "only the one that failed was opened again");
    }

    #[test]
    fn a_sensor_to_be_read_now_is_read_once_and_keeps_its_grid() {
        let mut rig = Rig::new(&[1_000, 1_000], &[]);
        rig.next();
        rig.clock.advance(Duration::from_millis(130));
        let jobs = [job(0, 1_000), job(1, 1_000)].map(Arc::new).to_vec();
        rig.poller.configure(jobs, &[1], rig.clock.now());
        assert_eq!(rig.run(), [(130, 1, None)]);
        assert_eq!((rig.times(1), OPENED.get()), (vec![1_000, 1_000], 2));
        rig.poller.configure(Vec::new(), &[], rig.clock.now());
        assert_eq!(rig.poller.due(), None);
    }

    #[test]
    fn a_hundred_days_at_ten_milliseconds_still_have_a_next_read() {
        let mut rig = Rig::new(&[10], &[]);
        rig.clock.advance(Duration::from_secs(100 * 86_400));
        rig.run();
        assert_eq!(rig.poller.due(), Some(rig.clock.now() + Duration::from_millis(10)));
    }
}
