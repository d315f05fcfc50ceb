//! A script that has met its board: names resolved, the air as functions of time, all else as a list of deeds in order.
//! Pure; time is an argument.

use super::Parts;
use super::air::{FLIGHT, Tracks};
use super::bus::Fault;
use super::script::{Name, Script, ScriptError, Target, What};
use crate::board::nearest::did_you_mean;
use std::path::PathBuf;
use std::time::Duration;

/// Between two flips of a bouncing contact.
const BOUNCE: Duration = Duration::from_millis(1);
/// How long an input stays on in the flight that is played without a script.
const PRESSED: Duration = Duration::from_secs(4);

/// What happens on a board.
#[derive(Default)]
pub(super) struct Schedule {
    /// The air by sensor; `None` plays the flight.
    pub(super) air: Option<Vec<Tracks>>,
    /// When the air starts over.
    pub(super) repeat: Option<Duration>,
    /// In the order of their times.
    pub(super) deeds: Vec<Deed>,
}

/// Something that must happen at a time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Deed {
    /// Since the start of the lap.
    pub(super) at: Duration,
    pub(super) act: Act,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// A fault begins, or ends.
    Fault(Place, Option<Fault>),
    /// A bus's adapter is unplugged and another plugged in.
    Replug(PathBuf),
    /// An input (by index) takes a logical level.
    Level(usize, bool),
    /// The next lap begins.
    StartOver,
}

/// What a fault befalls.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// By index.
    Sensor(usize),
    Bus(PathBuf),
}

/// The schedule of a board without a script: a flight, and each input on for a few seconds once a lap.
pub(super) fn flight(parts: &Parts) -> Schedule {
    let lap = Duration::from_secs_f64(FLIGHT);
    let mut schedule = Schedule { repeat: Some(lap), ..Schedule::default() };
    for input in 0..parts.inputs.len() {
        let at = Duration::from_secs((10 + 17 * input as u64) % 80);
        schedule.deeds.push(Deed { at, act: Act::Level(input, true) });
        schedule.deeds.push(Deed { at: at + PRESSED, act: Act::Level(input, false) });
    }
    schedule.finish()
}

/// The schedule of a script on a board.
///
/// # Errors
/// A sensor, bus or input that the board does not have.
pub(super) fn compile(script: &Script, parts: &Parts) -> Result<Schedule, ScriptError> {
    let names = Names { script, parts };
    let mut air = vec![Tracks::default(); parts.sensors.len()];
    let mut schedule = Schedule { repeat: script.repeat, ..Schedule::default() };
    let mut faults = Vec::new();
    for step in &script.steps {
        match &step.what {
            What::Air { sensor, target, over } => air[names.sensor(sensor)?].push(step.at, *over, *target),
            What::Fault { target, fault, lasts } => {
                faults.push(Spell { at: step.at, place: names.place(target)?, fault: *fault, lasts: *lasts });
            }
            What::Replug { bus } => {
                schedule.deeds.push(Deed { at: step.at, act: Act::Replug(names.bus(bus)?) });
            }
            What::Level { input, on, bounces } => {
                schedule.deeds.extend(flips(step.at, names.input(input)?, *on, *bounces));
            }
        }
    }
    schedule.deeds.extend(spells(&faults));
    schedule.air = Some(air);
    Ok(schedule.finish())
}

impl Schedule {
    /// Sorts the deeds. What a lap would do after its end is dropped, and its faults end with it.
    fn finish(mut self) -> Self {
        self.deeds.sort_by_key(|deed| deed.at);
        let Some(at) = self.repeat else { return self };
        self.deeds.retain(|deed| deed.at < at);
        let mut faulty: Vec<Place> = Vec::new();
        for deed in &self.deeds {
            match &deed.act {
                Act::Fault(place, Some(_)) if !faulty.contains(place) => faulty.push(place.clone()),
                _ => {}
            }
        }
        self.deeds.extend(faulty.into_iter().map(|place| Deed { at, act: Act::Fault(place, None) }));
        if !self.deeds.is_empty() {
            self.deeds.push(Deed { at, act: Act::StartOver });
        }
        self
    }
}

