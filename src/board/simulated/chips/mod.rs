//! Models of sensor chips at register level, one chip a file, to run the real drivers against.
//!
//! A model answers writes and reads as the chip's datasheet says: register pointer, settings, modes, data format. It
//! measures in no time, and knows no bus, no driver and no crate a driver uses, so that agreement between the two means
//! something. Invariant: no byte sequence panics.

mod bme280;
mod bmp280;
mod lm75;
mod mpl3115a2;
mod tmp102;
mod tmp117;

/// What the chips sense now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Absolute pressure in hPa.
    pub pressure_hpa: f64,
    /// Temperature in °C.
    pub temperature_c: f64,
    /// Relative humidity in %.
    pub humidity_percent: f64,
}

/// A chip on an I2C bus.
pub trait Chip: Send {
    /// The bytes of one I2C write (register pointer first).
    fn write(&mut self, bytes: &[u8], weather: &Weather);
    /// Fills `into` as an I2C read from the current pointer would.
    fn read(&mut self, into: &mut [u8], weather: &Weather);
    /// Power-on reset (what a chip does that lost power).
    fn reset(&mut self);
    /// While `skipping`, the data registers read what they hold when nothing was measured; all others stay right.
    fn skip(&mut self, skipping: bool);
}

/// The model behind a driver's name; None for drivers without a bus.
pub fn model(driver: &str) -> Option<Box<dyn Chip>> {
    Some(match driver {
        "bme280" => Box::new(bme280::Bme280::new()),
        "bmp280" => Box::new(bmp280::Bmp280::new()),
        "lm75" => Box::new(lm75::Lm75::new()),
        "mpl3115a2" => Box::new(mpl3115a2::Mpl3115a2::new()),
        "tmp102" => Box::new(tmp102::Tmp102::new()),
        "tmp117" => Box::new(tmp117::Tmp117::new()),
        _ => return None,
    })
}

/// 256 registers of one byte, with a pointer that moves on with each byte read.
struct ByteRegisters {
    bytes: [u8; 256],
    pointer: u8,
}

impl ByteRegisters {
    fn new(initial: &[(u8, &[u8])]) -> Self {
        let mut registers = Self { bytes: [0; 256], pointer: 0 };
        for (register, bytes) in initial {
            registers.set(*register, bytes);
        }
        registers
    }

    fn get(&self, register: u8) -> u8 {
        self.bytes[usize::from(register)]
    }

    /// Stores `bytes` from `register` on; past the last register it goes on at the first.
    fn set(&mut self, register: u8, bytes: &[u8]) {
        let mut at = register;
        for byte in bytes {
            self.bytes[usize::from(at)] = *byte;
            at = at.wrapping_add(1);
        }
    }

    fn read(&mut self, into: &mut [u8]) {
        for byte in into {
            *byte = self.get(self.pointer);
            self.pointer = self.pointer.wrapping_add(1);
        }
    }
}

/// Fills `into` with a register of two bytes, which a chip without a moving pointer sends again and again.
fn repeat_word(into: &mut [u8], word: u16) {
    for (byte, value) in into.iter_mut().zip(word.to_be_bytes().into_iter().cycle()) {
        *byte = value;
    }
}

/// The two's complement code of `celsius` with `bits` bits and `steps` codes a degree, clamped to what fits.
fn code(celsius: f64, steps: f64, bits: u32) -> i16 {
    let full = 2f64.powi(bits as i32 - 1);
    (celsius * steps).round().clamp(-full, full - 1.0) as i16
}

/// The greatest code up to `limit` for which `holds`; it must hold from zero up to some code, and nowhere above.
fn last_code(limit: u32, holds: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, limit);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) const MILD: Weather = Weather { pressure_hpa: 1006.53, temperature_c: 25.08, humidity_percent: 50.0 };

    /// What a chip answers when it is asked for `N` bytes from `register` on.
    pub(super) fn ask<const N: usize>(chip: &mut impl Chip, register: u8) -> [u8; N] {
        let mut bytes = [0; N];
        chip.write(&[register], &MILD);
        chip.read(&mut bytes, &MILD);
        bytes
    }

    #[test]
    fn codes_are_rounded_and_clamped() {
        assert_eq!(code(-0.0625, 16.0, 12), -1);
        assert_eq!(code(25.0, 16.0, 12), 400);
        assert_eq!(code(500.0, 16.0, 12), 2_047);
        assert_eq!(code(-500.0, 128.0, 16), i16::MIN);
        assert_eq!(last_code(1_000, |code| code <= 617), 617);
        assert_eq!(last_code(1_000, |_| false), 0);
        assert_eq!(last_code(1_000, |_| true), 1_000);
    }

    proptest! {
        #[test]
        fn no_traffic_and_no_weather_panics(
            traffic in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..5), 0usize..9), 0..20),
            pressure_hpa in any::<f64>(),
            temperature_c in any::<f64>(),
            humidity_percent in any::<f64>(),
        ) {
            let weather = Weather { pressure_hpa, temperature_c, humidity_percent };
            for driver in ["bme280", "bmp280", "lm75", "mpl3115a2", "tmp102", "tmp117"] {
                let mut chip = model(driver).expect("a model");
                for (written, read) in &traffic {
                    chip.write(written, &weather);
                    chip.read(&mut vec![0; *read], &weather);
                }
            }
        }
    }
}
