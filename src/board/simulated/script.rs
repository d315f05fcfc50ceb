//! The script of a simulated board: what happens when, read from TOML. Pure but for [`Script::read`].
//!
//! A script that parses is consistent in itself: every step says one thing, every number is finite and in range. Whether
//! the sensors and inputs it names exist is found when it meets a board ([`super::schedule`]). It is read as hostile:
//! its size, steps, times and bounces are bounded.

use super::bus::Fault;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// Bytes of a script.
const MAX_SIZE: u64 = 1 << 20;
/// Steps of a script.
const MAX_STEPS: usize = 10_000;
/// Bounces of one step.
const MAX_BOUNCES: u16 = 1_000;
/// The latest time in a script.
const MAX_TIME: Duration = Duration::from_secs(366 * 24 * 3600);
/// The shortest lap: a catch-up after a long pause plays every lap it missed.
const MIN_REPEAT: Duration = Duration::from_secs(1);

/// What is wrong with a script, and where.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It cannot be read.
    #[error("{}: {error}", file.display())]
    Unreadable {
        /// The script.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It says something wrong.
    #[error("{}:{line}:{column}: {message}", file.display())]
    Wrong {
        /// The script.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What was found, and what is allowed.
        message: String,
    },
    /// The thread that plays it cannot be started.
    #[error("the thread of the simulation cannot be started: {0}")]
    NoThread(io::Error),
}

/// A script.
#[derive(Clone, Debug)]
pub struct Script {
    pub(super) repeat: Option<Duration>,
    /// In the order of their times; those of the same time in the file's order.
    pub(super) steps: Vec<Step>,
    source: Source,
}

/// Where a script came from, for error messages.
#[derive(Clone, Debug)]
struct Source {
    file: PathBuf,
    text: String,
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// Since the start, or the last repeat.
    pub(super) at: Duration,
    pub(super) what: What,
}

/// A name in the script and where it stands.
pub(super) type Name = Spanned<String>;

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// The air around a sensor moves there in a straight line.
    Air { sensor: Name, target: Air, over: Duration },
    /// A fault begins, or ends (`None`).
    Fault { target: Target, fault: Option<Fault>, lasts: Option<Duration> },
    /// A bus's adapter is unplugged in the middle of whatever it does, and another takes its path.
    Replug { bus: Name },
    /// An input changes to a logical level, with bounces.
    Level { input: Name, on: bool, bounces: u16 },
}

/// What a fault befalls.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    Sensor(Name),
    Bus(Name),
}

/// Where the air moves; what is `None` goes on as it did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Air {
    pub(super) pressure: Option<Pressure>,
    /// °C.
    pub(super) temperature: Option<f64>,
    /// %.
    pub(super) humidity: Option<f64>,
}

/// A pressure, and in which of its two scales a straight line is straight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pressure {
    /// hPa.
    Hpa(f64),
    /// Metres in the standard atmosphere.
    Altitude(f64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScript {
    repeat: Option<Name>,
    #[serde(default)]
    step: Vec<Spanned<RawStep>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    at: Name,
    sensor: Option<Name>,
    bus: Option<Name>,
    input: Option<Name>,
    pressure: Option<Spanned<f64>>,
    altitude: Option<Spanned<f64>>,
    temperature: Option<Spanned<f64>>,
    humidity: Option<Spanned<f64>>,
    over: Option<Name>,
    fault: Option<Name>,
    lasts: Option<Name>,
    delay: Option<Name>,
    level: Option<Name>,
    bounces: Option<Spanned<u16>>,
}

/// A fault in the script: where, and what.
type Wrong = (Range<usize>, String);

fn wrong<T>(span: Range<usize>, message: impl Into<String>) -> Result<T, Wrong> {
    Err((span, message.into()))
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// With the file's name, and line and column where there is one.
    pub fn read(file: &Path) -> Result<Self, ScriptError> {
        let unreadable = |error| ScriptError::Unreadable { file: file.to_owned(), error };
        let mut text = String::new();
        // A limit that is asked of the file's size would not hold for a device or a FIFO.
        File::open(file).and_then(|file| file.take(MAX_SIZE + 1).read_to_string(&mut text)).map_err(unreadable)?;
        Self::parse(&text, file)
    }

    /// Parses a script; `file` is for error messages.
    ///
    /// # Errors
    /// With line and column.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ScriptError> {
        let source = Source { file: file.to_owned(), text: text.to_owned() };
        if text.len() as u64 > MAX_SIZE {
            return Err(source.error(0..0, format!("a script has at most {MAX_SIZE} bytes")));
        }
        let raw: RawScript = toml::from_str(text)
            .map_err(|error| source.error(error.span().unwrap_or(0..0), error.message().replace('\n', ", ")))?;
        match steps(raw) {
            Ok((repeat, steps)) => Ok(Self { repeat, steps, source }),
            Err((span, message)) => Err(source.error(span, message)),
        }
    }

    /// An error at a place in this script.
    pub(super) fn error(&self, span: Range<usize>, message: String) -> ScriptError {
        self.source.error(span, message)
    }
}

