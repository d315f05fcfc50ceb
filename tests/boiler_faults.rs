//! The boiler of `configs/boiler.toml`, as shipped: whatever single thing goes wrong while its relay is on, the relay goes off
//! within the time that file promises, and nothing but a new command in order switches it on again.
//!
//! `cargo nextest run --test boiler_faults --no-capture` prints the table of faults with the time each took.

mod support;

use board2mqtt::board::simulated::{Fault as Chip, Weather};
use board2mqtt::clock::{Clock, Instant, Wall};
use board2mqtt::outputs::SafeTable;
use board2mqtt::publish::Link;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::rig::{Rig, START};
use support::server::Mood;

const RELAY: &str = "GPIO17";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// `require`'s `stale_after`.
const STALE: Duration = Duration::from_secs(10);
/// The flue's `interval`.
const INTERVAL: Duration = Duration::from_secs(2);
/// `on_server_loss`.
const LOSS: Duration = Duration::from_secs(30);
/// `renew_within`.
const RENEWAL: Duration = Duration::from_secs(300);
/// `max_on`.
const MAX_ON: Duration = Duration::from_secs(3600);
/// `min_off`.
const MIN_OFF: Duration = Duration::from_secs(180);
/// The session notices a half-open connection after one and a half keep-alives.
const SILENCE: Duration = Duration::from_secs(15);
/// The session gives up on a server that acks nothing.
const ACKS: Duration = Duration::from_secs(30);

struct Boiler {
    rig: Rig,
    set: String,
    /// Whether the controller elsewhere wants heat: it repeats ON once a minute.
    heats: bool,
    next_command: Instant,
}

fn configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/boiler.toml")
}

impl Boiler {
    fn new() -> Self {
        let rig = Rig::new(&configuration(), 1);
        let set = rig.plan().outputs[0].set.clone();
        let next_command = rig.clock.now();
        let mut boiler = Self { rig, set, heats: false, next_command };
        boiler.flue(60.0);
        boiler
    }

    /// Connected, with a warm flue, and for some minutes on at the controller's wish.
    fn burning() -> Self {
        let mut boiler = Self::new();
        boiler.rig.connect();
        boiler.pass(4 * SECOND);
        boiler.heats = true;
        boiler.pass(10 * MINUTE);
        boiler.command("ON");
        assert!(boiler.is_on(), "it does not even burn");
        boiler
    }

    fn is_on(&self) -> bool {
        self.rig.control.is_high(RELAY).expect("the relay is driven")
    }

    fn flue(&mut self, temperature_c: f64) {
        let weather = Weather { pressure_hpa: 1013.25, temperature_c, humidity_percent: 40.0 };
        self.rig.control.set_weather("flue", Some(weather)).expect("a sensor");
    }

    fn chip(&mut self, fault: impl Into<Option<Chip>>) {
        self.rig.control.set_fault("flue", fault.into()).expect("a sensor");
    }

    fn command(&mut self, payload: &str) {
        let topic = self.set.clone();
        self.rig.message(&topic, payload.as_bytes());
    }

    fn step(&mut self, end: Instant) {
        let now = self.rig.clock.now();
        if self.heats && now >= self.next_command {
            self.command("ON");
            self.next_command = now + MINUTE;
        }
        self.rig.step(if self.heats { end.min(self.next_command) } else { end });
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.rig.clock.now() + duration;
        while self.rig.clock.now() < end {
            self.step(end);
        }
    }

    /// Lets time pass and asserts all along that the relay is off.
    fn stays_off(&mut self, duration: Duration, fault: &Fault, while_what: &str) {
        let end = self.rig.clock.now() + duration;
        while self.rig.clock.now() < end {
            self.step(end.min(self.rig.clock.now() + SECOND));
            (fault.meanwhile)(self);
            assert!(!self.is_on(), "{}: on again {while_what}", fault.name);
        }
    }

    /// The time from now until the relay is off.
    fn until_off(&mut self, fault: &Fault) -> Duration {
        let begun = self.rig.clock.now();
        while self.is_on() {
            let gone = self.rig.clock.now().since(begun);
            assert!(gone < fault.within, "{}: still on after {gone:?}, promised {:?}", fault.name, fault.within);
            (fault.meanwhile)(self);
            self.step((begun + fault.within).min(self.rig.clock.now() + SECOND));
        }
        self.rig.clock.now().since(begun)
    }

    fn restarted(&mut self) {
        self.rig.kill();
        self.rig.restart();
    }
}

