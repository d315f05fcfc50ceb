//! Records in memory, in the order they were taken: held, released, or gone.
//!
//! It has no limit of its own; its owner sheds what is too much. Invariant: of nine entries at most one is gone, beyond
//! [`KEEP`].

use super::{Overflow, Record, Ticket};
use std::collections::VecDeque;

/// However large `max_size` is, memory is not used beyond this many bytes.
pub const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Grows by at most so many entries at once.
const MOST_AT_ONCE: usize = 16 * 1024;
/// An empty queue keeps room for so many.
const KEEP: usize = 64;

/// Who has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Somebody delivers it live.
    Held,
    /// It is history.
    Free,
    /// Nobody: its place is all that is left.
    Gone,
}

struct Entry {
    ticket: Ticket,
    state: State,
    record: Record,
}

/// Records in memory.
#[derive(Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    next: Ticket,
    held: usize,
    free: usize,
}

/// How many records fit into that many bytes, with the places of those that are gone.
pub(super) fn capacity(max_size: u64) -> usize {
    let bytes = usize::try_from(max_size.min(MAX_BYTES)).unwrap_or(usize::MAX);
    (bytes / (size_of::<Entry>() * 9 / 8)).max(1)
}

/// How many bytes so many records may take.
pub(super) fn bytes(records: usize) -> u64 {
    (records * (size_of::<Entry>() * 9 / 8)) as u64
}

impl Queue {
    /// Appends a record, held.
    pub(super) fn push(&mut self, record: Record) -> Ticket {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            self.entries.reserve_exact(len.clamp(KEEP, MOST_AT_ONCE));
        }
        let ticket = self.next;
        self.entries.push_back(Entry { ticket, state: State::Held, record });
        self.next += 1;
        self.held += 1;
        ticket
    }

    /// A held record is history now; `false` if it is not here.
    pub(super) fn release(&mut self, ticket: Ticket) -> bool {
        self.change(ticket, State::Free) == Some(State::Held)
    }

    /// Takes a record out; tells who had it.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<State> {
        let before = self.change(ticket, State::Gone);
        self.tidy();
        before
    }

    /// What it was before, unless it is gone.
    fn change(&mut self, ticket: Ticket, to: State) -> Option<State> {
        let at = self.entries.binary_search_by_key(&ticket, |entry| entry.ticket).ok()?;
        self.change_at(at, to)
    }

    fn change_at(&mut self, at: usize, to: State) -> Option<State> {
        let before = std::mem::replace(&mut self.entries[at].state, to);
        match before {
            State::Held => self.held -= 1,
            State::Free => self.free -= 1,
            State::Gone => {
                self.entries[at].state = State::Gone;
                return None;
            }
        }
        self.free += usize::from(to == State::Free);
        Some(before)
    }

    fn tidy(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.state == State::Gone) {
            self.entries.pop_front();
        }
        if self.entries.is_empty() && self.entries.capacity() > KEEP {
            self.entries = VecDeque::new();
        } else if self.entries.len() > self.len() + self.len() / 8 + KEEP {
            self.entries.retain(|entry| entry.state != State::Gone);
        }
    }

    /// The records that are here, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ticket, &Record)> {
        let here = self.entries.iter().filter(|entry| entry.state != State::Gone);
        here.map(|entry| (entry.ticket, &entry.record))
    }

    /// The history that no held record is older than, with each record's place.
    fn history(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let places = self.entries.iter().enumerate().filter(|(_, entry)| entry.state != State::Gone);
        places.take_while(|(_, entry)| entry.state == State::Free)
    }

    /// Appends up to `max` records of the history to `into`; returns the ticket after the last one, 0 if there is none.
    pub(super) fn peek(&self, max: usize, into: &mut Vec<Record>) -> Ticket {
        let mut end = 0;
        for (_, entry) in self.history().take(max) {
            into.push(entry.record);
            end = entry.ticket + 1;
        }
        end
    }

    /// Whether [`Queue::peek`] has something to give.
    pub(super) fn is_ready(&self) -> bool {
        self.free > 0 && self.history().next().is_some()
    }

    /// Takes out all history before that ticket.
    pub(super) fn take_history_before(&mut self, end: Ticket) {
        for at in 0..self.entries.partition_point(|entry| entry.ticket < end) {
            if self.entries[at].state == State::Free {
                self.change_at(at, State::Gone);
            }
        }
        self.tidy();
    }

    /// Takes out the oldest history as long as `is_over`; returns how many records.
    pub(super) fn expire(&mut self, is_over: impl Fn(&Record) -> bool) -> u64 {
        let over = self.history().take_while(|(_, entry)| is_over(&entry.record)).last();
        let Some(end) = over.map(|(_, entry)| entry.ticket + 1) else { return 0 };
        let before = self.free;
        self.take_history_before(end);
        (before - self.free) as u64
    }

    /// Takes out history until at most `capacity` records of it are left; returns how many.
    pub(super) fn shed(&mut self, capacity: usize, overflow: Overflow) -> u64 {
        let much = self.free.saturating_sub(capacity);
        for _ in 0..much {
            let is_free = |entry: &Entry| entry.state == State::Free;
            let at = match overflow {
                Overflow::DropOldest => self.entries.iter().position(is_free),
                Overflow::DropNewest => self.entries.iter().rposition(is_free),
            };
            self.change_at(at.expect("some are free"), State::Gone);
        }
        if much > 0 {
            self.tidy();
        }
        much as u64
    }

    /// How many are here.
    pub(super) fn len(&self) -> usize {
        self.held + self.free
    }

    /// How many are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }
}
