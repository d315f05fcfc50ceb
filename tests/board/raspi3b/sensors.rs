//! Sensors on the emulated bus: what is set from outside, and what Linux's own driver reads, against what is published.

use crate::board::Board;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// As configured.
const INTERVAL: Duration = Duration::from_secs(2);

const TEMPERATURE: &str = "board2mqtt/drone01/thermometer/temperature";
const HEALTH: &str = "board2mqtt/drone01/thermometer/health";

/// The TMP105 is set from outside, in thousandths of a degree; 12 bits are sixteenths of one.
pub fn thermometer(board: &mut Board) {
    let steps = [
        (25_063, "25.0625"),
        (-63, "-0.0625"),
        (0, "0.0000"),
        (-25_250, "-25.2500"),
        (125_000, "125.0000"),
        (-55_000, "-55.0000"),
        (21_500, "21.5000"),
    ];
    for (millidegrees, expected) in steps {
        board.qemu.set("thermometer", "temperature", millidegrees);
        let set = Instant::now();
        board.wait_for_payload(TEMPERATURE, expected);
        let heard = board.newest(TEMPERATURE).expect("it has just come");
        let took = heard.at.duration_since(set);
        assert!(took <= 2 * INTERVAL, "{expected} took {took:?}");
        assert_eq!(board.server.retained(TEMPERATURE).as_deref(), Some(expected));
    }
}

/// 127.9375 °C is more than the family measures: the value stays, the sensor fails.
pub fn out_of_range(board: &mut Board) {
    board.qemu.set("thermometer", "temperature", 127_937);
    board.wait_for(HEALTH, |health| health.contains("\"out-of-range\"").then_some(()));
    board.qemu.set("thermometer", "temperature", 21_500);
    board.wait_for_payload(HEALTH, "{\"state\":\"ok\"}");
}

/// The registers of the datasheet's example (BMP280 revision 1.19, 3.12): calibration, chip id, one measurement.
fn example() -> Vec<(u8, u8)> {
    let words = [27_504u16, 26_435, 0xfc18, 36_477, 0xd643, 3_024, 2_855, 140, 0xfff9, 15_500, 0xc6f8, 6_000];
    let calibration = words.iter().flat_map(|word| word.to_le_bytes());
    let mut registers: Vec<_> = (0x88..).zip(calibration).collect();
    registers.push((0xd0, 0x58));
    registers.extend((0xf7..).zip([0x65, 0x5a, 0xc0, 0x7e, 0xed, 0x00]));
    registers
}

/// The height above the level of 1013.25 hPa in the International Standard Atmosphere, in metres; p in hPa.
fn altitude(pressure: f64) -> f64 {
    288.15 / 0.0065 * (1.0 - (pressure / 1013.25).powf(8.314_32 * 0.0065 / (9.806_65 * 0.028_964_4)))
}

fn number(board: &mut Board, quantity: &str) -> f64 {
    board.wait_for(&format!("board2mqtt/drone01/barometer/{quantity}"), |payload| payload.parse().ok())
}

pub fn barometer(board: &mut Board) {
    let write = example().iter().fold(String::from("set -e\n"), |mut script, (register, value)| {
        writeln!(script, "busybox i2cset -y 1 0x76 {register:#04x} {value:#04x} b").expect("text");
        script
    });
    board.guest.root(&write);
    board.wait_for_payload("board2mqtt/drone01/barometer/health", "{\"state\":\"ok\"}");
    assert!((number(board, "temperature") - 25.08).abs() < 0.006);
    assert!((number(board, "pressure") - 1006.533).abs() < 0.001);
    let kernel = board.guest.root(
        "cd /sys/bus/i2c/devices/i2c-1 && echo bmp280 0x76 >new_device && cat 1-0076/iio:device*/in_temp_input \
         1-0076/iio:device*/in_pressure_input && echo 0x76 >delete_device",
    );
    let kernel: Vec<f64> = kernel.lines().map(|line| line.parse().expect("a number")).collect();
    let [millidegrees, kilopascals] = kernel[..] else { panic!("Linux's driver: {kernel:?}") };
    let (temperature, pressure) = (millidegrees / 1000.0, kilopascals * 10.0);
    assert!((number(board, "temperature") - temperature).abs() < 0.01, "Linux's driver reads {temperature} °C");
    assert!((number(board, "pressure") - pressure).abs() < 0.01, "Linux's driver reads {pressure} hPa");
    let published = number(board, "altitude");
    assert!(
        (published - altitude(pressure)).abs() < 0.1,
        "{published} m at {pressure} hPa, not {} m",
        altitude(pressure)
    );
}