/// One fault.
struct Fault {
    name: &'static str,
    /// The relay is off after this long at the latest.
    within: Duration,
    /// Whether the controller goes on asking for heat.
    heats: bool,
    /// While it lasts no command switches the relay on.
    forbids: bool,
    inject: fn(&mut Boiler),
    /// What goes on during it, about once a second.
    meanwhile: fn(&mut Boiler),
    lift: fn(&mut Boiler),
}

const FAULT: Fault = Fault {
    name: "",
    within: Duration::ZERO,
    heats: true,
    forbids: true,
    inject: |_| {},
    meanwhile: |_| {},
    lift: |_| {},
};

/// A chip that gives no temperature: the last one counts until it is stale.
const fn blind(name: &'static str, inject: fn(&mut Boiler)) -> Fault {
    Fault { name, within: STALE, inject, lift: |boiler| boiler.chip(None), ..FAULT }
}

/// Nothing that could be called a repetition of ON.
const fn unrenewed(name: &'static str, inject: fn(&mut Boiler), meanwhile: fn(&mut Boiler)) -> Fault {
    Fault { name, within: RENEWAL, heats: false, inject, meanwhile, ..FAULT }
}

const FAULTS: &[Fault] = &[
    blind("the flue sensor does not answer", |boiler| boiler.chip(Chip::Nack)),
    blind("arbitration is lost at the flue sensor", |boiler| boiler.chip(Chip::Bus)),
    blind("the flue sensor skips its measurements", |boiler| boiler.chip(Chip::Skipped)),
    blind("the flue sensor reads 0xff", |boiler| boiler.chip(Chip::Garbage(0xff))),
    blind("the flue sensor reads 0x00", |boiler| boiler.chip(Chip::Garbage(0x00))),
    blind("the flue sensor reads 0x55", |boiler| boiler.chip(Chip::Garbage(0x55))),
    blind("the flue sensor reads 0x80", |boiler| boiler.chip(Chip::Garbage(0x80))),
    Fault {
        lift: |boiler| boiler.rig.control.set_bus_fault(Path::new("/dev/i2c-1"), None),
        ..blind("the whole bus is down", |boiler| {
            boiler.rig.control.set_bus_fault(Path::new("/dev/i2c-1"), Some(Chip::Bus));
        })
    },
    Fault {
        lift: |boiler| boiler.rig.hang(0, false),
        ..blind("a read of the flue sensor never ends", |boiler| boiler.rig.hang(0, true))
    },
    Fault {
        lift: |boiler| boiler.flue(60.0),
        ..blind("the flue sensor tells 155 °C, which cannot be", |boiler| boiler.flue(155.0))
    },
    Fault {
        lift: |boiler| boiler.flue(60.0),
        ..blind("the flue sensor tells −45 °C, which cannot be", |boiler| boiler.flue(-45.0))
    },
    Fault {
        name: "the flue is too hot",
        within: INTERVAL,
        inject: |boiler| boiler.flue(95.0),
        lift: |boiler| boiler.flue(60.0),
        ..FAULT
    },
    Fault {
        name: "the flue is at its limit exactly",
        within: INTERVAL,
        inject: |boiler| boiler.flue(90.0),
        lift: |boiler| boiler.flue(60.0),
        ..FAULT
    },
    Fault {
        name: "the flue sensor tells the same for ever",
        within: MAX_ON,
        forbids: false,
        inject: |boiler| boiler.flue(60.0),
        ..FAULT
    },
    Fault {
        name: "the server is lost",
        within: LOSS,
        inject: |boiler| boiler.rig.disconnect(),
        lift: |boiler| boiler.rig.connect(),
        ..FAULT
    },
    Fault {
        name: "the connection is half open",
        within: SILENCE.saturating_add(LOSS),
        inject: |boiler| boiler.rig.server.set_mood(Mood::Silent),
        lift: |boiler| {
            boiler.rig.server.set_mood(Mood::Healthy);
            boiler.rig.connect();
        },
        ..FAULT
    },
    Fault {
        name: "the server acks nothing",
        // The next reading, at the latest, is what it does not ack.
        within: INTERVAL.saturating_add(ACKS).saturating_add(LOSS),
        inject: |boiler| boiler.rig.server.set_mood(Mood::WithholdsAcks),
        lift: |boiler| {
            boiler.rig.server.set_mood(Mood::Healthy);
            boiler.rig.connect();
        },
        ..FAULT
    },
    Fault {
        name: "the server acks nothing and lets us in again each time",
        within: INTERVAL.saturating_add(ACKS).saturating_add(LOSS),
        heats: false,
        inject: |boiler| boiler.rig.server.set_mood(Mood::WithholdsAcks),
        meanwhile: |boiler| {
            if !boiler.rig.server.is_connected() {
                boiler.rig.connect();
            }
        },
        lift: |boiler| {
            boiler.rig.server.set_mood(Mood::Healthy);
            boiler.rig.disconnect();
            boiler.rig.connect();
        },
        ..FAULT
    },
    Fault {
        meanwhile: |boiler| {
            boiler.rig.disconnect();
            boiler.rig.connect();
        },
        ..unrenewed("the server comes and goes every second", |_| {}, |_| {})
    },
    unrenewed("the controller is silent", |_| {}, |_| {}),
    unrenewed(
        "an ON the server kept comes with every connect",
        |boiler| {
            let set = boiler.set.clone();
            boiler.rig.server.retained.insert(set, b"ON".to_vec());
        },
        |boiler| {
            boiler.rig.disconnect();
            boiler.rig.connect();
        },
    ),
    unrenewed(
        "an ON past its date is repeated",
        |_| {},
        |boiler| {
            boiler.command(r#"{"state":"ON","expires":"2026-03-01T00:00:00Z"}"#);
        },
    ),
    unrenewed(
        "an ON with a date comes while the date is not known",
        |boiler| boiler.rig.clock.set_wall(None),
        |boiler| {
            boiler.command(r#"{"state":"ON","expires":"2036-03-01T00:00:00Z"}"#);
        },
    ),
    unrenewed(
        "the clock steps back ten years",
        |boiler| boiler.rig.clock.set_wall(Some(Wall(START.0 - 315_360_000_000))),
        |_| {},
    ),
    unrenewed(
        "the clock steps on ten years",
        |boiler| boiler.rig.clock.set_wall(Some(Wall(START.0 + 315_360_000_000))),
        |_| {},
    ),
    unrenewed(
        "nothing but malformed commands come",
        |_| {},
        |boiler| {
            let long = "O".repeat(70_000);
            for payload in
                ["", "on!", "ONN", "\u{0}", "2", "NaN", "inf", "40", "{", r#"{"state":"ON""#, r#"{"state":2}"#, &long]
            {
                boiler.command(payload);
            }
            for payload in
                [r#"{"state":"ON","for":"0s"}"#, r#"{"state":"ON","for":"-5s"}"#, r#"{"state":"ON","for":"2h"}"#]
            {
                boiler.command(payload);
            }
            boiler.command(r#"{"state":"ON","extra":{"state":"ON"},"for":5}"#);
        },
    ),
    unrenewed(
        "only other topics say ON",
        |_| {},
        |boiler| {
            for topic in
                ["board2mqtt/boiler/burner", "board2mqtt/boiler/burner/reply", "board2mqtt/boiler/status", "burner/set"]
            {
                boiler.rig.message(topic, b"ON");
            }
        },
    ),
    Fault { name: "ON is repeated for ever", within: MAX_ON, forbids: false, ..FAULT },
    Fault {
        name: "its time is over",
        within: Duration::from_secs(10),
        heats: false,
        inject: |boiler| boiler.command(r#"{"state":"ON","for":"10s"}"#),
        ..FAULT
    },
    Fault {
        name: "OFF, but the line cannot be driven once",
        within: SECOND,
        heats: false,
        inject: |boiler| {
            boiler.rig.control.fail_output(RELAY, true);
            boiler.command("OFF");
            boiler.rig.control.fail_output(RELAY, false);
        },
        ..FAULT
    },
    Fault {
        name: "OFF, but the line cannot be driven for ten minutes",
        within: MINUTE,
        heats: false,
        inject: |boiler| {
            boiler.rig.control.fail_output(RELAY, true);
            boiler.command("OFF");
            boiler.pass(10 * MINUTE);
            boiler.rig.control.fail_output(RELAY, false);
        },
        ..FAULT
    },
    Fault {
        name: "the flue is too hot, and the line cannot be driven once",
        within: INTERVAL.saturating_add(SECOND),
        inject: |boiler| {
            boiler.rig.control.fail_output(RELAY, true);
            boiler.flue(95.0);
            boiler.pass(INTERVAL);
            boiler.rig.control.fail_output(RELAY, false);
        },
        lift: |boiler| boiler.flue(60.0),
        ..FAULT
    },
    Fault {
        name: "the agent is told to stop",
        inject: |boiler| boiler.rig.stop(),
        lift: |boiler| {
            boiler.rig.restart();
            boiler.rig.connect();
        },
        ..FAULT
    },
    Fault {
        name: "the agent is killed and `safe` is run",
        inject: |boiler| {
            let specs: Vec<_> = boiler.rig.plan().outputs.iter().map(|output| output.spec.clone()).collect();
            let table = SafeTable::of(&specs, &*boiler.rig.board).to_json();
            boiler.rig.kill();
            assert!(boiler.is_on(), "a line that is let go stays as it is, the worst that may happen");
            let table = SafeTable::from_json(&table).expect("its own table");
            assert!(table.apply(&*boiler.rig.board).iter().all(|applied| applied.line.is_ok()));
        },
        lift: |boiler| {
            boiler.rig.restart();
            boiler.rig.connect();
        },
        ..FAULT
    },
    Fault {
        name: "the agent is killed and started again",
        heats: false,
        inject: Boiler::restarted,
        lift: |b| b.rig.connect(),
        ..FAULT
    },
    Fault {
        name: "the agent is started again while the flue sensor is dead",
        inject: |boiler| {
            boiler.chip(Chip::Nack);
            boiler.restarted();
            boiler.rig.connect();
        },
        lift: |boiler| boiler.chip(None),
        ..FAULT
    },
    Fault {
        name: "the agent is started again and the server kept an ON",
        heats: false,
        inject: |boiler| {
            let set = boiler.set.clone();
            boiler.rig.server.retained.insert(set, b"ON".to_vec());
            boiler.restarted();
            boiler.rig.connect();
        },
        ..FAULT
    },
    Fault {
        name: "the agent is started again in 1970",
        heats: false,
        inject: |boiler| {
            boiler.rig.clock.set_wall(None);
            boiler.restarted();
            boiler.rig.connect();
        },
        ..FAULT
    },
];

#[test]
fn the_relay_is_off_after_every_single_fault_and_only_a_new_command_switches_it_on() {
    println!("{:64}  {:>9}  {:>9}", "fault", "promised", "off after");
    for fault in FAULTS {
        let mut boiler = Boiler::burning();
        boiler.heats = fault.heats;
        (fault.inject)(&mut boiler);
        let took = boiler.until_off(fault);
        println!("{:64}  {:>8.1}s  {:>8.1}s", fault.name, fault.within.as_secs_f64(), took.as_secs_f64());
        boiler.heats &= fault.forbids;
        boiler.stays_off(10 * MINUTE, fault, "while it lasts");
        boiler.heats = false;
        (fault.lift)(&mut boiler);
        boiler.stays_off(10 * MINUTE, &FAULT, "after it");
        boiler.command("ON");
        assert!(boiler.is_on(), "{}: a new command is not carried out", fault.name);
    }
}

#[test]
fn no_restart_cuts_the_purge_short() {
    for (off_before, in_order) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut boiler = Boiler::burning();
        if off_before {
            boiler.command("OFF");
            boiler.pass(SECOND);
        }
        if in_order {
            boiler.rig.stop()
        } else {
            boiler.rig.kill()
        }
        boiler.rig.restart();
        boiler.rig.connect();
        let started = boiler.rig.clock.now();
        while !boiler.is_on() {
            boiler.step(started + MAX_ON);
        }
        let rest = boiler.rig.clock.now().since(started);
        assert!(
            rest >= MIN_OFF && rest <= MIN_OFF + MINUTE,
            "{rest:?}, off before: {off_before}, in order: {in_order}"
        );
    }
}

#[test]
fn without_a_fault_the_relay_stays_on() {
    let mut boiler = Boiler::burning();
    let end = boiler.rig.clock.now() + 45 * MINUTE;
    while boiler.rig.clock.now() < end {
        boiler.step(end);
        assert!(boiler.is_on());
    }
}

#[test]
fn the_relay_is_never_on_before_a_command_and_a_flue_temperature() {
    let mut boiler = Boiler::new();
    boiler.chip(Chip::Nack);
    boiler.restarted();
    boiler.rig.connect();
    boiler.heats = true;
    boiler.stays_off(10 * MINUTE, &FAULT, "without a temperature");
    boiler.heats = false;
    boiler.chip(None);
    boiler.stays_off(10 * MINUTE, &FAULT, "without a command");
    boiler.command("ON");
    assert!(boiler.is_on());
    let writes = boiler.rig.writes.lock().expect("a list");
    let on = writes.iter().filter(|write| write.level.is_some_and(board2mqtt::line::Level::is_on)).count();
    assert_eq!(on, 1, "{writes:?}");
}

#[test]
fn after_an_hour_the_burner_rests_and_purges_before_a_command_lights_it_again() {
    let mut boiler = Boiler::burning();
    let lit = boiler.rig.clock.now();
    while boiler.is_on() {
        boiler.step(lit + 2 * MAX_ON);
    }
    let off = boiler.rig.clock.now();
    while !boiler.is_on() {
        boiler.step(lit + 2 * MAX_ON);
    }
    let rest = boiler.rig.clock.now().since(off);
    assert!(rest >= MIN_OFF && rest <= MIN_OFF + MINUTE, "{rest:?}");
}
