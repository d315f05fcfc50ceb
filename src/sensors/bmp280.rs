//! `bmp280`: Bosch BMP280, barometer and thermometer. What it shares with the BME280 is in `bosch`.
//!
//! Datasheet: BST-BMP280-DS001, revision 1.23.

use super::bosch::{self, Barometer};
use super::{Attach, Attachment, Driver, Options, Sensor};
use crate::quantity::Quantity;
use crate::sample::{Failure, Sample, Values};

/// The registry entry.
pub const DRIVER: Driver = Driver {
    name: "bmp280",
    chips: "Bosch BMP280",
    accuracy: "300 to 1100 hPa, ±1 hPa absolute, ±0.12 hPa relative (±1 m); \
               -40 to 85 °C, ±0.5 °C at 25 °C, ±1 °C from 0 to 65 °C",
    attach: Attach::I2c(bosch::ADDRESSES),
    quantities: &[Quantity::Pressure, Quantity::Temperature],
    options: &[bosch::OVERSAMPLING, bosch::FILTER],
    open,
};

struct Bmp280(Barometer<false>);

fn open(attachment: Attachment, options: &Options) -> Result<Box<dyn Sensor>, Failure> {
    Ok(Box::new(Bmp280(Barometer::open(attachment, options)?)))
}

impl Sensor for Bmp280 {
    fn read(&mut self) -> Sample {
        let raw = self.0.raw()?;
        let weather = self.0.weather(raw)?;
        Ok(Values::new().with(Quantity::Pressure, weather.hectopascal).with(Quantity::Temperature, weather.celsius))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Delay;
    use crate::board::simulated::bus::SimulatedBus;
    use crate::board::simulated::chips::{Chip, Weather, model};
    use crate::clock::ManualClock;
    use embedded_devices::devices::bosch::bme280::address::Address;
    use embedded_devices::devices::bosch::bmp280::{BMP280Sync, Configuration};
    use embedded_devices::sensor::OneshotSensorSync;
    use embedded_devices::uom::si::pressure::hectopascal;
    use embedded_devices::uom::si::thermodynamic_temperature::degree_celsius;
    use std::sync::Arc;

    /// A memory with the register contents of the datasheet's example (3.12), which never changes by itself.
    struct Memory([u8; 256], u8);

    impl Memory {
        fn example() -> Self {
            let mut bytes = [0; 256];
            let words = [27_504u16, 26_435, 0xfc18, 36_477, 0xd643, 3_024, 2_855, 140, 0xfff9, 15_500, 0xc6f8, 6_000];
            for (at, word) in (0x88..).step_by(2).zip(words) {
                bytes[at..at + 2].copy_from_slice(&word.to_le_bytes());
            }
            bytes[0xd0] = 0x58;
            bytes[0xf7..0xfd].copy_from_slice(&[0x65, 0x5a, 0xc0, 0x7e, 0xed, 0x00]);
            Self(bytes, 0)
        }
    }

    impl Chip for Memory {
        fn write(&mut self, bytes: &[u8], _: &Weather) {
            let (pointer, values) = bytes.split_first().expect("a register");
            self.1 = *pointer;
            for (at, value) in (usize::from(*pointer)..).zip(values) {
                self.0[at] = *value;
            }
        }
        fn read(&mut self, into: &mut [u8], _: &Weather) {
            into.copy_from_slice(&self.0[usize::from(self.1)..][..into.len()]);
        }
        fn reset(&mut self) {}
        fn skip(&mut self, _: bool) {}
    }

    fn bus(temperature_c: f64, pressure_hpa: f64) -> SimulatedBus {
        let weather = Weather { pressure_hpa, temperature_c, humidity_percent: 50.0 };
        SimulatedBus::new("/dev/i2c-1", Arc::new(ManualClock::default()), Arc::new(move |_| weather))
    }

    fn open_on(bus: &SimulatedBus) -> Box<dyn Sensor> {
        let delay = Delay::new(Arc::new(ManualClock::default()));
        open(Attachment::I2c { bus: bus.open(), address: 0x76, delay }, &Options::default()).expect("a bmp280")
    }

    #[test]
    fn the_datasheets_registers_give_the_datasheets_values() {
        let bus = bus(0.0, 1000.0);
        bus.add(0x76, Box::new(Memory::example()));
        let values = open_on(&bus).read().expect("a reading");
        let celsius = values.get(Quantity::Temperature).expect("a temperature");
        let hpa = values.get(Quantity::Pressure).expect("a pressure");
        assert!((celsius - 25.08).abs() < 0.005, "{celsius}");
        assert!((hpa - 1006.5327).abs() < 0.0005, "{hpa}");
    }

    /// The crate's integer formulas agree with ours on good data.
    #[test]
    fn the_crates_own_measurement_agrees() {
        for (celsius, hpa) in [(-39.5, 310.0), (-10.0, 870.0), (0.0, 1013.25), (25.0, 1006.5), (84.0, 1095.0)] {
            let bus = bus(celsius, hpa);
            bus.add(0x76, model("bmp280").expect("a model"));
            let ours = open_on(&bus).read().expect("a reading");
            let delay = Delay::new(Arc::new(ManualClock::default()));
            let mut oracle = BMP280Sync::new_i2c(delay, bus.open(), Address::Primary);
            oracle.init().expect("a bmp280");
            oracle.configure(Configuration::default()).expect("no fault");
            let theirs = oracle.measure().expect("a measurement");
            let t =
                theirs.temperature.get::<degree_celsius>() - ours.get(Quantity::Temperature).expect("a temperature");
            let p = theirs.pressure.expect("a pressure").get::<hectopascal>()
                - ours.get(Quantity::Pressure).expect("a pressure");
            // The oracle measures at 16 bits.
            assert!(t.abs() < 0.006 && p.abs() < 0.05, "{celsius} °C, {hpa} hPa: off by {t} °C, {p} hPa");
        }
    }
}
