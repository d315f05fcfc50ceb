//! What the arguments say.

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use log::LevelFilter;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const USAGE: &str = "\
board2mqtt bridges GPIO and I2C of a Linux board to MQTT

usage: board2mqtt [OPTIONS] COMMAND

commands:
  run                     the gateway, in the foreground
  demo [--seconds N]      the whole thing, nothing needed: simulated board and MQTT server
  check [--probe]         validates the configuration; --probe asks the hardware too
  read [SENSOR...]        reads sensors now; --json, --watch
  set OUTPUT VALUE        drives an output now, under its limits: ON, OFF, 40...; --for 5s
  safe                    drives every output to its safe level
  drivers [NAME]          the sensor drivers; --json
  topics                  every topic of this configuration; --json, --acl
  help                    this text

options:
  -c, --config FILE       default: /etc/board2mqtt/config.toml, else ./board2mqtt.toml
      --log-level LEVEL   error, warn, info, debug, trace; default: warn, for run info
  -V, --version
  -h, --help

exit status: 0 done, 1 failed at run time, 2 wrong usage, 78 bad configuration
";

/// The parsed command line.
#[derive(Debug, PartialEq)]
pub struct Arguments {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<LevelFilter>,
    /// What to do.
    pub subcommand: Subcommand,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Subcommand {
    /// Print this.
    Help(&'static str),
    /// Print the version.
    Version,
    /// `run`
    Run,
    /// `demo`
    #[cfg(feature = "demo")]
    Demo {
        /// `--seconds`
        seconds: Option<u64>,
    },
    /// `check`
    Check {
        /// `--probe`
        probe: bool,
    },
    /// `read`
    Read {
        /// Names; all where none is given.
        sensors: Vec<String>,
        /// `--json`
        json: bool,
        /// `--watch`
        watch: bool,
    },
    /// `set`
    Set {
        /// The output's name.
        output: String,
        /// A command's words.
        value: String,
        /// `--for`
        hold: Option<Duration>,
    },
    /// `safe`
    Safe,
    /// `drivers`
    Drivers {
        /// One driver.
        name: Option<String>,
        /// `--json`
        json: bool,
    },
    /// `topics`
    Topics {
        /// `--json`
        json: bool,
        /// `--acl`
        acl: bool,
    },
}

/// Options as they come, checked against the subcommand at the end.
#[derive(Default)]
struct Given {
    config: Option<PathBuf>,
    log_level: Option<LevelFilter>,
    words: Vec<String>,
    probe: bool,
    json: bool,
    watch: bool,
    acl: bool,
    seconds: Option<u64>,
    hold: Option<Duration>,
}

impl Arguments {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    /// Says which argument is wrong and what is allowed.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        let mut parser = Parser::from_args(arguments);
        let mut given = Given::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(Self::just(Subcommand::Help(USAGE))),
                Short('V') | Long("version") => return Ok(Self::just(Subcommand::Version)),
                Short('c') | Long("config") => given.config = Some(parser.value()?.into()),
                Long("log-level") => given.log_level = Some(level(&parser.value()?.string()?)?),
                Long("probe") => given.probe = true,
                Long("json") => given.json = true,
                Long("watch") => given.watch = true,
                Long("acl") => given.acl = true,
                Long("seconds") => given.seconds = Some(parser.value()?.parse()?),
                Long("for") => given.hold = Some(duration(&parser.value()?.string()?)?),
                Value(word) => given.words.push(word.string()?),
                _ => return Err(argument.unexpected()),
            }
        }
        given.finish()
    }

    fn just(subcommand: Subcommand) -> Self {
        Self { config: None, log_level: None, subcommand }
    }
}

impl Given {
    fn finish(mut self) -> Result<Arguments, lexopt::Error> {
        let mut words = std::mem::take(&mut self.words).into_iter();
        let name = words.next().ok_or("which command?")?;
        let subcommand = self.subcommand(&name, &mut words)?;
        if let Some(word) = words.next() {
            return Err(format!("`{name}` does not take the argument `{word}`").into());
        }
        self.nothing_left(&name)?;
        Ok(Arguments { config: self.config, log_level: self.log_level, subcommand })
    }