/// A fault in the script, in the order of the times.
struct Spell {
    at: Duration,
    place: Place,
    fault: Option<Fault>,
    lasts: Option<Duration>,
}

/// Beginnings and ends; an end that comes after the next fault of the same place has begun must not end that one.
fn spells(faults: &[Spell]) -> impl Iterator<Item = Deed> + '_ {
    faults.iter().enumerate().flat_map(move |(index, spell)| {
        let begin = Deed { at: spell.at, act: Act::Fault(spell.place.clone(), spell.fault) };
        let end = spell
            .lasts
            .map(|lasts| spell.at + lasts)
            .filter(|end| !faults[index + 1..].iter().any(|later| later.place == spell.place && later.at <= *end));
        let end = end.map(|at| Deed { at, act: Act::Fault(spell.place.clone(), None) });
        std::iter::once(begin).chain(end)
    })
}

/// A change of level, then for each bounce back and forth again.
fn flips(at: Duration, input: usize, on: bool, bounces: u16) -> impl Iterator<Item = Deed> {
    (0..=u32::from(bounces) * 2).map(move |flip| {
        let level = if flip % 2 == 0 { on } else { !on };
        Deed { at: at + BOUNCE * flip, act: Act::Level(input, level) }
    })
}

/// The names a script may use.
struct Names<'a> {
    script: &'a Script,
    parts: &'a Parts,
}

