//! What reading a sensor gives: a few values, or a reason for none. No units beyond the canonical ones, no I/O.

use crate::quantity::Quantity;
use std::borrow::Cow;
use std::fmt;

/// The most quantities one sensor measures at once.
pub const MAX_VALUES: usize = 4;

/// The values of one read, each in its quantity's canonical unit ([`Quantity::canonical`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Values {
    len: u8,
    items: [Option<(Quantity, f64)>; MAX_VALUES],
}

impl Values {
    /// No values yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value; at most [`MAX_VALUES`] fit.
    #[must_use]
    pub fn with(mut self, quantity: Quantity, value: f64) -> Self {
        self.items[usize::from(self.len)] = Some((quantity, value));
        self.len += 1;
        self
    }

    /// The value of `quantity`, if the sensor gave one.
    pub fn get(&self, quantity: Quantity) -> Option<f64> {
        self.iter().find(|(q, _)| *q == quantity).map(|(_, value)| value)
    }

    /// All values in the driver's order.
    pub fn iter(&self) -> impl Iterator<Item = (Quantity, f64)> + '_ {
        self.items.iter().take(usize::from(self.len)).filter_map(|item| *item)
    }
}

/// What one read gave.
pub type Sample = Result<Values, Failure>;

/// Why there is no reading, in the words of the health topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nobody answered at the address.
    Nack,
    /// The answer did not come within the deadline.
    Timeout,
    /// The bus itself failed (arbitration lost, stuck line).
    Bus,
    /// A kernel driver or another program owns the device.
    Busy,
    /// The bus or device file does not exist.
    Absent,
    /// The device file may not be opened by this user.
    Permission,
    /// The data's checksum was wrong.
    Crc,
    /// Something answered, but it is another chip.
    WrongChip,
    /// The value is impossible, or outside the configured limits.
    OutOfRange,
    /// The driver itself failed (a panic, a broken invariant).
    Driver,
}

impl Reason {
    /// The word used in topics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nack => "nack",
            Self::Timeout => "timeout",
            Self::Bus => "bus",
            Self::Busy => "busy",
            Self::Absent => "absent",
            Self::Permission => "permission",
            Self::Crc => "crc",
            Self::WrongChip => "wrong-chip",
            Self::OutOfRange => "out-of-range",
            Self::Driver => "driver",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed read or a missing part of the board: a reason, and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Failure {
    /// The word on the health topic.
    pub reason: Reason,
    /// For people: what failed, what was found, the remedy where there is one.
    pub detail: Cow<'static, str>,
}

impl Failure {
    /// A failure with its explanation.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }
}
