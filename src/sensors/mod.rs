//! The sensor drivers: one chip a file, and the registry of them all.
//!
//! A driver knows its chip, an `embedded-hal` bus and a delay. It knows no MQTT, file, configuration or clock, and computes
//! no altitude: the gateway does that from pressure.

pub mod bme280;
pub mod bmp280;
pub mod lm75;
pub mod mpl3115a2;
pub mod test_counter;
pub mod tmp102;
pub mod tmp117;

use crate::board::{Bus, Delay};
use crate::quantity::Quantity;
use crate::sample::{Failure, Sample};

/// An opened sensor.
pub trait Sensor: Send {
    /// Reads all quantities at once, each in its canonical unit.
    ///
    /// May block for the chip's conversion time. After an error the sensor is dropped and opened anew.
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
    pub open: fn(Attachment, &Options) -> Result<Box<dyn Sensor>, Failure>,
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
