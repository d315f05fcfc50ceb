//! What is measured while the server is away waits here, oldest first, within hard limits.
//!
//! The store knows records and limits; it knows no topic and no session.

pub mod memory;

use std::time::Duration;

/// One reading kept for later.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Which reading: an index the owner gives a meaning to.
    pub series: u32,
    /// When it was taken: milliseconds since 1970, or `None` while the clock was not known to be right.
    pub wall_ms: Option<i64>,
    /// When it was taken: milliseconds on the monotonic clock of this boot.
    pub uptime_ms: u64,
    /// The value in the reading's published unit.
    pub value: f64,
}

/// What gives way when the limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest records.
    #[default]
    DropOldest,
    /// What comes in.
    DropNewest,
}

/// The limits of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub max_size: u64,
    /// Older records are dropped.
    pub max_age: Duration,
    /// What gives way.
    pub overflow: Overflow,
}

/// A bounded first-in first-out store of records.
pub trait Buffer: Send {
    /// Appends a record; returns how many records were dropped for it (it may be the one).
    fn push(&mut self, record: Record) -> u64;
    /// Copies up to `max` of the oldest records to `into`, oldest first; they stay until [`Buffer::forget`], and nothing is
    /// put before them until the next call.
    /// Returns the sequence number just after the last one copied.
    fn peek(&self, max: usize, into: &mut Vec<Record>) -> u64;
    /// Drops every record before the sequence number `end`: the server has them.
    fn forget(&mut self, end: u64);
    /// Drops what is older than the limit; returns how many.
    fn expire(&mut self, uptime_ms: u64) -> u64;
    /// How many records wait.
    fn len(&self) -> usize;
    /// Whether none waits.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
