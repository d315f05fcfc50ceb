//! The seam to hardware: what the gateway asks of a board, and nothing of how a board does it.
//!
//! `linux` and `raspberry_pi` alone name hardware crates; `simulated` has models of chips and lines. A [`Bus`] reports
//! its faults as a [`Failure`] already classified, so no driver ever looks at an errno.

pub mod linux;
mod model;
mod nearest;
mod pinctrl;
pub mod raspberry_pi;
pub mod simulated;

use crate::clock::{Clock, Instant};
use crate::line::{Active, Bias, Drive, Edges, I2cPlace, Initial, Level, LineId};
use crate::sample::{Failure, Reason};
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A board: everything the gateway can touch.
pub trait Board: Send + Sync {
    /// The word of `[board] kind` that opens the same board again: `auto`, `linux`, `raspberry-pi`, `simulated`.
    fn kind(&self) -> &'static str;

    /// Where a simulated board notes its output writes, as [`simulated::Trace::open`] takes it from any folder.
    fn trace(&self) -> Option<&str> {
        None
    }

    /// The handle behind a simulated board.
    fn control(&self) -> Option<simulated::Control> {
        None
    }

    /// The adapter behind a bus's path now, for as long as the path leads to it; `None` where there is none, or where nobody
    /// can tell. Never blocks.
    fn adapter(&self, bus: &Path) -> Option<Adapter> {
        let _ = bus;
        None
    }

    /// Opens one chip's place on an I2C bus; `deadline` bounds a transfer where the adapter can be told.
    ///
    /// # Errors
    /// `absent`, `permission` or `busy`, with the remedy in the detail. Whether a chip answers shows only when it is used.
    fn i2c(&self, place: &I2cPlace, deadline: Duration) -> Result<Bus, Failure>;

    /// Requests an output with its initial level in the same call.
    ///
    /// # Errors
    /// `absent`, `permission` or `busy` (with the consumer that holds the line, where the kernel tells).
    fn output(&self, drive: &Drive, initial: Initial) -> Result<Box<dyn Output>, Failure>;

    /// Requests an input and the edges it shall tell, or without any where the controller has none.
    ///
    /// # Errors
    /// As for [`Board::output`].
    fn input(&self, line: &LineId, active: Active, bias: Bias, edges: Edges) -> Result<Box<dyn Input>, Failure>;
}

/// Tells one bus adapter from the next that takes its path: after it was unplugged and plugged again, or bound anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// The file system and the number of its device file, which is made anew with the adapter.
    pub file: (u64, u64),
    /// The device's own number.
    pub device: u64,
}

/// A requested output.
pub trait Output: Send {
    /// Drives the output to a logical level; a switch is on above zero.
    ///
    /// # Errors
    /// The kernel's refusal; the line is then in an unknown state.
    fn set(&mut self, level: Level) -> Result<(), Failure>;

    /// The logical level the output is driven to now.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn level(&mut self) -> Result<Level, Failure>;
}

/// A change of an input's level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The logical level after it.
    pub active: bool,
    /// When it happened, by the kernel.
    pub at: Instant,
    /// How many edges were lost just before this one because nobody read them in time.
    pub lost: u32,
}

/// A requested input. Its file descriptor is readable while edges wait.
pub trait Input: AsFd + Send {
    /// The logical level now.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn is_active(&mut self) -> Result<bool, Failure>;

    /// Whether the controller tells edges; otherwise the level has to be read again and again.
    fn tells_edges(&self) -> bool {
        true
    }

    /// Appends the edges that wait, never blocking, at most 64 a call.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn edges(&mut self, into: &mut Vec<Edge>) -> Result<(), Failure>;
}

/// An I2C fault, classified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct BusFault(pub Failure);

impl embedded_hal::i2c::Error for BusFault {
    fn kind(&self) -> ErrorKind {
        match self.0.reason {
            Reason::Nack => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown),
            Reason::Bus => ErrorKind::Bus,
            _ => ErrorKind::Other,
        }
    }
}

/// An opened place on an I2C bus, as `embedded-hal` wants it, with the kind of bus erased.
pub struct Bus(Box<dyn I2c<Error = BusFault> + Send>);

impl Bus {
    /// Wraps any implementation that reports [`BusFault`]s.
    pub fn new(inner: impl I2c<Error = BusFault> + Send + 'static) -> Self {
        Self(Box::new(inner))
    }
}

impl ErrorType for Bus {
    type Error = BusFault;
}

impl I2c for Bus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusFault> {
        self.0.transaction(address, operations)
    }
}

/// The delay drivers use, on the injected clock.
#[derive(Clone)]
pub struct Delay(Arc<dyn Clock>);

impl Delay {
    /// A delay on that clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }
}

impl DelayNs for Delay {
    fn delay_ns(&mut self, ns: u32) {
        self.0.sleep(Duration::from_nanos(u64::from(ns)));
    }
}
