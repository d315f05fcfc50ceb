//! `tmp102`: Texas Instruments TMP102, thermometer.
//!
//! Datasheet: SBOS397C, October 2012 (TMP112: SBOS473L, the same registers). Registers come from `embedded-devices`; its
//! `read_temperature` is not used because it takes the mode flag in bit 0 for a part of the number.
//!
//! The chip has no identity register. What stands for one: the resolution bits that always read 11, the unused bits that
//! always read 0, and the conversion rate, which is set to its power-on value of 4 Hz. No byte repeated has all three, so
//! a bus that idles high, low or at any other byte is never a reading; the check is part of every read.

use super::{Attach, Attachment, Driver, Options, Sensor, failure_of, within};
use crate::board::{Bus, Delay};
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason, Sample, Values};
use embedded_devices::devices::texas_instruments::tmp102::TMP102Sync;
use embedded_devices::devices::texas_instruments::tmp102::address::Address;
use embedded_devices::devices::texas_instruments::tmp102::registers::{
    Configuration, ConversionCycleTime, Temperature, TemperatureLimitHigh, TemperatureLimitLow,
};
use embedded_hal::delay::DelayNs;
use embedded_interfaces::i2c::I2cDeviceSync;
use std::ops::RangeInclusive;

/// The registry entry.
pub const DRIVER: Driver = Driver {
    name: "tmp102",
    chips: "Texas Instruments TMP102, TMP112",
    accuracy: "-40 to 125 °C in steps of 0.0625 °C, ±2 °C from -25 to 85 °C (0.5 °C typical), ±3 °C outside",
    attach: Attach::I2c(&[0x48, 0x49, 0x4a, 0x4b]),
    quantities: &[Quantity::Temperature],
    options: &[],
    open,
};

/// −40 to 125 °C, and the accuracy of ±3 °C below; above, 127.9375 °C is where the register clamps.
const RANGE_CELSIUS: RangeInclusive<f64> = -43.0..=127.5;
/// The longest conversion (datasheet, electrical characteristics: 35 ms).
const CONVERSION_MS: u32 = 35;
/// Resolution 11, shutdown 0, rate 10 (4 Hz), extended mode 0, unused bits 0: the bits every answer must have…
const FIXED_VALUE: u16 = 0b0110_0000_1000_0000;
/// …and where they are. The others belong to the alert pin and are left as they are found.
const FIXED_MASK: u16 = 0b0110_0001_1101_1111;
/// The part of it that no setting changes.
const READ_ONLY_MASK: u16 = 0b0110_0000_0000_1111;
/// Four bits below the number read 0.
const UNUSED_BITS: u16 = 0x000f;
/// One degree in steps of 1/256 °C.
const ONE_DEGREE: u16 = 0x0100;

struct Tmp102 {
    chip: TMP102Sync<Delay, I2cDeviceSync<Bus, u8>>,
    delay: Delay,
    near_zero: bool,
}

fn open(attachment: Attachment, _: &Options) -> Result<Box<dyn Sensor>, Failure> {
    let (bus, address, delay) = attachment.into_i2c()?;
    let chip = TMP102Sync::new_i2c(delay.clone(), bus, Address::Custom(address));
    let mut opened = Tmp102 { chip, delay, near_zero: false };
    opened.identify()?;
    opened.configure()?;
    Ok(Box::new(opened))
}

impl Tmp102 {
    /// Nothing is written before this has found the bits that every TMP102 has.
    fn identify(&mut self) -> Result<(), Failure> {
        check(self.configuration()?.1, READ_ONLY_MASK)?;
        let low = self.chip.read_register::<TemperatureLimitLow>().map_err(failure_of)?.0;
        let high = self.chip.read_register::<TemperatureLimitHigh>().map_err(failure_of)?.0;
        // In extended mode the limits have one bit more.
        if (low[1] | high[1]) & 0x07 != 0 {
            let detail =
                format!("the limit registers read {low:02x?} and {high:02x?}, with bits a tmp102 always reads as 0");
            return Err(Failure::new(Reason::WrongChip, detail));
        }
        Ok(())
    }

