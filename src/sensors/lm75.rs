//! `lm75`: the LM75 family of thermometers, from 9 to 12 bits.
//!
//! Datasheets: LM75B/C SNIS153D; NXP LM75A revision 4; TMP105 SLLS648D. Own registers: the `lm75` crate decodes at most
//! 11 bits and cannot read the limit registers back, without which a chip cannot be told from a bus that idles low, since
//! neither has an identity and zero is a legal value of every other register.
//!
//! What stands for an identity: a limit register (75 and 80 °C from power-up on) whose two bytes differ is found when the
//! chip is opened and read again after each value. No bus that idles at any byte imitates it. A chip whose limits somebody
//! set to two numbers made of equal bytes, such as 0 and 0 °C, is refused for that reason.

use super::{Attach, Attachment, Driver, DriverOption, Options, Sensor, read_register, within};
use crate::board::{Bus, BusFault, Delay};
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason, Sample, Values};
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;
use std::ops::RangeInclusive;

/// The registry entry.
pub const DRIVER: Driver = Driver {
    name: "lm75",
    chips: "LM75, LM75A, LM75B, LM75C, DS75, DS1775, MAX7500, MCP9800, PCT2075, STDS75, TCN75, TMP75, TMP105, TMP175",
    accuracy: "-55 to 125 °C, ±2 °C from -25 to 100 °C, ±3 °C outside; in steps of 0.5 °C (9 bits) to 0.0625 °C (12 bits)",
    attach: Attach::I2c(&[0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f]),
    quantities: &[Quantity::Temperature],
    options: &[BITS],
    open,
};

/// What is taken of the temperature register; the rest is undefined on the older chips.
const BITS: DriverOption = DriverOption {
    name: "bits",
    allowed: &[9, 11, 12],
    doc: "resolution: 9 for the LM75, 11 for the LM75A, LM75B and PCT2075, 12 for chips that can be set to it, such as the TMP105",
};

const TEMPERATURE: u8 = 0;
const CONFIGURATION: u8 = 1;
const HYSTERESIS: u8 = 2;
const OVERTEMPERATURE: u8 = 3;

/// −55 to 125 °C, and beyond it the accuracy of ±3 °C, short of 127.5 °C where 9 bits end.
const RANGE_CELSIUS: RangeInclusive<f64> = -58.0..=127.0;
/// Longer than any conversion of the family, of which 12 bits take the longest.
const CONVERSION_MS: u32 = 320;
/// Configuration bit 0.
const SHUTDOWN: u8 = 0x01;
/// Configuration bits 6 and 5 of the chips that can be set to 12 bits.
const TWELVE_BITS: u8 = 0x60;
/// Configuration bit 7 is the one-shot command, whose reading is not defined.
const READABLE: u8 = 0x7f;
/// One degree in steps of 1/256 °C.
const ONE_DEGREE: u16 = 0x0100;

struct Lm75 {
    bus: Bus,
    address: u8,
    delay: Delay,
    bits: u32,
    /// A limit register and what it held when the chip was opened.
    witness: (u8, [u8; 2]),
    near_zero: bool,
}

fn open(attachment: Attachment, options: &Options) -> Result<Box<dyn Sensor>, Failure> {
    let (mut bus, address, delay) = attachment.into_i2c()?;
    let witness = find_witness(&mut bus, address)?;
    let mut opened = Lm75 { bus, address, delay, bits: options.get(&BITS) as u32, witness, near_zero: false };
    opened.configure()?;
    Ok(Box::new(opened))
}

/// Reads the limits, and picks one whose two bytes differ. Limits the chip cannot reach belong to another one: a TMP117,
/// whose temperature would otherwise pass for half of what it is, has −128 °C there.
fn find_witness(bus: &mut Bus, address: u8) -> Result<(u8, [u8; 2]), Failure> {
    let mut witness = None;
    for register in [OVERTEMPERATURE, HYSTERESIS] {
        let bytes: [u8; 2] = read_register(bus, address, register)?;
        if !RANGE_CELSIUS.contains(&(f64::from(i16::from_be_bytes(bytes)) / 256.0)) {
            let detail =
                format!("limit register {register} reads {bytes:02x?}, more than an lm75 can measure: another chip");
            return Err(Failure::new(Reason::WrongChip, detail));
        }
        if witness.is_none() && bytes[0] != bytes[1] {
            witness = Some((register, bytes));
        }
    }
    let detail = "the limit registers read one byte over and over: no lm75, or both limits are set to such a number";
    witness.ok_or(Failure::new(Reason::WrongChip, detail))
}

