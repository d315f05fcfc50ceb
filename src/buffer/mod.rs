//! What is measured while the server is away waits here, oldest first, within hard limits.
//!
//! A record enters when it is taken, *held*: somebody tries to deliver it live. Then it is either forgotten, because the
//! server has it, or released: it is history now, and leaves by [`Buffer::peek`] in the order in which it was taken. So a
//! record never has to be put before others, and none is handed out before an older one that may still follow.
//!
//! The store knows records, the labels of their series, and limits; it knows no topic and no session.

#[cfg(test)]
mod conformance;
pub mod disk;
pub mod memory;
mod names;
mod queue;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The boot this process runs in, as [`Record::boot`].
pub const THIS_BOOT: u32 = 0;
/// A boot nobody knows any more, as [`Record::boot`].
pub const UNKNOWN_BOOT: u32 = u32::MAX;

/// The number a record gets when it is taken; younger records have greater ones.
pub type Ticket = u64;

/// One reading kept for later.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Which reading, as [`Buffer::series`] numbers them.
    pub series: u32,
    /// The boot it was taken in: [`THIS_BOOT`], or one that [`Buffer::boot`] knows.
    pub boot: u32,
    /// When it was taken: milliseconds since 1970, or `None` while the clock was not known to be right.
    pub wall_ms: Option<i64>,
    /// When it was taken: milliseconds of its boot, sleep included (`CLOCK_BOOTTIME`).
    pub uptime_ms: u64,
    /// The value in the reading's published unit.
    pub value: f64,
}

/// Now, on the two clocks of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds of this boot, sleep included.
    pub uptime_ms: u64,
    /// Milliseconds since 1970, where that is known.
    pub wall_ms: Option<i64>,
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

impl Limits {
    /// Whether a record is too old to be kept. One whose age nobody can tell is not.
    fn is_over_age(&self, record: &Record, now: Moment) -> bool {
        let age = match (record.boot, record.wall_ms, now.wall_ms) {
            (THIS_BOOT, ..) => now.uptime_ms.saturating_sub(record.uptime_ms),
            (_, Some(then), Some(now)) => u64::try_from(now.saturating_sub(then)).unwrap_or(0),
            _ => 0,
        };
        u128::from(age) > self.max_age.as_millis()
    }
}

/// How much waits, and what was lost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Records that wait, the held ones included.
    pub waiting: usize,
    /// Those that are held.
    pub held: usize,
    /// Those that are on disk.
    pub on_disk: usize,
    /// Those that the end of this process would lose.
    pub at_risk: usize,
    /// Records dropped so far: too many, or too old.
    pub dropped: u64,
    /// Records found damaged on disk so far, and passed over.
    pub damaged: u64,
}

/// A bounded first-in first-out store of records.
///
/// None of its calls waits for a disk. What a disk answers is taken in by [`Buffer::turn`], which whoever made the store is
/// told to call.
pub trait Buffer: Send {
    /// The number of the series that its owner describes by `label`; the description is kept with its records.
    fn series(&mut self, label: &str) -> u32;
    /// How the owner described a series, perhaps in an earlier run.
    fn label(&self, series: u32) -> Option<Arc<str>>;
    /// The boot a record was taken in, as the kernel names it.
    fn boot(&self, boot: u32) -> Option<u128>;

    /// Takes a record in, held.
    fn push(&mut self, record: Record) -> Ticket;
    /// Nobody delivers them live any more: they are history.
    fn release(&mut self, tickets: Range<Ticket>);
    /// The server has them, or nobody wants them.
    fn forget(&mut self, tickets: Range<Ticket>);

    /// Appends up to `max` of the oldest records to `into`, oldest first, none that is held or younger than a held one.
    /// They stay; the next call begins with them again.
    fn peek(&mut self, max: usize, into: &mut Vec<Record>);
    /// The server has what was peeked last.
    fn forget_peeked(&mut self);
    /// What was peeked last is not on its way any more, and may be dropped.
    fn give_back(&mut self);
    /// Whether [`Buffer::peek`] has a record to give now.
    fn is_ready(&self) -> bool;

    /// Whether the server takes records now: then they are given some time to be forgotten before they are written.
    fn online(&mut self, online: bool);
    /// Does what is due, and takes in what the disk has answered.
    fn turn(&mut self, now: Moment);
    /// The uptime in milliseconds at which [`Buffer::turn`] has something to do that nothing else announces.
    fn deadline(&self) -> Option<u64>;
    /// Goes on under other limits: what is too much for them goes as they say.
    fn limit(&mut self, limits: Limits, flush_every: Duration);
    /// The process is going to end: everything is written now.
    fn finish(&mut self);
    /// Whether an answer of the disk is worth waiting for before the process ends.
    fn is_busy(&self) -> bool;

    /// How much waits, and what was lost so far.
    fn contents(&self) -> Contents;
}
