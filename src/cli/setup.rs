//! From the command line to what the subcommands need: configuration, plan, board, folders.

use super::Failed;
use super::arguments::Arguments;
use crate::agent::{self, reload::Configuration};
use crate::board::{Board, linux, raspberry_pi, simulated};
use crate::buffer::disk::{self, Disk};
use crate::buffer::memory::Memory;
use crate::buffer::{Buffer, Limits, Overflow};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, BoardKind, Config};
use crate::mqtt;
use crate::plan::{self, Plan};
use crate::systemd;
use anyhow::{Context, anyhow};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Notify;

/// Where the unit keeps what a running daemon shares.
const RUNTIME_FOLDER: &str = "/run/board2mqtt";
/// Where the unit keeps what outlives a restart.
const STATE_FOLDER: &str = "/var/lib/board2mqtt";
/// The name of the file of what outlives a restart.
const STATE_FILE: &str = "state.json";
/// The name of the folder of readings that wait, unless the configuration gives another.
const BUFFER_FOLDER: &str = "buffer";

/// A configuration that is good.
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// As written.
    pub config: Config,
    /// Resolved.
    pub plan: Plan,
    /// Its text, to report what is found later.
    pub source: config::SourceText,
    /// What is accepted but should be looked at, ready to be shown.
    pub warnings: Vec<String>,
}

/// Loads and validates the configuration that the arguments name.
///
/// # Errors
/// Every fault at once, ready to be shown.
pub fn load(arguments: &Arguments) -> Result<Checked, Failed> {
    let path = config::locate(arguments.config.as_deref()).map_err(|report| Failed::Configuration(report.into()))?;
    load_file(&path)
}

/// Loads and validates one file, with the environment's overrides.
///
/// # Errors
/// As for [`load`].
pub fn load_file(path: &Path) -> Result<Checked, Failed> {
    let environment = environment(std::env::vars_os()).map_err(|wrong| Failed::Configuration(wrong.into()))?;
    check(path, config::load(path, environment.into_iter()))
}

