//! What the BMP280 and the BME280 share: identity, settings, the burst read, and the temperature and pressure formulas.
//!
//! Datasheets: BMP280 BST-BMP280-DS001, revision 1.23; BME280 BST-BME280-DS001, revision 1.1. Registers come from
//! `embedded-devices`. Its own `measure` is not used: it accepts either chip for the other, hides the raw values, so that
//! a skipped measurement looks like one, and its integer formulas overflow on garbage, where a wrapped number may be a
//! plausible one. Here the datasheets' double precision formulas are used, which cannot overflow.
//!
//! The chip runs in normal mode: it measures by itself about ten times a second, a read never waits for a conversion and
//! takes two transactions. Invariant: no value leaves here unless the control register still reads as written, the
//! unused data bits are zero and the data are not the reset pattern.

use super::{Attachment, DriverOption, Options, failure_of, within};
use crate::board::{Bus, Delay};
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason};
use embedded_devices::device::ResettableDeviceSync;
use embedded_devices::devices::bosch::bme280::BME280CommonSync;
use embedded_devices::devices::bosch::bme280::address::Address;
use embedded_devices::devices::bosch::bme280::registers::{
    BurstMeasurementsPT, BurstMeasurementsPTH, Config, ControlHumidity, ControlMeasurement, IIRFilter, Id,
    Oversampling, SensorMode, StandbyTime, Status, TrimmingParameters1, TrimmingParameters2,
};
use embedded_hal::delay::DelayNs;
use embedded_interfaces::i2c::I2cDeviceSync;
use std::ops::RangeInclusive;

/// The addresses the SDO pin selects.
pub(super) const ADDRESSES: &[u8] = &[0x76, 0x77];

/// Samples of pressure the chip averages (datasheet 3.3.1).
pub(super) const OVERSAMPLING: DriverOption = DriverOption {
    name: "oversampling",
    allowed: &[16, 8, 4, 2, 1],
    doc: "samples of pressure the chip averages for one value; fewer are faster and noisier",
};

/// Coefficient of the chip's low-pass filter (datasheet 3.3.3).
pub(super) const FILTER: DriverOption = DriverOption {
    name: "filter",
    allowed: &[0, 2, 4, 8, 16],
    doc: "coefficient of the chip's low-pass filter against gusts and slamming doors; 0 is off",
};

/// 300 to 1100 hPa, and the absolute accuracy of ±1.7 hPa beyond (BMP280, table 2).
const PRESSURE_HPA: RangeInclusive<f64> = 298.3..=1101.7;
/// −40 to 85 °C, and the accuracy of ±1.5 °C beyond.
const TEMPERATURE_CELSIUS: RangeInclusive<f64> = -41.5..=86.5;
/// What a pressure or temperature register reads after a reset, or when its measurement is switched off.
const SKIPPED: u32 = 0x8_0000;
/// The same for humidity.
const SKIPPED_HUMIDITY: u16 = 0x8000;
/// The standby time set below.
const STANDBY_US: u32 = 62_500;
/// A single register at its reset value is also a possible measurement, so it is read again after the next one, this often.
const CONFIRMATIONS: u32 = 3;
/// How often `im_update` is asked after a reset, once a millisecond; the datasheet's start-up time is 2 ms.
const STARTUP_TRIES: u32 = 10;

/// An opened BMP280 (`BME` false) or BME280 (`BME` true).
pub(super) struct Barometer<const BME: bool> {
    chip: BME280CommonSync<Delay, I2cDeviceSync<Bus, u8>, BME>,
    delay: Delay,
    calibration: Calibration,
    control: ControlMeasurement,
    period_us: u32,
}

/// One measurement, uncompensated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    /// 20 bits.
    pressure: u32,
    /// 20 bits.
    temperature: u32,
    /// 16 bits; zero on a BMP280.
    pub(super) humidity: u16,
}