impl Names<'_> {
    fn sensor(&self, name: &Name) -> Result<usize, ScriptError> {
        let names: Vec<&str> = self.parts.sensors.iter().map(|sensor| sensor.name.as_str()).collect();
        self.index("sensor", name, &names)
    }

    fn input(&self, name: &Name) -> Result<usize, ScriptError> {
        let names: Vec<&str> = self.parts.inputs.iter().map(|input| input.name.as_str()).collect();
        self.index("input", name, &names)
    }

    fn place(&self, target: &Target) -> Result<Place, ScriptError> {
        match target {
            Target::Sensor(name) => self.sensor(name).map(Place::Sensor),
            Target::Bus(name) => self.bus(name).map(Place::Bus),
        }
    }

    fn bus(&self, name: &Name) -> Result<PathBuf, ScriptError> {
        let mut buses: Vec<&str> = self.parts.sensors.iter().filter_map(|s| s.place.bus.to_str()).collect();
        buses.sort_unstable();
        buses.dedup();
        self.index("bus", name, &buses).map(|index| buses[index].into())
    }

    fn index(&self, kind: &str, name: &Name, names: &[&str]) -> Result<usize, ScriptError> {
        let wanted = name.get_ref().as_str();
        names.iter().position(|known| *known == wanted).ok_or_else(|| {
            let near = did_you_mean(wanted, names.iter().copied());
            let known = match names {
                [] => format!("; this board has no {kind}"),
                _ if near.is_empty() => format!("; there is {}", names[..names.len().min(10)].join(", ")),
                _ => near,
            };
            self.script.error(name.span(), format!("there is no {kind} {wanted}{known}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SimulatedInput, SimulatedSensor};
    use super::*;
    use crate::line::{Active, I2cPlace, LineId};
    use std::path::Path;

    fn parts() -> Parts {
        let sensor = |name: &str, address| {
            let place = I2cPlace { bus: "/dev/i2c-1".into(), address };
            SimulatedSensor { name: name.into(), place, driver: "bmp280" }
        };
        let input = |name: &str| SimulatedInput {
            name: name.into(),
            line: LineId::Name(format!("LINE-{name}")),
            active: Active::Low,
        };
        Parts { sensors: vec![sensor("barometer", 0x76), sensor("roof", 0x77)], inputs: vec![input("door")] }
    }

    fn schedule(text: &str) -> Result<Schedule, ScriptError> {
        compile(&Script::parse(text, Path::new("flight.toml")).expect("a script"), &parts())
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn fault(at: u64, place: Place, fault: Option<Fault>) -> Deed {
        Deed { at: ms(at), act: Act::Fault(place, fault) }
    }

    fn fault_step(at: &str, fault: &str, lasts: &str) -> String {
        format!("[[step]]\nat = \"{at}\"\nsensor = \"roof\"\nfault = \"{fault}\"\n{lasts}\n")
    }

    #[test]
    fn a_fault_lasts_as_long_as_it_says_or_until_the_next() {
        let text = fault_step("10s", "nack", "lasts = \"5s\"")
            + &fault_step("30s", "nack", "lasts = \"10s\"")
            + &fault_step("35s", "stuck", "");
        let roof = || Place::Sensor(1);
        assert_eq!(
            schedule(&text).expect("a schedule").deeds,
            [
                fault(10_000, roof(), Some(Fault::Nack)),
                fault(15_000, roof(), None),
                fault(30_000, roof(), Some(Fault::Nack)),
                fault(35_000, roof(), Some(Fault::Stuck)),
            ]
        );
    }

    #[test]
    fn bounces_flip_a_millisecond_apart_and_settle() {
        let text = "[[step]]\nat = \"5s\"\ninput = \"door\"\nlevel = \"ON\"\nbounces = 2";
        let deeds = schedule(text).expect("a schedule").deeds;
        let expected = [(5_000, true), (5_001, false), (5_002, true), (5_003, false), (5_004, true)]
            .map(|(at, on)| Deed { at: ms(at), act: Act::Level(0, on) });
        assert_eq!(deeds, expected);
    }

    #[test]
    fn unknown_names_have_their_place_and_the_nearest_name() {
        let golden = [
            (
                "sensor = \"barometr\"\nhumidity = 3",
                "flight.toml:3:10: there is no sensor barometr, did you mean barometer",
            ),
            ("sensor = \"x\"\nfault = \"bus\"", "flight.toml:3:10: there is no sensor x; there is barometer, roof"),
            ("input = \"dor\"\nlevel = \"ON\"", "flight.toml:3:9: there is no input dor, did you mean door"),
            (
                "bus = \"/dev/i2c-7\"\nfault = \"bus\"",
                "flight.toml:3:7: there is no bus /dev/i2c-7, did you mean /dev/i2c-1",
            ),
        ];
        for (rest, expected) in golden {
            let error = schedule(&format!("[[step]]\nat = \"1s\"\n{rest}")).err().expect("an unknown name");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn the_air_alone_needs_no_deeds() {
        let text = "repeat = \"1m\"\n[[step]]\nat = \"0s\"\nsensor = \"roof\"\ntemperature = 30";
        let schedule = schedule(text).expect("a schedule");
        assert_eq!(schedule.deeds, []);
        let air = schedule.air.expect("tracks");
        assert_eq!(air[1].at(Duration::ZERO).temperature_c, 30.0);
        assert_eq!(air[0].at(Duration::ZERO), super::super::air::STILL);
    }

    #[test]
    fn a_lap_ends_all_faults() {
        let text = format!("repeat = \"20s\"\n{}", fault_step("10s", "nack", "lasts = \"1h\""));
        let schedule = schedule(&text).expect("a schedule");
        let expected = [
            fault(10_000, Place::Sensor(1), Some(Fault::Nack)),
            fault(20_000, Place::Sensor(1), None),
            Deed { at: ms(20_000), act: Act::StartOver },
        ];
        assert_eq!(schedule.deeds, expected);
    }

    #[test]
    fn without_a_script_inputs_toggle_within_the_flight() {
        let schedule = flight(&parts());
        assert!(schedule.air.is_none());
        let levels: Vec<&Act> = schedule.deeds.iter().map(|deed| &deed.act).collect();
        assert_eq!(levels, [&Act::Level(0, true), &Act::Level(0, false), &Act::StartOver]);
        assert!(flight(&Parts::default()).deeds.is_empty());
    }
}
