//! The gateway in one thread on a clock that is moved by hand: the real core, schedules, drivers and guard over the
//! simulated board, and a model of the server's end of the session. Days pass in seconds.
//!
//! It does what the agent's loop does: ticks at deadlines, reads what is due, hands over what may go. A clock that stands
//! still, because some deadline never moves on, is a failure at once.

use super::server::Server;
use board2mqtt::agent::core::{Core, Parts, Same};
use board2mqtt::board::simulated::{self, Control, Simulated};
use board2mqtt::board::{Board, Bus, Input, Output};
use board2mqtt::buffer::memory::Memory;
use board2mqtt::buffer::{Limits, Overflow};
use board2mqtt::clock::{Clock, Instant, ManualClock, Wall};
use board2mqtt::config;
use board2mqtt::line::{Active, Bias, Drive, Edges, I2cPlace, Initial, Level, LineId};
use board2mqtt::mqtt::Message;
use board2mqtt::plan::{self, Plan};
use board2mqtt::poll::{Job, Poller, Report};
use board2mqtt::publish::Link;
use board2mqtt::sample::{Failure, Reason};
use board2mqtt::state::StateFile;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Steps the clock may stand still for: a handful of things may fall due together.
const STILL: u32 = 200;
/// 2026-03-01T00:00:00Z.
pub const START: Wall = Wall(1_772_323_200_000);

/// One attempt at an output line.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub at: Instant,
    pub line: String,
    /// Logical; `None` where it failed.
    pub level: Option<Level>,
}

/// What was written to output lines, whoever wrote it.
pub type Writes = Arc<Mutex<Vec<Write>>>;

/// The sensors that share a bus.
struct Resource {
    bus: Option<PathBuf>,
    poller: Poller,
    sensors: Vec<usize>,
    /// A read hangs: nothing is read, and at this time the agent notices.
    hanging: Option<Instant>,
    hung: bool,
}

/// The gateway and everything around it.
pub struct Rig {
    pub clock: Arc<ManualClock>,
    pub control: Control,
    pub board: Arc<dyn Board>,
    pub writes: Writes,
    pub server: Server,
    /// What was read since somebody last looked.
    pub reports: Vec<Report>,
    /// Steps so far.
    pub steps: u64,
    pub store: Limits,
    pub boot_id: String,
    configuration: PathBuf,
    folder: tempfile::TempDir,
    /// As it was made; the core keeps no sensors in its own.
    plan: Plan,
    core: Option<Core>,
    resources: Vec<Resource>,
    status_topic: String,
    still: u32,
}

