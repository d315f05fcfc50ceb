//! Physical quantities, their units, and altitude from pressure. Pure numbers, no I/O.

pub mod altitude;
mod unit;

pub use unit::Unit;

use std::fmt;

/// What a reading measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quantity {
    /// Canonical unit °C.
    Temperature,
    /// Canonical unit hPa.
    Pressure,
    /// Geopotential altitude, canonical unit m.
    Altitude,
    /// Relative humidity, canonical unit %.
    Humidity,
    /// A plain count (the diagnostic sensor, pulse totals), without a unit.
    Count,
}

impl Quantity {
    /// Every quantity, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Temperature, Self::Pressure, Self::Altitude, Self::Humidity, Self::Count];

    /// The name in configuration and topics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Pressure => "pressure",
            Self::Altitude => "altitude",
            Self::Humidity => "humidity",
            Self::Count => "count",
        }
    }

    /// The quantity of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quantity| quantity.name() == name)
    }

    /// The unit drivers deliver and the default of what is published.
    pub const fn canonical(self) -> Unit {
        match self {
            Self::Temperature => Unit::Celsius,
            Self::Pressure => Unit::Hectopascal,
            Self::Altitude => Unit::Metre,
            Self::Humidity => Unit::Percent,
            Self::Count => Unit::One,
        }
    }

    /// Digits after the point where the configuration names none.
    pub const fn default_decimals(self) -> u8 {
        match self {
            Self::Temperature => 2,
            Self::Pressure | Self::Altitude | Self::Humidity => 1,
            Self::Count => 0,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
