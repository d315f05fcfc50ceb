//! The sensor drivers: one chip a file, and the registry of them all.
//!
//! A driver knows its chip, an `embedded-hal` bus and a delay. It knows no MQTT, file, configuration or clock, and computes
//! no altitude: the gateway does that from pressure.

pub mod bme280;
pub mod bmp280;
mod bosch;
#[cfg(test)]
mod conformance;
pub mod lm75;
pub mod mpl3115a2;
pub mod test_counter;
pub mod tmp102;
pub mod tmp117;

use crate::board::{Bus, BusFault, Delay};
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason, Sample};
use embedded_hal::i2c::I2c;
use std::error::Error;
use std::ops::RangeInclusive;

/// An opened sensor.
pub trait Sensor: Send {
    /// Reads all quantities at once, each in its canonical unit.
    ///
    /// May block for the chip's conversion time, unless it is attached to [`Attachment::None`]: then it must not block. After an error the sensor is dropped and opened anew.
    fn read(&mut self) -> Sample;
}

/// What a sensor hangs on.
pub enum Attachment {
    /// A place on an I2C bus.
    I2c {
        /// The bus; transactions go to `address`.
        bus: Bus,
        /// The chip's 7-bit address.
        address: u8,
        /// Waits for conversions.
        delay: Delay,
    },
    /// Nothing.
    None,
}

impl Attachment {
    /// The bus, the address and the delay; the plan gives them to every driver that declares [`Attach::I2c`].
    fn into_i2c(self) -> Result<(Bus, u8, Delay), Failure> {
        match self {
            Self::I2c { bus, address, delay } => Ok((bus, address, delay)),
            Self::None => Err(Failure::new(Reason::Driver, "opened without the i2c bus it needs")),
        }
    }
}

/// What a driver needs to be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// I2C, with the addresses the chip's pins can select, the usual one first.
    I2c(&'static [u8]),
    /// Nothing: no bus, no address.
    None,
}

/// One option of a driver: a whole number out of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverOption {
    /// The key in the sensor's table.
    pub name: &'static str,
    /// What may be given; the first is the default.
    pub allowed: &'static [i64],
    /// One sentence with the unit.
    pub doc: &'static str,
}

/// The options given for one sensor, checked against [`Driver::options`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(pub Vec<(&'static str, i64)>);

impl Options {
    /// The value given for `option`, or its default.
    pub fn get(&self, option: &DriverOption) -> i64 {
        self.0.iter().find(|(name, _)| *name == option.name).map_or(option.allowed[0], |(_, value)| *value)
    }
}

/// How a driver is opened.
pub type Open = fn(Attachment, &Options) -> Result<Box<dyn Sensor>, Failure>;

/// A sensor driver's entry in the registry.
pub struct Driver {
    /// The name in `driver = "…"`: the chip's part number in lower case.
    pub name: &'static str,
    /// The chips it drives, for people.
    pub chips: &'static str,
    /// Range, resolution and accuracy by the datasheet, for people.
    pub accuracy: &'static str,
    /// What it hangs on.
    pub attach: Attach,
    /// What it measures.
    pub quantities: &'static [Quantity],
    /// Its options.
    pub options: &'static [DriverOption],
    /// Identifies and configures the chip.
    pub open: Open,
}

/// All drivers, by name.
pub const DRIVERS: &[&Driver] = &[
    &bme280::DRIVER,
    &bmp280::DRIVER,
    &lm75::DRIVER,
    &mpl3115a2::DRIVER,
    &test_counter::DRIVER,
    &tmp102::DRIVER,
    &tmp117::DRIVER,
];

/// The driver of that name.
pub fn find(name: &str) -> Option<&'static Driver> {
    DRIVERS.iter().copied().find(|driver| driver.name == name)
}

/// The failure beneath a driver crate's error: the bus's own words where the bus failed.
fn failure_of(error: impl Error + 'static) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(BusFault(failure)) = error.downcast_ref() {
            return failure.clone();
        }
        cause = error.source();
    }
    Failure::new(Reason::Driver, error.to_string())
}

/// Reads `N` bytes from `register` on, in one transaction.
fn read_register<const N: usize>(bus: &mut Bus, address: u8, register: u8) -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    bus.write_read(address, &[register], &mut bytes).map_err(|BusFault(failure)| failure)?;
    Ok(bytes)
}

/// `value`, in the quantity's canonical unit, if the chip can measure it.
fn within(range: &RangeInclusive<f64>, quantity: Quantity, value: f64) -> Result<f64, Failure> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (unit, low, high) = (quantity.canonical(), range.start(), range.end());
    Err(Failure::new(Reason::OutOfRange, format!("{quantity} {value:.2} {unit} is outside {low} to {high} {unit}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_interfaces::TransportError;

    #[test]
    fn a_bus_fault_keeps_its_words_under_a_crates_error() {
        let failure = Failure::new(Reason::Nack, "nobody answers at 0x76");
        let wrapped: TransportError<(), BusFault> = TransportError::Bus(BusFault(failure.clone()));
        assert_eq!(failure_of(wrapped), failure);
        let other: TransportError<(), BusFault> = TransportError::Unexpected("no answer");
        assert_eq!(failure_of(other), Failure::new(Reason::Driver, "unexpected: no answer"));
    }

    #[test]
    fn what_is_no_number_is_out_of_range() {
        for bad in [f64::NAN, f64::INFINITY, 85.1] {
            let failure = within(&(-40.0..=85.0), Quantity::Temperature, bad).expect_err("outside");
            assert_eq!(failure.reason, Reason::OutOfRange);
        }
        let failure = within(&(-40.0..=85.0), Quantity::Temperature, -143.5).expect_err("outside");
        assert_eq!(failure.detail, "temperature -143.50 °C is outside -40 to 85 °C");
        assert_eq!(within(&(-40.0..=85.0), Quantity::Temperature, -40.0), Ok(-40.0));
    }

    #[test]
    fn the_registry_is_sorted_complete_and_consistent() {
        assert!(DRIVERS.is_sorted_by_key(|driver| driver.name));
        for driver in DRIVERS {
            assert_eq!(find(driver.name).map(|found| found.name), Some(driver.name));
            assert!(!driver.chips.is_empty() && !driver.accuracy.is_empty() && !driver.quantities.is_empty());
            assert!(driver.quantities.len() <= crate::sample::MAX_VALUES, "{}", driver.name);
            if let Attach::I2c(addresses) = driver.attach {
                assert!(
                    !addresses.is_empty() && addresses.iter().all(|a| (0x03..=0x77).contains(a)),
                    "{}",
                    driver.name
                );
            }
            for option in driver.options {
                assert!(!option.allowed.is_empty() && !option.doc.is_empty(), "{}.{}", driver.name, option.name);
            }
        }
        assert!(find("bmp281").is_none());
    }
}
