//! The whole: threads, session, signals and timers around the [`core`], supervised, with an ordered start and stop.
//!
//! One thread runs everything but the reading of buses, so a command goes from the socket to its line without a switch.
//! Start: outputs at their initial levels, then READY, then sensors and the server, whether they are there or not.
//! Stop: outputs to their `on_exit` levels first, then what waits is sent if the server is there, then `offline`.

pub mod control;
pub mod core;
mod metrics;
mod supervise;
mod timer;
mod watch;

use crate::board::Board;
use crate::buffer::Buffer;
use crate::clock::{Clock, Instant};
use crate::mqtt::{self, Event, Session};
use crate::outputs::SafeTable;
use crate::plan::Plan;
use crate::poll::{self, Batch, Found, Job, Poller, Report, Resource};
use crate::state::StateFile;
use crate::systemd::Notifier;
use anyhow::Context;
use std::collections::BTreeMap;
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
/// Batches that may wait for the agent; more are kept by the threads that made them.
const BATCHES: usize = 64;
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
    /// What to do.
    pub plan: Plan,
    /// The session's options.
    pub session: mqtt::Options,
    /// The board.
    pub board: Arc<dyn Board>,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// Where readings wait while the server is away.
    pub store: Box<dyn Buffer>,
    /// Notified when the store has something to take in.
    pub store_woken: Arc<Notify>,
    /// Records of history a second.
    pub drain_per_second: u32,
    /// The file of what outlives a restart.
    pub state_file: PathBuf,
    /// Where the table of safe levels and the control socket go, if anywhere.
    pub runtime_folder: Option<PathBuf>,
}

