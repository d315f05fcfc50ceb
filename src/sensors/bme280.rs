//! `bme280`: Bosch BME280, barometer, thermometer and hygrometer. What it shares with the BMP280 is in `bosch`.
//!
//! Datasheet: BST-BME280-DS001, revision 1.1.

use super::bosch::{self, Barometer};
use super::{Attach, Attachment, Driver, Options, Sensor, within};
use crate::quantity::Quantity;
use crate::sample::{Failure, Sample, Values};
use embedded_devices::devices::bosch::bme280::registers::TrimmingParameters2;
use std::ops::RangeInclusive;

/// The registry entry.
pub const DRIVER: Driver = Driver {
    name: "bme280",
    chips: "Bosch BME280",
    accuracy: "300 to 1100 hPa, ±1 hPa absolute, ±0.12 hPa relative (±1 m); \
               -40 to 85 °C, ±0.5 °C at 25 °C, ±1 °C from 0 to 65 °C; 0 to 100 %, ±3 %",
    attach: Attach::I2c(bosch::ADDRESSES),
    quantities: &[Quantity::Pressure, Quantity::Temperature, Quantity::Humidity],
    options: &[bosch::OVERSAMPLING, bosch::FILTER],
    open,
};

/// A wet or very dry element computes to somewhat past the ends, where the datasheet's formula clamps; much further past,
/// the registers are no BME280's.
const BEFORE_CLAMP_PERCENT: RangeInclusive<f64> = -25.0..=125.0;

struct Bme280 {
    barometer: Barometer<true>,
    humidity: Calibration,
}

fn open(attachment: Attachment, options: &Options) -> Result<Box<dyn Sensor>, Failure> {
    let mut barometer = Barometer::open(attachment, options)?;
    let (h1, rest) = barometer.humidity_calibration()?;
    Ok(Box::new(Bme280 { barometer, humidity: Calibration::parse(h1, &rest) }))
}

impl Sensor for Bme280 {
    fn read(&mut self) -> Sample {
        let raw = self.barometer.raw()?;
        let weather = self.barometer.weather(raw)?;
        let percent = self.humidity.percent(raw.humidity, weather.t_fine);
        let percent = within(&BEFORE_CLAMP_PERCENT, Quantity::Humidity, percent)?.clamp(0.0, 100.0);
        Ok(Values::new()
            .with(Quantity::Pressure, weather.hectopascal)
            .with(Quantity::Temperature, weather.celsius)
            .with(Quantity::Humidity, percent))
    }
}

/// The trimming values for humidity, dig_H1 to dig_H6.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Calibration([f64; 6]);

impl Calibration {
    /// dig_H4 and dig_H5 are signed 12-bit numbers that share the byte 0xE5 (datasheet 4.2.2, table 16).
    fn parse(h1: u8, register: &TrimmingParameters2) -> Self {
        let [h2_low, h2_high, h3, h4_high, shared, h5_high, h6] = register.0;
        let twelve_bits = |high: u8, low: u8| f64::from(i16::from(high.cast_signed()) << 4 | i16::from(low));
        Self([
            h1.into(),
            i16::from_le_bytes([h2_low, h2_high]).into(),
            h3.into(),
            twelve_bits(h4_high, shared & 0x0f),
            twelve_bits(h5_high, shared >> 4),
            h6.cast_signed().into(),
        ])
    }

    /// Relative humidity in %, not clamped (datasheet 8.1, `bme280_compensate_H_double`).
    fn percent(&self, adc: u16, t_fine: f64) -> f64 {
        let [h1, h2, h3, h4, h5, h6] = self.0;
        let t = t_fine - 76_800.0;
        let gain = h2 / 65_536.0 * (1.0 + h6 / 67_108_864.0 * t * (1.0 + h3 / 67_108_864.0 * t));
        let linear = (f64::from(adc) - (h4 * 64.0 + h5 / 16_384.0 * t)) * gain;
        linear * (1.0 - h1 * linear / 524_288.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_byte_is_split_and_both_signs_kept() {
        let calibration = Calibration::parse(75, &TrimmingParameters2([0x6a, 0x01, 0x00, 0x14, 0x23, 0x03, 0x1e]));
        assert_eq!(calibration, Calibration([75.0, 362.0, 0.0, 323.0, 50.0, 30.0]));
        let negative = Calibration::parse(0, &TrimmingParameters2([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
        assert_eq!(negative, Calibration([0.0, -1.0, 255.0, -1.0, -1.0, -1.0]));
        let lowest = Calibration::parse(255, &TrimmingParameters2([0, 0x80, 0, 0x80, 0x00, 0x80, 0x80]));
        assert_eq!(lowest, Calibration([255.0, -32_768.0, 0.0, -2_048.0, -2_048.0, -128.0]));
    }

    #[test]
    fn dry_is_zero_and_more_water_is_more_percent() {
        let calibration = Calibration([75.0, 362.0, 0.0, 323.0, 50.0, 30.0]);
        // At the offset dig_H4 × 64, and a t_fine of 76,800 (15 °C), the linear term vanishes.
        assert_eq!(calibration.percent(323 * 64, 76_800.0), 0.0);
        assert!(calibration.percent(323 * 64 - 1, 76_800.0) < 0.0);
        let middle = calibration.percent(30_000, 76_800.0);
        // (30000 − 20672) × 362/65536 = 51.525; × (1 − 75 × 51.525/524288) = 51.145.
        assert!((middle - 51.145).abs() < 0.001, "{middle}");
    }
}