impl Rig {
    /// The gateway of a configuration file, started, without a server.
    pub fn new(configuration: &Path, seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(Instant::from_nanos(1_000_000_000)));
        clock.set_wall(Some(START));
        let plan = plan_of(configuration);
        let simulated = simulated_board(&plan, clock.clone());
        let control = simulated.control();
        let writes = Writes::default();
        let board = Arc::new(Recorded { board: simulated, clock: clock.clone(), writes: writes.clone() });
        let max_age = Duration::from_secs(7 * 24 * 3600);
        let mut rig = Self {
            server: Server::new(clock.clone(), Duration::from_secs(10), seed),
            clock,
            control,
            board,
            writes,
            reports: Vec::new(),
            steps: 0,
            store: Limits { max_size: 256 * 1024, max_age, overflow: Overflow::DropOldest },
            boot_id: "a boot".to_owned(),
            configuration: configuration.to_owned(),
            folder: tempfile::tempdir().expect("a folder"),
            core: None,
            resources: Vec::new(),
            status_topic: plan.status_topic.clone(),
            plan,
            still: 0,
        };
        rig.start(configuration.to_owned().as_path());
        rig
    }

    /// Starts an agent on the board as it stands; one that ran before must have been stopped or killed.
    pub fn start(&mut self, configuration: &Path) {
        assert!(self.core.is_none(), "an agent runs");
        self.configuration = configuration.to_owned();
        let plan = plan_of(configuration);
        let clock: Arc<dyn Clock> = self.clock.clone();
        let jobs = plan.sensors.iter().enumerate().map(|(sensor, planned)| Arc::new(Job::new(sensor, planned)));
        self.resources.clear();
        self.poll(by_bus(jobs), &[]);
        let parts = Parts {
            board: self.board.clone(),
            clock,
            store: Box::new(Memory::new(self.store)),
            state: StateFile::open(&self.folder.path().join("state.json")).0,
            boot_id: self.boot_id.clone(),
            drain_per_second: 200,
        };
        self.plan = plan_of(configuration);
        self.core = Some(Core::new(plan, true, parts));
        self.turn();
    }

    /// Starts it again with the configuration it had.
    pub fn restart(&mut self) {
        self.start(&self.configuration.clone());
    }

    /// Takes up another configuration while it runs, as the agent does. [`Rig::plan`] stays what it was.
    pub fn reload(&mut self, configuration: &Path) {
        let Some(core) = &mut self.core else { return };
        let plan = plan_of(configuration);
        let numbers = core.number(&plan);
        let jobs = numbers.iter().zip(&plan.sensors).map(|(number, sensor)| Arc::new(Job::new(*number, sensor)));
        let jobs: Vec<_> = jobs.collect();
        let polled: Vec<_> = self.resources.iter().flat_map(|resource| resource.poller.jobs()).collect();
        let same = |job: &Arc<Job>| {
            let old = polled.iter().find(|old| old.sensor == job.sensor);
            old.map_or(Same::default(), |old| Same { chip: old.same_chip(job), job: ***old == **job })
        };
        let same: Vec<_> = jobs.iter().map(same).collect();
        let configured = core.configure(plan, true, &numbers, &same);
        self.poll(by_bus(jobs.into_iter()), &configured.read_now);
        if self.server.is_connected() {
            self.give_retained(configured.subscribe.into_iter().map(|(topic, _)| topic));
        }
        self.turn();
    }

    /// Goes on with these jobs: buses come and go with them.
    fn poll(&mut self, mut buses: BTreeMap<Option<PathBuf>, Vec<Arc<Job>>>, read_now: &[usize]) {
        let now = self.clock.now();
        self.resources.retain(|resource| buses.contains_key(&resource.bus));
        for resource in &mut self.resources {
            let jobs = buses.remove(&resource.bus).expect("those without jobs are gone");
            resource.sensors = jobs.iter().map(|job| job.sensor).collect();
            resource.poller.configure(jobs, read_now, now);
        }
        let fresh = buses.into_iter().map(|(bus, jobs)| Resource {
            bus,
            sensors: jobs.iter().map(|job| job.sensor).collect(),
            poller: Poller::new(jobs, self.board.clone(), self.clock.clone(), now),
            hanging: None,
            hung: false,
        });
        self.resources.extend(fresh);
    }

    /// The process dies: lines are let go as they stand, nothing is written any more.
    pub fn kill(&mut self) {
        self.core = None;
        self.server.disconnect(&self.status_topic);
    }

    /// A stop in order.
    pub fn stop(&mut self) {
        self.core().shutdown();
        self.exchange();
        self.kill();
    }

    /// The agent's core.
    pub fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("an agent runs")
    }

    pub fn is_running(&self) -> bool {
        self.core.is_some()
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The server is there: what the agent does then, and what the server then sends.
    pub fn connect(&mut self) {
        let Some(core) = &mut self.core else { return };
        self.server.connect();
        core.connected(&mut self.server);
        let topics: Vec<String> = core.subscriptions().map(|(topic, _)| topic.to_owned()).collect();
        self.exchange();
        self.give_retained(topics.into_iter());
    }

    /// What the server says to a subscription.
    fn give_retained(&mut self, topics: impl Iterator<Item = String>) {
        for topic in topics {
            if let Some(message) = self.server.retained_message(&topic) {
                self.deliver(message);
            }
        }
    }

    /// The server is gone.
    pub fn disconnect(&mut self) {
        self.server.disconnect(&self.status_topic);
        if let Some(core) = &mut self.core {
            core.disconnected();
        }
    }

    /// Somebody publishes; lost if there is no connection.
    pub fn message(&mut self, topic: &str, payload: &[u8]) {
        if self.server.is_connected() && self.server.mood() != super::server::Mood::Silent {
            let payload = payload.to_vec().into();
            self.deliver(Message { topic: topic.to_owned(), payload, retain: false });
        }
    }

    fn deliver(&mut self, message: Message) {
        if let Some(core) = &mut self.core {
            core.message(&message, &mut self.server);
            self.turn();
        }
    }

    /// An input moves.
    pub fn input(&mut self, name: &str, on: bool) {
        self.control.set_input(name, on).expect("an input");
        if let Some(core) = &mut self.core {
            (0..core.plan().inputs.len()).for_each(|input| core.input_ready(input));
        }
        self.exchange();
    }

    /// A read on the bus of `sensor` never ends, or does again.
    pub fn hang(&mut self, sensor: usize, hangs: bool) {
        let now = self.clock.now();
        let resource = self.resources.iter_mut().find(|resource| resource.sensors.contains(&sensor)).expect("a bus");
        resource.hanging = hangs.then(|| now.max(resource.poller.due().unwrap_or(now)) + resource.poller.deadline());
        resource.hung = hangs;
    }

    /// Lets `duration` pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.clock.now() + duration;
        while self.clock.now() < end {
            self.step(end);
        }
    }

    /// Lets time pass until something is to be done, at most until `limit`, and does it.
    pub fn step(&mut self, limit: Instant) {
        let now = self.clock.now();
        let next = self.deadline().map_or(limit, |deadline| deadline.min(limit));
        self.still = if next > now { 0 } else { self.still + 1 };
        assert!(self.still < STILL, "the clock stands still: something is due for ever");
        self.clock.advance(next.since(now));
        self.control.advance(self.clock.now());
        self.steps += 1;
        self.turn();
    }

    fn deadline(&self) -> Option<Instant> {
        let core = self.core.as_ref()?;
        let sensors = self
            .resources
            .iter()
            .filter_map(|resource| if resource.hung { resource.hanging } else { resource.poller.due() });
        let others = [core.deadline(), core.pump_deadline(), self.server.deadline()];
        sensors.chain(others.into_iter().flatten()).min()
    }

    fn turn(&mut self) {
        let now = self.clock.now();
        let Some(core) = &mut self.core else { return };
        let told = self.reports.len();
        let read_all = core.take_read_all();
        for resource in &mut self.resources {
            if read_all {
                resource.poller.read_now(now);
            }
            if !resource.hung {
                resource.poller.run(now, |_, _| {}, |report| self.reports.push(report));
            } else if resource.hanging.is_some_and(|at| now >= at) {
                resource.hanging = None;
                let failure = || Failure::new(Reason::Timeout, "the read does not end");
                resource.sensors.iter().for_each(|sensor| core.sensor_failed(*sensor, failure()));
            }
        }
        if self.reports.len() > told {
            core.samples(&self.reports[told..]);
        }
        // Later than `now`: drivers that wait for their chips have moved the clock.
        if core.deadline().is_some_and(|at| self.clock.now() >= at) {
            core.tick();
        }
        if self.server.gives_up_at().is_some_and(|at| now >= at) {
            self.disconnect();
        }
        self.exchange();
    }

    /// Hands over what may go until nothing moves any more.
    fn exchange(&mut self) {
        let Some(core) = &mut self.core else { return };
        loop {
            core.pump(&mut self.server);
            let acked = self.server.turn();
            if acked.is_empty() {
                return;
            }
            acked.into_iter().for_each(|token| core.acked(token));
        }
    }
}

