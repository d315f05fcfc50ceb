//! The LM75 family's registers as a TMP105 has them, SLLS648D: an LM75 from power-up on, up to 12 bits when told to.
//!
//! The alarm pin is not modelled.

use super::{Chip, Weather, code, repeat_word};

const TEMPERATURE: u8 = 0;
const CONFIGURATION: u8 = 1;
const HYSTERESIS: u8 = 2;

const ONE_SHOT: u8 = 0x80;
const SHUTDOWN: u8 = 0x01;

pub(super) struct Lm75 {
    pointer: u8,
    temperature: u16,
    configuration: u8,
    /// Hysteresis, overtemperature.
    limits: [u16; 2],
    skipping: bool,
}

impl Lm75 {
    pub(super) fn new() -> Self {
        let mut chip = Self { pointer: 0, temperature: 0, configuration: 0, limits: [0; 2], skipping: false };
        chip.reset();
        chip
    }

    /// The resolution bits 6 and 5 give 9 to 12 bits; the rest of the register reads 0.
    fn convert(&mut self, weather: &Weather) {
        let unused = 7 - u32::from(self.configuration >> 5 & 0x03);
        self.temperature = (code(weather.temperature_c, 16.0, 12) << 4).cast_unsigned() >> unused << unused;
    }

    fn limit(&mut self) -> &mut u16 {
        &mut self.limits[usize::from(self.pointer != HYSTERESIS)]
    }
}

impl Chip for Lm75 {
    fn write(&mut self, bytes: &[u8], weather: &Weather) {
        let Some((pointer, value)) = bytes.split_first() else { return };
        self.pointer = pointer & 0x03;
        match (self.pointer, value) {
            (_, []) | (TEMPERATURE, _) => {}
            (CONFIGURATION, [value, ..]) => {
                self.configuration = value & !ONE_SHOT;
                if value & (SHUTDOWN | ONE_SHOT) == SHUTDOWN | ONE_SHOT {
                    self.convert(weather);
                }
            }
            (_, [high, rest @ ..]) => {
                let low = rest.first().copied().unwrap_or(0);
                *self.limit() = u16::from_be_bytes([*high, low]) & 0xfff0;
            }
        }
    }

    fn read(&mut self, into: &mut [u8], weather: &Weather) {
        if self.configuration & SHUTDOWN == 0 {
            self.convert(weather);
        }
        match self.pointer {
            TEMPERATURE if self.skipping => repeat_word(into, 0x8000),
            TEMPERATURE => repeat_word(into, self.temperature),
            CONFIGURATION => into.fill(self.configuration),
            _ => {
                let limit = *self.limit();
                repeat_word(into, limit);
            }
        }
    }

    fn reset(&mut self) {
        (self.temperature, self.configuration, self.limits) = (0, 0, [0x4b00, 0x5000]);
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
    fn it_starts_as_an_lm75() {
        let mut chip = Lm75::new();
        assert_eq!(ask(&mut chip, CONFIGURATION), [0x00]);
        assert_eq!(ask(&mut chip, HYSTERESIS), [0x4b, 0x00]);
        assert_eq!(ask(&mut chip, 3), [0x50, 0x00]);
        assert_eq!(ask(&mut chip, TEMPERATURE), [0x19, 0x00], "9 bits: 25.0 °C");
    }

    #[test]
    fn resolution_shutdown_and_one_shot() {
        let mut chip = Lm75::new();
        chip.write(&[CONFIGURATION, 0x60], &MILD);
        assert_eq!(ask(&mut chip, TEMPERATURE), [0x19, 0x10], "12 bits: 25.0625 °C");
        chip.write(&[CONFIGURATION, 0x61], &MILD);
        let frost = Weather { temperature_c: -5.25, ..MILD };
        chip.write(&[CONFIGURATION, 0xe1], &frost);
        assert_eq!(ask(&mut chip, TEMPERATURE), [0xfa, 0xc0]);
        assert_eq!(ask(&mut chip, CONFIGURATION), [0x61]);
        chip.write(&[3, 0x12, 0x3f], &MILD);
        assert_eq!(ask(&mut chip, 3), [0x12, 0x30]);
        assert_eq!(ask(&mut chip, HYSTERESIS), [0x4b, 0x00]);
    }
}
