//! The command line: one file a subcommand, and the exit statuses.

mod arguments;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod drivers;
mod read;
mod run;
mod safe;
mod set;
mod setup;
mod topics;

use arguments::{Arguments, Subcommand};
use std::ffi::OsString;
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
    /// Exit status 78; what is wrong, ready to be shown.
    Configuration(String),
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
            eprintln!("board2mqtt: {error}\ntry `board2mqtt --help`");
            return ExitCode::from(USAGE);
        }
    };
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::AtRunTime(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(Failed::AtRunTime(error)) => {
            eprintln!("board2mqtt: {error:#}");
            ExitCode::from(FAILED)
        }
        Err(Failed::Configuration(report)) => {
            eprintln!("{}", report.trim_end());
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

fn dispatch(arguments: &Arguments) -> Result<(), Failed> {
    match &arguments.subcommand {
        Subcommand::Help(text) => write_out(text),
        Subcommand::Version => write_out(concat!("board2mqtt ", env!("CARGO_PKG_VERSION"), "\n")),
        Subcommand::Run => run::run(arguments),
        #[cfg(feature = "demo")]
        Subcommand::Demo { seconds } => demo::run(arguments, *seconds),
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
    use std::io::Write;
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
