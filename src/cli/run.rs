//! `board2mqtt run`: the daemon, in the foreground.

use super::arguments::Arguments;
use super::setup::Checked;
use super::{Failed, reload, setup, tell};
use crate::agent::{
    self,
    reload::{Read, Source},
};
use crate::poll::THREAD_NAME;
use crate::systemd;
use anyhow::Context;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs until SIGTERM or SIGINT; SIGHUP reads the configuration again.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    // From now on: a hangup while the configuration is read asks for it to be read again.
    let hangup = catch_hangup(&runtime)?;
    let setup = load_apart(arguments).and_then(|checked| {
        checked.warnings.iter().for_each(|warning| tell(warning.trim_end()));
        prepare(checked)
    });
    if let Err(Failed::Configuration(_)) = &setup {
        // The report itself, many lines, follows on stderr.
        log::error!("configuration refused");
        systemd::Notifier::from_environment().status("configuration refused, see the journal");
    }
    let (setup, read) = setup?;
    hush_drivers();
    runtime.block_on(async {
        let stop = stop_signal()?;
        agent::run(setup, Some(Source { hangup, read }), stop).await
    })?;
    // A name lookup that hangs must not hold up the exit.
    runtime.shutdown_background();
    Ok(())
}

fn catch_hangup(runtime: &Runtime) -> anyhow::Result<Signal> {
    let _guard = runtime.enter();
    signal(SignalKind::hangup()).context("SIGHUP cannot be caught")
}

/// The agent's setup, and what reads its configuration again.
fn prepare(checked: Checked) -> Result<(agent::Setup, Arc<Read>), Failed> {
    let again = reload::Again::new(&checked);
    let setup = setup::agent(checked)?;
    let read = again.on(setup.board.control());
    Ok((setup, read))
}

/// Loads the configuration on a thread of its own: what reading it takes is several times what remains of it, and the
/// allocator keeps a thread's memory apart, so that it can be given back as a whole.
fn load_apart(arguments: &Arguments) -> Result<Checked, Failed> {
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
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
