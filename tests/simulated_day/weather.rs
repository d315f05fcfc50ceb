//! What goes wrong, for how long, and what somebody commands meanwhile: all of it at random.

use super::{Day, Source};
use crate::support::server::Mood;
use board2mqtt::board::simulated::{Fault, Weather};
use board2mqtt::clock::{Clock, Instant, Wall};
use board2mqtt::publish::Link;
use std::path::PathBuf;
use std::time::Duration;

const BUSES: [&str; 3] = ["/dev/i2c-1", "/dev/i2c-2", "/dev/i2c-3"];
const DRONE: &str = "sensors/drone01/altitude";
const QNH: &str = "weather/qnh";
/// Outputs that are commanded, by index; the heater and the fan are left to their rules.
const COMMANDED: [usize; 5] = [0, 3, 4, 5, 6];

/// How something ends.
#[derive(Clone, Debug, PartialEq)]
enum End {
    Chip(String),
    Bus(PathBuf),
    Hang(usize),
    Line(String),
    Mood,
    Server,
}

/// What goes wrong now, and until when.
#[derive(Default)]
pub struct Trouble(Vec<(Instant, End)>);

impl Trouble {
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(at, _)| *at).min()
    }
}

impl Day {
    fn until(&mut self, longest_s: u64, end: End) -> Instant {
        let at = self.rig.clock.now() + Duration::from_millis(self.random.u64(500..longest_s * 1000));
        self.trouble.0.retain(|(_, other)| *other != end);
        self.trouble.0.push((at, end));
        at
    }

    pub fn lift(&mut self) {
        let now = self.rig.clock.now();
        while let Some(place) = self.trouble.0.iter().position(|(at, _)| *at <= now) {
            let (_, end) = self.trouble.0.remove(place);
            self.end(end);
        }
    }

    pub fn lift_all(&mut self) {
        for (_, end) in std::mem::take(&mut self.trouble.0) {
            self.end(end);
        }
        self.rig.server.retained.retain(|topic, _| !topic.ends_with("/set"));
        let mild = Weather { pressure_hpa: 1013.25, temperature_c: 60.0, humidity_percent: 40.0 };
        self.rig.control.set_weather("flue", Some(mild)).expect("a sensor");
    }

    fn end(&mut self, end: End) {
        match end {
            End::Chip(sensor) => self.rig.control.set_fault(&sensor, None).expect("a sensor"),
            End::Bus(bus) => self.rig.control.set_bus_fault(&bus, None),
            End::Hang(sensor) => self.rig.hang(sensor, false),
            End::Line(line) => self.rig.control.fail_output(&line, false),
            End::Mood => {
                self.rig.server.set_mood(Mood::Healthy);
                // The session has given up on it meanwhile, and tries again.
                if !self.trouble.0.iter().any(|(_, end)| *end == End::Server) {
                    self.connect();
                }
            }
            End::Server => self.connect(),
        }
    }

    /// One thing happens.
    pub fn happen(&mut self) {
        match self.random.u8(0..34) {
            0..=3 => self.break_a_chip(),
            4 => {
                let bus = PathBuf::from(BUSES[self.random.usize(0..BUSES.len())]);
                let fault = self.fault();
                self.rig.control.set_bus_fault(&bus, Some(fault));
                self.until(60, End::Bus(bus));
            }
            5 => {
                let sensor = self.random.usize(0..self.rig.plan().sensors.len());
                self.until(90, End::Hang(sensor));
                self.rig.hang(sensor, true);
            }
            6..=8 => self.change_the_weather(),
            9 | 10 => self.move_the_door(),
            11 | 12 => self.rain(),
            13 => self.lose_the_server(),
            14 | 15 => {
                let moods = [Mood::Reorders, Mood::WithholdsAcks, Mood::Silent];
                self.rig.server.set_mood(moods[self.random.usize(0..3)]);
                self.until(100, End::Mood);
            }
            16..=22 => self.command(),
            23 => self.keep_a_command(),
            24 => self.step_the_clock(),
            25 => self.fail_a_line(),
            26 | 27 => self.tell_a_source(),
            28 => self.contradict(),
            29..=32 => self.reload(),
            _ => {
                let topic = self.rig.plan().get_topic.clone().expect("a topic");
                let payload: &[u8] = if self.random.bool() { b"calibrate" } else { b"" };
                self.rig.message(&topic, payload);
            }
        }
        self.watch();
    }

