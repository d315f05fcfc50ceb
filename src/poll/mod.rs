//! Reading sensors: one thread a resource, each on absolute times, so that no bus ever waits for another.
//!
//! [`Poller`] is the schedule of one resource, without a thread; `thread` runs it on one, and [`Resource`] is what the agent
//! holds of that: it notices a read that hangs. A read that fails is a report like any other. Reports leave in batches: what
//! falls due together arrives together.

mod resource;
pub mod schedule;
mod thread;

pub use resource::{Found, Parts, Resource};
pub use schedule::{Job, Poller};
pub use thread::{Batch, THREAD_NAME};

use crate::clock::Stamp;
use crate::sample::Sample;

/// What one read gave.
#[derive(Debug)]
pub struct Report {
    /// The sensor's number.
    pub sensor: usize,
    /// When the read ended.
    pub stamp: Stamp,
    /// Values, or why there are none.
    pub sample: Sample,
}
