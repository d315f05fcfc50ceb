//! The handle of a polled resource: it notices a read that hangs, and leaves its thread behind where that can help.
//!
//! A transfer that hangs in the kernel cannot be cancelled, and it holds its adapter's lock: another transfer on the same
//! adapter would only hang as well, and both end together. So a thread that hangs is waited for, and goes on by itself when
//! it returns. Where another adapter has taken the bus's path meanwhile (unplugged and plugged again, bound anew) the first
//! may hang for ever: it is left behind, and a fresh thread opens the bus anew. Invariant: one thread at most is left
//! behind, so a resource never has more than two.

use super::thread::{Batch, Thread};
use super::{Job, Poller};
use crate::board::{Adapter, Board};
use crate::clock::{Clock, Instant};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// The first pause before another adapter is looked for; it doubles…
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// …up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a resource is made of.
pub struct Parts {
    /// Comes back in each [`Batch`].
    pub number: usize,
    /// What it is, for people: a bus's path.
    pub name: String,
    /// Its sensors; on one bus, all of them.
    pub jobs: Vec<Arc<Job>>,
    /// Where they hang.
    pub board: Arc<dyn Board>,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// Where the grid of their due times begins.
    pub start: Instant,
    /// Where reports go.
    pub batches: Sender<Batch>,
}

/// What a look at a resource has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The read of this sensor has gone on beyond the deadline.
    Hanging(usize),
    /// Another adapter has taken the path of one that hangs, and is polled by a fresh thread.
    OpenedAnew,
}

/// A polled resource.
pub struct Resource {
    parts: Parts,
    thread: Thread,
    /// Whose adapter it was when `thread` began.
    adapter: Option<Adapter>,
    left_behind: Option<Thread>,
    deadline: Duration,
    look_at: Instant,
    /// While a read hangs: how long until the next look.
    pause: Option<Duration>,
    /// Reports that `thread` has dropped so far.
    dropped: u64,
}

impl Resource {
    /// Starts polling.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let adapter = parts.adapter();
        let deadline = parts.deadline();
        let thread = parts.thread(0)?;
        let look_at = parts.start + deadline;
        Ok(Self { parts, thread, adapter, left_behind: None, deadline, look_at, pause: None, dropped: 0 })
    }

    /// What it is, for people.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Goes on with other jobs, as [`Poller::configure`] does, when the read that may be under way has ended. If that one
    /// hangs it is told again, for those that are new.
    pub fn configure(&mut self, jobs: Vec<Arc<Job>>, read_now: &[usize], now: Instant) {
        self.parts.jobs = jobs.clone();
        self.thread.configure(jobs, read_now);
        self.deadline = self.parts.deadline();
        (self.look_at, self.pause) = (now + self.deadline, None);
    }

    /// The number that comes back in each [`Batch`].
    pub fn number(&self) -> usize {
        self.parts.number
    }

    /// Its sensors.
    pub fn jobs(&self) -> &[Arc<Job>] {
        &self.parts.jobs
    }

    /// The sensors on it, by number.
    pub fn sensors(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.jobs.iter().map(|job| job.sensor)
    }

    /// Every sensor is to be read now.
    pub fn read_now(&self) {
        self.thread.read_now();
    }

    /// A batch has come; how many reports were dropped since the one before. `None` if it is from a thread that was left
    /// behind: its reports are old.
    pub fn reported(&mut self, batch: &Batch) -> Option<u64> {
        if batch.thread != self.thread.number() {
            return None;
        }
        if let Some(due) = batch.next_due {
            self.look_at = due + self.deadline;
            self.pause = None;
        }
        Some(batch.dropped - std::mem::replace(&mut self.dropped, batch.dropped))
    }

    /// When to [`Resource::look`].
    pub fn deadline(&self) -> Instant {
        self.look_at
    }

    /// Whether a read hangs, as far as a look has found.
    pub fn is_hanging(&self) -> bool {
        self.pause.is_some()
    }

    /// Looks whether a read hangs, which is told once, or whether there is a way past one that does.
    pub fn look(&mut self, now: Instant) -> Option<Found> {
        if now < self.look_at {
            return None;
        }
        let Some(pause) = self.pause else { return self.find_hanging(now).map(Found::Hanging) };
        self.pause = Some((pause * 2).min(LONGEST_PAUSE));
        self.look_at = now + pause;
        self.open_anew(now).then_some(Found::OpenedAnew)
    }

    fn find_hanging(&mut self, now: Instant) -> Option<usize> {
        let reading = self.thread.reading();
        let since = reading.map_or(now, |(_, since)| since);
        self.look_at = since + self.deadline;
        let (sensor, _) = reading.filter(|_| now >= self.look_at)?;
        self.pause = Some(FIRST_PAUSE);
        self.look_at = now + FIRST_PAUSE;
        Some(sensor)
    }

    /// Leaves the thread behind for a fresh one if that can help; whether it did.
    fn open_anew(&mut self, now: Instant) -> bool {
        let adapter = self.parts.adapter();
        let is_another = adapter.is_some() && adapter != self.adapter;
        if !is_another || self.left_behind.as_ref().is_some_and(|thread| !thread.is_over()) {
            return false;
        }
        match self.parts.thread(self.thread.number() + 1) {
            Ok(thread) => {
                let hanging = std::mem::replace(&mut self.thread, thread);
                hanging.end();
                self.left_behind = Some(hanging);
                (self.adapter, self.dropped, self.pause) = (adapter, 0, None);
                self.look_at = now + self.deadline;
                true
            }
            Err(error) => {
                log::debug!(bus = self.parts.name, error:%; "no thread to open the bus anew, tried again");
                false
            }
        }
    }
}

impl Parts {
    fn deadline(&self) -> Duration {
        self.jobs.iter().map(|job| job.deadline).max().unwrap_or_default()
    }

    fn adapter(&self) -> Option<Adapter> {
        let place = self.jobs.first()?.place.as_ref()?;
        self.board.adapter(&place.bus)
    }

    /// A thread that opens everything for itself.
    fn thread(&self, number: u32) -> io::Result<Thread> {
        let poller = Poller::new(self.jobs.clone(), self.board.clone(), self.clock.clone(), self.start);
        Thread::start(self.number, number, poller, self.clock.clone(), self.batches.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::thread::tests::{batch, parts, wait_for_read};
    use super::*;
    use crate::clock::SystemClock;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_look_that_finds_no_read_under_way_comes_again_later_not_at_once() {
        let (parts, _receiver) = parts(1);
        let deadline = parts.jobs[0].deadline;
        let mut resource = Resource::start(parts).expect("a thread");
        let late = SystemClock.now() + HOUR + HOUR;
        wait_for_read(&resource.thread);
        assert_eq!(resource.look(late), None);
        assert_eq!(resource.deadline(), late + deadline);
    }

    #[test]
    fn drops_are_told_once_and_a_thread_left_behind_tells_nothing() {
        let (parts, _receiver) = parts(1);
        let mut resource = Resource::start(parts).expect("a thread");
        let told: Vec<_> = [0, 5, 5, 8].into_iter().map(|dropped| resource.reported(&batch(0, dropped))).collect();
        assert_eq!(told, [Some(0), Some(5), Some(0), Some(3)]);
        assert_eq!(resource.reported(&batch(1, 9)), None);
    }
}
