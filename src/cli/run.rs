//! `board2mqtt run`: the daemon, in the foreground.

use super::arguments::Arguments;
use super::{Failed, setup};
use crate::agent;
use crate::systemd;
use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Runs until SIGTERM, SIGINT or SIGHUP.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    systemd::init_log(arguments.log_level).context("no log")?;
    let checked = match setup::load(arguments) {
        Err(Failed::Configuration(report)) => {
            log::error!(report = report.as_str(); "configuration refused");
            systemd::Notifier::from_environment().status("configuration refused, see the journal");
            return Err(Failed::Configuration(report));
        }
        loaded => loaded?,
    };
    for warning in &checked.warnings {
        log::warn!(report = warning.as_str(); "configuration warning");
    }
    let setup = setup::agent(checked)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let stop = stop_signal()?;
        agent::run(setup, stop).await
    })?;
    // A name lookup that hangs must not hold up the exit.
    runtime.shutdown_background();
    Ok(())
}

/// Completes with the name of the signal that asks to stop.
fn stop_signal() -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    // A reload is a restart in order: the unit starts the daemon anew, and outputs are not left where a killed process leaves them.
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
    Ok(async move {
        tokio::select! {
            _ = hangup.recv() => "SIGHUP",
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
