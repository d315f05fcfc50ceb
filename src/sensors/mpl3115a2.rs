//! `mpl3115a2`: NXP MPL3115A2, barometer and thermometer, used as a barometer: altitude is the gateway's to compute.
//!
//! Datasheet: Freescale (now NXP) MPL3115A2, whose sections are cited. Own registers: the one crate for
//! this chip is written for embedded-hal 0.2.
//!
//! Each read starts one measurement in standby mode, waits for the time the datasheet gives for the oversampling, then
//! asks for the data-ready flags a bounded number of times. Invariant: no value without these flags, and their bits in
//! the status byte with the zeros in the data's unused bits rule out a bus that idles at any byte.
//! The reset command is not used: the chip does not acknowledge it.

use super::{Attach, Attachment, Driver, DriverOption, Options, Sensor, read_register, within};
use crate::board::{Bus, BusFault, Delay};
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason, Sample, Values};
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;
use std::ops::RangeInclusive;

/// The registry entry.
pub const DRIVER: Driver = Driver {
    name: "mpl3115a2",
    chips: "NXP MPL3115A2",
    accuracy: "500 to 1100 hPa, ±4 hPa absolute, ±0.5 hPa relative (±4 m); \
               -40 to 85 °C, ±1 °C at 25 °C, ±3 °C outside",
    attach: Attach::I2c(&[0x60]),
    quantities: &[Quantity::Pressure, Quantity::Temperature],
    options: &[OVERSAMPLING],
    open,
};

/// Samples averaged for one value (datasheet, CTRL_REG1's oversample ratio).
const OVERSAMPLING: DriverOption = DriverOption {
    name: "oversampling",
    allowed: &[16, 1, 2, 4, 8, 32, 64, 128],
    doc: "samples the chip averages for one value: 1 takes 6 ms, 16 takes 66 ms, 128 takes 512 ms",
};

const STATUS: u8 = 0x00;
const DATA: u8 = 0x01;
const WHO_AM_I: u8 = 0x0c;
const PT_DATA_CFG: u8 = 0x13;
const CTRL_REG1: u8 = 0x26;

const IDENTITY: u8 = 0xc4;
/// New pressure or temperature, new temperature, new pressure; the bits 0 and 4 are unused and read 0.
const READY: u8 = 0x0e;
const STATUS_UNUSED: u8 = 0x11;
/// Data-ready flags for temperature and pressure, and events for both.
const ALL_FLAGS: u8 = 0x07;
/// CTRL_REG1: measure once. The chip clears it when it is done.
const ONE_SHOT: u8 = 0x02;

/// 500 to 1100 hPa is calibrated; the chip measures from 200 hPa on, and ±4 hPa beyond is its accuracy.
const PRESSURE_HPA: RangeInclusive<f64> = 196.0..=1104.0;
/// −40 to 85 °C, and the accuracy of ±3 °C beyond.
const TEMPERATURE_CELSIUS: RangeInclusive<f64> = -43.0..=88.0;
/// How often, and in which steps, the flags are asked for after the conversion's time.
const READY_TRIES: u32 = 20;
const READY_STEP_MS: u32 = 5;

struct Mpl3115a2 {
    bus: Bus,
    address: u8,
    delay: Delay,
    oversampling: i64,
}

fn open(attachment: Attachment, options: &Options) -> Result<Box<dyn Sensor>, Failure> {
    let (mut bus, address, delay) = attachment.into_i2c()?;
    let [identity] = read_register(&mut bus, address, WHO_AM_I)?;
    if identity != IDENTITY {
        let detail = format!("WHO_AM_I reads {identity:#04x}, {IDENTITY:#04x} is expected: the chip is no mpl3115a2");
        return Err(Failure::new(Reason::WrongChip, detail));
    }
    let mut opened = Mpl3115a2 { bus, address, delay, oversampling: options.get(&OVERSAMPLING) };
    opened.configure()?;
    Ok(Box::new(opened))
}

impl Mpl3115a2 {
    /// Standby, barometer mode, flags on; waits out a measurement that somebody else started, and discards its data.
    fn configure(&mut self) -> Result<(), Failure> {
        self.write(CTRL_REG1, self.control())?;
        self.write(PT_DATA_CFG, ALL_FLAGS)?;
        let [flags] = read_register(&mut self.bus, self.address, PT_DATA_CFG)?;
        if flags != ALL_FLAGS {
            let detail = format!("PT_DATA_CFG reads {flags:#04x} after {ALL_FLAGS:#04x} was written: no mpl3115a2");
            return Err(Failure::new(Reason::WrongChip, detail));
        }
        self.wait(CTRL_REG1, ONE_SHOT, 0)?;
        read_register::<5>(&mut self.bus, self.address, DATA).map(|_| ())
    }

