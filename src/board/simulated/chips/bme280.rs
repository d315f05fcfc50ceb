//! The BME280's registers, BST-BME280-DS001 revision 1.1: those of a BMP280, and humidity.
//!
//! The datasheet has no example for humidity; the trimming values here are of the usual size. The raw value is found by
//! the integer formula (4.2.3).

use super::bmp280::{Bmp280, CONTROL, Mode, RESET};
use super::{Chip, Weather, last_code};

const H1: u8 = 0xa1;
const H2: u8 = 0xe1;
const CONTROL_HUMIDITY: u8 = 0xf2;
const DATA_HUMIDITY: u8 = 0xfd;
/// The data register before the first measurement.
const NOT_MEASURED: u16 = 0x8000;

/// dig_H1 to dig_H6.
const H: [i64; 6] = [75, 362, 0, 323, 50, 30];

pub(super) struct Bme280 {
    core: Bmp280,
    /// Humidity's oversampling, which takes effect when the control register is written (5.4.3).
    oversampling: u8,
}

impl Bme280 {
    pub(super) fn new() -> Self {
        let mut chip = Self { core: Bmp280::with_id(0x60), oversampling: 0 };
        chip.reset();
        chip
    }

    fn measure(&mut self, weather: &Weather) {
        let fine = self.core.measure(weather);
        let target = (weather.humidity_percent * 1_024.0) as i64;
        let mut adc = last_code(0xffff, |adc| percent_q10(adc, fine) <= target) as u16;
        if self.oversampling == 0 || self.core.skipping {
            adc = NOT_MEASURED;
        }
        self.core.registers.set(DATA_HUMIDITY, &adc.to_be_bytes());
    }

    fn set(&mut self, register: u8, value: u8, weather: &Weather) {
        match register {
            CONTROL_HUMIDITY => self.core.registers.set(CONTROL_HUMIDITY, &[value & 0x07]),
            RESET => {
                self.core.set(register, value);
                // The core forgets everything when the word was right; the trimming values are not its own.
                if self.core.registers.get(H1) == 0 {
                    self.reset();
                }
            }
            _ => self.core.set(register, value),
        }
        if register == CONTROL {
            self.oversampling = self.core.registers.get(CONTROL_HUMIDITY);
            if self.core.mode() == Mode::Forced {
                self.measure(weather);
                self.core.sleep();
            }
        }
    }
}

impl Chip for Bme280 {
    fn write(&mut self, bytes: &[u8], weather: &Weather) {
        if let Some(pointer) = bytes.first() {
            self.core.registers.pointer = *pointer;
        }
        for pair in bytes.chunks_exact(2) {
            self.set(pair[0], pair[1], weather);
        }
    }

    fn read(&mut self, into: &mut [u8], weather: &Weather) {
        if self.core.mode() == Mode::Normal {
            self.measure(weather);
        }
        self.core.registers.read(into);
    }

    fn reset(&mut self) {
        self.core.reset();
        self.oversampling = 0;
        let [h1, h2, h3, h4, h5, h6] = H.map(|value| value as u16);
        let [h2_low, h2_high] = h2.to_le_bytes();
        let shared = (h4 & 0x0f | h5 << 4 & 0xf0) as u8;
        let block = [h2_low, h2_high, h3 as u8, (h4 >> 4) as u8, shared, (h5 >> 4) as u8, h6 as u8];
        self.core.registers.set(H1, &[h1 as u8]);
        self.core.registers.set(H2, &block);
        self.core.registers.set(DATA_HUMIDITY, &NOT_MEASURED.to_be_bytes());
    }

    fn skip(&mut self, skipping: bool) {
        self.core.skip(skipping);
    }
}

/// `bme280_compensate_H_int32`: % with ten fractional bits, clamped to 0 to 100.
fn percent_q10(adc: u32, t_fine: i64) -> i64 {
    let [h1, h2, h3, h4, h5, h6] = H;
    let t = t_fine - 76_800;
    let linear = ((i64::from(adc) << 14) - (h4 << 20) - h5 * t + 16_384) >> 15;
    let gain = ((((t * h6) >> 10) * (((t * h3) >> 11) + 32_768)) >> 10) + 2_097_152;
    let x = linear * ((gain * h2 + 8_192) >> 14);
    let x = x - (((((x >> 15) * (x >> 15)) >> 7) * h1) >> 4);
    x.clamp(0, 419_430_400) >> 12
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MILD, ask};
    use super::*;

    #[test]
    fn more_water_is_a_greater_code_and_the_ends_clamp() {
        assert_eq!(percent_q10(0, 128_422), 0);
        assert_eq!(percent_q10(0xffff, 128_422), 100 << 10);
        assert!((0..0xffff).all(|adc| percent_q10(adc, 128_422) <= percent_q10(adc + 1, 128_422)));
        // As computed by hand for 15 °C: 51.145 %.
        assert_eq!(percent_q10(30_000, 76_800) / 1_024, 51);
    }

    #[test]
    fn humidity_is_measured_from_the_next_control_write_on() {
        let mut chip = Bme280::new();
        assert_eq!(ask(&mut chip, 0xd0), [0x60]);
        chip.write(&[CONTROL, 0b0010_0111], &MILD);
        chip.write(&[CONTROL_HUMIDITY, 1], &MILD);
        assert_eq!(ask(&mut chip, DATA_HUMIDITY), [0x80, 0x00]);
        chip.write(&[CONTROL, 0b0010_0111], &MILD);
        assert_ne!(ask(&mut chip, DATA_HUMIDITY), [0x80, 0x00]);
        chip.write(&[RESET, 0xb6], &MILD);
        assert_eq!(ask(&mut chip, H1), [75]);
        assert_eq!(ask(&mut chip, DATA_HUMIDITY), [0x80, 0x00]);
    }
}
