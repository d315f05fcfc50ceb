//! What must hold on the i.MX6 board, in the order in which it is looked at: edges, pulses, floods, outputs, the I2C bus.
//!
//! Each check leaves the agent running and the outputs off. The checks look from outside: what the server was told, what
//! the controller's registers say, what the kernel counted.

use super::Sabrelite;
use crate::report::Check;
use crate::support::wait_for;
use std::time::{Duration, Instant};

/// The lines of `config.toml` on their controller.
const DOOR: u32 = 6;
const BUTTON: u32 = 7;
const RAIN: u32 = 8;
const METER: u32 = 9;
const LAMP: u32 = 10;
const PUMP: u32 = 11;
const VALVE: u32 = 12;

/// How long a line is flooded with edges.
const FLOOD: Duration = Duration::from_secs(3);

/// All of them.
pub const CHECKS: &[Check<Sabrelite>] = &[
    ("edges from outside are published at once", edges),
    ("a bounce is swallowed, the level that stands is published", bounce),
    ("every pulse is counted, the shortest too", pulses),
    ("totals outlive a restart of the agent", totals),
    ("a flood of edges delays nothing else and ends on the true level", flood),
    ("commands drive their lines", commands),
    ("a line keeps its level when its file is closed", closed_lines),
    ("a sensor is read over the i.MX's own I2C controller", sensor),
    ("an address that answers nobody times out, as the controller tells it", absent_chip),
    ("an absent bus and a line held by the kernel are named", named_faults),
];

fn edges(board: &mut Sabrelite) {
    board.hear("door", "OFF");
    for (high, state) in [(true, "ON"), (false, "OFF"), (true, "ON"), (false, "OFF")] {
        board.inbox.clear();
        let begun = Instant::now();
        board.drive(DOOR, high);
        board.hear("door", state);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?} from edge to message", begun.elapsed());
    }
}

/// Active low: the line starts low, so ON.
fn bounce(board: &mut Sabrelite) {
    board.drive(BUTTON, true);
    board.settles_on("button", "OFF");
    board.inbox.clear();
    for high in [false, true, false, true, false, true] {
        board.drive(BUTTON, high);
        board.settle(BUTTON);
    }
    // The door is not debounced: when its message is here, the button's would be, had it been published at once.
    board.drive(DOOR, true);
    board.hear("door", "ON");
    board.drive(DOOR, false);
    board.drive(BUTTON, false);
    board.settles_on("button", "ON");
    assert_eq!(board.heard("button"), ["ON"], "six edges within the bounce, one level that stood");
}

/// A pulse whose two edges are one interrupt is over when the kernel looks at the level.
fn pulses(board: &mut Sabrelite) {
    let mut expected = [RAIN, METER].map(|line| (line, board.total(name(line))));
    for short in [false, true] {
        for _ in 0..50 {
            for (line, total) in &mut expected {
                board.pulse(*line, short);
                *total += 1;
            }
        }
        for (line, total) in expected {
            board.settles_on(name(line), &total.to_string());
        }
    }
}

fn totals(board: &mut Sabrelite) {
    let (rain, meter) = (board.total("rain"), board.total("meter"));
    board.end_agent("TERM");
    // Nobody counts these two.
    board.drive(RAIN, true);
    board.drive(RAIN, false);
    board.start_agent();
    board.hear("rain", &rain.to_string());
    board.hear("meter", &meter.to_string());
    board.pulse(RAIN, false);
    board.settles_on("rain", &(rain + 1).to_string());
    assert_eq!(board.heard("meter"), [meter.to_string()]);
}

/// A busy machine takes the processor from the emulated board as well, with a flood or without, but not every time.
fn flood(board: &mut Sabrelite) {
    let undelayed = |board: &mut Sabrelite| {
        let calm = board.ticks(|_| std::thread::sleep(Duration::from_millis(10)));
        2 * flooded(board, calm) >= calm
    };
    assert!((0..4).any(|_| undelayed(board)), "readings wait");
}

/// Floods an input and a counter; gives how many readings came meanwhile, of which `calm` come without.
fn flooded(board: &mut Sabrelite, calm: usize) -> usize {
    let (memory, interrupts, total) = (board.memory(), board.interrupts(METER), board.total("meter"));
    let (begun, mut command, mut lamp_on, mut high) = (Instant::now(), None, None, false);
    let readings = board.ticks(|board| {
        high = !high;
        board.drive(DOOR, high);
        board.drive(METER, high);
        if command.is_none() && begun.elapsed() > FLOOD / 3 {
            command = Some((Instant::now(), board.command_meanwhile("lamp", "ON")));
        }
        if lamp_on.is_none() && board.driven(LAMP) == Some(true) {
            lamp_on = Some(Instant::now());
        }
    });
    let (sent, mut publisher) = command.expect("a flood long enough for a command");
    publisher.wait().expect("mosquitto_pub");
    let lamp_took = lamp_on.map(|on| on - sent);
    board.drive(DOOR, true);
    board.drive(METER, false);
    board.settle(METER);
    board.settles_on("door", "ON");
    board.drive(DOOR, false);
    board.command("lamp", "OFF");
    board.reaches(LAMP, false);
    let interrupts = board.interrupts(METER) - interrupts;
    let grown = board.memory().saturating_sub(memory);
    println!(
        "    {interrupts} interrupts, {readings} readings ({calm} without), lamp after {lamp_took:?}, {grown} KiB more"
    );
    assert!(interrupts > 50, "no flood");
    board.settles_on("meter", &(total + interrupts).to_string());
    assert!(lamp_took.is_some_and(|took| took < FLOOD / 3), "commands wait");
    assert!(grown <= 512, "memory grows");
    readings
}

