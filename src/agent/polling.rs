//! All that reads sensors: a thread for each bus, and the main thread itself for those that hang on nothing.
//!
//! It does not know what a reading is for. Invariant: a bus has one resource, and no two that ever were have its number.

use super::core::{Core, Same};
use super::supervise;
use crate::board::Board;
use crate::clock::{Clock, Instant};
use crate::poll::{Batch, Found, Job, Parts, Poller, Report, Resource};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches that may wait for the agent; more are kept by the threads that made them.
const BATCHES: usize = 64;

/// The buses and what is read without one.
pub struct Polling {
    board: Arc<dyn Board>,
    clock: Arc<dyn Clock>,
    resources: Vec<Resource>,
    /// The next number nobody ever had.
    next: usize,
    /// Sensors that hang on nothing cannot block, so they need no thread.
    inline: Poller,
    /// What they report, reused.
    reports: Vec<Report>,
    sender: mpsc::Sender<Batch>,
    receiver: mpsc::Receiver<Batch>,
}

impl Polling {
    /// Nothing to read yet.
    pub fn new(board: Arc<dyn Board>, clock: Arc<dyn Clock>) -> Self {
        let (sender, receiver) = mpsc::channel(BATCHES);
        let inline = Poller::new(Vec::<Arc<Job>>::new(), board.clone(), clock.clone(), clock.now());
        Self { board, clock, resources: Vec::new(), next: 0, inline, reports: Vec::new(), sender, receiver }
    }

    /// How `jobs` compare with what is polled under their numbers now.
    pub fn compare(&self, jobs: &[Arc<Job>]) -> Vec<Same> {
        let polled = self.resources.iter().flat_map(Resource::jobs).chain(self.inline.jobs());
        let polled: HashMap<usize, &Job> = polled.map(|job| (job.sensor, &**job)).collect();
        let compare = |job: &Arc<Job>| match polled.get(&job.sensor) {
            Some(polled) => Same { chip: polled.same_chip(job), job: *polled == &**job },
            None => Same::default(),
        };
        jobs.iter().map(compare).collect()
    }

    /// Goes on with `jobs`: what is the same is not touched, except that those in `read_now` are read now, once.
    ///
    /// # Errors
    /// The thread of a new bus could not be started: its sensors are not read, all others are.
    pub fn configure(&mut self, jobs: Vec<Arc<Job>>, read_now: &[usize]) -> io::Result<()> {
        let now = self.clock.now();
        let (mut inline, mut buses) = (Vec::new(), BTreeMap::<String, Vec<Arc<Job>>>::new());
        for job in jobs {
            match &job.place {
                None => inline.push(job),
                Some(place) => buses.entry(place.bus.display().to_string()).or_default().push(job),
            }
        }
        self.inline.configure(inline, read_now, now);
        self.resources.retain(|resource| buses.contains_key(resource.name()));
        for resource in &mut self.resources {
            let jobs = buses.remove(resource.name()).expect("those without jobs are gone");
            let asked = |job: &Arc<Job>| read_now.contains(&job.sensor);
            if resource.jobs() != jobs || jobs.iter().any(asked) {
                resource.configure(jobs, read_now, now);
            }
        }
        // All of them are tried, whatever becomes of one.
        buses.into_iter().map(|(name, jobs)| self.start(name, jobs, now)).fold(Ok(()), Result::and)
    }

    fn start(&mut self, name: String, jobs: Vec<Arc<Job>>, start: Instant) -> io::Result<()> {
        let (board, clock, batches) = (self.board.clone(), self.clock.clone(), self.sender.clone());
        let parts = Parts { number: self.next, name, jobs, board, clock, start, batches };
        self.next += 1;
        self.resources.push(Resource::start(parts)?);
        Ok(())
    }

    /// Waits for reports from a bus.
    pub async fn batch(&mut self) -> Batch {
        self.receiver.recv().await.expect("we hold a sender ourselves")
    }

    /// Hands `batch`, and whatever else has come, to the core.
    pub fn take(&mut self, batch: &Batch, core: &mut Core) {
        self.take_one(batch, core);
        self.take_all(core);
    }

    /// Hands whatever has come to the core.
    pub fn take_all(&mut self, core: &mut Core) {
        while let Ok(batch) = self.receiver.try_recv() {
            self.take_one(&batch, core);
        }
    }

    fn take_one(&mut self, batch: &Batch, core: &mut Core) {
        let resource = self.resources.iter_mut().find(|resource| resource.number() == batch.resource);
        let Some(dropped) = resource.and_then(|resource| resource.reported(batch)) else { return };
        core.reports_dropped(dropped);
        core.samples(&batch.reports);
    }

    /// Between two events: looks after the buses, and reads what is due here.
    pub fn turn(&mut self, now: Instant, core: &mut Core) {
        self.look_after_buses(now, core);
        if core.take_read_all() {
            self.resources.iter().for_each(Resource::read_now);
            self.inline.read_now(now);
        }
        if self.inline.due().is_some_and(|due| now >= due) {
            let reports = &mut self.reports;
            self.inline.run(now, |_, _| (), |report| reports.push(report));
            core.samples(reports);
            reports.clear();
        }
    }

    fn look_after_buses(&mut self, now: Instant, core: &mut Core) {
        for resource in &mut self.resources {
            match resource.look(now) {
                Some(Found::Hanging(sensor)) => supervise::tell_hanging(resource, sensor, core),
                Some(Found::OpenedAnew) => {
                    log::warn!(bus = resource.name(); "another adapter has come, the bus is opened anew; the thread that hangs is left behind");
                }
                None => {}
            }
        }
        core.buses_hanging(self.resources.iter().filter(|resource| resource.is_hanging()).count());
    }

    /// When [`Polling::turn`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.resources.iter().map(Resource::deadline).chain(self.inline.due()).min()
    }

    /// Asks all threads to end. What has been read is still there to be taken, by [`Polling::take_all`] before.
    pub fn end(&mut self) {
        self.resources.clear();
    }
}
