//! The store in memory: a ring of fixed-size records, in the order they were taken.
//!
//! It loses everything when the process ends. Invariant: its heap never exceeds [`Limits::max_size`], nor [`MAX_BYTES`].

use super::{Buffer, Limits, Overflow, Record};
use std::cell::Cell;
use std::collections::VecDeque;

/// However large `max_size` is, memory is not used beyond this many bytes.
pub const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// A bounded queue of records in memory.
pub struct Memory {
    records: VecDeque<Record>,
    /// The sequence number of the oldest record.
    first: u64,
    /// The end of what was copied out last: nothing is put before it, or `forget` would drop what nobody has seen.
    handed_out: Cell<u64>,
    capacity: usize,
    limits: Limits,
}

impl Memory {
    /// An empty store within `limits`.
    pub fn new(limits: Limits) -> Self {
        let bytes = limits.max_size.min(MAX_BYTES);
        let capacity = usize::try_from(bytes).unwrap_or(usize::MAX) / size_of::<Record>();
        Self { records: VecDeque::new(), first: 0, handed_out: Cell::new(0), capacity: capacity.max(1), limits }
    }

    fn drop_oldest(&mut self) {
        self.records.pop_front();
        self.first += 1;
    }

    /// Grows by doubling like any queue, but never past the capacity.
    fn make_room(&mut self) {
        if self.records.len() == self.records.capacity() {
            let wanted = (self.records.len() * 2).clamp(64, self.capacity.max(64));
            self.records.reserve_exact(wanted - self.records.len());
        }
    }
}

impl Buffer for Memory {
    fn push(&mut self, record: Record) -> u64 {
        let mut dropped = 0;
        if self.records.len() >= self.capacity {
            if self.limits.overflow == Overflow::DropNewest {
                return 1;
            }
            self.drop_oldest();
            dropped = 1;
        }
        self.make_room();
        // A record that was in flight when the connection broke comes after younger ones, but never by much.
        let behind = self.first + self.records.len() as u64 - self.handed_out.get().max(self.first);
        let free = self.records.iter().rev().take(behind as usize);
        let younger = free.take_while(|kept| kept.uptime_ms > record.uptime_ms).count();
        self.records.insert(self.records.len() - younger, record);
        dropped
    }

    fn peek(&self, max: usize, into: &mut Vec<Record>) -> u64 {
        let count = max.min(self.records.len());
        into.extend(self.records.iter().take(count));
        self.handed_out.set(self.first + count as u64);
        self.handed_out.get()
    }

    fn forget(&mut self, end: u64) {
        while self.first < end && !self.records.is_empty() {
            self.drop_oldest();
        }
        if self.records.is_empty() {
            self.records = VecDeque::new();
        }
    }

    fn expire(&mut self, uptime_ms: u64) -> u64 {
        let limit = u64::try_from(self.limits.max_age.as_millis()).unwrap_or(u64::MAX);
        let before = self.records.len();
        while self.records.front().is_some_and(|oldest| uptime_ms.saturating_sub(oldest.uptime_ms) > limit) {
            self.drop_oldest();
        }
        (before - self.records.len()) as u64
    }

    fn len(&self) -> usize {
        self.records.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn limits(records: usize, overflow: Overflow) -> Limits {
        Limits { max_size: (records * size_of::<Record>()) as u64, max_age: Duration::from_secs(60), overflow }
    }

    fn record(uptime_ms: u64) -> Record {
        Record { series: 0, wall_ms: None, uptime_ms, value: uptime_ms as f64 }
    }

    fn times(store: &Memory) -> Vec<u64> {
        let mut all = Vec::new();
        store.peek(usize::MAX, &mut all);
        all.iter().map(|r| r.uptime_ms).collect()
    }

    #[test]
    fn what_gives_way_is_what_the_configuration_says() {
        let mut oldest = Memory::new(limits(3, Overflow::DropOldest));
        let mut newest = Memory::new(limits(3, Overflow::DropNewest));
        let dropped: Vec<_> = (1..=5).map(|t| (oldest.push(record(t)), newest.push(record(t)))).collect();
        assert_eq!(dropped, [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1)]);
        assert_eq!(times(&oldest), [3, 4, 5]);
        assert_eq!(times(&newest), [1, 2, 3]);
    }

    #[test]
    fn a_batch_dropped_while_it_was_being_sent_is_not_forgotten_twice() {
        let mut store = Memory::new(limits(3, Overflow::DropOldest));
        (1..=3).for_each(|t| assert_eq!(store.push(record(t)), 0));
        let mut batch = Vec::new();
        let end = store.peek(2, &mut batch);
        assert_eq!(store.push(record(4)), 1, "the oldest of the batch gives way");
        store.forget(end);
        assert_eq!(times(&store), [3, 4]);
    }

    #[test]
    fn a_record_that_comes_late_is_not_forgotten_with_a_batch_it_was_not_in() {
        let mut store = Memory::new(limits(10, Overflow::DropOldest));
        store.push(record(11));
        let mut batch = Vec::new();
        let end = store.peek(5, &mut batch);
        store.push(record(10));
        store.forget(end);
        assert_eq!(times(&store), [10]);
        store.push(record(9));
        assert_eq!(times(&store), [10, 9], "what was looked at stays in front");
        store.peek(0, &mut batch);
        store.push(record(8));
        assert_eq!(times(&store), [8, 10, 9], "until another look takes its place");
    }

    #[test]
    fn old_records_expire() {
        let mut store = Memory::new(limits(10, Overflow::DropOldest));
        (0..5).for_each(|t| assert_eq!(store.push(record(t * 30_000)), 0));
        assert_eq!(store.expire(120_000), 2);
        assert_eq!(times(&store), [60_000, 90_000, 120_000]);
    }

    proptest! {
        #[test]
        fn keeps_the_order_of_time_and_its_limit(all in proptest::collection::vec(0u64..50, 0..200)) {
            let mut store = Memory::new(limits(20, Overflow::DropOldest));
            let dropped: u64 = all.iter().map(|t| store.push(record(*t))).sum();
            prop_assert!(store.len() <= 20);
            prop_assert_eq!(store.len() as u64 + dropped, all.len() as u64);
            prop_assert!(times(&store).is_sorted());
        }
    }
}