/// Runs the gateway until `stop` is done, then stops it in order.
///
/// # Errors
/// The session's options are unusable, or a thread or socket of our own could not be made. Nothing that is missing outside
/// (server, bus, chip, line) is an error.
pub async fn run(setup: Setup, stop: impl Future<Output = &'static str>) -> anyhow::Result<()> {
    let mut agent = Agent::start(setup)?;
    give_back_memory();
    tokio::pin!(stop);
    let why = loop {
        agent.turn();
        tokio::select! {
            why = &mut stop => break why,
            event = agent.session.event() => agent.session_event(event),
            Some(batch) = agent.batches.recv() => agent.batch(&batch),
            input = agent.watch.ready() => agent.input_ready(input),
            Some(request) = agent.requests.recv() => control::answer(&mut agent.core, request),
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
    clock: Arc<dyn Clock>,
    resources: Vec<Resource>,
    /// Sensors that hang on nothing cannot block, so they need no thread.
    inline: Poller,
    /// What they report, reused.
    reports: Vec<Report>,
    batches: mpsc::Receiver<Batch>,
    watch: Watch,
    requests: mpsc::Receiver<control::Request>,
    store_woken: Arc<Notify>,
    timer: Timer,
    clock_watch: ClockWatch,
    supervisor: Supervisor,
    safe_table: Option<PathBuf>,
    // The socket's file is removed when this is dropped.
    _control: Option<control::Listener>,
}

impl Agent {
    fn start(setup: Setup) -> anyhow::Result<Self> {
        let clean_session = setup.session.clean_session;
        let server = setup.session.server.clone();
        let session = Session::new(setup.session, setup.clock.clone()).context("the session cannot be set up")?;
        let (state, damaged) = StateFile::open(&setup.state_file);
        if let Some(error) = damaged {
            log::error!(error:% = error; "state not read, starting without it");
        }
        let (inline, jobs) = jobs(&setup.plan);
        let safe_table = write_safe_table(&setup.plan, &*setup.board, setup.runtime_folder.as_deref());
        let parts = core::Parts {
            board: setup.board.clone(),
            clock: setup.clock.clone(),
            store: setup.store,
            state: state.written_apart(),
            boot_id: boot_id(),
            drain_per_second: setup.drain_per_second,
        };
        let core = core::Core::new(setup.plan, clean_session, parts);
        let (requests_sender, requests) = mpsc::channel(8);
        let control = setup.runtime_folder.and_then(|folder| control::listen(&folder, requests_sender));
        let mut supervisor = Supervisor::new(Notifier::from_environment(), server, setup.clock.now());
        supervisor.ready();
        tell_started(&core, supervisor.server());
        let (sender, batches) = mpsc::channel(BATCHES);
        let resources = start_polling(jobs, &setup.board, &setup.clock, &sender)?;
        let inline = Poller::new(inline, setup.board, setup.clock.clone(), setup.clock.now());
        let timer = Timer::new().context("no timer")?;
        let clock_watch = ClockWatch::new().context("no timer")?;
        Ok(Self {
            core,
            session,
            clock: setup.clock,
            resources,
            inline,
            reports: Vec::new(),
            batches,
            watch: Watch::default(),
            requests,
            store_woken: setup.store_woken,
            timer,
            clock_watch,
            supervisor,
            safe_table,
            _control: control,
        })
    }

    /// Between two events: timers that have run out, what may be sent, what is to be watched, and the next wake-up.
    fn turn(&mut self) {
        let now = self.clock.now();
        if self.core.deadline().is_some_and(|at| now >= at) {
            self.core.tick();
        }
        self.look_after_buses(now);
        if self.core.take_read_all() {
            self.resources.iter().for_each(Resource::read_now);
            self.inline.read_now(now);
        }
        self.read_inline(now);
        self.core.pump(&mut self.session);
        self.watch.follow(self.core.inputs());
        self.supervisor.turn(now, &self.core, self.session.is_connected());
        let sensors = self.resources.iter().map(Resource::deadline).min();
        let core = [self.core.deadline(), self.core.pump_deadline()];
        let all = core.into_iter().chain([sensors, self.inline.due(), self.supervisor.deadline()]);
        self.timer.set(all.flatten().min());
    }

    fn session_event(&mut self, event: Event) {
        match event {
            Event::Connected { .. } => {
                self.core.connected(&mut self.session);
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

    fn read_inline(&mut self, now: Instant) {
        if self.inline.due().is_some_and(|due| now >= due) {
            let mut reports = std::mem::take(&mut self.reports);
            self.inline.run(now, |_, _| (), |report| reports.push(report));
            self.core.samples(&reports);
            reports.clear();
            self.reports = reports;
        }
    }

    fn batch(&mut self, batch: &Batch) {
        self.take_batch(batch);
        while let Ok(batch) = self.batches.try_recv() {
            self.take_batch(&batch);
        }
    }

    fn take_batch(&mut self, batch: &Batch) {
        let Some(dropped) = self.resources[batch.resource].reported(batch) else { return };
        self.core.reports_dropped(dropped);
        self.core.samples(&batch.reports);
    }

    fn input_ready(&mut self, input: usize) {
        self.core.input_ready(input);
        self.watch.read(input);
    }

    fn look_after_buses(&mut self, now: Instant) {
        for resource in &mut self.resources {
            match resource.look(now) {
                Some(Found::Hanging(sensor)) => supervise::tell_hanging(resource, sensor, &mut self.core),
                Some(Found::OpenedAnew) => {
                    log::warn!(bus = resource.name(); "another adapter has come, the bus is opened anew; the thread that hangs is left behind");
                }
                None => {}
            }
        }
        self.core.buses_hanging(self.resources.iter().filter(|resource| resource.is_hanging()).count());
    }

    /// Outputs first; then what waits; then `offline`; and what the server did not take is stored.
    async fn stop(mut self, why: &'static str) {
        log::info!(reason = why; "stopping");
        self.supervisor.stopping();
        self.core.shutdown();
        let begun = self.clock.now();
        // What was read before the stop is not lost with its channel. Nothing it says moves an output any more.
        while let Ok(batch) = self.batches.try_recv() {
            self.take_batch(&batch);
        }
        self.resources.clear();
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

/// The plan's sensors: those that hang on nothing, and the others by what they hang on.
fn jobs(plan: &Plan) -> (Vec<Job>, BTreeMap<String, Vec<Job>>) {
    let (mut inline, mut resources) = (Vec::new(), BTreeMap::<String, Vec<Job>>::new());
    for (sensor, planned) in plan.sensors.iter().enumerate() {
        let job = Job::new(sensor, planned);
        match &planned.place {
            None => inline.push(job),
            Some(place) => resources.entry(place.bus.display().to_string()).or_default().push(job),
        }
    }
    (inline, resources)
}

fn start_polling(
    jobs: BTreeMap<String, Vec<Job>>,
    board: &Arc<dyn Board>,
    clock: &Arc<dyn Clock>,
    batches: &mpsc::Sender<Batch>,
) -> anyhow::Result<Vec<Resource>> {
    let start = clock.now();
    let threads = jobs.into_iter().enumerate().map(|(number, (name, jobs))| {
        let (board, clock, batches) = (board.clone(), clock.clone(), batches.clone());
        Resource::start(poll::Parts { number, name, jobs, board, clock, start, batches })
    });
    threads.collect::<Result<_, _>>().context("a polling thread cannot be started")
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
