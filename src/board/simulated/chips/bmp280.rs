//! The BMP280's registers, BST-BMP280-DS001 revision 1.23: identity, reset, settings, modes, data.
//!
//! It holds the datasheet's example calibration (3.12) and finds the raw values that its integer formulas (3.11.3) turn
//! into the weather. Conversions take no time, so the status bits read 0; the filter only refines the resolution.

use super::{ByteRegisters, Chip, Weather, last_code};

pub(super) const ID: u8 = 0xd0;
pub(super) const RESET: u8 = 0xe0;
pub(super) const CONTROL: u8 = 0xf4;
const CALIBRATION: u8 = 0x88;
const CONFIG: u8 = 0xf5;
const DATA: u8 = 0xf7;

/// What, written to [`RESET`], resets the chip.
const RESET_WORD: u8 = 0xb6;
/// The data registers before the first measurement, and of what is switched off.
const NOT_MEASURED: u32 = 0x8_0000;
/// The greatest code of the 20-bit converter.
const FULL_SCALE: u32 = 0xf_ffff;

/// The datasheet's example: dig_T1 to dig_T3, then dig_P1 to dig_P9.
const T: [i64; 3] = [27_504, 26_435, -1_000];
const P: [i64; 9] = [36_477, -10_685, 3_024, 2_855, 140, -7, 15_500, -14_600, 6_000];

/// The operating mode in the control register's lowest two bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Sleep,
    Forced,
    Normal,
}

pub(super) struct Bmp280 {
    pub(super) registers: ByteRegisters,
    pub(super) skipping: bool,
    id: u8,
}

impl Bmp280 {
    pub(super) fn new() -> Self {
        Self::with_id(0x58)
    }

    pub(super) fn with_id(id: u8) -> Self {
        let mut chip = Self { registers: ByteRegisters::new(&[]), skipping: false, id };
        chip.reset();
        chip
    }

    pub(super) fn mode(&self) -> Mode {
        match self.registers.get(CONTROL) & 0x03 {
            0 => Mode::Sleep,
            3 => Mode::Normal,
            _ => Mode::Forced,
        }
    }

    /// One register written. Identity, calibration and data are read-only; settings are only taken while asleep (4.3.5).
    pub(super) fn set(&mut self, register: u8, value: u8) {
        match register {
            RESET if value == RESET_WORD => self.reset(),
            CONTROL => self.registers.set(CONTROL, &[value]),
            CONFIG if self.mode() == Mode::Sleep => self.registers.set(CONFIG, &[value]),
            _ => {}
        }
    }

    /// Measures pressure and temperature into the data registers; returns fine temperature for the humidity.
    pub(super) fn measure(&mut self, weather: &Weather) -> i64 {
        let target = (weather.temperature_c * 5_120.0) as i64;
        let control = self.registers.get(CONTROL);
        let temperature = self.quantize(last_code(FULL_SCALE, |adc| t_fine(adc) <= target), control >> 5);
        let fine = t_fine(temperature);
        let target = (weather.pressure_hpa * 25_600.0) as i64;
        let pressure = last_code(FULL_SCALE, |adc| pascal_q8(adc, fine) >= target);
        let pressure = self.quantize(pressure, control >> 2 & 0x07);
        self.store(pressure, temperature);
        fine
    }

    /// Back to sleep after a forced measurement.
    pub(super) fn sleep(&mut self) {
        let control = self.registers.get(CONTROL) & !0x03;
        self.registers.set(CONTROL, &[control]);
    }

    /// 16 bits at an oversampling of 1, one more for each doubling, 20 with the filter (3.3.1, 3.3.3).
    fn quantize(&self, adc: u32, oversampling: u8) -> u32 {
        if oversampling == 0 || self.skipping {
            return NOT_MEASURED;
        }
        let filter_is_on = self.registers.get(CONFIG) >> 2 & 0x07 != 0;
        let missing = if filter_is_on { 0 } else { 5 - oversampling.min(5) };
        adc >> missing << missing
    }

    fn store(&mut self, pressure: u32, temperature: u32) {
        let [_, p0, p1, p2] = (pressure << 4).to_be_bytes();
        let [_, t0, t1, t2] = (temperature << 4).to_be_bytes();
        self.registers.set(DATA, &[p0, p1, p2, t0, t1, t2]);
    }
}

impl Chip for Bmp280 {
    fn write(&mut self, bytes: &[u8], weather: &Weather) {
        if let Some(pointer) = bytes.first() {
            self.registers.pointer = *pointer;
        }
        for pair in bytes.chunks_exact(2) {
            self.set(pair[0], pair[1]);
            if pair[0] == CONTROL && self.mode() == Mode::Forced {
                self.measure(weather);
                self.sleep();
            }
        }
    }