    /// Brings the chip into continuous conversion at 4 Hz with 12 bits, unless it is there already.
    fn configure(&mut self) -> Result<(), Failure> {
        let (configuration, bits) = self.configuration()?;
        if check(bits, FIXED_MASK).is_ok() {
            return Ok(());
        }
        let wanted = configuration
            .with_oneshot(false)
            .with_shutdown(false)
            .with_extended(false)
            .with_conversion_cycle_time(ConversionCycleTime::T_250);
        self.chip.write_register(wanted).map_err(failure_of)?;
        check(self.configuration()?.1, FIXED_MASK)?;
        self.delay.delay_ms(CONVERSION_MS);
        Ok(())
    }

    fn configuration(&mut self) -> Result<(Configuration, u16), Failure> {
        let register: Configuration = self.chip.read_register().map_err(failure_of)?;
        Ok((register, u16::from_be_bytes(register.0)))
    }

    fn raw(&mut self) -> Result<u16, Failure> {
        let raw = self.chip.read_register::<Temperature>().map_err(failure_of)?.0;
        check(self.configuration()?.1, FIXED_MASK)?;
        Ok(u16::from_be_bytes(raw))
    }
}

impl Sensor for Tmp102 {
    fn read(&mut self) -> Sample {
        let mut raw = self.raw()?;
        // Zero is also what the register holds from power-up to the first conversion.
        if raw == 0 && !self.near_zero {
            self.delay.delay_ms(CONVERSION_MS);
            raw = self.raw()?;
        }
        let celsius = within(&RANGE_CELSIUS, Quantity::Temperature, celsius(raw)?)?;
        self.near_zero = raw.cast_signed().unsigned_abs() < ONE_DEGREE;
        Ok(Values::new().with(Quantity::Temperature, celsius))
    }
}

/// Refuses a configuration register without the bits a TMP102 set up by this driver has.
fn check(configuration: u16, mask: u16) -> Result<(), Failure> {
    if configuration & mask == FIXED_VALUE & mask {
        return Ok(());
    }
    let detail = format!(
        "the configuration register reads {configuration:#06x}, {:#06x} under the mask {mask:#06x} is expected: \
         the chip is no tmp102, or was reset or replaced",
        FIXED_VALUE & mask
    );
    Err(Failure::new(Reason::WrongChip, detail))
}

/// °C from the temperature register in normal mode: 12 bits, two's complement, left-aligned.
fn celsius(register: u16) -> Result<f64, Failure> {
    if register & UNUSED_BITS != 0 {
        let detail = format!("the temperature register reads {register:#06x}, with bits that always read 0");
        return Err(Failure::new(Reason::OutOfRange, detail));
    }
    Ok(f64::from(register.cast_signed()) / 256.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datasheets_table_is_reproduced() {
        let table = [
            (0x7ff, 127.9375),
            (0x640, 100.0),
            (0x500, 80.0),
            (0x4b0, 75.0),
            (0x320, 50.0),
            (0x190, 25.0),
            (0x004, 0.25),
            (0x001, 0.0625),
            (0x000, 0.0),
            (0xfff, -0.0625),
            (0xffc, -0.25),
            (0xe70, -25.0),
            (0xc90, -55.0),
            (0x800, -128.0),
        ];
        for (code, expected) in table {
            assert_eq!(celsius(code << 4), Ok(expected), "{code:#x}");
        }
    }

    #[test]
    fn bits_that_must_be_zero_are_checked() {
        for dirty in [0x0001, 0x1908, 0xffff] {
            assert_eq!(celsius(dirty).expect_err("a set bit").reason, Reason::OutOfRange);
        }
    }

    #[test]
    fn no_repeated_byte_passes_for_a_configuration() {
        for byte in 0..=u8::MAX {
            assert!(check(u16::from_be_bytes([byte, byte]), FIXED_MASK).is_err(), "{byte:#x}");
        }
        // Power-on, the alert bits in every state.
        for bits in [0x60a0, 0x6080, 0x7ea0, 0xe0a0] {
            assert_eq!(check(bits, FIXED_MASK), Ok(()), "{bits:#x}");
        }
        for other in [0x61a0, 0x60b0, 0x6060, 0x00a0, 0x60a1] {
            assert!(check(other, FIXED_MASK).is_err(), "{other:#x}");
        }
    }
}
