//! The command line: one file a subcommand, and the exit statuses.

mod arguments;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod drivers;
mod probe;
mod read;
mod reload;
mod run;
mod safe;
mod set;
mod setup;
mod table;
mod topics;

use crate::config::{Diagnostic, Report, Severity};
use crate::systemd;
use arguments::{Arguments, Subcommand};
use log::LevelFilter;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Something failed at run time.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;
/// A bad configuration (`EX_CONFIG` of sysexits.h).
const BAD_CONFIGURATION: u8 = 78;

/// How a subcommand can fail.
#[derive(Debug)]
enum Failed {
    /// Exit status 1.
    AtRunTime(anyhow::Error),
    /// Exit status 2; what is wrong with an argument, and what is allowed.
    Usage(String),
    /// Exit status 78.
    Configuration(Refused),
}

/// What is wrong with a configuration.
#[derive(Debug)]
struct Refused {
    /// All of it, ready to be shown.
    text: String,
    /// The first fault, in one line.
    first: String,
    /// How many there are.
    faults: usize,
}

impl From<Report> for Refused {
    fn from(report: Report) -> Self {
        let is_fault = |diagnostic: &&Diagnostic| diagnostic.severity == Severity::Fault;
        let first = report.diagnostics.iter().find(is_fault).cloned();
        let faults = report.diagnostics.iter().filter(is_fault).count();
        let first = report.source.report(first.into_iter().collect()).to_string();
        let first = first.lines().next().unwrap_or_default().to_owned();
        Self { text: report.to_string(), first, faults }
    }
}

impl From<String> for Refused {
    /// One fault.
    fn from(text: String) -> Self {
        Self { first: text.lines().next().unwrap_or_default().to_owned(), text, faults: 1 }
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::AtRunTime(error)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::AtRunTime(error.into())
    }
}

/// Runs what the arguments ask for.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            tell(&format!("board2mqtt: {error}\ntry `board2mqtt --help`"));
            return ExitCode::from(USAGE);
        }
    };
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::AtRunTime(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(Failed::AtRunTime(error)) => {
            tell(&format!("board2mqtt: {error:#}"));
            ExitCode::from(FAILED)
        }
        Err(Failed::Usage(wrong)) => {
            tell(&format!("board2mqtt: {wrong}"));
            ExitCode::from(USAGE)
        }
        Err(Failed::Configuration(refused)) => {
            tell(refused.text.trim_end());
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

fn dispatch(arguments: &Arguments) -> Result<(), Failed> {
    let usual = if arguments.subcommand == Subcommand::Run { LevelFilter::Info } else { LevelFilter::Warn };
    systemd::init_log(arguments.log_level.unwrap_or(usual)).map_err(anyhow::Error::from)?;
    match &arguments.subcommand {
        Subcommand::Help(text) => write_out(text),
        Subcommand::Version => write_out(concat!("board2mqtt ", env!("CARGO_PKG_VERSION"), "\n")),
        Subcommand::Run => run::run(arguments),
        #[cfg(feature = "demo")]
        Subcommand::Demo { seconds } => demo::run(*seconds),
        Subcommand::Check { probe } => check::run(arguments, *probe),
        Subcommand::Read { sensors, json, watch } => read::run(arguments, sensors, *json, *watch),
        Subcommand::Set { output, value, hold } => set::run(arguments, output, value, *hold),
        Subcommand::Safe => safe::run(arguments),
        Subcommand::Drivers { name, json } => drivers::run(name.as_deref(), *json),
        Subcommand::Topics { json, acl } => topics::run(arguments, *json, *acl),
    }
}

/// Writes to stdout; a reader that has seen enough (`| head`) is no failure.
fn write_out(text: &str) -> Result<(), Failed> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// Tells a person on stderr. Who has closed it does not want to know.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Wrong usage: there is no such name; `names` are those there are.
fn unknown<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a str>) -> Failed {
    let names: Vec<_> = names.collect();
    let near = names.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
    let meant = match near.filter(|(distance, _)| *distance <= 2) {
        Some((_, near)) => format!("did you mean `{near}`? "),
        None => String::new(),
    };
    let all = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let all = if all.is_empty() { "there are none".to_owned() } else { format!("there are {all}") };
    Failed::Usage(format!("no {what} is called `{name}`: {meant}{all}"))
}

/// `1 sensor`, `2 sensors`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