    fn fault(&mut self) -> Fault {
        match self.random.u8(0..6) {
            0 | 1 => Fault::Nack,
            2 => Fault::Bus,
            3 => Fault::Skipped,
            _ => Fault::Garbage([0x00, 0xff, 0x80, 0x55][self.random.usize(0..4)]),
        }
    }

    fn break_a_chip(&mut self) {
        let sensors = &self.rig.plan().sensors;
        let on_a_bus: Vec<String> = sensors.iter().filter(|s| s.place.is_some()).map(|s| s.name.clone()).collect();
        let sensor = on_a_bus[self.random.usize(0..on_a_bus.len())].clone();
        let fault = self.fault();
        self.rig.control.set_fault(&sensor, Some(fault)).expect("a sensor");
        self.until(300, End::Chip(sensor));
    }

    fn change_the_weather(&mut self) {
        let hot = self.random.f64();
        let weathers = [
            ("flue", -60.0 + 230.0 * hot),
            ("flue", 60.0),
            ("bench", 2.0 + 14.0 * hot),
            ("roof", 15.0 + 25.0 * hot),
            ("mast", -20.0 + 50.0 * hot),
            ("attic", -20.0 + 60.0 * hot),
        ];
        let (sensor, temperature_c) = weathers[self.random.usize(0..weathers.len())];
        let pressure_hpa = 940.0 + 100.0 * self.random.f64();
        let weather = Weather { pressure_hpa, temperature_c, humidity_percent: 100.0 * self.random.f64() };
        self.rig.control.set_weather(sensor, Some(weather)).expect("a sensor");
    }

    /// To a level with bounces a millisecond apart, shorter than any debouncing.
    fn contact(&mut self, input: &str, on: bool) {
        for _ in 0..self.random.u8(0..4) {
            for level in [on, !on] {
                self.rig.input(input, level);
                self.pass(Duration::from_millis(1));
            }
        }
        self.rig.input(input, on);
        self.pass(Duration::from_millis(200));
    }

    fn move_the_door(&mut self) {
        self.door = !self.door;
        self.contact("door", self.door);
    }

    fn rain(&mut self) {
        for _ in 0..self.random.u64(1..20) {
            self.contact("rain", true);
            self.contact("rain", false);
            self.tips += 1;
        }
    }

    fn lose_the_server(&mut self) {
        if !self.trouble.0.iter().any(|(_, end)| *end == End::Server) {
            let seconds = self.random.u64(1..240);
            self.lose_the_server_for(Duration::from_secs(seconds));
        }
    }

    pub fn lose_the_server_for(&mut self, duration: Duration) {
        self.rig.disconnect();
        self.watch();
        self.trouble.0.push((self.rig.clock.now() + duration, End::Server));
    }

