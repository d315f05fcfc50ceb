//! The TMP102's registers, SBOS397C: pointer, configuration, limits, normal and extended mode, shutdown and one-shot.
//!
//! The alert pin is not modelled: its bit reads as below the limit.

use super::{Chip, Weather, code, repeat_word};

const TEMPERATURE: u8 = 0;
const CONFIGURATION: u8 = 1;

/// Power-on values.
const RESET: [u16; 4] = [0, 0x60a0, 0x4b00, 0x5000];
/// What can be written of the configuration: all but resolution, alert and the unused bits.
const WRITABLE: u16 = 0x9fd0;
const ONE_SHOT: u16 = 0x8000;
const SHUTDOWN: u16 = 0x0100;
const EXTENDED: u16 = 0x0010;

pub(super) struct Tmp102 {
    pointer: u8,
    /// Temperature, configuration, low limit, high limit.
    registers: [u16; 4],
    skipping: bool,
}

impl Tmp102 {
    pub(super) fn new() -> Self {
        let mut chip = Self { pointer: 0, registers: [0; 4], skipping: false };
        chip.reset();
        chip
    }

    fn configuration(&mut self) -> &mut u16 {
        &mut self.registers[usize::from(CONFIGURATION)]
    }

    fn convert(&mut self, weather: &Weather) {
        let extended = *self.configuration() & EXTENDED != 0;
        self.registers[usize::from(TEMPERATURE)] = if extended {
            (code(weather.temperature_c, 16.0, 13) << 3) as u16 | 1
        } else {
            (code(weather.temperature_c, 16.0, 12) << 4) as u16
        };
    }

    fn configure(&mut self, value: u16, weather: &Weather) {
        let old = *self.configuration();
        *self.configuration() = old & !WRITABLE | value & WRITABLE & !ONE_SHOT;
        if value & SHUTDOWN != 0 && value & ONE_SHOT != 0 {
            self.convert(weather);
        }
    }
}

impl Chip for Tmp102 {
    /// Registers are updated byte by byte.
    fn write(&mut self, bytes: &[u8], weather: &Weather) {
        let Some((pointer, value)) = bytes.split_first() else { return };
        self.pointer = pointer & 0x03;
        let old = self.registers[usize::from(self.pointer)].to_be_bytes();
        let value = match *value {
            [] => return,
            [high] => u16::from_be_bytes([high, old[1]]),
            [high, low, ..] => u16::from_be_bytes([high, low]),
        };
        match self.pointer {
            TEMPERATURE => {}
            CONFIGURATION => self.configure(value, weather),
            limit => self.registers[usize::from(limit)] = value & 0xfff8,
        }
    }

    fn read(&mut self, into: &mut [u8], weather: &Weather) {
        if *self.configuration() & SHUTDOWN == 0 {
            self.convert(weather);
        }
        let word = match self.pointer {
            TEMPERATURE if self.skipping => 0x8000,
            pointer => self.registers[usize::from(pointer)],
        };
        repeat_word(into, word);
    }

    fn reset(&mut self) {
        self.registers = RESET;
    }

    /// The power-on value, 0 °C, is a temperature like any other: skipping gives the lowest code, which is none.
    fn skip(&mut self, skipping: bool) {
        self.skipping = skipping;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MILD, ask};
    use super::*;

    #[test]
    fn it_starts_as_the_datasheet_says() {
        let mut chip = Tmp102::new();
        assert_eq!(ask(&mut chip, CONFIGURATION), [0x60, 0xa0]);
        assert_eq!(ask(&mut chip, 2), [0x4b, 0x00]);
        assert_eq!(ask(&mut chip, 3), [0x50, 0x00, 0x50, 0x00]);
        // 25.08 °C is 401 sixteenths.
        assert_eq!(ask(&mut chip, TEMPERATURE), [0x19, 0x10]);
    }

    #[test]
    fn shut_down_it_converts_once_when_told_to() {
        let mut chip = Tmp102::new();
        chip.write(&[CONFIGURATION, 0x61, 0xb0], &MILD);
        assert_eq!(ask(&mut chip, TEMPERATURE), [0x00, 0x00]);
        chip.write(&[CONFIGURATION, 0xe1], &MILD);
        assert_eq!(ask(&mut chip, TEMPERATURE), [0x0c, 0x89], "extended mode: 13 bits and its flag");
        assert_eq!(ask(&mut chip, CONFIGURATION), [0x61, 0xb0]);
        chip.write(&[CONFIGURATION, 0x00, 0x0f], &MILD);
        assert_eq!(ask(&mut chip, CONFIGURATION), [0x60, 0x20], "read-only bits stay");
    }
}
