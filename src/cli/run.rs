//! `board2mqtt run`: the daemon, in the foreground.

use super::arguments::Arguments;
use super::{Failed, setup, tell};
use crate::agent;
use crate::poll::THREAD_NAME;
use crate::systemd;
use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Runs until SIGTERM, SIGINT or SIGHUP.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let setup = load_apart(arguments).and_then(|checked| {
        checked.warnings.iter().for_each(|warning| tell(warning.trim_end()));
        setup::agent(checked)
    });
    if let Err(Failed::Configuration(_)) = &setup {
        // The report itself, many lines, follows on stderr.
        log::error!("configuration refused");
        systemd::Notifier::from_environment().status("configuration refused, see the journal");
    }
    let setup = setup?;
    hush_drivers();
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

/// A driver's panic is a failed read, told once like any other; where it was is for who looks closer.
fn hush_drivers() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        match std::thread::current().name().is_some_and(|name| name.starts_with(THREAD_NAME)) {
            true => log::debug!(panic:%; "a driver panics"),
            false => usual(panic),
        }
    }));
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