/// Pressure and temperature, and what the humidity formula needs.
pub(super) struct Weather {
    pub(super) celsius: f64,
    pub(super) hectopascal: f64,
    /// The datasheet's carrier of fine temperature, 5120 per °C.
    pub(super) t_fine: f64,
}

impl<const BME: bool> Barometer<BME> {
    /// Identifies, resets and configures the chip, and waits for its first measurement.
    pub(super) fn open(attachment: Attachment, options: &Options) -> Result<Self, Failure> {
        let (bus, address, mut delay) = attachment.into_i2c()?;
        let mut chip = BME280CommonSync::new_i2c(delay.clone(), bus, Address::Custom(address));
        identify(chip.read_register::<Id>().map_err(failure_of)?.0[0], BME)?;
        chip.reset().map_err(failure_of)?;
        let mut tries = 0;
        while chip.read_register::<Status>().map_err(failure_of)?.read_update() {
            tries += 1;
            if tries == STARTUP_TRIES {
                return Err(Failure::new(
                    Reason::Timeout,
                    "the chip does not finish its start-up (im_update stays set)",
                ));
            }
            delay.delay_ms(1);
        }
        let calibration = Calibration::parse(&chip.read_register().map_err(failure_of)?)?;
        let (control, measurement_us) = control(options.get(&OVERSAMPLING), BME);
        let mut opened = Self { chip, delay, calibration, control, period_us: measurement_us + STANDBY_US };
        opened.configure(options)?;
        opened.delay.delay_us(measurement_us);
        Ok(opened)
    }

    /// The humidity calibration's registers, for the BME280.
    pub(super) fn humidity_calibration(&mut self) -> Result<(u8, TrimmingParameters2), Failure> {
        let h1 = self.chip.read_register::<TrimmingParameters1>().map_err(failure_of)?.read_dig_h1();
        let rest: TrimmingParameters2 = self.chip.read_register().map_err(failure_of)?;
        refuse_blank(&rest.0)?;
        Ok((h1, rest))
    }

    /// In the order the datasheets ask for: humidity takes effect with the control register, and the filter is only
    /// taken while the chip sleeps.
    fn configure(&mut self, options: &Options) -> Result<(), Failure> {
        let filter = match options.get(&FILTER) {
            2 => IIRFilter::Coefficient2,
            4 => IIRFilter::Coefficient4,
            8 => IIRFilter::Coefficient8,
            16 => IIRFilter::Coefficient16,
            _ => IIRFilter::Disabled,
        };
        let config = Config::default().with_standby_time(StandbyTime::T_62_5).with_filter(filter);
        self.chip.write_register(config).map_err(failure_of)?;
        if BME {
            let humidity = ControlHumidity::default().with_oversampling(Oversampling::X_1);
            self.chip.write_register(humidity).map_err(failure_of)?;
        }
        self.chip.write_register(self.control).map_err(failure_of)
    }

    /// Reads the newest measurement.
    pub(super) fn raw(&mut self) -> Result<Raw, Failure> {
        for _ in 0..CONFIRMATIONS {
            let control = self.chip.read_register::<ControlMeasurement>().map_err(failure_of)?;
            if control != self.control {
                let (found, written) = (control.0[0], self.control.0[0]);
                return Err(Failure::new(
                    Reason::WrongChip,
                    format!(
                        "the control register reads {found:#04x}, {written:#04x} was written: the chip was reset or replaced"
                    ),
                ));
            }
            let raw = Raw::parse(&self.burst()?)?;
            match raw.skipped(BME) {
                Skipped::Nothing => return Ok(raw),
                Skipped::Something => self.delay.delay_us(self.period_us),
                Skipped::Everything => break,
            }
        }
        Err(Failure::new(Reason::OutOfRange, "the data registers hold their reset value 0x80000: nothing was measured"))
    }