fn commands(board: &mut Sabrelite) {
    assert_eq!([LAMP, PUMP, VALVE].map(|line| board.driven(line)), [Some(false), Some(true), Some(false)]);
    for (output, line, on) in [("lamp", LAMP, true), ("pump", PUMP, false)] {
        board.command(output, "ON");
        board.reaches(line, on);
        board.settles_on(output, "ON");
        board.command(output, "OFF");
        board.reaches(line, !on);
        board.settles_on(output, "OFF");
    }
}

/// After a crash, after `safe`, after a clean stop.
fn closed_lines(board: &mut Sabrelite) {
    let lines = |board: &mut Sabrelite| [LAMP, PUMP, VALVE].map(|line| board.driven(line));
    let all_on = |board: &mut Sabrelite| {
        for (output, line, on) in [("lamp", LAMP, true), ("pump", PUMP, false), ("valve", VALVE, true)] {
            board.command(output, "ON");
            board.reaches(line, on);
        }
    };
    all_on(board);
    board.end_agent("KILL");
    assert_eq!(lines(board), [Some(true), Some(false), Some(true)], "driven as the killed agent left them");
    board.guest(&format!("{} safe", super::AGENT));
    assert_eq!(lines(board), [Some(false), Some(true), Some(false)], "driven as `safe` left them");
    board.start_agent();
    all_on(board);
    board.end_agent("TERM");
    assert_eq!(lines(board), [Some(false), Some(true), Some(true)], "on_exit: safe, safe, keep");
    board.start_agent();
    board.reaches(VALVE, false);
}

fn sensor(board: &mut Sabrelite) {
    for (millidegrees, reading) in
        [(-40_000, "-40.00"), (-500, "-0.50"), (0, "0.00"), (125_000, "125.00"), (21_000, "21.00")]
    {
        board.qemu.set("roof", "temperature", millidegrees);
        board.settles_on("roof/temperature", reading);
    }
}

/// The model of the controller raises no interrupt where nobody acknowledges, so the driver waits in vain; on the silicon
/// it is `nack`. The adapter takes the time-out it is asked for (and ignores it: a tenth of a second a byte is its own).
fn absent_chip(board: &mut Sabrelite) {
    let kernel = board.guest("i2cget -y 0 0x4d");
    assert!(kernel.contains("timed out"), "{kernel}");
    let failing = board.health("nobody");
    assert_eq!((&failing["state"], &failing["reason"]), (&"failing".into(), &"timeout".into()), "{failing}");
    assert_eq!(board.health("roof")["state"], "ok");
    assert!(!board.guest("cat /tmp/log").contains("keeps its own time-out"));
}

fn named_faults(board: &mut Sabrelite) {
    assert_eq!(board.health("elsewhere")["reason"], "absent");
    let log = board.guest("cat /tmp/log");
    let told = |input: &str, word: &str| log.lines().any(|line| line.contains(input) && line.contains(word));
    assert!(told("sensor=elsewhere", "/dev/i2c-0"), "the buses there are");
    assert!(told("input=reset", "busy") && told("input=reset", "held by phy-reset"), "who holds the line");
}

impl Sabrelite {
    /// How many readings that are due every 100 ms come in [`FLOOD`] while something is done again and again.
    fn ticks(&mut self, mut deed: impl FnMut(&mut Self)) -> usize {
        let (begun, before) = (Instant::now(), self.heard("ticks/count").len());
        while begun.elapsed() < FLOOD {
            deed(self);
        }
        self.heard("ticks/count").len() - before
    }

    /// The agent's resident memory in KiB.
    fn memory(&self) -> u64 {
        number(&self.guest("awk '/^VmRSS/ { print $2 }' /proc/$(pidof board2mqtt)/status"))
    }

    /// How many interrupts of a line the kernel has taken.
    fn interrupts(&self, line: u32) -> u64 {
        number(&self.guest(&format!("awk '/gpio-mxc *{line} .*board2mqtt/ {{ print $2 }}' /proc/interrupts")))
    }

    /// The newest total of a counter.
    fn total(&self, input: &str) -> u64 {
        let topic = format!("board2mqtt/sabre/{input}");
        number(&wait_for(&format!("a total of {input}"), || self.server.retained(&topic)))
    }

    /// Drives a counter's line up and down; a short pulse is over before the kernel has dealt with its beginning.
    fn pulse(&mut self, line: u32, short: bool) {
        self.drive(line, true);
        if !short {
            self.settle(line);
        }
        self.drive(line, false);
        self.settle(line);
    }

    /// The newest health of a sensor.
    fn health(&self, sensor: &str) -> serde_json::Value {
        let topic = format!("board2mqtt/sabre/{sensor}/health");
        let text = wait_for(&format!("the health of {sensor}"), || self.server.retained(&topic));
        serde_json::from_str(&text).expect("JSON")
    }
}

/// The counter on a line.
fn name(line: u32) -> &'static str {
    if line == RAIN { "rain" } else { "meter" }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}
