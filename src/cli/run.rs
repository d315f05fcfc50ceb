//! `board2mqtt run`: the daemon, in the foreground.

use super::arguments::Arguments;
use super::{Failed, setup};
use crate::agent;
use crate::systemd;
use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Runs until SIGTERM or SIGINT.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    systemd::init_log(arguments.log_level).context("no log")?;
    let checked = match load_apart(arguments) {
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

/// Loads the configuration on a thread of its own: what reading it takes is several times what remains of it, and the
/// allocator keeps a thread's memory apart, so that it can be given back as a whole.
fn load_apart(arguments: &Arguments) -> Result<setup::Checked, Failed> {
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| setup::load(arguments));
        loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Completes with the name of the signal that asks to stop.
fn stop_signal() -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
