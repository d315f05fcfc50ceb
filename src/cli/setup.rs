//! From the command line to what the subcommands need: configuration, plan, board, folders.

use super::Failed;
use super::arguments::Arguments;
use crate::agent;
use crate::board::{Board, linux, raspberry_pi, simulated};
use crate::buffer::memory::Memory;
use crate::buffer::{Limits, Overflow};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, BoardKind, Config};
use crate::plan::{self, Plan};
use crate::systemd;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the unit keeps what a running daemon shares.
const RUNTIME_FOLDER: &str = "/run/board2mqtt";
/// The name of the file of what outlives a restart.
const STATE_FILE: &str = "state.json";

/// A configuration that is good.
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// As written.
    pub config: Config,
    /// Resolved.
    pub plan: Plan,
    /// What is accepted but should be looked at, ready to be shown.
    pub warnings: Vec<String>,
}

/// Loads and validates the configuration that the arguments name.
///
/// # Errors
/// Every fault at once, ready to be shown.
pub fn load(arguments: &Arguments) -> Result<Checked, Failed> {
    let path =
        config::locate(arguments.config.as_deref()).map_err(|report| Failed::Configuration(report.to_string()))?;
    load_file(&path)
}

/// Loads and validates one file, with the environment's overrides.
///
/// # Errors
/// As for [`load`].
pub fn load_file(path: &Path) -> Result<Checked, Failed> {
    let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let loaded = config::load(path, environment).map_err(|report| Failed::Configuration(report.to_string()))?;
    check(path, loaded)
}

/// Resolves a loaded configuration.
///
/// # Errors
/// As for [`load`].
pub fn check(path: &Path, loaded: config::Loaded) -> Result<Checked, Failed> {
    let config::Loaded { config, source, warnings } = loaded;
    match plan::build(&config) {
        Ok((plan, more)) => {
            let all = warnings.into_iter().chain(more);
            let warnings = all.map(|warning| source.report(vec![warning]).to_string()).collect();
            Ok(Checked { path: path.to_owned(), config, plan, warnings })
        }
        Err(faults) => Err(Failed::Configuration(source.report(faults).to_string())),
    }
}

/// The board the configuration names.
///
/// # Errors
/// A simulated board's script or trace is unusable.
pub fn board(checked: &Checked, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Board>, Failed> {
    Ok(match checked.config.board {
        BoardKind::Auto => raspberry_pi::auto(clock.clone()),
        BoardKind::RaspberryPi => Arc::new(raspberry_pi::RaspberryPi::new(clock.clone())),
        BoardKind::Linux => Arc::new(linux::Linux::new(clock.clone())),
        BoardKind::Simulated => Arc::new(simulated_board(checked, clock)?),
    })
}

/// The board without a configuration.
pub fn plain_board() -> Arc<dyn Board> {
    raspberry_pi::auto(Arc::new(SystemClock))
}

/// The simulated board with a model for every configured sensor and a line for every input.
///
/// # Errors
/// The script or the trace is unusable.
pub fn simulated_board(checked: &Checked, clock: &Arc<dyn Clock>) -> Result<simulated::Simulated, Failed> {
    let sensors = checked.plan.sensors.iter().filter_map(|sensor| {
        let place = sensor.place.clone()?;
        Some(simulated::SimulatedSensor { name: sensor.name.clone(), place, driver: sensor.driver.name })
    });
    let inputs = checked.plan.inputs.iter().map(|input| simulated::SimulatedInput {
        name: input.spec.name.clone(),
        line: input.spec.line.clone(),
        active: input.spec.active,
    });
    let parts = simulated::Parts { sensors: sensors.collect(), inputs: inputs.collect() };
    let wanted = &checked.config.simulated;
    let bad = |error: simulated::ScriptError| Failed::Configuration(error.to_string());
    let script = wanted.script.as_ref().map(|path| simulated::Script::read(&path.value)).transpose().map_err(bad)?;
    let trace = wanted.trace.as_ref().map(|target| simulated::Trace::open(&target.value)).transpose();
    let trace = trace.map_err(|failure| Failed::Configuration(failure.to_string()))?;
    simulated::Simulated::new(parts, script, trace, clock.clone()).map_err(bad)
}

/// Everything the agent needs.
///
/// # Errors
/// The board or the secrets are unusable.
pub fn agent(checked: Checked) -> Result<agent::Setup, Failed> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let board = board(&checked, &clock)?;
    agent_on(checked, board, clock)
}

/// The same on a given board.
///
/// # Errors
/// The secrets are unusable.
pub fn agent_on(checked: Checked, board: Arc<dyn Board>, clock: Arc<dyn Clock>) -> Result<agent::Setup, Failed> {
    let session = plan::session(&checked.config).context("the MQTT session cannot be set up")?;
    let buffer = &checked.config.buffer;
    let overflow = if buffer.drop_newest { Overflow::DropNewest } else { Overflow::DropOldest };
    let limits = Limits { max_size: buffer.max_size, max_age: buffer.max_age, overflow };
    let state_folder = systemd::state_directory()
        .or_else(|| buffer.path.parent().map(Path::to_owned))
        .unwrap_or_else(|| checked.config.folder.clone());
    Ok(agent::Setup {
        plan: checked.plan,
        session,
        board,
        clock,
        store: Box::new(Memory::new(limits)),
        drain_per_second: buffer.drain_per_second,
        state_file: state_folder.join(STATE_FILE),
        runtime_folder: runtime_folder(),
    })
}

/// Where the daemon and the other subcommands meet: systemd's runtime directory, or the unit's, or the user's own.
pub fn runtime_folder() -> Option<PathBuf> {
    let user = || {
        let folder = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?).join("board2mqtt");
        std::fs::create_dir_all(&folder).ok()?;
        Some(folder)
    };
    let unit = Path::new(RUNTIME_FOLDER);
    systemd::runtime_directory().or_else(|| unit.is_dir().then(|| unit.to_owned())).or_else(user)
}
