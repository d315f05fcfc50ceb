//! The store in memory: it loses everything when the process ends.
//!
//! Invariant: it keeps no more history than [`Limits::max_size`] or [`MAX_BYTES`] have room for; what is held comes on top,
//! bounded by whoever holds it.

pub use super::queue::MAX_BYTES;

use super::names::Names;
use super::queue::{Queue, capacity};
use super::{Buffer, Contents, Limits, Moment, Record, Ticket};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A bounded queue of records in memory.
pub struct Memory {
    queue: Queue,
    names: Names,
    limits: Limits,
    /// What was peeked last ends here; 0 if nothing is on its way.
    peeked: Ticket,
    dropped: u64,
}

impl Memory {
    /// An empty store within `limits`.
    pub fn new(limits: Limits) -> Self {
        Self { queue: Queue::default(), names: Names::new(0), limits, peeked: 0, dropped: 0 }
    }

    /// An empty store that keeps so many records of history, at most what [`MAX_BYTES`] have room for.
    pub fn of(records: usize, limits: Limits) -> Self {
        let max_size = super::queue::bytes(records);
        Self::new(Limits { max_size, ..limits })
    }

    fn shed(&mut self) {
        self.dropped += self.queue.shed(capacity(self.limits.max_size), self.limits.overflow);
    }
}

impl Buffer for Memory {
    fn series(&mut self, label: &str) -> u32 {
        self.names.series(label)
    }

    fn label(&self, series: u32) -> Option<Arc<str>> {
        self.names.label(series)
    }

    fn boot(&self, _: u32) -> Option<u128> {
        None
    }

    fn push(&mut self, record: Record) -> Ticket {
        self.queue.push(record)
    }

    fn release(&mut self, tickets: Range<Ticket>) {
        for ticket in tickets {
            self.queue.release(ticket);
        }
        self.shed();
    }

    fn forget(&mut self, tickets: Range<Ticket>) {
        for ticket in tickets {
            self.queue.take(ticket);
        }
    }

    fn peek(&mut self, max: usize, into: &mut Vec<Record>) {
        self.peeked = self.queue.peek(max, into);
    }

    fn forget_peeked(&mut self) {
        self.queue.take_history_before(self.peeked);
        self.peeked = 0;
    }

    fn give_back(&mut self) {
        self.peeked = 0;
    }

    fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }

    fn online(&mut self, _: bool) {}

    fn turn(&mut self, now: Moment) {
        if self.peeked == 0 {
            self.dropped += self.queue.expire(|record| self.limits.is_over_age(record, now));
        }
    }

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn limit(&mut self, limits: Limits, _: Duration) {
        self.limits = limits;
        self.shed();
    }

    fn finish(&mut self) {}

    fn is_busy(&self) -> bool {
        false
    }

    fn contents(&self) -> Contents {
        let waiting = self.queue.len();
        let held = self.queue.held();
        Contents { waiting, held, at_risk: waiting, dropped: self.dropped, ..Contents::default() }
    }
}