    fn command(&mut self) {
        let output = COMMANDED[self.random.usize(0..COMMANDED.len())];
        let now = self.rig.clock.now();
        let wall = self.rig.clock.wall();
        let date = |seconds: i64| {
            wall.map_or_else(|| "2026-03-01T00:00:00Z".to_owned(), |w| Wall(w.0 + seconds * 1000).to_string())
        };
        let in_time = format!(r#"{{"state":"ON","id":7,"expires":"{}"}}"#, date(60));
        let late = format!(r#"{{"state":"ON","expires":"{}"}}"#, date(-1));
        // What is said, and whether it may switch something on.
        let commands: [(&str, bool); 22] = [
            ("ON", true),
            ("on", true),
            ("true", true),
            ("TOGGLE", true),
            (r#"{"state":"ON","for":"20s"}"#, true),
            (r#"{"state":"ON","for":"50s","id":"x"}"#, true),
            (&in_time, wall.is_some()),
            (r#"{"level":40,"for":"1m"}"#, output == 6),
            ("70", output == 6),
            ("OFF", false),
            ("0", false),
            ("AUTO", false),
            (r#"{"state":"OFF","for":"3h"}"#, false),
            (&late, false),
            (r#"{"state":"ON","for":"0s"}"#, false),
            (r#"{"state":"ON","for":"1 year"}"#, false),
            ("nan", false),
            ("1e999", false),
            ("-1", false),
            ("\u{1f525}", false),
            (r#"{"state":"ON","states":"ON"}"#, false),
            ("{\"state\":\"ON\"", false),
        ];
        let (payload, may_switch_on) = commands[self.random.usize(0..commands.len())];
        let hears = self.rig.server.is_connected() && self.rig.server.mood() != Mood::Silent;
        if may_switch_on && hears {
            self.judge.commanded(output, now);
        }
        let (set, reply) = {
            let output = &self.rig.plan().outputs[output];
            (output.set.clone(), output.reply.clone().expect("a topic"))
        };
        self.watch();
        self.rig.message(&set, payload.as_bytes());
        let replies = self.rig.server.arrived.iter().filter(|message| message.topic == reply).count();
        assert_eq!(replies, usize::from(hears), "replies to {payload}");
    }

    fn keep_a_command(&mut self) {
        let set = self.rig.plan().outputs[COMMANDED[self.random.usize(0..5)]].set.clone();
        self.rig.server.retained.insert(set, b"ON".to_vec());
        self.rig.server.retained.insert(DRONE.to_owned(), b"500".to_vec());
        self.rig.server.retained.insert(QNH.to_owned(), b"1000".to_vec());
    }

    fn step_the_clock(&mut self) {
        let wall = match self.random.u8(0..4) {
            0 => None,
            1 => Some(Wall(self.rig.clock.wall().map_or(1_800_000_000_123, |wall| wall.0 - 3_600_001))),
            _ => Some(Wall(1_790_000_000_000 + self.random.i64(0..100_000_000_000))),
        };
        self.rig.clock.set_wall(wall);
        self.rig.core().clock_set();
    }

    fn fail_a_line(&mut self) {
        let output = self.random.usize(0..self.rig.plan().outputs.len());
        let line = self.rig.plan().outputs[output].spec.drive.to_string();
        self.rig.control.fail_output(&line, true);
        let until = self.until(30, End::Line(line));
        self.judge.excuse(output, until);
    }

    fn tell_a_source(&mut self) {
        let hears = self.rig.server.is_connected() && self.rig.server.mood() != Mood::Silent;
        let feet = [350.0, 379.0, 390.0, 401.0, 450.0][self.random.usize(0..5)];
        let now = self.rig.clock.now();
        if self.random.bool() {
            self.rig.message(DRONE, format!("{feet} feet").as_bytes());
            if hears {
                let plan = self.rig.plan();
                let source = plan.sources.iter().find(|s| matches!(s, Source::Topic { topic, .. } if topic == DRONE));
                let source = source.expect("a source").clone();
                self.judge.value(&source, feet, now);
            }
        } else {
            let payloads: [&[u8]; 6] = [b"1020", b"29.9 inHg", b"", b"inf", b"20 C", b"5"];
            self.rig.message(QNH, payloads[self.random.usize(0..6)]);
        }
    }

    /// A second agent with our name dies.
    fn contradict(&mut self) {
        let topic = self.rig.plan().status_topic.clone();
        if self.rig.server.is_connected() && self.rig.server.mood() != Mood::Silent {
            self.rig.server.retained.insert(topic.clone(), b"offline".to_vec());
            self.rig.message(&topic, b"offline");
        }
    }
}