/// Loads and plans a configuration that must be good.
pub fn plan_of(path: &Path) -> Plan {
    let loaded = config::load(path, std::iter::empty()).unwrap_or_else(|report| panic!("{report}"));
    plan::build(&loaded.config).unwrap_or_else(|faults| panic!("{faults:#?}")).0
}

/// A board with a model for every sensor of the plan, on which nothing happens by itself.
pub fn simulated_board(plan: &Plan, clock: Arc<dyn Clock>) -> Simulated {
    let sensors = plan.sensors.iter().filter_map(|sensor| {
        let place = sensor.place.clone()?;
        Some(simulated::SimulatedSensor { name: sensor.name.clone(), place, driver: sensor.driver.name })
    });
    let inputs = plan.inputs.iter().map(|input| simulated::SimulatedInput {
        name: input.spec.name.clone(),
        line: input.spec.line.clone(),
        active: input.spec.active,
    });
    let parts = simulated::Parts { sensors: sensors.collect(), inputs: inputs.collect() };
    let still = simulated::Script::parse("", Path::new("still")).expect("an empty script");
    Simulated::by_hand(parts, Some(still), None, clock).expect("a board")
}

/// What is polled together.
fn by_bus(jobs: impl Iterator<Item = Arc<Job>>) -> BTreeMap<Option<PathBuf>, Vec<Arc<Job>>> {
    let mut buses: BTreeMap<_, Vec<_>> = BTreeMap::new();
    jobs.for_each(|job| buses.entry(job.place.as_ref().map(|place| place.bus.clone())).or_default().push(job));
    buses
}

/// A board that notes what is written to its outputs, and when.
struct Recorded {
    board: Simulated,
    clock: Arc<ManualClock>,
    writes: Writes,
}

struct RecordedOutput {
    output: Box<dyn Output>,
    line: String,
    clock: Arc<ManualClock>,
    writes: Writes,
}

fn note(writes: &Writes, write: Write) {
    writes.lock().unwrap_or_else(PoisonError::into_inner).push(write);
}

impl Board for Recorded {
    fn kind(&self) -> &'static str {
        "recorded"
    }

    fn i2c(&self, place: &I2cPlace, deadline: Duration) -> Result<Bus, Failure> {
        self.board.i2c(place, deadline)
    }

    fn output(&self, drive: &Drive, initial: Initial) -> Result<Box<dyn Output>, Failure> {
        let output = self.board.output(drive, initial)?;
        let line = drive.to_string();
        if let Initial::Level(level) = initial {
            note(&self.writes, Write { at: self.clock.now(), line: line.clone(), level: Some(level) });
        }
        Ok(Box::new(RecordedOutput { output, line, clock: self.clock.clone(), writes: self.writes.clone() }))
    }

    fn input(&self, line: &LineId, active: Active, bias: Bias, edges: Edges) -> Result<Box<dyn Input>, Failure> {
        self.board.input(line, active, bias, edges)
    }
}

impl Output for RecordedOutput {
    fn set(&mut self, level: Level) -> Result<(), Failure> {
        let outcome = self.output.set(level);
        let level = outcome.is_ok().then_some(level);
        note(&self.writes, Write { at: self.clock.now(), line: self.line.clone(), level });
        outcome
    }

    fn level(&mut self) -> Result<Level, Failure> {
        self.output.level()
    }
}
