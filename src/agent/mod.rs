//! The whole: threads, session, signals and timers around the [`core`], supervised, with an ordered start and stop.
//!
//! One thread runs everything but the reading of buses, so a command goes from the socket to its line without a switch.
//! Start and reload are one way of taking up a plan: the first has nothing before it.
//! Start: outputs at their initial levels, then READY, then sensors and the server, whether they are there or not.
//! Stop: outputs to their `on_exit` levels first, then what waits is sent if the server is there, then `offline`.

pub mod control;
pub mod core;
mod metrics;
mod polling;
pub mod reload;
mod supervise;
mod timer;
mod watch;

use crate::board::Board;
use crate::buffer::Buffer;
use crate::clock::Clock;
use crate::mqtt::{self, Event, Session};
use crate::outputs::SafeTable;
use crate::plan::Plan;
use crate::poll::Job;
use crate::state::StateFile;
use crate::systemd::Notifier;
use anyhow::Context;
use polling::Polling;
use reload::{Configuration, Reloads};
use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use supervise::Supervisor;
use timer::{ClockWatch, Timer};
use tokio::sync::{Notify, mpsc};
use watch::Watch;

/// The name, in the runtime folder, of the table of safe levels.
pub const SAFE_TABLE: &str = "outputs.json";
/// A stop takes at most this long.
const STOP_WITHIN: Duration = Duration::from_millis(1500);
/// …of which what waits may take this much.
const FLUSH_WITHIN: Duration = Duration::from_millis(1000);
/// The state file gets at least this long, whatever the server took.
const STATE_WITHIN: Duration = Duration::from_millis(100);
/// What the server did not take is on disk long before that, unless the disk hangs. The unit stops waiting after ten seconds.
const STORE_WITHIN: Duration = Duration::from_secs(5);

/// Everything an agent needs.
pub struct Setup {
    /// What a reload may change.
    pub configuration: Configuration,
    /// The board.
    pub board: Arc<dyn Board>,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// Where readings wait while the server is away.
    pub store: Box<dyn Buffer>,
    /// Notified when the store has something to take in.
    pub store_woken: Arc<Notify>,
    /// The file of what outlives a restart.
    pub state_file: PathBuf,
    /// Where the table of safe levels and the control socket go, if anywhere.
    pub runtime_folder: Option<PathBuf>,
}

/// Runs the gateway until `stop` is done, then stops it in order; takes up another configuration when `reload` says so.
///
/// # Errors
/// The session's options are unusable, or a thread or socket of our own could not be made. Nothing that is missing outside
/// (server, bus, chip, line) is an error.
pub async fn run(
    setup: Setup,
    reload: Option<reload::Source>,
    stop: impl Future<Output = &'static str>,
) -> anyhow::Result<()> {
    let mut agent = Agent::start(setup)?;
    let mut reloads = Reloads::new(reload);
    give_back_memory();
    tokio::pin!(stop);
    let why = loop {
        agent.turn();
        tokio::select! {
            why = &mut stop => break why,
            event = agent.session.event() => agent.session_event(event),
            batch = agent.polling.batch() => agent.polling.take(&batch, &mut agent.core),
            input = agent.watch.ready() => agent.input_ready(input),
            Some(request) = agent.requests.recv() => control::answer(&mut agent.core, request),
            event = reloads.event() => agent.reload_event(event),
            () = agent.store_woken.notified() => {}
            () = agent.timer.elapsed() => {}
            () = agent.clock_watch.set() => agent.clock_set(),
        }
    };
    agent.stop(why).await;
    Ok(())
}

struct Agent {
    core: core::Core,
    session: Session,
    polling: Polling,
    clock: Arc<dyn Clock>,
    board: Arc<dyn Board>,
    watch: Watch,
    requests: mpsc::Receiver<control::Request>,
    store_woken: Arc<Notify>,
    timer: Timer,
    clock_watch: ClockWatch,
    supervisor: Supervisor,
    runtime_folder: Option<PathBuf>,
    safe_table: Option<PathBuf>,
    /// Filters that are ours no longer, which a server that keeps our session may still know.
    left: BTreeSet<String>,
    // The socket's file is removed when this is dropped.
    _control: Option<control::Listener>,
}