    fn read(&mut self, into: &mut [u8], weather: &Weather) {
        if self.mode() == Mode::Normal {
            self.measure(weather);
        }
        self.registers.read(into);
    }

    fn reset(&mut self) {
        let mut calibration = [0; 24];
        for (bytes, word) in calibration.chunks_exact_mut(2).zip(T.into_iter().chain(P)) {
            bytes.copy_from_slice(&(word as u16).to_le_bytes());
        }
        let pointer = self.registers.pointer;
        self.registers = ByteRegisters::new(&[(ID, &[self.id]), (CALIBRATION, &calibration)]);
        self.registers.pointer = pointer;
        self.store(NOT_MEASURED, NOT_MEASURED);
    }

    fn skip(&mut self, skipping: bool) {
        self.skipping = skipping;
    }
}

/// `bmp280_compensate_T_int32` up to fine temperature, 5120 per °C.
fn t_fine(adc: u32) -> i64 {
    let (adc, [t1, t2, t3]) = (i64::from(adc), T);
    let linear = (((adc >> 3) - (t1 << 1)) * t2) >> 11;
    let square = (((((adc >> 4) - t1) * ((adc >> 4) - t1)) >> 12) * t3) >> 14;
    linear + square
}

/// `bmp280_compensate_P_int64`: Pa with eight fractional bits.
fn pascal_q8(adc: u32, t_fine: i64) -> i64 {
    let [p1, p2, p3, p4, p5, p6, p7, p8, p9] = P;
    let x = t_fine - 128_000;
    let offset = x * x * p6 + ((x * p5) << 17) + (p4 << 35);
    let slope = (((1_i64 << 47) + ((x * x * p3) >> 8) + ((x * p2) << 12)) * p1) >> 33;
    if slope == 0 {
        return 0;
    }
    let p = (((1_048_576 - i64::from(adc)) << 31) - offset) * 3_125 / slope;
    let square = (p9 * (p >> 13) * (p >> 13)) >> 25;
    let linear = (p8 * p) >> 19;
    ((p + square + linear) >> 8) + (p7 << 4)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MILD, ask};
    use super::*;

    #[test]
    fn the_formulas_reproduce_boschs_example() {
        assert_eq!(t_fine(519_888), 128_422);
        assert_eq!((t_fine(519_888) * 5 + 128) >> 8, 2_508);
        let pascal = pascal_q8(415_148, 128_422) as f64 / 256.0;
        assert!((pascal - 100_653.27).abs() < 0.02, "{pascal}");
    }

    #[test]
    fn asleep_it_keeps_its_data() {
        let mut chip = Bmp280::new();
        assert_eq!(ask(&mut chip, ID), [0x58]);
        assert_eq!(ask(&mut chip, DATA), [0x80, 0, 0, 0x80, 0, 0]);
        chip.write(&[CONTROL, 0b1011_0101], &MILD);
        assert_eq!(ask(&mut chip, CONTROL), [0b1011_0100], "a forced measurement ends in sleep");
        let measured: [u8; 6] = ask(&mut chip, DATA);
        chip.read(&mut [0; 6], &Weather { temperature_c: 0.0, ..MILD });
        assert_eq!(ask(&mut chip, DATA), measured);
        chip.write(&[RESET, RESET_WORD], &MILD);
        assert_eq!(ask(&mut chip, DATA), [0x80, 0, 0, 0x80, 0, 0]);
    }

    #[test]
    fn settings_are_taken_asleep_only_and_resolution_follows_oversampling() {
        let mut chip = Bmp280::new();
        chip.write(&[CONTROL, 0b0010_0111, CONFIG, 0b0011_0000], &MILD);
        assert_eq!(ask(&mut chip, CONFIG), [0]);
        let [_, _, p, _, _, t]: [u8; 6] = ask(&mut chip, DATA);
        assert_eq!((p, t), (0, 0), "16 bits leave the last byte empty");
        chip.write(&[CONTROL, 0, CONFIG, 0b0011_0000, CONTROL, 0b0010_0011], &MILD);
        assert_eq!(ask(&mut chip, CONFIG), [0b0011_0000]);
        let [p0, p1, p2, ..]: [u8; 6] = ask(&mut chip, DATA);
        assert_eq!([p0, p1, p2], [0x80, 0, 0], "pressure is switched off");
    }
}