impl Source {
    fn error(&self, span: Range<usize>, message: String) -> ScriptError {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
        ScriptError::Wrong { file: self.file.clone(), line, column, message }
    }
}

fn steps(raw: RawScript) -> Result<(Option<Duration>, Vec<Step>), Wrong> {
    let repeat = raw.repeat.as_ref().map(duration).transpose()?;
    if let (Some(text), Some(repeat)) = (&raw.repeat, repeat)
        && repeat < MIN_REPEAT
    {
        return wrong(text.span(), format!("repeat is {}, at least 1s is allowed", text.get_ref()));
    }
    if let Some(extra) = raw.step.get(MAX_STEPS) {
        return wrong(extra.span(), format!("a script has at most {MAX_STEPS} steps"));
    }
    let mut steps = Vec::with_capacity(raw.step.len());
    for step in raw.step {
        let at = duration(&step.get_ref().at)?;
        if repeat.is_some_and(|repeat| at >= repeat) {
            return wrong(step.get_ref().at.span(), "this step never comes: the script starts over before it");
        }
        let span = step.span();
        steps.push(Step { at, what: step.into_inner().what(span)? });
    }
    steps.sort_by_key(|step| step.at);
    Ok((repeat, steps))
}

impl RawStep {
    fn what(self, span: Range<usize>) -> Result<What, Wrong> {
        self.only_what_belongs_together()?;
        match (self.sensor.clone(), self.bus.clone(), self.input.clone(), self.fault.clone()) {
            (Some(sensor), None, None, Some(fault)) => self.fault(Target::Sensor(sensor), &fault),
            (Some(sensor), None, None, None) => self.air(sensor),
            (None, Some(bus), None, Some(fault)) if fault.get_ref() == "replugged" => self.replug(bus),
            (None, Some(bus), None, Some(fault)) => self.fault(Target::Bus(bus), &fault),
            (None, Some(bus), None, None) => wrong(bus.span(), "a bus needs a fault"),
            (None, None, Some(input), _) => self.level(input),
            _ => wrong(span, "a step needs exactly one of sensor, bus and input"),
        }
    }

    /// A key that its step would ignore is a mistake.
    fn only_what_belongs_together(&self) -> Result<(), Wrong> {
        let air = [&self.pressure, &self.altitude, &self.temperature, &self.humidity];
        let air = air.into_iter().flatten().map(Spanned::span).chain(self.over.as_ref().map(Spanned::span));
        let fault = [&self.fault, &self.lasts, &self.delay].into_iter().flatten().map(Spanned::span);
        let level = self.level.as_ref().map(Spanned::span).into_iter().chain(self.bounces.as_ref().map(Spanned::span));
        let stray: Option<Wrong> = match (&self.fault, &self.input) {
            (None, None) => fault.chain(level).next().map(|span| (span, "this belongs to a fault or an input".into())),
            (Some(_), None) => air.chain(level).next().map(|span| (span, "a fault needs a step of its own".into())),
            (_, Some(_)) => air.chain(fault).next().map(|span| (span, "an input has a level and bounces only".into())),
        };
        stray.map_or(Ok(()), Err)
    }