impl Lm75 {
    /// Wakes the chip, and sets 12 bits where they are asked for; what belongs to the alarm pin is left as it is found.
    fn configure(&mut self) -> Result<(), Failure> {
        let [found] = read_register(&mut self.bus, self.address, CONFIGURATION)?;
        let resolution = if self.bits == 12 { TWELVE_BITS } else { 0 };
        let wanted = (found | resolution) & READABLE & !SHUTDOWN;
        if wanted == found & READABLE {
            return Ok(());
        }
        self.bus.write(self.address, &[CONFIGURATION, wanted]).map_err(|BusFault(failure)| failure)?;
        let [now] = read_register(&mut self.bus, self.address, CONFIGURATION)?;
        if now & READABLE != wanted {
            let detail = format!(
                "the configuration register reads {now:#04x} after {wanted:#04x} was written: no lm75, or one that cannot be \
                 set to 12 bits (use bits = 9 or 11)"
            );
            return Err(Failure::new(Reason::WrongChip, detail));
        }
        self.delay.delay_ms(CONVERSION_MS);
        Ok(())
    }

    fn raw(&mut self) -> Result<u16, Failure> {
        let raw = read_register(&mut self.bus, self.address, TEMPERATURE)?;
        let (register, expected) = self.witness;
        let found: [u8; 2] = read_register(&mut self.bus, self.address, register)?;
        if found != expected {
            let detail = format!(
                "limit register {register} reads {found:02x?}, it was {expected:02x?} when the chip was opened: \
                 no answer, or the chip was reset or replaced"
            );
            return Err(Failure::new(Reason::WrongChip, detail));
        }
        Ok(u16::from_be_bytes(raw))
    }
}

impl Sensor for Lm75 {
    fn read(&mut self) -> Sample {
        let mut raw = self.raw()?;
        // Zero is also what the register holds from power-up to the first conversion.
        if raw == 0 && !self.near_zero {
            self.delay.delay_ms(CONVERSION_MS);
            raw = self.raw()?;
        }
        let celsius = within(&RANGE_CELSIUS, Quantity::Temperature, celsius(raw, self.bits)?)?;
        self.near_zero = raw.cast_signed().unsigned_abs() < ONE_DEGREE;
        Ok(Values::new().with(Quantity::Temperature, celsius))
    }
}

/// °C from the temperature register: two's complement, left-aligned, of which the upper `bits` count.
///
/// At 12 bits the rest is defined to read 0 (TMP105, "temperature register"), and is checked.
fn celsius(register: u16, bits: u32) -> Result<f64, Failure> {
    let unused = u16::MAX >> bits;
    if bits == 12 && register & unused != 0 {
        let detail = format!("the temperature register reads {register:#06x}, with bits that always read 0");
        return Err(Failure::new(Reason::OutOfRange, detail));
    }
    Ok(f64::from((register & !unused).cast_signed()) / 256.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_bits_are_the_lm75s_table() {
        // SNIS153D, the table of temperature data; the seven bits below are undefined and may be anything.
        let table =
            [(0x0fa, 125.0), (0x032, 25.0), (0x001, 0.5), (0x000, 0.0), (0x1ff, -0.5), (0x1ce, -25.0), (0x192, -55.0)];
        for (code, expected) in table {
            for undefined in [0x00, 0x35, 0x7f] {
                assert_eq!(celsius(code << 7 | undefined, 9), Ok(expected), "{code:#x}");
            }
        }
        assert_eq!(celsius(0x8000, 9), Ok(-128.0));
        assert_eq!(celsius(0x7fff, 9), Ok(127.5));
    }

    #[test]
    fn eleven_bits_are_the_lm75as_table() {
        // NXP LM75A, the table of its temperature register.
        let table = [
            (0x3f8, 127.0),
            (0x3f7, 126.875),
            (0x3e8, 125.0),
            (0x0c8, 25.0),
            (0x001, 0.125),
            (0x000, 0.0),
            (0x7ff, -0.125),
            (0x738, -25.0),
            (0x649, -54.875),
            (0x648, -55.0),
        ];
        for (code, expected) in table {
            for undefined in [0x00, 0x15, 0x1f] {
                assert_eq!(celsius(code << 5 | undefined, 11), Ok(expected), "{code:#x}");
            }
        }
    }

    #[test]
    fn twelve_bits_are_the_tmp105s_table() {
        let table = [
            (0x7ff, 127.9375),
            (0x640, 100.0),
            (0x500, 80.0),
            (0x4b0, 75.0),
            (0x320, 50.0),
            (0x190, 25.0),
            (0x004, 0.25),
            (0x000, 0.0),
            (0xffc, -0.25),
            (0xe70, -25.0),
            (0xc90, -55.0),
        ];
        for (code, expected) in table {
            assert_eq!(celsius(code << 4, 12), Ok(expected), "{code:#x}");
        }
        assert_eq!(celsius(0xffff, 12).expect_err("a bus that idles high").reason, Reason::OutOfRange);
    }
}
