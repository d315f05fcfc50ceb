//! The TMP117's registers, SNOSD82 revision D: identity, configuration and its flags, modes, soft reset.
//!
//! The EEPROM and the alert pin are not modelled.

use super::{Chip, Weather, code, repeat_word};

const TEMPERATURE: u8 = 0;
const CONFIGURATION: u8 = 1;
const OFFSET: u8 = 7;

/// The temperature before the first conversion: −256 °C.
const NOT_CONVERTED: u16 = 0x8000;
const DATA_READY: u16 = 0x2000;
const MODE: u16 = 0x0c00;
const SHUTDOWN: u16 = 0x0400;
const ONE_SHOT: u16 = 0x0c00;
const SOFT_RESET: u16 = 0x0002;
/// What can be written of the configuration: all but the flags, the reset command and the unused bit.
const WRITABLE: u16 = 0x0ffc;

pub(super) struct Tmp117 {
    pointer: u8,
    registers: [u16; 16],
    skipping: bool,
}

impl Tmp117 {
    pub(super) fn new() -> Self {
        let mut chip = Self { pointer: 0, registers: [0; 16], skipping: false };
        chip.reset();
        chip
    }

    fn configuration(&mut self) -> &mut u16 {
        &mut self.registers[usize::from(CONFIGURATION)]
    }

    fn convert(&mut self, weather: &Weather) {
        let measured = code(weather.temperature_c, 128.0, 16);
        let offset = self.registers[usize::from(OFFSET)].cast_signed();
        self.registers[usize::from(TEMPERATURE)] = measured.saturating_add(offset).cast_unsigned();
        *self.configuration() |= DATA_READY;
    }

    fn configure(&mut self, value: u16, weather: &Weather) {
        if value & SOFT_RESET != 0 {
            return self.reset();
        }
        *self.configuration() = *self.configuration() & !WRITABLE | value & WRITABLE;
        if value & MODE == ONE_SHOT {
            *self.configuration() = *self.configuration() & !MODE | SHUTDOWN;
            self.convert(weather);
        }
    }
}

impl Chip for Tmp117 {
    fn write(&mut self, bytes: &[u8], weather: &Weather) {
        let Some((pointer, value)) = bytes.split_first() else { return };
        self.pointer = pointer & 0x0f;
        let [high, low, ..] = *value else { return };
        let value = u16::from_be_bytes([high, low]);
        match self.pointer {
            CONFIGURATION => self.configure(value, weather),
            2 | 3 | 5..=8 => self.registers[usize::from(self.pointer)] = value,
            _ => {}
        }
    }

    fn read(&mut self, into: &mut [u8], weather: &Weather) {
        if *self.configuration() & MODE != SHUTDOWN {
            self.convert(weather);
        }
        let word = match self.pointer {
            TEMPERATURE if self.skipping => NOT_CONVERTED,
            pointer => self.registers[usize::from(pointer)],
        };
        repeat_word(into, word);
        if self.pointer <= CONFIGURATION {
            *self.configuration() &= !DATA_READY;
        }
    }

    fn reset(&mut self) {
        self.registers = [NOT_CONVERTED, 0x0220, 0x6000, 0x8000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0117];
    }

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
        let mut chip = Tmp117::new();
        assert_eq!(ask(&mut chip, 15), [0x01, 0x17]);
        assert_eq!(ask(&mut chip, CONFIGURATION), [0x22, 0x20]);
        assert_eq!(ask(&mut chip, 2), [0x60, 0x00]);
        // 25.08 °C is 3210 steps of 1/128.
        assert_eq!(ask(&mut chip, TEMPERATURE), [0x0c, 0x8a]);
    }

    #[test]
    fn shut_down_it_converts_once_when_told_to() {
        let mut chip = Tmp117::new();
        chip.write(&[CONFIGURATION, 0x06, 0x20], &MILD);
        assert_eq!(ask(&mut chip, TEMPERATURE), [0x80, 0x00]);
        chip.write(&[CONFIGURATION, 0x0e, 0x20], &MILD);
        assert_eq!(ask(&mut chip, TEMPERATURE), [0x0c, 0x8a]);
        assert_eq!(ask(&mut chip, CONFIGURATION), [0x06, 0x20], "shut down again, the flag cleared by the read");
        chip.write(&[CONFIGURATION, 0x00, 0x02], &MILD);
        assert_eq!(ask(&mut chip, CONFIGURATION), [0x22, 0x20]);
    }
}