    fn air(self, sensor: Name) -> Result<What, Wrong> {
        let pressure = match (self.pressure, self.altitude) {
            (Some(_), Some(altitude)) => {
                return wrong(altitude.span(), "pressure and altitude are the same thing, give one");
            }
            (Some(pressure), None) => Some(Pressure::Hpa(within(&pressure, "pressure", 1.0, 2_000.0)?)),
            (None, Some(altitude)) => Some(Pressure::Altitude(within(&altitude, "altitude", -1_000.0, 11_000.0)?)),
            (None, None) => None,
        };
        let temperature = self.temperature.map(|value| within(&value, "temperature", -273.15, 1_000.0)).transpose()?;
        let humidity = self.humidity.map(|value| within(&value, "humidity", 0.0, 100.0)).transpose()?;
        let target = Air { pressure, temperature, humidity };
        if target == Air::default() {
            return wrong(sensor.span(), "a sensor needs pressure, altitude, temperature, humidity or fault");
        }
        let over = self.over.as_ref().map_or(Ok(Duration::ZERO), duration)?;
        Ok(What::Air { sensor, target, over })
    }

    fn fault(self, target: Target, word: &Name) -> Result<What, Wrong> {
        let delay = self.delay.as_ref().map(duration).transpose()?;
        let fault = match (word.get_ref().as_str(), delay) {
            ("slow", Some(delay)) => Some(Fault::Slow(delay)),
            ("slow", None) => return wrong(word.span(), "slow needs a delay, such as delay = \"2s\""),
            (_, Some(_)) => return wrong(word.span(), "only slow has a delay"),
            ("nack", None) => Some(Fault::Nack),
            ("stuck", None) => Some(Fault::Stuck),
            ("skipped", None) => Some(Fault::Skipped),
            ("bus", None) => Some(Fault::Bus),
            ("panic", None) => Some(Fault::Panic),
            ("none", None) => None,
            (other, None) => Some(garbage(other).ok_or_else(|| {
                let allowed =
                    "nack, stuck, slow, garbage-ff, garbage-00, skipped, bus, panic, none, or replugged for a bus";
                (word.span(), format!("there is no fault {other:?}, allowed are {allowed}"))
            })?),
        };
        let lasts = self.lasts.as_ref().map(duration).transpose()?;
        match (&self.lasts, fault) {
            (Some(lasts), None) => wrong(lasts.span(), "none lasts until the next fault"),
            _ => Ok(What::Fault { target, fault, lasts }),
        }
    }

    fn replug(self, bus: Name) -> Result<What, Wrong> {
        match self.lasts.or(self.delay) {
            Some(stray) => wrong(stray.span(), "replugged takes no time: what hangs hangs for ever"),
            None => Ok(What::Replug { bus }),
        }
    }

    fn level(self, input: Name) -> Result<What, Wrong> {
        let Some(level) = self.level else { return wrong(input.span(), "an input needs a level, ON or OFF") };
        let on = match level.get_ref().to_ascii_uppercase().as_str() {
            "ON" => true,
            "OFF" => false,
            other => return wrong(level.span(), format!("level is {other:?}, ON or OFF is allowed")),
        };
        let bounces = match self.bounces {
            Some(bounces) if *bounces.get_ref() > MAX_BOUNCES => {
                return wrong(bounces.span(), format!("at most {MAX_BOUNCES} bounces are allowed"));
            }
            bounces => bounces.map_or(0, Spanned::into_inner),
        };
        Ok(What::Level { input, on, bounces })
    }
}

/// `garbage-` and two hexadecimal digits.
fn garbage(word: &str) -> Option<Fault> {
    let digits = word.strip_prefix("garbage-").filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok().map(Fault::Garbage)
}

fn duration(text: &Name) -> Result<Duration, Wrong> {
    let span = || text.span();
    match humantime::parse_duration(text.get_ref()) {
        Ok(duration) if duration <= MAX_TIME => Ok(duration),
        Ok(_) => wrong(span(), format!("{:?} is too long, at most a year is allowed", text.get_ref())),
        Err(error) => wrong(span(), format!("{:?} is no duration such as \"10s\": {error}", text.get_ref())),
    }
}