impl Agent {
    fn start(setup: Setup) -> anyhow::Result<Self> {
        let Setup { configuration, board, clock, store, store_woken, state_file, runtime_folder } = setup;
        let Configuration { plan, session, drain_per_second, .. } = configuration;
        let (clean_session, server) = (session.clean_session, session.server.clone());
        let session = Session::new(session, clock.clone()).context("the session cannot be set up")?;
        let (state, damaged) = StateFile::open(&state_file);
        if let Some(error) = damaged {
            log::error!(error:% = error; "state not read, starting without it");
        }
        let safe_table = write_safe_table(&plan, &*board, runtime_folder.as_deref());
        let mut polling = Polling::new(board.clone(), clock.clone());
        let parts = core::Parts {
            board: board.clone(),
            clock: clock.clone(),
            store,
            state: state.written_apart(),
            boot_id: boot_id(),
            drain_per_second,
        };
        let mut core = core::Core::idle(parts);
        let (jobs, _) = take_up(plan, clean_session, &mut core, &polling);
        let (requests_sender, requests) = mpsc::channel(8);
        let _control = runtime_folder.as_ref().and_then(|folder| control::listen(folder, requests_sender));
        let mut supervisor = Supervisor::new(Notifier::from_environment(), server, clock.now());
        supervisor.ready();
        tell_started(&core, supervisor.server());
        let timer = Timer::new().context("no timer")?;
        let clock_watch = ClockWatch::new().context("no timer")?;
        polling.configure(jobs, &[]).context("a polling thread cannot be started")?;
        let (watch, left) = (Watch::default(), BTreeSet::new());
        Ok(Self {
            core,
            session,
            polling,
            clock,
            board,
            watch,
            requests,
            store_woken,
            timer,
            clock_watch,
            supervisor,
            runtime_folder,
            safe_table,
            left,
            _control,
        })
    }

    /// Between two events: timers that have run out, what may be sent, what is to be watched, and the next wake-up.
    fn turn(&mut self) {
        let now = self.clock.now();
        if self.core.deadline().is_some_and(|at| now >= at) {
            self.core.tick();
        }
        self.polling.turn(now, &mut self.core);
        self.core.pump(&mut self.session);
        self.watch.follow(self.core.inputs());
        self.supervisor.turn(now, &self.core, self.session.is_connected());
        let core = [self.core.deadline(), self.core.pump_deadline()];
        let all = core.into_iter().chain([self.polling.deadline(), self.supervisor.deadline()]);
        self.timer.set(all.flatten().min());
    }

    fn session_event(&mut self, event: Event) {
        match event {
            Event::Connected { session_present } => {
                self.core.connected(&mut self.session);
                let left = std::mem::take(&mut self.left);
                if session_present {
                    self.session.unsubscribe(&left.iter().map(String::as_str).collect::<Vec<_>>());
                }
                let filters: Vec<_> = self.core.subscriptions().collect();
                self.session.subscribe(&filters);
            }
            Event::Disconnected { cause, .. } => {
                self.supervisor.disconnected(cause);
                self.core.disconnected();
            }
            Event::Message(message) => self.core.message(&message, &mut self.session),
            Event::Acked(token) => self.core.acked(token),
            // The session has told the log; what is not subscribed cannot be answered.
            Event::SubscriptionRefused { .. } => {}
        }
    }

    fn clock_set(&mut self) {
        log::info!(date:% = self.clock.date(); "the clock was set");
        self.session.clock_set();
        self.core.clock_set();
    }

    fn reload_event(&mut self, event: reload::Event) {
        match event {
            reload::Event::Begun => self.supervisor.reloading(),
            reload::Event::Read(Ok(configuration)) => self.reload(*configuration),
            reload::Event::Read(Err(refusal)) => self.supervisor.refused(refusal),
        }
    }

    /// Takes up another configuration: what is the same goes on as if nothing had happened.
    fn reload(&mut self, new: Configuration) {
        let Configuration { plan, session, limits, flush_every, drain_per_second } = new;
        let server = session.server.clone();
        // What was measured until now is the old plan's.
        self.polling.take_all(&mut self.core);
        let (jobs, configured) = take_up(plan, session.clean_session, &mut self.core, &self.polling);
        if let Err(error) = self.polling.configure(jobs, &configured.read_now) {
            log::error!(error:%; "a polling thread cannot be started, its sensors are not read until a reload can start it");
        }
        self.core.limit(limits, flush_every, drain_per_second);
        let reconnects = self.configure_session(session, &configured);
        self.safe_table = write_safe_table(self.core.plan(), &*self.board, self.runtime_folder.as_deref());
        self.core.reloaded();
        configured.differences.tell(reconnects);
        self.supervisor.reloaded(server);
        give_back_memory();
    }

    /// Whether it has to connect anew.
    fn configure_session(&mut self, options: mqtt::Options, configured: &core::Configured) -> bool {
        let gone: Vec<_> = configured.unsubscribe.iter().map(String::as_str).collect();
        let added: Vec<_> = configured.subscribe.iter().map(|(filter, qos)| (filter.as_str(), *qos)).collect();
        self.left.retain(|filter| !added.iter().any(|(wanted, _)| wanted == filter));
        self.left.extend(configured.unsubscribe.iter().cloned());
        let reconnects = self.session.reconfigure(options);
        self.session.unsubscribe(&gone);
        self.session.subscribe(&added);
        reconnects
    }

