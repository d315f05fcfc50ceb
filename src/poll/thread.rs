//! A thread that polls one resource.
//!
//! It does not know whether its read hangs: that is for [`super::resource`] to notice, from outside. Reports that the agent
//! is too slow to take are kept up to a bound, then the oldest are dropped and counted.

use super::{Job, Poller, Report};
use crate::clock::{Clock, Instant};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{Sender, error::TrySendError};

/// A batch that took this long leaves before the rest is read.
const MAX_GATHER: Duration = Duration::from_millis(1);
/// Reports kept while the agent does not take them.
const MAX_KEPT: usize = 4096;
/// How often reports that were kept are offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// What the names of these threads begin with.
pub const THREAD_NAME: &str = "poll-";
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
    /// Which of its threads, from 0.
    pub thread: u32,
    /// When the next read is due; `None` while more of this round is to come.
    pub next_due: Option<Instant>,
    /// Reports dropped so far because the agent did not take them.
    pub dropped: u64,
}

#[derive(Default)]
struct Wishes {
    stop: bool,
    read_now: bool,
    jobs: Option<Vec<Arc<Job>>>,
    /// With `jobs`: the sensors to be read now.
    asked: Vec<usize>,
}

struct Shared {
    wishes: Mutex<Wishes>,
    wake: Condvar,
    /// The sensor that is being read, or [`IDLE`].
    reading: AtomicU64,
    /// When that read began, in nanoseconds.
    since: AtomicU64,
}

/// The handle of a thread; it is asked to end when this is dropped.
pub(super) struct Thread {
    number: u32,
    shared: Arc<Shared>,
    handle: JoinHandle<()>,
}

impl Thread {
    /// Starts the thread `number` of `resource`; both come back in each [`Batch`].
    pub fn start(
        resource: usize,
        number: u32,
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
        let from = (resource, number);
        let worker = Worker { from, poller, clock, shared: shared.clone(), batches, pending: Vec::new(), dropped: 0 };
        let builder = std::thread::Builder::new().name(format!("{THREAD_NAME}{resource}")).stack_size(STACK);
        Ok(Self { number, shared, handle: builder.spawn(move || worker.run())? })
    }

    /// Which of its resource's threads it is.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Every sensor is to be read now.
    pub fn read_now(&self) {
        self.wish(|wishes| wishes.read_now = true);
    }

    /// Goes on with other jobs after the read that may be under way.
    pub fn configure(&self, jobs: Vec<Arc<Job>>, read_now: &[usize]) {
        self.wish(|wishes| {
            wishes.jobs = Some(jobs);
            wishes.asked.extend(read_now);
        });
    }

    /// The sensor that is being read, and since when.
    pub fn reading(&self) -> Option<(usize, Instant)> {
        let sensor = Some(self.shared.reading.load(Ordering::Acquire)).filter(|sensor| *sensor != IDLE)?;
        let since = Instant::from_nanos(self.shared.since.load(Ordering::Acquire));
        Some((usize::try_from(sensor).ok()?, since))
    }

    /// Asks it to end; one that hangs in the kernel ends when that lets it go.
    pub fn end(&self) {
        self.wish(|wishes| wishes.stop = true);
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.handle.is_finished()
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut lock(&self.shared.wishes));
        self.shared.wake.notify_one();
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.end();
    }
}

struct Worker {
    /// Resource and thread.
    from: (usize, u32),
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
            let Self { poller, clock, batches, dropped, from, .. } = &mut self;
            poller.run(now, begin, |report| {
                reports.push(report);
                // A slow chip does not hold back what the others on its bus have measured.
                if clock.now().since(now) > MAX_GATHER {
                    let part = std::mem::take(&mut reports);
                    reports = send(batches, *from, part, None, *dropped);
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
        self.pending = send(&self.batches, self.from, reports, self.poller.due(), self.dropped);
    }

    /// Waits until a read is due or wished for, or kept reports are to be offered; `false` when the thread shall end.
    fn wait(&mut self) -> bool {
        let mut wishes = lock(&self.shared.wishes);
        loop {
            if wishes.stop {
                return false;
            }
            if let Some(jobs) = wishes.jobs.take() {
                let asked = std::mem::take(&mut wishes.asked);
                // Whoever wishes must not wait for files to be closed.
                drop(wishes);
                self.poller.configure(jobs, &asked, self.clock.now());
                wishes = lock(&self.shared.wishes);
                continue;
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
fn send(
    batches: &Sender<Batch>,
    (resource, thread): (usize, u32),
    reports: Vec<Report>,
    next_due: Option<Instant>,
    dropped: u64,
) -> Vec<Report> {
    match batches.try_send(Batch { reports, resource, thread, next_due, dropped }) {
        Ok(()) => Vec::new(),
        Err(TrySendError::Full(batch) | TrySendError::Closed(batch)) => batch.reports,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::resource::Parts;
    use super::*;
    use crate::board::simulated;
    use crate::clock::SystemClock;
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

    /// One sensor that is read now and then in an hour, and a channel that holds so many batches.
    pub fn parts(batches: usize) -> (Parts, Receiver<Batch>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let board = simulated::Simulated::by_hand(simulated::Parts::default(), None, None, clock.clone());
        let (options, deadline) = (Options::default(), Duration::from_millis(500));
        let job = Job { sensor: 0, driver: &DRIVER, place: None, options, interval: HOUR, deadline };
        let (batches, receiver) = channel(batches);
        let (board, start, name) = (Arc::new(board.expect("a board")), clock.now(), "none".to_owned());
        (Parts { number: 0, name, jobs: vec![job.into()], board, clock, start, batches }, receiver)
    }

    /// An empty batch of the thread of that number.
    pub fn batch(thread: u32, dropped: u64) -> Batch {
        Batch { reports: Vec::new(), resource: 0, thread, next_due: None, dropped }
    }

    pub fn wait_for_read(thread: &Thread) {
        while thread.shared.since.load(Ordering::Acquire) == 0 || thread.reading().is_some() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_the_agent_could_not_take_is_offered_again_before_the_next_read() {
        let (parts, mut receiver) = parts(1);
        let sender = parts.batches.clone();
        assert!(sender.try_send(Batch { resource: 7, ..batch(0, 0) }).is_ok(), "it is full now");
        let poller = Poller::new(parts.jobs.clone(), parts.board.clone(), parts.clock.clone(), parts.start);
        let thread = Thread::start(0, 0, poller, parts.clock.clone(), sender).expect("a thread");
        wait_for_read(&thread);
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
}
