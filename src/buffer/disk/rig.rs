//! A store on a disk in memory for tests, its thread carried out by hand.

use super::folder::Folder;
use super::front::{Disk, Options};
use super::medium::Medium;
use super::worker::Worker;
use crate::buffer::{Buffer, Limits, Moment, Overflow, Record, THIS_BOOT, Ticket};
use std::time::Duration;

/// The default of `[buffer] flush_every`.
pub(super) const FLUSH_MS: u64 = 5_000;
/// No limit that a test comes near.
pub(super) const WIDE: Limits =
    Limits { max_size: 8 * 1024 * 1024, max_age: Duration::from_secs(7 * 86_400), overflow: Overflow::DropOldest };

pub(in crate::buffer) struct Rig {
    pub(super) medium: Medium,
    pub(in crate::buffer) store: Disk,
    worker: Worker,
    pub(in crate::buffer) now: Moment,
    limits: Limits,
    boot: u128,
}

fn start(folder: Box<dyn Folder>, limits: Limits, boot: u128) -> (Disk, Worker) {
    let flush_every = Duration::from_millis(FLUSH_MS);
    Disk::over(folder, Options { path: "store".into(), memory: None, limits, flush_every, boot, wake: Box::new(|| {}) })
}

impl Rig {
    /// A store in an empty folder, open.
    pub(in crate::buffer) fn new(limits: Limits) -> Self {
        Self::on(Medium::default(), limits)
    }

    /// A store on that disk, open if it can be.
    pub(super) fn on(medium: Medium, limits: Limits) -> Self {
        let mut rig = Self::closed(medium, limits);
        rig.settle();
        rig
    }

    /// A store whose thread has done nothing yet.
    pub(super) fn closed(medium: Medium, limits: Limits) -> Self {
        let (store, worker) = start(medium.folder(), limits, 1);
        let now = Moment { uptime_ms: 60_000, wall_ms: Some(1_772_323_200_000) };
        Self { medium, store, worker, now, limits, boot: 1 }
    }

    /// The process starts again on the same disk, in the next boot.
    pub(super) fn restart(&mut self) {
        self.boot += 1;
        (self.store, self.worker) = start(self.medium.folder(), self.limits, self.boot);
        self.settle();
    }

    /// Main thread and thread take turns until nobody has anything to do.
    pub(in crate::buffer) fn settle(&mut self) {
        loop {
            self.store.turn(self.now);
            if !self.work() {
                return;
            }
        }
    }

    /// The thread carries out what it was asked for.
    pub(super) fn work(&mut self) -> bool {
        let mut worked = false;
        while self.worker.turn() {
            worked = true;
        }
        worked
    }

    /// Time passes; whatever falls due is done when it does.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now.uptime_ms + ms;
        let mut turns = 0;
        loop {
            self.settle();
            let next =
                self.store.deadline().filter(|deadline| *deadline <= end).map_or(end, |at| at.max(self.now.uptime_ms));
            let passed = next - self.now.uptime_ms;
            self.now = Moment { uptime_ms: next, wall_ms: self.now.wall_ms.map(|wall| wall + passed as i64) };
            if passed == 0 && next == end {
                return;
            }
            turns = if passed == 0 { turns + 1 } else { 0 };
            assert!(turns < 10, "something is due for ever");
        }
    }

    /// A reading of the series called `label` is taken now.
    pub(super) fn take(&mut self, label: &str, value: f64) -> Ticket {
        let series = self.store.series(label);
        let Moment { uptime_ms, wall_ms } = self.now;
        self.store.push(Record { series, boot: THIS_BOOT, wall_ms, uptime_ms, value })
    }

    /// So many readings are taken while the server is away, and become history at once.
    pub(super) fn keep(&mut self, values: std::ops::Range<u32>) {
        self.store.online(false);
        for value in values {
            let ticket = self.take("a", f64::from(value));
            self.store.release(ticket..ticket + 1);
        }
        self.settle();
    }

    /// The next share of history, acknowledged.
    pub(super) fn share(&mut self, max: usize) -> Vec<Record> {
        let mut records = Vec::new();
        self.settle();
        self.store.peek(max, &mut records);
        self.store.forget_peeked();
        self.settle();
        records
    }

    /// All history, acknowledged share by share.
    pub(super) fn drain(&mut self) -> Vec<Record> {
        self.store.online(true);
        let mut all = Vec::new();
        loop {
            let share = self.share(100);
            if share.is_empty() {
                return all;
            }
            all.extend(share);
        }
    }

    /// The values of all history.
    pub(super) fn values(&mut self) -> Vec<u32> {
        self.drain().iter().map(|record| record.value as u32).collect()
    }
}