fn within(value: &Spanned<f64>, what: &str, least: f64, most: f64) -> Result<f64, Wrong> {
    let number = *value.get_ref();
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    wrong(value.span(), format!("{what} is {number}, {least} to {most} is allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Script, ScriptError> {
        Script::parse(text, Path::new("flight.toml"))
    }

    fn message(text: &str) -> String {
        parse(text).expect_err("a wrong script").to_string()
    }

    const STORY: &str = r#"repeat = "2m"
[[step]]
at = "20s"
sensor = "barometer"
fault = "slow"
delay = "2s"
lasts = "10s"
[[step]]
at = "10s"
sensor = "barometer"
altitude = 120
temperature = 20.5
over = "30s"
[[step]]
at = "5s"
input = "door"
level = "on"
bounces = 3
[[step]]
at = "30s"
bus = "/dev/i2c-1"
fault = "garbage-a5"
"#;

    #[test]
    fn a_whole_script_is_read_in_the_order_of_its_times() {
        let script = parse(STORY).expect("a script");
        let seconds = Duration::from_secs;
        assert_eq!(script.repeat, Some(seconds(120)));
        let times: Vec<u64> = script.steps.iter().map(|step| step.at.as_secs()).collect();
        assert_eq!(times, [5, 10, 20, 30]);
        assert!(
            matches!(&script.steps[0].what, What::Level { input, on: true, bounces: 3 } if input.get_ref() == "door")
        );
        let air = Air { pressure: Some(Pressure::Altitude(120.0)), temperature: Some(20.5), humidity: None };
        assert!(
            matches!(&script.steps[1].what, What::Air { target, over, .. } if *target == air && *over == seconds(30))
        );
        let slow = Some(Fault::Slow(seconds(2)));
        assert!(
            matches!(&script.steps[2].what, What::Fault { fault, lasts, .. } if *fault == slow && *lasts == Some(seconds(10)))
        );
        assert!(matches!(
            &script.steps[3].what,
            What::Fault { target: Target::Bus(_), fault: Some(Fault::Garbage(0xA5)), lasts: None }
        ));
    }

    #[test]
    fn an_empty_script_is_a_still_day() {
        assert_eq!(parse("").expect("a script").steps, []);
    }

    #[test]
    fn every_fault_word_is_known() {
        let words = ["nack", "stuck", "garbage-ff", "garbage-00", "skipped", "bus", "panic", "none"];
        let faults = words.map(|word| {
            let script = parse(&format!("[[step]]\nat = \"1s\"\nsensor = \"a\"\nfault = \"{word}\"")).expect(word);
            let What::Fault { fault, .. } = script.steps[0].what else { panic!("a fault") };
            fault
        });
        let garbage = |byte| Some(Fault::Garbage(byte));
        let (nack, stuck, panic) = (Some(Fault::Nack), Some(Fault::Stuck), Some(Fault::Panic));
        let (skipped, bus) = (Some(Fault::Skipped), Some(Fault::Bus));
        let expected = [nack, stuck, garbage(0xFF), garbage(0), skipped, bus, panic, None];
        assert_eq!(faults, expected);
    }

    #[test]
    fn wrong_scripts_say_where_and_what() {
        let step = |rest: &str| message(&format!("[[step]]\nat = \"1s\"\n{rest}"));
        let golden = [
            (
                step("sensor = \"a\"\nfault = \"nak\""),
                "flight.toml:4:9: there is no fault \"nak\", allowed are nack, stuck, slow, garbage-ff, garbage-00, skipped, bus, panic, none, or replugged for a bus",
            ),
            (
                step("bus = \"a\"\nfault = \"replugged\"\nlasts = \"1s\""),
                "flight.toml:5:9: replugged takes no time: what hangs hangs for ever",
            ),
            (step("sensor = \"a\"\nfault = \"slow\""), "flight.toml:4:9: slow needs a delay, such as delay = \"2s\""),
            (step("sensor = \"a\"\nfault = \"nack\"\ndelay = \"1s\""), "flight.toml:4:9: only slow has a delay"),
            (
                step("sensor = \"a\"\nfault = \"none\"\nlasts = \"1s\""),
                "flight.toml:5:9: none lasts until the next fault",
            ),
            (
                step("sensor = \"a\"\nfault = \"nack\"\nhumidity = 4"),
                "flight.toml:5:12: a fault needs a step of its own",
            ),
            (step("sensor = \"a\"\npressure = nan"), "flight.toml:4:12: pressure is NaN, 1 to 2000 is allowed"),
            (step("sensor = \"a\"\nhumidity = 101"), "flight.toml:4:12: humidity is 101, 0 to 100 is allowed"),
            (
                step("sensor = \"a\"\npressure = 900\naltitude = 1"),
                "flight.toml:5:12: pressure and altitude are the same thing, give one",
            ),
            (
                step("sensor = \"a\""),
                "flight.toml:3:10: a sensor needs pressure, altitude, temperature, humidity or fault",
            ),
            (step("sensor = \"a\"\nlevel = \"ON\""), "flight.toml:4:9: this belongs to a fault or an input"),
            (step("bus = \"/dev/i2c-1\""), "flight.toml:3:7: a bus needs a fault"),
            (step("input = \"door\""), "flight.toml:3:9: an input needs a level, ON or OFF"),
            (step("input = \"door\"\nlevel = \"high\""), "flight.toml:4:9: level is \"HIGH\", ON or OFF is allowed"),
            (
                step("input = \"door\"\nlevel = \"ON\"\nfault = \"nack\""),
                "flight.toml:5:9: an input has a level and bounces only",
            ),
            (
                step("input = \"door\"\nlevel = \"ON\"\nbounces = 1001"),
                "flight.toml:5:11: at most 1000 bounces are allowed",
            ),
            (step(""), "flight.toml:1:1: a step needs exactly one of sensor, bus and input"),
            (
                step("sensor = \"a\"\ninput = \"b\"\nlevel = \"ON\""),
                "flight.toml:1:1: a step needs exactly one of sensor, bus and input",
            ),
            (message("repeat = \"10ms\""), "flight.toml:1:10: repeat is 10ms, at least 1s is allowed"),
            (
                message("repeat = \"9999years\""),
                "flight.toml:1:10: \"9999years\" is too long, at most a year is allowed",
            ),
        ];
        for (got, expected) in golden {
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_step_that_never_comes_is_refused() {
        let got = message("repeat = \"10s\"\n[[step]]\nat = \"10s\"\ninput = \"a\"\nlevel = \"ON\"");
        assert_eq!(got, "flight.toml:3:6: this step never comes: the script starts over before it");
    }

    #[test]
    fn faults_of_the_toml_itself_have_their_place() {
        for (text, start) in [
            ("[[step]]\nat = \"1s\"\nsensr = \"a\"", "flight.toml:3:1: unknown field `sensr`"),
            ("[[step]]\nat = 5\n", "flight.toml:2:6: invalid type"),
            ("[[step]\n", "flight.toml:1:8: "),
            ("[[step]]\nsensor = \"a\"", "flight.toml:1:1: missing field `at`"),
            ("[[step]]\nat = \"ä\"", "flight.toml:2:6: \"ä\" is no duration"),
            ("step = 3", "flight.toml:1:8: invalid type"),
        ] {
            let got = message(text);
            assert!(got.starts_with(start), "{got}");
            assert!(!got.contains('\n'), "{got}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let long = " ".repeat(MAX_SIZE as usize + 1);
        assert!(message(&long).contains("at most 1048576 bytes"));
        let many = "[[step]]\nat=\"1s\"\ninput=\"a\"\nlevel=\"ON\"\n".repeat(MAX_STEPS + 1);
        assert!(message(&many).contains("at most 10000 steps"));
        let deep = format!("step = {}1{}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(message(&deep).starts_with("flight.toml:1:"));
    }

    #[test]
    fn a_script_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("none.toml");
        let error = Script::read(&file).expect_err("no file").to_string();
        assert!(error.contains("none.toml: No such file"), "{error}");
        std::fs::write(&file, [0xFF, 0xFE]).expect("a file");
        assert!(matches!(Script::read(&file), Err(ScriptError::Unreadable { .. })));
        std::fs::write(&file, STORY).expect("a file");
        assert_eq!(Script::read(&file).expect("a script").steps.len(), 4);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn no_values_panic(at in "\\PC{0,12}", number in any::<f64>(), word in "[a-zA-Z0-9-]{0,12}", bounces in any::<i64>()) {
            for rest in [
                format!("sensor = {word:?}\naltitude = {number:?}\nover = {at:?}"),
                format!("sensor = \"a\"\nfault = {word:?}\ndelay = {at:?}"),
                format!("input = \"a\"\nlevel = {word:?}\nbounces = {bounces}"),
            ] {
                let _ = parse(&format!("[[step]]\nat = {at:?}\n{rest}"));
            }
        }
    }
}