/// The variables that may override keys; one of ours that is not UTF-8 must not be passed over.
fn environment(all: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, String> {
    let ours = all.filter(|(name, _)| name.as_bytes().starts_with(config::PREFIX.as_bytes()));
    let text = |(name, value): (OsString, OsString)| {
        let wrong = format!("{}: neither a variable's name nor its value may be other than UTF-8", name.display());
        Ok((name.into_string().map_err(|_| wrong.clone())?, value.into_string().map_err(|_| wrong)?))
    };
    ours.map(text).collect()
}

/// Resolves what the loader gave.
///
/// # Errors
/// As for [`load`].
pub fn check(path: &Path, loaded: Result<config::Loaded, config::Report>) -> Result<Checked, Failed> {
    let judged = plan::judge(loaded).map_err(|report| Failed::Configuration(report.into()))?;
    let plan::Judged { config, plan, source, warnings } = judged;
    let warnings = warnings.into_iter().map(|warning| source.report(vec![warning]).to_string()).collect();
    Ok(Checked { path: path.to_owned(), config, plan, source, warnings })
}

/// The board the configuration names.
///
/// # Errors
/// A simulated board's script or trace is unusable.
pub fn board(checked: &Checked, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Board>, Failed> {
    Ok(match *checked.config.board {
        BoardKind::Auto => raspberry_pi::auto(clock.clone()),
        BoardKind::RaspberryPi => Arc::new(raspberry_pi::RaspberryPi::new(clock.clone())),
        BoardKind::Linux => Arc::new(linux::Linux::new(clock.clone())),
        BoardKind::Simulated => {
            let trace = checked.config.simulated.trace.as_ref();
            let trace = trace.map(|target| simulated::Trace::open(&target.value)).transpose();
            let trace = trace.map_err(|failure| Failed::Configuration(failure.to_string().into()))?;
            Arc::new(simulated_board(checked, script(checked)?, trace, clock)?)
        }
    })
}

/// Looks at what belongs to the board without touching anything: a simulated one's script.
///
/// # Errors
/// The script is unusable.
pub fn check_board(checked: &Checked, clock: &Arc<dyn Clock>) -> Result<(), Failed> {
    match *checked.config.board {
        BoardKind::Simulated => simulated_board(checked, script(checked)?, None, clock).map(drop),
        BoardKind::Auto | BoardKind::RaspberryPi | BoardKind::Linux => Ok(()),
    }
}

fn script(checked: &Checked) -> Result<Option<simulated::Script>, Failed> {
    let path = checked.config.simulated.script.as_ref();
    path.map(|path| simulated::Script::read(&path.value)).transpose().map_err(unusable)
}

/// The board that [`Board::kind`] names, with its lines alone.
///
/// # Errors
/// There is no such kind, or the simulated board's trace is unusable.
pub fn board_of(kind: &str, trace: Option<&str>) -> anyhow::Result<Arc<dyn Board>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(match kind {
        "auto" => raspberry_pi::auto(clock),
        "raspberry-pi" => Arc::new(raspberry_pi::RaspberryPi::new(clock)),
        "linux" => Arc::new(linux::Linux::new(clock)),
        "simulated" => {
            let trace = trace.map(simulated::Trace::open).transpose()?;
            Arc::new(simulated::Simulated::new(simulated::Parts::default(), None, trace, clock)?)
        }
        other => return Err(anyhow!("there is no kind of board called `{other}`")),
    })
}

fn unusable(error: simulated::ScriptError) -> Failed {
    Failed::Configuration(error.to_string().into())
}

/// The simulated board with a model for every configured sensor and a line for every input.
///
/// # Errors
/// The script names what the configuration does not have.
pub fn simulated_board(
    checked: &Checked,
    script: Option<simulated::Script>,
    trace: Option<simulated::Trace>,
    clock: &Arc<dyn Clock>,
) -> Result<simulated::Simulated, Failed> {
    simulated::Simulated::new(simulated_parts(checked), script, trace, clock.clone()).map_err(unusable)
}

/// What a simulated board of this configuration is made of.
pub fn simulated_parts(checked: &Checked) -> simulated::Parts {
    let sensors = checked.plan.sensors.iter().filter_map(|sensor| {
        let place = sensor.place.clone()?;
        Some(simulated::SimulatedSensor { name: sensor.name.clone(), place, driver: sensor.driver.name })
    });
    let inputs = checked.plan.inputs.iter().map(|input| simulated::SimulatedInput {
        name: input.spec.name.clone(),
        line: input.spec.line.clone(),
        active: input.spec.active,
    });
    simulated::Parts { sensors: sensors.collect(), inputs: inputs.collect() }
}

/// Everything the agent needs.
///
/// # Errors
/// The board or the secrets are unusable.
pub fn agent(checked: Checked) -> Result<agent::Setup, Failed> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Before the board, so that nothing is touched without a password.
    let session = session(&checked)?;
    let board = board(&checked, &clock)?;
    let store = Store::of(&checked.config.buffer);
    Ok(agent_on(checked, session, board, clock, store))
}

/// Where readings wait, and how it tells that it has something to say.
pub struct Store {
    buffer: Box<dyn Buffer>,
    woken: Arc<Notify>,
}

impl Store {
    /// In the folder that is configured, else in the unit's own. Without either nobody has said where, so nothing is written.
    fn of(buffer: &config::Buffer) -> Self {
        let path = buffer.path.clone().or_else(|| systemd::state_directory().map(|state| state.join(BUFFER_FOLDER)));
        let Some(path) = path else {
            log::info!("readings wait in memory only: there is no unit's state folder and no `path` in [buffer]");
            return Self::in_memory(buffer);
        };
        let woken = Arc::new(Notify::new());
        let notify = woken.clone();
        let wake = Box::new(move || notify.notify_one());
        let boot = u128::from_str_radix(&agent::boot_id().replace('-', ""), 16).unwrap_or_default();
        let (limits, flush_every) = (limits(buffer), buffer.flush_every);
        let memory = systemd::runtime_directory();
        Self { buffer: Box::new(Disk::start(disk::Options { path, memory, limits, flush_every, boot, wake })), woken }
    }

    /// In memory, whatever is configured.
    pub fn in_memory(buffer: &config::Buffer) -> Self {
        Self { buffer: Box::new(Memory::new(limits(buffer))), woken: Arc::new(Notify::new()) }
    }
}

fn limits(buffer: &config::Buffer) -> Limits {
    let overflow = if buffer.drop_newest { Overflow::DropNewest } else { Overflow::DropOldest };
    Limits { max_size: buffer.max_size, max_age: buffer.max_age, overflow }
}