    fn input_ready(&mut self, input: usize) {
        self.core.input_ready(input);
        self.watch.read(input);
    }

    /// Outputs first; then what waits; then `offline`; and what the server did not take is stored.
    async fn stop(mut self, why: &'static str) {
        log::info!(reason = why; "stopping");
        self.supervisor.stopping();
        self.core.shutdown();
        let begun = self.clock.now();
        // What was read before the stop is not lost with its channel. Nothing it says moves an output any more.
        self.polling.take_all(&mut self.core);
        self.polling.end();
        // Whether it has all gone or the time is over, what is left is counted below.
        let _ = tokio::time::timeout(FLUSH_WITHIN, self.flush()).await;
        let rest = STOP_WITHIN.saturating_sub(self.clock.now().since(begun));
        for token in self.session.close(rest).await {
            self.core.acked(token);
        }
        let rest = STOP_WITHIN.saturating_sub(self.clock.now().since(begun));
        self.core.finish_state(rest.max(STATE_WITHIN));
        self.store().await;
        if let Some(table) = &self.safe_table {
            // Outputs stand where `on_exit` says; nobody is to drive them to safe after a stop in order.
            let _ = std::fs::remove_file(table);
        }
        log::info!("stopped");
    }

    /// Sends what waits; returns at once without a server.
    async fn flush(&mut self) {
        self.core.pump(&mut self.session);
        while self.session.is_connected() && !self.core.outbox().is_settled() {
            tokio::select! {
                event = self.session.event() => match event {
                    Event::Acked(token) => self.core.acked(token),
                    Event::Disconnected { .. } => self.core.disconnected(),
                    Event::Connected { .. } | Event::Message(_) | Event::SubscriptionRefused { .. } => {}
                },
                () = self.store_woken.notified() => {}
            }
            self.core.pump(&mut self.session);
        }
    }

    /// Waits until what the server did not take is on disk, and tells what is not.
    async fn store(&mut self) {
        self.core.finish_store();
        let stored = async {
            self.core.pump(&mut self.session);
            while self.core.outbox().is_storing() {
                self.store_woken.notified().await;
                self.core.pump(&mut self.session);
            }
        };
        if tokio::time::timeout(STORE_WITHIN, stored).await.is_err() {
            log::error!(seconds = STORE_WITHIN.as_secs(); "the disk hangs, not waited for any longer");
        }
        let (waiting, on_disk) = (self.core.outbox().waiting(), self.core.outbox().stored().on_disk);
        if waiting > on_disk {
            log::error!(readings = waiting - on_disk; "readings lost, the server did not take them before the stop");
        }
        if on_disk > 0 {
            log::info!(readings = on_disk; "readings wait on disk for the next start");
        }
    }
}

fn tell_started(core: &core::Core, server: &mqtt::Server) {
    let (version, gateway) = (env!("CARGO_PKG_VERSION"), core.plan().name.as_str());
    let (sensors, inputs, outputs) = (core.sensors().len(), core.plan().inputs.len(), core.plan().outputs.len());
    log::info!(version, gateway, server:%, sensors, inputs, outputs; "started");
}

/// Takes up a plan, at the start and in a reload; gives what is to be polled from now on.
fn take_up(
    plan: Plan,
    clean_session: bool,
    core: &mut core::Core,
    polling: &Polling,
) -> (Vec<Arc<Job>>, core::Configured) {
    let numbers = core.number(&plan);
    let jobs = numbers.iter().zip(&plan.sensors).map(|(number, sensor)| Arc::new(Job::new(*number, sensor)));
    let jobs: Vec<_> = jobs.collect();
    let configured = core.configure(plan, clean_session, &numbers, &polling.compare(&jobs));
    (jobs, configured)
}

/// What `board2mqtt safe` works from when this process has died. Failing to write it is told, and no reason not to run.
fn write_safe_table(plan: &Plan, board: &dyn Board, folder: Option<&Path>) -> Option<PathBuf> {
    let path = folder?.join(SAFE_TABLE);
    let specs: Vec<_> = plan.outputs.iter().map(|output| output.spec.clone()).collect();
    let table = SafeTable::of(&specs, board);
    // Renamed into its place: one who dies while writing leaves the earlier table whole.
    let written = path.with_extension("new");
    let outcome = std::fs::write(&written, table.to_json()).and_then(|()| std::fs::rename(&written, &path));
    if let Err(error) = outcome {
        log::warn!(path:% = path.display(), error:% = error; "table of safe levels not written");
        return None;
    }
    Some(path)
}

/// What reading the configuration took is not needed any more; glibc keeps it unless it is asked.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches only free memory of the allocator, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// This boot's identity, empty where the kernel does not tell.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
