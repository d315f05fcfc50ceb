//! What the main thread knows of the records on disk: how many there are, which are held, and the oldest ones themselves,
//! read ahead so that nobody waits for them.
//!
//! It does no I/O. Invariant: every record on the shelf is counted once, as waiting, forgotten, dropped or damaged.

use super::log::Batch;
use super::ranges::Ranges;
use crate::buffer::{Record, Ticket};
use std::collections::{BTreeMap, VecDeque};

/// The records on disk.
#[derive(Default)]
pub(super) struct Shelf {
    /// The first record that is not forgotten.
    begin: u64,
    /// The number of the next record.
    end: u64,
    /// What is forgotten between the two.
    forgotten: Ranges,
    /// Those that are held, and their numbers, which ascend as the tickets do.
    held: BTreeMap<Ticket, u64>,
    /// Read ahead, oldest first, with those forgotten since.
    ahead: VecDeque<(u64, Record)>,
    /// Where reading goes on.
    unread: u64,
}

impl Shelf {
    /// What was found on disk when the store was opened.
    pub(super) fn new(begin: u64, end: u64, forgotten: Ranges) -> Self {
        Self { begin, end, forgotten, unread: begin, ..Self::default() }
    }

    /// How many wait, the held ones included.
    pub(super) fn len(&self) -> usize {
        (self.end - self.begin - self.forgotten.count_in(&(self.begin..self.end))) as usize
    }

    /// The number of the next record.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// How many are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// What is forgotten: everything before the number, and the ranges.
    pub(super) fn forgotten(&self) -> (u64, Ranges) {
        (self.begin, self.forgotten.clone())
    }

    /// A record has been written, the next one.
    pub(super) fn written(&mut self, number: u64, held: Option<Ticket>) {
        self.end = number + 1;
        self.held.extend(held.map(|ticket| (ticket, number)));
    }

    /// A held record is history now; `false` if it is not here.
    pub(super) fn release(&mut self, ticket: Ticket) -> bool {
        self.held.remove(&ticket).is_some()
    }

    /// A held record is forgotten; `false` if it is not here.
    pub(super) fn forget(&mut self, ticket: Ticket) -> bool {
        let number = self.held.remove(&ticket);
        number.is_some_and(|number| self.forget_number(number))
    }

    /// A record is forgotten; `false` if it was before.
    pub(super) fn forget_number(&mut self, number: u64) -> bool {
        let new = number >= self.begin && self.forgotten.insert(number..number + 1) > 0;
        self.advance(self.begin);
        new
    }

    /// All history before that number is forgotten.
    pub(super) fn forget_before(&mut self, number: u64) {
        self.advance(number.max(self.begin));
    }

    fn advance(&mut self, begin: u64) {
        self.begin = self.forgotten.advance(begin);
        self.unread = self.unread.max(self.begin);
        while self.ahead.front().is_some_and(|(number, _)| *number < self.begin) {
            self.ahead.pop_front();
        }
    }

    /// The disk has nothing before that number any more; returns how many were lost that nobody else has.
    pub(super) fn dropped_before(&mut self, number: u64) -> u64 {
        if number <= self.begin {
            return 0;
        }
        let gone = self.begin..number;
        let held = self.held.values().take_while(|held| **held < number).count();
        let lost = number - gone.start - self.forgotten.count_in(&gone) - held as u64;
        self.held.retain(|_, held| *held >= number);
        self.end = self.end.max(number);
        self.advance(number);
        lost
    }

    /// Where to read on, if there is something that is not read ahead yet and fewer than `few` are.
    pub(super) fn wants(&self, few: usize) -> Option<u64> {
        (self.unread < self.end && self.ahead.len() < few).then_some(self.unread)
    }

    /// What was read from the number `from` on; returns how many records are damaged.
    pub(super) fn read(&mut self, from: u64, batch: Batch) -> u64 {
        if from < self.unread {
            // It has been dropped while it was being read; what follows is read again.
            return 0;
        }
        let mut damaged = 0;
        for (number, record) in batch.records {
            damaged += self.forgotten.insert(self.unread..number);
            self.unread = number + 1;
            self.ahead.push_back((number, record));
        }
        damaged += self.forgotten.insert(self.unread..batch.next.max(self.unread));
        self.unread = batch.next.max(self.unread);
        self.advance(self.begin);
        damaged
    }

    /// The oldest history, and whether it goes on behind the last one given: in the queue, if nothing here is in the way.
    fn history(&self) -> impl Iterator<Item = &(u64, Record)> {
        let barrier = self.held.values().next().copied().unwrap_or(u64::MAX);
        let here = self.ahead.iter().filter(|(number, _)| !self.forgotten.contains(*number));
        here.take_while(move |(number, _)| *number < barrier)
    }

    /// Appends up to `max` records of the history to `into`; returns the number after the last one, 0 if there is none.
    pub(super) fn peek(&self, max: usize, into: &mut Vec<Record>) -> u64 {
        let mut end = 0;
        for (number, record) in self.history().take(max) {
            into.push(*record);
            end = number + 1;
        }
        end
    }

    /// Whether [`Shelf::peek`] has something to give.
    pub(super) fn is_ready(&self) -> bool {
        self.history().next().is_some()
    }

    /// Whether the history goes on in memory behind what is read ahead here.
    pub(super) fn is_read_out(&self) -> bool {
        self.unread >= self.end && self.held.is_empty()
    }

    /// Forgets the oldest history as long as `is_over`; returns how many records.
    pub(super) fn expire(&mut self, is_over: impl Fn(&Record) -> bool) -> u64 {
        let over = self.history().take_while(|(_, record)| is_over(record));
        let (count, last) = over.fold((0, None), |(count, _), (number, _)| (count + 1, Some(*number)));
        if let Some(last) = last {
            self.forget_before(last + 1);
        }
        count
    }
}