    /// CTRL_REG1 in standby.
    fn control(&self) -> u8 {
        (self.oversampling.trailing_zeros() as u8) << 3
    }

    fn write(&mut self, register: u8, value: u8) -> Result<(), Failure> {
        self.bus.write(self.address, &[register, value]).map_err(|BusFault(failure)| failure)
    }

    /// Asks `register` until its bits under `mask` are `wanted`, a bounded number of times.
    fn wait(&mut self, register: u8, mask: u8, wanted: u8) -> Result<u8, Failure> {
        let mut found = 0;
        for _ in 0..READY_TRIES {
            [found] = read_register(&mut self.bus, self.address, register)?;
            if found & mask == wanted {
                return Ok(found);
            }
            self.delay.delay_ms(READY_STEP_MS);
        }
        let detail = format!(
            "the measurement did not finish: register {register:#04x} reads {found:#04x}, {wanted:#04x} under the mask \
             {mask:#04x} is expected"
        );
        Err(Failure::new(Reason::Timeout, detail))
    }
}

impl Sensor for Mpl3115a2 {
    fn read(&mut self) -> Sample {
        self.write(CTRL_REG1, self.control() | ONE_SHOT)?;
        self.delay.delay_ms(conversion_ms(self.oversampling));
        let status = self.wait(STATUS, READY, READY)?;
        let data: [u8; 5] = read_register(&mut self.bus, self.address, DATA)?;
        let [p0, p1, p2, t0, t1] = data;
        if status & STATUS_UNUSED != 0 || (p2 | t1) & 0x0f != 0 {
            let detail = format!("bits that always read 0 are set in status {status:#04x} and data {data:02x?}");
            return Err(Failure::new(Reason::OutOfRange, detail));
        }
        Ok(Values::new()
            .with(Quantity::Pressure, within(&PRESSURE_HPA, Quantity::Pressure, hectopascal([p0, p1, p2]))?)
            .with(Quantity::Temperature, within(&TEMPERATURE_CELSIUS, Quantity::Temperature, celsius([t0, t1]))?))
    }
}

/// The longest conversion at that oversampling (datasheet, CTRL_REG1's minimum times between samples): 4 ms a sample, and 2 ms.
fn conversion_ms(oversampling: i64) -> u32 {
    oversampling.unsigned_abs() as u32 * 4 + 2
}

/// hPa from OUT_P: 20 bits, unsigned, left-aligned, in quarters of a pascal (datasheet 7.1.3).
fn hectopascal([msb, csb, lsb]: [u8; 3]) -> f64 {
    f64::from(u32::from_be_bytes([0, msb, csb, lsb]) >> 4) / 400.0
}

/// °C from OUT_T: 12 bits, two's complement, left-aligned, in sixteenths (datasheet 7.1.3).
fn celsius(register: [u8; 2]) -> f64 {
    f64::from(i16::from_be_bytes(register)) / 256.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_unsigned_with_two_fractional_bits() {
        // 101,325 Pa × 4 = 0x62F34, left-aligned in 24 bits.
        assert_eq!(hectopascal([0x62, 0xf3, 0x40]), 1013.25);
        assert_eq!(hectopascal([0x00, 0x00, 0x10]), 0.0025);
        assert_eq!(hectopascal([0x00, 0x00, 0x00]), 0.0);
        assert_eq!(hectopascal([0xff, 0xff, 0xf0]), 2621.4375);
        // A reading published on NXP's forum with its registers: 61 a0 d0, 1a 50.
        assert_eq!(hectopascal([0x61, 0xa0, 0xd0]), 999.7125);
        assert_eq!(celsius([0x1a, 0x50]), 26.3125);
    }

    #[test]
    fn temperature_keeps_its_sign() {
        let table = [
            ([0x19, 0x00], 25.0),
            ([0x00, 0x10], 0.0625),
            ([0x00, 0x00], 0.0),
            ([0xff, 0xf0], -0.0625),
            ([0xe7, 0x80], -24.5),
            ([0xd8, 0x00], -40.0),
            ([0x80, 0x00], -128.0),
            ([0x7f, 0xf0], 127.9375),
        ];
        for (register, expected) in table {
            assert_eq!(celsius(register), expected, "{register:02x?}");
        }
    }

    #[test]
    fn conversion_times_are_the_datasheets() {
        let table = [(1, 6), (2, 10), (4, 18), (8, 34), (16, 66), (32, 130), (64, 258), (128, 514)];
        for (oversampling, ms) in table {
            assert_eq!(conversion_ms(oversampling), ms);
        }
    }
}