    /// Takes what the subcommand knows out of what was given.
    fn subcommand(
        &mut self,
        name: &str,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<Subcommand, lexopt::Error> {
        let take = std::mem::take::<bool>;
        Ok(match name {
            "run" => Subcommand::Run,
            #[cfg(feature = "demo")]
            "demo" => Subcommand::Demo { seconds: self.seconds.take() },
            #[cfg(not(feature = "demo"))]
            "demo" => return Err("this build has no demo; build it with the default features".into()),
            "check" => Subcommand::Check { probe: take(&mut self.probe) },
            "read" => {
                Subcommand::Read { sensors: words.collect(), json: take(&mut self.json), watch: take(&mut self.watch) }
            }
            "set" => Subcommand::Set {
                output: words.next().ok_or("`set` needs an output and a value, such as `set beacon ON`")?,
                value: words.next().ok_or("`set` needs a value, such as ON, OFF or 40")?,
                hold: self.hold.take(),
            },
            "safe" => Subcommand::Safe,
            "drivers" => Subcommand::Drivers { name: words.next(), json: take(&mut self.json) },
            "topics" if self.json && self.acl => return Err("--json and --acl exclude each other".into()),
            "topics" => Subcommand::Topics { json: take(&mut self.json), acl: take(&mut self.acl) },
            "help" => Subcommand::Help(USAGE),
            other => return Err(format!("unknown command `{other}`{}", did_you_mean(other)).into()),
        })
    }

    fn nothing_left(&self, name: &str) -> Result<(), lexopt::Error> {
        let left = [
            ("--probe", self.probe),
            ("--json", self.json),
            ("--watch", self.watch),
            ("--acl", self.acl),
            ("--seconds", self.seconds.is_some()),
            ("--for", self.hold.is_some()),
        ];
        match left.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(format!("`{name}` does not take the option {option}").into()),
            None => Ok(()),
        }
    }
}

const NAMES: [&str; 9] = ["run", "demo", "check", "read", "set", "safe", "drivers", "topics", "help"];

fn did_you_mean(word: &str) -> String {
    let near = NAMES.iter().map(|name| (strsim::damerau_levenshtein(name, word), name)).min();
    let near = near.filter(|(distance, _)| *distance <= 2);
    near.map(|(_, name)| format!(", did you mean `{name}`?")).unwrap_or_default()
}

fn level(text: &str) -> Result<LevelFilter, lexopt::Error> {
    let level = text.parse().ok().filter(|level| *level != LevelFilter::Off);
    level.ok_or_else(|| format!("unknown log level `{text}`, allowed: error, warn, info, debug, trace").into())
}

fn duration(text: &str) -> Result<Duration, lexopt::Error> {
    let duration = humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| format!("`{text}` is not a duration such as 5s or 2m").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn every_row_of_the_usage_is_understood() {
        let read = Subcommand::Read { sensors: vec!["roof".into()], json: true, watch: false };
        assert_eq!(parse("read roof --json").expect("parses").subcommand, read);
        let set = Subcommand::Set { output: "fan".into(), value: "40".into(), hold: Some(Duration::from_secs(5)) };
        assert_eq!(parse("set fan 40 --for 5s -c x.toml").expect("parses").subcommand, set);
        assert_eq!(parse("check --probe").expect("parses").subcommand, Subcommand::Check { probe: true });
        assert_eq!(parse("--log-level debug run").expect("parses").log_level, Some(LevelFilter::Debug));
        for name in NAMES.into_iter().filter(|name| !["set", "demo"].contains(name)) {
            assert!(parse(name).is_ok(), "{name}");
            assert!(USAGE.contains(&format!("\n  {name}")), "{name} is in the usage");
        }
    }

    #[test]
    fn wrong_usage_is_named() {
        let cases = [
            ("", "which command?"),
            ("chekc", "did you mean `check`?"),
            ("sat", "did you mean `set`?"),
            ("topics --json --acl", "--json and --acl exclude each other"),
            ("run --probe", "`run` does not take the option --probe"),
            ("run now", "`run` does not take the argument `now`"),
            ("set fan", "`set` needs a value"),
            ("set fan ON --for never", "is not a duration"),
            ("run --log-level loud", "unknown log level `loud`"),
            ("run --frobnicate", "--frobnicate"),
        ];
        for (line, expected) in cases {
            let error = parse(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
