//! The MPL3115A2's registers: identity, standby, active and one-shot mode, data-ready flags.
//!
//! The altimeter mode, the FIFO and the interrupts are not modelled: the bits can be written and change nothing.

use super::{ByteRegisters, Chip, Weather, code};

const STATUS: u8 = 0x00;
const DATA: u8 = 0x01;
const WHO_AM_I: u8 = 0x0c;
const PT_DATA_CFG: u8 = 0x13;
const CTRL_REG1: u8 = 0x26;
const LAST: u8 = 0x2d;

const ACTIVE: u8 = 0x01;
const ONE_SHOT: u8 = 0x02;
const RESET: u8 = 0x04;
/// Status: either is new, pressure is new, temperature is new.
const EITHER_READY: u8 = 0x08;
const PRESSURE_READY: u8 = 0x04;
const TEMPERATURE_READY: u8 = 0x02;
/// PT_DATA_CFG: event on either, flag for pressure, flag for temperature.
const EITHER_ENABLED: u8 = 0x04;
const PRESSURE_ENABLED: u8 = 0x02;
const TEMPERATURE_ENABLED: u8 = 0x01;

pub(super) struct Mpl3115a2 {
    registers: ByteRegisters,
    skipping: bool,
}

impl Mpl3115a2 {
    pub(super) fn new() -> Self {
        let mut chip = Self { registers: ByteRegisters::new(&[]), skipping: false };
        chip.reset();
        chip
    }

    fn set(&mut self, register: u8, value: u8, weather: &Weather) {
        match register {
            CTRL_REG1 if value & RESET != 0 => self.reset(),
            CTRL_REG1 => {
                self.registers.set(CTRL_REG1, &[value & !ONE_SHOT]);
                if value & ONE_SHOT != 0 {
                    self.measure(weather);
                }
            }
            PT_DATA_CFG => self.registers.set(PT_DATA_CFG, &[value & 0x07]),
            0x0d..=LAST => self.registers.set(register, &[value]),
            _ => {}
        }
    }

    fn measure(&mut self, weather: &Weather) {
        let quarters = (weather.pressure_hpa * 400.0).round().clamp(0.0, f64::from(0xf_ffff)) as u32;
        let [_, p0, p1, p2] = (quarters << 4).to_be_bytes();
        let [t0, t1] = (code(weather.temperature_c, 16.0, 12) << 4).to_be_bytes();
        let data = if self.skipping { [0; 5] } else { [p0, p1, p2, t0, t1] };
        self.registers.set(DATA, &data);
        let enabled = self.registers.get(PT_DATA_CFG);
        let flags = [
            (EITHER_ENABLED, EITHER_READY),
            (PRESSURE_ENABLED, PRESSURE_READY),
            (TEMPERATURE_ENABLED, TEMPERATURE_READY),
        ];
        let status = flags.iter().filter(|(enable, _)| enabled & enable != 0).map(|(_, flag)| flag).sum();
        self.registers.set(STATUS, &[status]);
    }
}

impl Chip for Mpl3115a2 {
    fn write(&mut self, bytes: &[u8], weather: &Weather) {
        let Some((pointer, values)) = bytes.split_first() else { return };
        self.registers.pointer = *pointer;
        for value in values {
            self.set(self.registers.pointer, *value, weather);
            self.registers.pointer = self.registers.pointer.wrapping_add(1);
        }
    }

    /// Reading the data clears its flags (7.1.1).
    fn read(&mut self, into: &mut [u8], weather: &Weather) {
        if self.registers.get(CTRL_REG1) & ACTIVE != 0 {
            self.measure(weather);
        }
        for byte in into {
            let clears = match self.registers.pointer {
                0x01..=0x03 => EITHER_READY | PRESSURE_READY,
                0x04 | 0x05 => EITHER_READY | TEMPERATURE_READY,
                _ => 0,
            };
            self.registers.read(std::slice::from_mut(byte));
            let status = self.registers.get(STATUS) & !clears;
            self.registers.set(STATUS, &[status]);
        }
    }

    fn reset(&mut self) {
        self.registers = ByteRegisters::new(&[(WHO_AM_I, &[0xc4])]);
    }

    /// The data registers read 0, as after a reset.
    fn skip(&mut self, skipping: bool) {
        self.skipping = skipping;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MILD, ask};
    use super::*;

    #[test]
    fn one_shot_measures_once_and_raises_the_enabled_flags() {
        let mut chip = Mpl3115a2::new();
        assert_eq!(ask(&mut chip, WHO_AM_I), [0xc4]);
        chip.write(&[CTRL_REG1, 0x38 | ONE_SHOT], &MILD);
        assert_eq!(ask(&mut chip, CTRL_REG1), [0x38]);
        assert_eq!(ask(&mut chip, STATUS), [0x00], "no flag is enabled");
        chip.write(&[PT_DATA_CFG, 0xff], &MILD);
        chip.write(&[CTRL_REG1, 0x38 | ONE_SHOT], &MILD);
        // 100,653 Pa × 4 = 0x624B4; 25.08 °C is 401 sixteenths.
        assert_eq!(ask(&mut chip, STATUS), [0x0e, 0x62, 0x4b, 0x40, 0x19, 0x10]);
        assert_eq!(ask(&mut chip, STATUS), [0x00], "read data is not new any more");
    }

    #[test]
    fn active_it_goes_on_measuring_and_a_reset_stops_it() {
        let mut chip = Mpl3115a2::new();
        chip.write(&[PT_DATA_CFG, 0x07], &MILD);
        chip.write(&[CTRL_REG1, ACTIVE], &MILD);
        let _: [u8; 6] = ask(&mut chip, STATUS);
        assert_eq!(ask(&mut chip, STATUS), [0x0e]);
        chip.write(&[CTRL_REG1, RESET], &MILD);
        assert_eq!(ask(&mut chip, STATUS), [0x00, 0x00]);
    }
}
