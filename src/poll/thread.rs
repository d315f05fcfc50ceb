//! A thread that polls one resource, and the handle the agent holds.
//!
//! A transfer that hangs in the kernel cannot be cancelled: the thread is then left behind, and [`Resource::hanging`] is how
//! the agent notices. Reports that the agent is too slow to take are kept up to a bound, then the oldest are dropped and counted.

use super::{Poller, Report};
use crate::clock::{Clock, Instant};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{Sender, error::TrySendError};

/// A batch that took this long leaves before the rest is read.
const MAX_GATHER: Duration = Duration::from_millis(1);
/// Reports kept while the agent does not take them.
const MAX_KEPT: usize = 4096;
/// How often reports that were kept are offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// No read is under way.
const IDLE: u64 = u64::MAX;
/// Enough for any driver, a fraction of the default.
const STACK: usize = 128 * 1024;

/// Reports that were due together.
pub struct Batch {
    /// The reports.
    pub reports: Vec<Report>,
    /// Which resource.
    pub resource: usize,
    /// When the next read is due; `None` while more of this round is to come.
    pub next_due: Option<Instant>,
    /// Reports dropped so far because the agent did not take them.
    pub dropped: u64,
}

#[derive(Default)]
struct Wishes {
    stop: bool,
    read_now: bool,
}

struct Shared {
    wishes: Mutex<Wishes>,
    wake: Condvar,
    /// The sensor that is being read, or [`IDLE`].
    reading: AtomicU64,
    /// When that read began, in nanoseconds.
    since: AtomicU64,
}

/// The handle of a polled resource.
pub struct Resource {
    /// What it is, for people: a bus's path, or `none`.
    pub name: String,
    /// The sensors on it, by index in the plan.
    pub sensors: Vec<usize>,
    shared: Arc<Shared>,
    deadline: Duration,
    /// When to look whether a read hangs.
    check_at: Option<Instant>,
    /// Reports that its thread has dropped so far.
    dropped: u64,
}

impl Resource {
    /// Starts polling. `number` comes back in each [`Batch`].
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        number: usize,
        name: String,
        sensors: Vec<usize>,
        poller: Poller,
        clock: Arc<dyn Clock>,
        batches: Sender<Batch>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            wishes: Mutex::default(),
            wake: Condvar::new(),
            reading: AtomicU64::new(IDLE),
            since: AtomicU64::new(0),
        });
        let deadline = poller.deadline();
        let check_at = poller.due().map(|due| due + deadline);
        let worker = Worker { number, poller, clock, shared: shared.clone(), batches, pending: Vec::new(), dropped: 0 };
        std::thread::Builder::new().name(format!("poll-{number}")).stack_size(STACK).spawn(move || worker.run())?;
        Ok(Self { name, sensors, shared, deadline, check_at, dropped: 0 })
    }

    /// Every sensor is to be read now.
    pub fn read_now(&self) {
        self.wish(|wishes| wishes.read_now = true);
    }

    /// A batch has come; how many reports were dropped since the one before.
    pub fn reported(&mut self, batch: &Batch) -> u64 {
        if let Some(due) = batch.next_due {
            self.check_at = Some(due + self.deadline);
        }
        batch.dropped - std::mem::replace(&mut self.dropped, batch.dropped)
    }

    /// When to ask [`Resource::hanging`] again.
    pub fn deadline(&self) -> Option<Instant> {
        self.check_at
    }

    /// The sensor whose read has gone on beyond the deadline; told once, until a batch comes.
    pub fn hanging(&mut self, now: Instant) -> Option<usize> {
        self.check_at.filter(|at| now >= *at)?;
        let reading = self.shared.reading.load(Ordering::Acquire);
        let since = Instant::from_nanos(self.shared.since.load(Ordering::Acquire));
        if reading == IDLE || now < since + self.deadline {
            self.check_at = Some(if reading == IDLE { now } else { since } + self.deadline);
            return None;
        }
        self.check_at = None;
        usize::try_from(reading).ok()
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut lock(&self.shared.wishes));
        self.shared.wake.notify_one();
    }
}

impl Drop for Resource {
    /// Asks the thread to end; one that hangs in the kernel ends when that lets it go.
    fn drop(&mut self) {
        self.wish(|wishes| wishes.stop = true);
    }
}

struct Worker {
    number: usize,
    poller: Poller,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    batches: Sender<Batch>,
    pending: Vec<Report>,
    dropped: u64,
}

impl Worker {
    fn run(mut self) {
        while self.wait() {
            let now = self.clock.now();
            if self.poller.due().is_none_or(|due| due > now) {
                self.offer();
                continue;
            }
            let shared = self.shared.clone();
            let begin = |sensor: usize, at: Instant| {
                shared.since.store(at.as_nanos(), Ordering::Release);
                shared.reading.store(sensor as u64, Ordering::Release);
            };
            let mut reports = std::mem::take(&mut self.pending);
            let Self { poller, clock, batches, dropped, number, .. } = &mut self;
            poller.run(now, begin, |report| {
                reports.push(report);
                // A slow chip does not hold back what the others on its bus have measured.
                if clock.now().since(now) > MAX_GATHER {
                    let part = std::mem::take(&mut reports);
                    reports =
                        send(batches, Batch { reports: part, resource: *number, next_due: None, dropped: *dropped });
                }
            });
            self.shared.reading.store(IDLE, Ordering::Release);
            let surplus = reports.len().saturating_sub(MAX_KEPT);
            reports.drain(..surplus);
            self.dropped += surplus as u64;
            self.pending = reports;
            self.offer();
        }
    }

