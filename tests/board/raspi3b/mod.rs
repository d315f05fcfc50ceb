//! QEMU's `raspi3b`, a Raspberry Pi 3 B: I2C with thermometers and a barometer on it, GPIO, PWM, rppal. No edge interrupts.

mod faults;
mod lines;
mod package;
mod pwm;
mod registers;
mod reload;
mod sensors;
mod unit;

use crate::board::{Board, Machine};
use crate::guest::Guest;
use crate::report::{Check, Report};

const MACHINE: Machine = Machine {
    name: "raspi3b",
    target: "aarch64-unknown-linux-gnu",
    program: "qemu-system-aarch64",
    options: &[
        "-machine",
        "raspi3b",
        "-netdev",
        "user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22",
        "-device",
        "usb-net,netdev=net",
        "-device",
        "tmp105,id=thermometer,bus=i2c-bus.1,address=0x48",
        "-device",
        "tmp105,id=owned,bus=i2c-bus.1,address=0x4a",
        "-device",
        "tmp105,id=forbidden,bus=i2c-bus.0,address=0x4b",
        // Not a memory but a barometer: its registers are written by a check.
        "-device",
        "at24c-eeprom,bus=i2c-bus.1,address=0x76,rom-size=256",
    ],
    // The kernel keeps /dev/mem from what a driver has, which rppal needs where there is no /dev/gpiomem.
    kernel: "console=ttyS1,115200 iomem=relaxed",
    console: 1,
    configuration: CONFIGURATION,
    prepare,
};

/// What the agent is installed with.
const CONFIGURATION: &str = include_str!("board.toml");

/// In order: what is wrong when the agent starts comes first, and mends; the end of the board comes last.
const CHECKS: &[Check<Board>] = &[
    ("`check --probe` names each part with its state", faults::probe),
    ("a thermometer is followed from outside within two intervals", sensors::thermometer),
    ("a temperature beyond the chip's range is no reading", sensors::out_of_range),
    ("a barometer agrees with the datasheet and with Linux's own driver", sensors::barometer),
    ("an address that answers nobody is `nack`", faults::nobody),
    ("an address that a kernel driver has is `busy` until it lets go", faults::owned),
    ("a bus that is not there is `absent` until it comes", faults::absent),
    ("a bus that may not be opened is `permission`, with its group", faults::permission),
    ("a line that somebody holds is named with its holder, and taken when free", faults::held),
    ("a command moves a line", lines::command),
    ("an input is published although the controller tells no edges", lines::input),
    ("a line is off when the server has been away for its time", lines::server_loss),
    ("a line whose file is closed becomes an input", lines::closed),
    ("PWM on a line by rppal: no glitch, limits, a curve", pwm::by_rppal),
    ("PWM that runs is taken over without a glitch", pwm::restart),
    ("PWM on a channel by sysfs: the same", pwm::by_sysfs),
    ("PWM on a line it does not come out at is refused", pwm::elsewhere),
    ("registers drive a line as root, by rppal", registers::as_root),
    ("without permission the character device does it, with one warning", registers::fallback),
    ("the journal has the fields", unit::journal),
    ("the unit reaches I2C and GPIO, and no other device", unit::devices),
    ("a killed agent's lines are made safe, and it starts again", unit::killed),
    ("the watchdog ends a stopped agent, and its lines are safe", unit::watchdog),
    ("a board that freezes is `offline`, and back when it thaws", unit::frozen),
    ("a reload takes up what differs and touches nothing else", reload::taken_up),
    ("a bad file fails the reload before the agent hears of it", reload::refused_by_check),
    ("a bad file that the agent meets is told in the journal and the status line", reload::refused_by_the_agent),
    ("a package without a configuration starts nothing", package::unconfigured),
    ("the package's agent runs when it is configured", package::configured),
    ("an upgrade restarts the agent", package::upgraded),
    ("an upgrade that refuses the configuration leaves the agent running", package::refused),
    ("an upgrade leaves a stopped agent stopped", package::stopped),
    ("a purge leaves nothing, and a configuration that is there is started", package::purged),
    ("a board that loses power is `offline`", unit::power_cut),
];

/// Boots the machine and carries out the checks that are asked for.
pub fn run(report: &mut Report) {
    report.machine(MACHINE.name, || Board::boot(&MACHINE), CHECKS, Board::tell);
}

/// What is wrong when the agent starts: a kernel driver has one chip, a foreign group one bus, a program one line.
fn prepare(guest: &Guest) {
    guest.root("echo lm75 0x4a >/sys/bus/i2c/devices/i2c-1/new_device");
    guest.root("chgrp video /dev/i2c-0");
    guest.root("systemd-run --quiet --unit=holder gpioset --mode=signal gpiochip0 22=1");
}

/// A line of the BCM2837 from outside: its level (GPLEV0) and its function (GPFSELn; 0 input, 1 output, 2 the PWM on GPIO18).
fn line(board: &mut Board, number: u32) -> (bool, u32) {
    const GPIO: u64 = 0x3f20_0000;
    let level = board.qemu.peek(GPIO + 0x34) >> number & 1;
    let function = board.qemu.peek(GPIO + u64::from(number / 10 * 4)) >> (number % 10 * 3) & 7;
    (level == 1, function)
}

/// Has the kernel keep the events of that kind which pass the filter, from now on and none from before.
fn trace(board: &Board, event: &str, filter: &str) {
    board.guest.root(&format!(
        "t=/sys/kernel/tracing; [ -e $t/trace ] || mount -t tracefs tracefs $t; \
         echo '{filter}' >$t/events/{event}/filter && echo 1 >$t/events/{event}/enable && echo >$t/trace",
    ));
}

/// The events of that kind since [`trace`], one a line.
fn traced(board: &Board, event: &str) -> String {
    let (_, name) = event.split_once('/').expect("a group and a name");
    board.guest.root(&format!("grep {name}: /sys/kernel/tracing/trace || true"))
}

const INPUT: u32 = 0;
const OUTPUT: u32 = 1;

/// Waits until a line is an output of that level.
fn wait_for_line(board: &mut Board, number: u32, high: bool) {
    board.wait(&format!("GPIO{number} to be driven {high}"), |board| {
        (line(board, number) == (high, OUTPUT)).then_some(())
    });
}