    fn burst(&mut self) -> Result<[u8; 8], Failure> {
        if BME {
            return Ok(self.chip.read_register::<BurstMeasurementsPTH>().map_err(failure_of)?.0);
        }
        let [a, b, c, d, e, f] = self.chip.read_register::<BurstMeasurementsPT>().map_err(failure_of)?.0;
        Ok([a, b, c, d, e, f, 0, 0])
    }

    /// Compensated temperature and pressure, if the chip can measure them.
    pub(super) fn weather(&self, raw: Raw) -> Result<Weather, Failure> {
        let t_fine = self.calibration.t_fine(raw.temperature);
        let celsius = within(&TEMPERATURE_CELSIUS, Quantity::Temperature, t_fine / 5120.0)?;
        let pascal = self.calibration.pascal(raw.pressure, t_fine);
        let hectopascal = within(&PRESSURE_HPA, Quantity::Pressure, pascal / 100.0)?;
        Ok(Weather { celsius, hectopascal, t_fine })
    }
}

/// Refuses a chip id that is not the driver's, naming the driver that would fit (datasheets: BMP280 4.3.1, BME280 5.4.1).
fn identify(id: u8, bme: bool) -> Result<(), Failure> {
    let found = match (id, bme) {
        (0x56..=0x58, false) | (0x60, true) => return Ok(()),
        (0x56..=0x58, true) => "a BMP280, which has no humidity: use driver = \"bmp280\"",
        (0x60, false) => "a BME280: use driver = \"bme280\"",
        (0x55, _) => "a BMP180",
        (0x61, _) => "a BME680 or BME688",
        (0x00 | 0xff, _) => "no chip that drives the bus",
        _ => "an unknown chip",
    };
    let wanted = if bme { "0x60 for a BME280" } else { "0x58 (samples 0x56, 0x57) for a BMP280" };
    Err(Failure::new(Reason::WrongChip, format!("chip id {id:#04x} is {found}; {wanted} is expected")))
}

/// The control register for normal mode at that pressure oversampling, and the longest measurement it makes, in µs
/// (BMP280 3.8.1, BME280 9.1). Temperature is taken twice at 16, else once, as BMP280 table 4 recommends.
fn control(oversampling: i64, bme: bool) -> (ControlMeasurement, u32) {
    let pressure = match oversampling {
        1 => Oversampling::X_1,
        2 => Oversampling::X_2,
        4 => Oversampling::X_4,
        8 => Oversampling::X_8,
        _ => Oversampling::X_16,
    };
    let temperature = if pressure == Oversampling::X_16 { Oversampling::X_2 } else { Oversampling::X_1 };
    let humidity_us = if bme { 2_300 + 575 } else { 0 };
    let longest_us = 1_250 + 2_300 * temperature.factor() + 2_300 * pressure.factor() + 575 + humidity_us;
    let control = ControlMeasurement::default()
        .with_temperature_oversampling(temperature)
        .with_pressure_oversampling(pressure)
        .with_sensor_mode(SensorMode::Normal);
    (control, longest_us)
}

/// Refuses a calibration block whose bytes are all the same: erased, or no chip at all.
fn refuse_blank(block: &[u8]) -> Result<(), Failure> {
    if block.iter().all(|byte| *byte == block[0]) {
        let detail = format!("every byte of the calibration reads {:#04x}: no chip, or a broken one", block[0]);
        return Err(Failure::new(Reason::WrongChip, detail));
    }
    Ok(())
}

/// How much of a measurement is the reset pattern.
#[derive(PartialEq, Eq, Debug)]
enum Skipped {
    Nothing,
    Something,
    Everything,
}