    /// Hands over what there is, or keeps it.
    fn offer(&mut self) {
        let reports = std::mem::take(&mut self.pending);
        let batch = Batch { reports, resource: self.number, next_due: self.poller.due(), dropped: self.dropped };
        self.pending = send(&self.batches, batch);
    }

    /// Waits until a read is due or wished for, or kept reports are to be offered; `false` when the thread shall end.
    fn wait(&mut self) -> bool {
        let mut wishes = lock(&self.shared.wishes);
        loop {
            if wishes.stop {
                return false;
            }
            let now = self.clock.now();
            if std::mem::take(&mut wishes.read_now) {
                self.poller.read_now(now);
            }
            let Some(due) = self.poller.due() else { return false };
            if due <= now {
                return true;
            }
            let pause = if self.pending.is_empty() { due.since(now) } else { OFFER_AGAIN.min(due.since(now)) };
            let (guard, woken) = self.shared.wake.wait_timeout(wishes, pause).unwrap_or_else(PoisonError::into_inner);
            if woken.timed_out() && !self.pending.is_empty() {
                return true;
            }
            wishes = guard;
        }
    }
}

/// Hands a batch over; gives back what could not be.
fn send(batches: &Sender<Batch>, batch: Batch) -> Vec<Report> {
    match batches.try_send(batch) {
        Ok(()) => Vec::new(),
        Err(TrySendError::Full(batch) | TrySendError::Closed(batch)) => batch.reports,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::simulated::{Parts, Simulated};
    use crate::clock::SystemClock;
    use crate::poll::Job;
    use crate::sample::{Sample, Values};
    use crate::sensors::{Attach, Attachment, Driver, Options, Sensor};
    use tokio::sync::mpsc::{Receiver, channel};

    struct Quick;

    impl Sensor for Quick {
        fn read(&mut self) -> Sample {
            Ok(Values::new())
        }
    }

    fn open(_: Attachment, _: &Options) -> Result<Box<dyn Sensor>, crate::sample::Failure> {
        Ok(Box::new(Quick))
    }

    static DRIVER: Driver =
        Driver { name: "quick", chips: "", accuracy: "", attach: Attach::None, quantities: &[], options: &[], open };

    const HOUR: Duration = Duration::from_secs(3600);
    const DEADLINE: Duration = Duration::from_millis(500);

    /// One sensor that is read now and then in an hour, and a channel that holds one batch.
    fn start() -> (Resource, Sender<Batch>, Receiver<Batch>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let board = Simulated::by_hand(Parts::default(), None, None, clock.clone()).expect("a board");
        let options = Options::default();
        let job = Job { sensor: 0, driver: &DRIVER, place: None, options, interval: HOUR, deadline: DEADLINE };
        let poller = Poller::new(vec![job], Arc::new(board), clock.clone(), clock.now());
        let (sender, receiver) = channel(1);
        let nothing = Batch { reports: Vec::new(), resource: 7, next_due: None, dropped: 0 };
        assert!(sender.try_send(nothing).is_ok(), "it is full now");
        let resource = Resource::start(0, "none".into(), vec![0], poller, clock, sender.clone());
        (resource.expect("a thread"), sender, receiver)
    }

    fn wait_for_read(resource: &Resource) {
        let shared = &resource.shared;
        while shared.since.load(Ordering::Acquire) == 0 || shared.reading.load(Ordering::Acquire) != IDLE {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_the_agent_could_not_take_is_offered_again_before_the_next_read() {
        let (resource, _sender, mut receiver) = start();
        wait_for_read(&resource);
        assert_eq!(receiver.blocking_recv().map(|batch| batch.resource), Some(7));
        let begun = SystemClock.now();
        let batch = loop {
            match receiver.try_recv() {
                Ok(batch) => break batch,
                Err(_) => assert!(SystemClock.now().since(begun) < Duration::from_secs(10), "it comes an hour later"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!((batch.resource, batch.reports.len()), (0, 1));
        assert!(batch.next_due.is_some());
    }

    #[test]
    fn a_check_that_finds_no_read_under_way_comes_again_later_not_at_once() {
        let (mut resource, _sender, _receiver) = start();
        let late = SystemClock.now() + HOUR + HOUR;
        wait_for_read(&resource);
        assert_eq!(resource.hanging(late), None);
        assert_eq!(resource.deadline(), Some(late + DEADLINE));
    }

    #[test]
    fn drops_are_told_once_for_each_resource() {
        let (mut resource, _sender, _receiver) = start();
        let batch = |dropped| Batch { reports: Vec::new(), resource: 0, next_due: None, dropped };
        let told: Vec<_> = [0, 5, 5, 8].into_iter().map(|dropped| resource.reported(&batch(dropped))).collect();
        assert_eq!(told, [0, 5, 0, 3]);
    }
}