/// The session of the configuration; reads the password.
///
/// # Errors
/// There is none, or no session can be made of it, which no restart mends.
pub fn session(checked: &Checked) -> Result<mqtt::Options, Failed> {
    let options = plan::session(&checked.config).map_err(|error| {
        let fault = error.diagnostic(&checked.config);
        Failed::Configuration(checked.source.report(vec![fault]).into())
    })?;
    let unusable = |error: mqtt::OptionsError| Failed::Configuration(format!("[mqtt]: {error}").into());
    options.validate().map_err(unusable)?;
    Ok(options)
}

/// The same on a given board, with a given store.
pub fn agent_on(
    checked: Checked,
    session: mqtt::Options,
    board: Arc<dyn Board>,
    clock: Arc<dyn Clock>,
    store: Store,
) -> agent::Setup {
    let beside_the_buffer = || checked.config.buffer.path.as_deref().and_then(Path::parent).map(Path::to_owned);
    let state_folder =
        systemd::state_directory().or_else(beside_the_buffer).unwrap_or_else(|| PathBuf::from(STATE_FOLDER));
    agent::Setup {
        configuration: configuration(checked, session),
        board,
        clock,
        store: store.buffer,
        store_woken: store.woken,
        state_file: state_folder.join(STATE_FILE),
        runtime_folder: runtime_folders().into_iter().find(|folder| is_writable(folder)),
    }
}

/// What a reload may change.
pub fn configuration(checked: Checked, session: mqtt::Options) -> Configuration {
    let buffer = &checked.config.buffer;
    let (limits, flush_every, drain_per_second) = (limits(buffer), buffer.flush_every, buffer.drain_per_second);
    Configuration { plan: checked.plan, session, limits, flush_every, drain_per_second }
}

/// Where the daemon and the other subcommands may meet: systemd's runtime directory; without one the unit's, then the
/// user's own, so that a daemon tried out by hand beside an installed unit is met too.
fn runtime_folders() -> Vec<PathBuf> {
    if let Some(folder) = systemd::runtime_directory() {
        return vec![folder];
    }
    let unit = Some(PathBuf::from(RUNTIME_FOLDER)).filter(|folder| folder.is_dir());
    let user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let user = user.map(|folder| folder.join("board2mqtt"));
    // Where it cannot be made, it is not writable either.
    user.iter().for_each(|folder| drop(std::fs::create_dir(folder)));
    unit.into_iter().chain(user).collect()
}

/// What `use_file` gives for the first folder where the daemon left a file of that name; `None` where there is none.
///
/// # Errors
/// That of `use_file`, with the path; `NotFound` leads to the next folder.
pub fn in_runtime_folder<T>(name: &str, use_file: impl Fn(&Path) -> std::io::Result<T>) -> anyhow::Result<Option<T>> {
    for path in runtime_folders().into_iter().map(|folder| folder.join(name)) {
        match use_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            outcome => return outcome.map(Some).with_context(|| path.display().to_string()),
        }
    }
    Ok(None)
}

fn is_writable(folder: &Path) -> bool {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
    // SAFETY: `path` is a NUL-terminated string for the duration of the call.
    unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn an_override_that_is_not_text_is_a_fault_and_a_strange_variable_is_not() {
        let broken = || OsString::from_vec(vec![b'x', 0xff]);
        let other = (broken(), broken());
        let good = (OsString::from("BOARD2MQTT__MQTT__SERVER"), OsString::from("mqtt://a"));
        let all = environment([other, good].into_iter()).expect("good");
        assert_eq!(all, [("BOARD2MQTT__MQTT__SERVER".to_owned(), "mqtt://a".to_owned())]);
        let bad = (OsString::from("BOARD2MQTT__MQTT__SERVER"), broken());
        let fault = environment([bad].into_iter()).expect_err("not UTF-8");
        assert!(fault.starts_with("BOARD2MQTT__MQTT__SERVER: "), "{fault}");
    }

    #[test]
    fn every_kind_of_board_is_opened_again_by_its_own_word() {
        for kind in ["linux", "simulated"] {
            assert_eq!(board_of(kind, None).expect("a board").kind(), kind);
        }
        assert!(board_of("fake", None).is_err());
    }
}
