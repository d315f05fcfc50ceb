//! `tmp117`: Texas Instruments TMP117, precision thermometer.
//!
//! Datasheet: SNOSD82, revision D. Registers come from `embedded-devices`; its `init` is not used because it writes a
//! reset before it asks who is there, nor its `measure`, which waits for the typical conversion time, not the longest.
//!
//! The chip converts once a second by itself, the condition its accuracy is given for, so a read never waits and a value
//! is at most about a second old. Invariant: each value is followed by the identity register, which no bus that idles at
//! any byte imitates; reading the configuration register instead would clear the alert flags.

use super::{Attach, Attachment, Driver, DriverOption, Options, Sensor, failure_of, within};
use crate::board::{Bus, Delay};
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason, Sample, Values};
use embedded_devices::devices::texas_instruments::tmp117::TMP117Sync;
use embedded_devices::devices::texas_instruments::tmp117::address::Address;
use embedded_devices::devices::texas_instruments::tmp117::registers::{
    AveragingMode, Configuration, ConversionCycleTime, ConversionMode, DEVICE_ID_VALID, DeviceIdRevision, Temperature,
};
use embedded_hal::delay::DelayNs;
use embedded_interfaces::i2c::I2cDeviceSync;
use std::ops::RangeInclusive;

/// The registry entry.
pub const DRIVER: Driver = Driver {
    name: "tmp117",
    chips: "Texas Instruments TMP117, TMP119",
    accuracy: "-55 to 150 °C in steps of 0.0078 °C, ±0.1 °C from -20 to 50 °C, ±0.3 °C over the range",
    attach: Attach::I2c(&[0x48, 0x49, 0x4a, 0x4b]),
    quantities: &[Quantity::Temperature],
    options: &[AVERAGING],
    open,
};

/// Conversions averaged for one result (datasheet 7.3.2).
const AVERAGING: DriverOption = DriverOption {
    name: "averaging",
    allowed: &[8, 1, 32, 64],
    doc: "conversions the chip averages for one value, one value a second",
};

/// −55 to 150 °C (datasheet 6.3) and the accuracy of ±0.3 °C beyond.
const RANGE_CELSIUS: RangeInclusive<f64> = -55.3..=150.3;
/// The longest single conversion (datasheet 6.5).
const CONVERSION_US: u32 = 17_500;
/// What the temperature register reads from power-up to the first result: −256 °C (datasheet 7.6.1).
const NOT_CONVERTED: i16 = i16::MIN;

struct Tmp117 {
    chip: TMP117Sync<Delay, I2cDeviceSync<Bus, u8>>,
    delay: Delay,
    averaging: AveragingMode,
}

fn open(attachment: Attachment, options: &Options) -> Result<Box<dyn Sensor>, Failure> {
    let (bus, address, delay) = attachment.into_i2c()?;
    let averaging = match options.get(&AVERAGING) {
        1 => AveragingMode::X_1,
        32 => AveragingMode::X_32,
        64 => AveragingMode::X_64,
        _ => AveragingMode::X_8,
    };
    let chip = TMP117Sync::new_i2c(delay.clone(), bus, Address::Custom(address));
    let mut opened = Tmp117 { chip, delay, averaging };
    opened.identify()?;
    opened.configure()?;
    Ok(Box::new(opened))
}

impl Tmp117 {
    fn identify(&mut self) -> Result<(), Failure> {
        let register: DeviceIdRevision = self.chip.read_register().map_err(failure_of)?;
        if register.read_device_id() == DEVICE_ID_VALID {
            return Ok(());
        }
        let found = u16::from_be_bytes(register.0);
        let detail = format!("the identity register reads {found:#06x}, 0x?117 is expected: the chip is no tmp117");
        Err(Failure::new(Reason::WrongChip, detail))
    }

    /// Continuous conversion once a second; what belongs to the alert pin is left as it is found.
    fn configure(&mut self) -> Result<(), Failure> {
        let found: Configuration = self.chip.read_register().map_err(failure_of)?;
        let wanted = found
            .with_conversion_mode(ConversionMode::Continuous)
            .with_conversion_cycle_time(ConversionCycleTime::T_1000)
            .with_averaging_mode(self.averaging)
            .with_soft_reset(false);
        if wanted == found {
            return Ok(());
        }
        self.chip.write_register(wanted).map_err(failure_of)
    }

    fn raw(&mut self) -> Result<i16, Failure> {
        let raw = self.chip.read_register::<Temperature>().map_err(failure_of)?.0;
        self.identify()?;
        Ok(i16::from_be_bytes(raw))
    }
}

impl Sensor for Tmp117 {
    fn read(&mut self) -> Sample {
        let mut raw = self.raw()?;
        if raw == NOT_CONVERTED {
            self.delay.delay_us(CONVERSION_US * u32::from(self.averaging.factor()));
            raw = self.raw()?;
        }
        if raw == NOT_CONVERTED {
            let detail = "the temperature register holds its reset value 0x8000: nothing was measured";
            return Err(Failure::new(Reason::OutOfRange, detail));
        }
        let celsius = within(&RANGE_CELSIUS, Quantity::Temperature, celsius(raw))?;
        Ok(Values::new().with(Quantity::Temperature, celsius))
    }
}

/// °C from the temperature register: 16 bits, two's complement, 1/128 °C each.
fn celsius(register: i16) -> f64 {
    f64::from(register) / 128.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datasheets_table_is_reproduced() {
        // Datasheet 7.3.1, table 7-1.
        let table = [
            (0x8000u16, -256.0),
            (0xf380, -25.0),
            (0xfff0, -0.125),
            (0xffff, -0.0078125),
            (0x0000, 0.0),
            (0x0001, 0.0078125),
            (0x0010, 0.125),
            (0x0080, 1.0),
            (0x0c80, 25.0),
            (0x3200, 100.0),
            (0x7fff, 255.9921875),
        ];
        for (register, expected) in table {
            assert_eq!(celsius(register.cast_signed()), expected, "{register:#x}");
        }
    }
}