impl Raw {
    /// The data registers from 0xF7 on; the low half of each third byte always reads zero (BMP280 4.3.6, 4.3.7).
    fn parse(burst: &[u8; 8]) -> Result<Self, Failure> {
        let [p0, p1, p2, t0, t1, t2, h0, h1] = *burst;
        if (p2 | t2) & 0x0f != 0 {
            let detail = format!("bits that always read zero are set in the data registers ({burst:02x?})");
            return Err(Failure::new(Reason::OutOfRange, detail));
        }
        let raw = Self {
            pressure: u32::from_be_bytes([0, p0, p1, p2]) >> 4,
            temperature: u32::from_be_bytes([0, t0, t1, t2]) >> 4,
            humidity: u16::from_be_bytes([h0, h1]),
        };
        // The ends of the converter's range lie far outside the sensor's: these are a bus that idles low or high.
        if [raw.pressure, raw.temperature].iter().any(|adc| matches!(adc, 0 | 0xf_ffff)) {
            let detail = format!("the data registers are empty or full ({burst:02x?})");
            return Err(Failure::new(Reason::OutOfRange, detail));
        }
        Ok(raw)
    }

    fn skipped(self, bme: bool) -> Skipped {
        let humidity = !bme || self.humidity == SKIPPED_HUMIDITY;
        match (self.pressure == SKIPPED, self.temperature == SKIPPED, humidity) {
            (true, true, true) => Skipped::Everything,
            (false, false, humidity) if !(bme && humidity) => Skipped::Nothing,
            _ => Skipped::Something,
        }
    }
}

/// The trimming values for temperature and pressure.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Calibration {
    t: [f64; 3],
    p: [f64; 9],
}

impl Calibration {
    fn parse(register: &TrimmingParameters1) -> Result<Self, Failure> {
        refuse_blank(&register.0[..24])?;
        let dig = register.unpack();
        let signed = [dig.dig_p2, dig.dig_p3, dig.dig_p4, dig.dig_p5, dig.dig_p6, dig.dig_p7, dig.dig_p8, dig.dig_p9];
        let mut p = [f64::from(dig.dig_p1); 9];
        for (to, from) in p[1..].iter_mut().zip(signed) {
            *to = from.into();
        }
        Ok(Self { t: [dig.dig_t1.into(), dig.dig_t2.into(), dig.dig_t3.into()], p })
    }

    /// Fine temperature, 5120 per °C (BMP280 8.1, `bmp280_compensate_T_double`).
    fn t_fine(&self, adc: u32) -> f64 {
        let [t1, t2, t3] = self.t;
        let adc = f64::from(adc);
        (adc / 16_384.0 - t1 / 1_024.0) * t2 + (adc / 131_072.0 - t1 / 8_192.0).powi(2) * t3
    }

    /// Pressure in Pa (BMP280 8.1, `bmp280_compensate_P_double`); not finite where the calibration makes no sense.
    fn pascal(&self, adc: u32, t_fine: f64) -> f64 {
        let [p1, p2, p3, p4, p5, p6, p7, p8, p9] = self.p;
        let x = t_fine / 2.0 - 64_000.0;
        let offset = (x * x * p6 / 32_768.0 + x * p5 * 2.0) / 4.0 + p4 * 65_536.0;
        let slope = (1.0 + (p3 * x * x / 524_288.0 + p2 * x) / 524_288.0 / 32_768.0) * p1;
        let p = (1_048_576.0 - f64::from(adc) - offset / 4_096.0) * 6_250.0 / slope;
        p + (p9 * p * p / 2_147_483_648.0 + p * p8 / 32_768.0 + p7) / 16.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of BMP280 3.12.
    const EXAMPLE: Calibration = Calibration {
        t: [27_504.0, 26_435.0, -1_000.0],
        p: [36_477.0, -10_685.0, 3_024.0, 2_855.0, 140.0, -7.0, 15_500.0, -14_600.0, 6_000.0],
    };

    #[test]
    fn boschs_example_is_reproduced() {
        let t_fine = EXAMPLE.t_fine(519_888);
        assert!((t_fine - 128_422.0).abs() < 1.0, "{t_fine}");
        assert!((t_fine / 5120.0 - 25.08).abs() < 0.005);
        let pascal = EXAMPLE.pascal(415_148, t_fine);
        assert!((pascal - 100_653.27).abs() < 0.05, "{pascal}");
    }

    #[test]
    fn trimming_values_keep_their_signs() {
        let mut register = TrimmingParameters1([0; 26]);
        let words = [27_504u16, 26_435, 0xfc18, 36_477, 0xd643, 3_024, 2_855, 140, 0xfff9, 15_500, 0xc6f8, 6_000];
        for (bytes, word) in register.0.chunks_exact_mut(2).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        assert_eq!(Calibration::parse(&register), Ok(EXAMPLE));
    }

    #[test]
    fn temperature_goes_through_zero_and_below() {
        // Half a million codes span the sensor's range; the formula must be monotonic and pass zero.
        let celsius = |adc| EXAMPLE.t_fine(adc) / 5120.0;
        assert!((celsius(440_064) - 0.0).abs() < 0.05, "{}", celsius(440_064));
        assert!((celsius(312_000) + 41.0).abs() < 1.0, "{}", celsius(312_000));
        assert!((100_000..700_000).step_by(1_000).all(|adc| celsius(adc) < celsius(adc + 1_000)));
    }

    #[test]
    fn blank_calibrations_are_refused() {
        for byte in [0x00, 0xff, 0x5a] {
            let failure = Calibration::parse(&TrimmingParameters1([byte; 26])).expect_err("blank");
            assert_eq!(failure.reason, Reason::WrongChip);
        }
        // An impossible slope gives no number rather than a wrong one.
        let calibration = Calibration { p: [0.0; 9], ..EXAMPLE };
        assert!(!calibration.pascal(415_148, 128_422.0).is_finite());
    }

    #[test]
    fn the_wrong_chip_is_named() {
        for id in 0..=u8::MAX {
            assert_eq!(identify(id, false).is_ok(), matches!(id, 0x56..=0x58), "{id:#x}");
            assert_eq!(identify(id, true).is_ok(), id == 0x60, "{id:#x}");
        }
        assert!(identify(0x60, false).expect_err("a BME280").detail.contains("driver = \"bme280\""));
        assert!(identify(0x58, true).expect_err("a BMP280").detail.contains("driver = \"bmp280\""));
    }

    #[test]
    fn reset_patterns_and_dead_buses_are_told_from_data() {
        let good = [0x65, 0x5a, 0xc0, 0x7e, 0xed, 0x00, 0x6e, 0x00];
        let raw = Raw::parse(&good).expect("data");
        assert_eq!((raw.pressure, raw.temperature, raw.humidity), (415_148, 519_888, 0x6e00));
        assert_eq!(raw.skipped(true), Skipped::Nothing);
        let reset = Raw::parse(&[0x80, 0, 0, 0x80, 0, 0, 0x80, 0]).expect("the reset pattern");
        assert_eq!((reset.skipped(true), reset.skipped(false)), (Skipped::Everything, Skipped::Everything));
        for one in [Raw { pressure: SKIPPED, ..raw }, Raw { temperature: SKIPPED, ..raw }] {
            assert_eq!((one.skipped(true), one.skipped(false)), (Skipped::Something, Skipped::Something));
        }
        let humidity = Raw { humidity: SKIPPED_HUMIDITY, ..raw };
        assert_eq!((humidity.skipped(true), humidity.skipped(false)), (Skipped::Something, Skipped::Nothing));
        for dead in [0x00, 0xff] {
            assert_eq!(Raw::parse(&[dead; 8]).expect_err("no data").reason, Reason::OutOfRange);
        }
        let mut dirty = good;
        dirty[2] |= 1;
        assert_eq!(Raw::parse(&dirty).expect_err("a set bit").reason, Reason::OutOfRange);
    }

    #[test]
    fn conversion_times_are_the_datasheets() {
        assert_eq!(control(16, false).1, 43_225);
        assert_eq!(control(1, false).1, 6_425);
        assert_eq!(control(1, true).1, 9_300);
        assert_eq!(control(16, false).0.0, [0b0101_0111]);
        assert_eq!(control(4, true).0.0, [0b0010_1111]);
    }
}
