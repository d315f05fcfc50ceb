//! The gateway without threads, sockets and sleeps: every flow wired to every other, driven from outside.
//!
//! Whoever drives it tells it what has happened and when, calls [`Core::tick`] at [`Core::deadline`], and [`Core::pump`]
//! after each. So the same code runs on the system's clock and through simulated days.

use super::metrics;
use crate::board::Board;
use crate::buffer::Buffer;
use crate::clock::{Clock, Instant, Stamp};
use crate::command::{Command, Refusal, state_text};
use crate::dispatch::{Action, Dispatch};
use crate::inputs::{InputChange, Inputs, State};
use crate::line::Level;
use crate::mqtt::{Message, Outgoing, Token};
use crate::outputs::{self, Bank, Earlier, Initial};
use crate::payload;
use crate::plan::Plan;
use crate::poll::Report;
use crate::publish::Link;
use crate::publish::outbox::{Outbox, SlotId, SlotSpec};
use crate::publish::sensors::{Effects, Sensors};
use crate::sample::Failure;
use crate::state::{Calibration, Kept, StateFile};
use crate::topic::QoS;
use std::sync::Arc;
use std::time::Duration;

/// What the core is made of besides the plan.
pub struct Parts {
    /// The board.
    pub board: Arc<dyn Board>,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// Where readings wait while the server is away.
    pub store: Box<dyn Buffer>,
    /// What outlives a restart.
    pub state: StateFile,
    /// This boot's identity.
    pub boot_id: String,
    /// Records of history a second.
    pub drain_per_second: u32,
}

/// Everything between the board and the session.
pub struct Core {
    plan: Plan,
    clock: Arc<dyn Clock>,
    state: StateFile,
    boot_id: String,
    outbox: Outbox,
    sensors: Sensors,
    dispatch: Dispatch,
    bank: Bank,
    inputs: Inputs,
    slots: Slots,
    tally: metrics::Tally,
    next_metrics: Instant,
    /// When the inputs were last read although nothing told of a change.
    looked: Instant,
    read_all: bool,
    /// The server has taken something on this connection.
    server_takes: bool,
    /// The state file could not be written, which is told.
    state_unwritten: bool,
    /// What the stop does to outputs is not what was last wanted of them.
    stopping: bool,
    scratch: Scratch,
}

/// The slots of states that belong to no sensor.
struct Slots {
    status: SlotId,
    inputs: Vec<SlotId>,
    outputs: Vec<SlotId>,
    metrics: Option<SlotId>,
}

#[derive(Default)]
struct Scratch {
    effects: Effects,
    actions: Vec<Action>,
    outputs: Vec<outputs::Change>,
    inputs: Vec<InputChange>,
}

impl Core {
    /// Requests every line and prepares every topic. Nothing that is missing keeps it from starting.
    pub fn new(mut plan: Plan, clean_session: bool, parts: Parts) -> Self {
        let now = parts.clock.stamp();
        let mut outbox = Outbox::new(parts.store, parts.drain_per_second);
        // The status comes first, so it goes first on every connect.
        let status = outbox.add(SlotSpec::state(&plan.status_topic, QoS::AtLeastOnce, true));
        outbox.set(status, |into| into.extend_from_slice(b"online"));
        let kept = parts.state.kept();
        let output_specs = plan.outputs.iter().map(|output| output.spec.clone()).collect();
        let bank = Bank::open(output_specs, parts.board.clone(), &|output| earlier(kept, output), now);
        let input_specs = plan.inputs.iter().map(|input| input.spec.clone()).collect();
        let mut inputs = Inputs::open(input_specs, parts.board, now);
        for (index, input) in plan.inputs.iter().enumerate() {
            kept.totals.get(&input.spec.name).into_iter().for_each(|total| inputs.restore(index, *total));
        }
        let slots = Slots::add(status, &plan, &mut outbox);
        let mut sensors = Sensors::new(&plan, &mut outbox);
        outbox.shrink();
        restore_elevations(&plan, &parts.state, &parts.boot_id, &mut sensors, now, &mut outbox);
        let dispatch = Dispatch::new(&plan, clean_session);
        let next_metrics = now.at + plan.metrics_interval;
        // Their topics live in the slots now; a thousand sensors would keep them twice.
        plan.sensors = Vec::new();
        let mut core = Self {
            plan,
            clock: parts.clock,
            state: parts.state,
            boot_id: parts.boot_id,
            outbox,
            sensors,
            dispatch,
            bank,
            inputs,
            slots,
            tally: metrics::Tally::new(now.at),
            next_metrics,
            looked: now.at,
            read_all: false,
            server_takes: false,
            state_unwritten: false,
            stopping: false,
            scratch: Scratch::default(),
        };
        core.echo(now);
        core
    }

    /// The plan this runs, without its sensors: those are in [`Core::sensors`].
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The sensors' flow.
    pub fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    /// The inputs, so that their file descriptors can be watched.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The outputs.
    pub fn outputs(&self) -> &Bank {
        &self.bank
    }

    /// Samples have come.
    pub fn samples(&mut self, reports: &[Report]) {
        self.outbox.set_asleep(self.clock.asleep());
        let mut effects = std::mem::take(&mut self.scratch.effects);
        for report in reports {
            self.sensors.sample(report.sensor, &report.sample, report.stamp, &mut self.outbox, &mut effects);
            for (source, value) in effects.followed.drain(..) {
                self.bank.value(source, value, report.stamp);
            }
            for (sensor, hpa) in effects.calibrated.drain(..) {
                self.keep_elevation(sensor, hpa, report.stamp);
            }
        }
        self.scratch.effects = effects;
        self.tally.losses(&self.outbox);
        self.echo(self.clock.stamp());
    }

    /// A sensor's read hangs, or waits for one that does.
    pub fn sensor_failed(&mut self, sensor: usize, failure: Failure) {
        self.samples(&[Report { sensor, stamp: self.clock.stamp(), sample: Err(failure) }]);
    }

    /// A message has come.
    pub fn message(&mut self, message: &Message, link: &mut dyn Link) {
        let now = self.clock.stamp();
        let mut actions = std::mem::take(&mut self.scratch.actions);
        self.dispatch.message(message, &mut self.bank, now, &mut actions);
        self.echo(now);
        for action in actions.drain(..) {
            self.act(action, link, now);
        }
        self.scratch.actions = actions;
    }

    fn act(&mut self, action: Action, link: &mut dyn Link, now: Stamp) {
        match action {
            Action::Reply { output, payload } => self.reply(output, &payload, link),
            Action::SeaLevel { sensor, hpa } => {
                if !self.sensors.sea_level(sensor, hpa, now, &mut self.outbox) {
                    // Whoever publishes it may do so a thousand times: the age on the health topic tells that none is taken.
                    log::debug!(sensor = self.sensors.name(sensor), hpa; "sea-level pressure out of range, ignored");
                }
            }
            Action::Get { retake_elevation } => {
                if retake_elevation {
                    self.sensors.retake_elevations();
                }
                self.sensors.publish_next();
                self.read_all = true;
                self.inputs.look(now);
                self.echo(now);
                self.outbox.publish_all();
            }
            Action::Contradicted => {
                self.tally.contradicted();
                self.outbox.set(self.slots.status, |into| into.extend_from_slice(b"online"));
            }
            Action::Confirmed => self.tally.confirmed(),
        }
    }

    /// Replies wait for nobody: without a connection there is no one to answer.
    fn reply(&mut self, output: usize, payload: &[u8], link: &mut dyn Link) {
        let output = &self.plan.outputs[output];
        let Some(topic) = &output.reply else { return };
        // The state goes first: who reads the reply can rely on it.
        self.outbox.pump(link, self.clock.stamp());
        let qos = if link.room(output.qos.max(QoS::AtLeastOnce)) == 0 { QoS::AtMostOnce } else { output.qos };
        let message = Outgoing { topic, payload, qos, retain: false };
        if let Err(error) = link.publish(&message, (qos > QoS::AtMostOnce).then_some(REPLY)) {
            log::debug!(topic = topic.as_str(), error:% = error; "reply not sent");
        }
    }

    /// A command from this machine (`board2mqtt set`).
    ///
    /// # Errors
    /// The guard's refusal.
    pub fn command(&mut self, output: usize, command: &Command) -> Result<Option<Level>, Refusal> {
        let now = self.clock.stamp();
        let outcome = self.bank.command(output, command, false, now);
        self.echo(now);
        outcome.map(|()| self.bank.level(output))
    }

    /// The wall clock has been set: dates that are told already are told again.
    pub fn clock_set(&mut self) {
        // The kernel tells of a board that wakes in the same way.
        self.outbox.set_asleep(self.clock.asleep());
        self.sensors.clock_set(self.clock.stamp(), &mut self.outbox);
    }

    /// An input's file descriptor is readable.
    pub fn input_ready(&mut self, input: usize) {
        let now = self.clock.stamp();
        self.inputs.ready(input, now);
        self.echo(now);
    }

    /// The session is connected: everything known is sent again.
    pub fn connected(&mut self, link: &mut dyn Link) {
        let now = self.clock.stamp();
        self.tally.connected();
        self.inputs.look(now);
        self.echo(now);
        self.outbox.set_asleep(self.clock.asleep());
        self.outbox.connected(now.at);
        self.outbox.pump(link, now);
        self.tally.losses_over(&self.outbox);
    }

    /// What to subscribe to, once connected.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&str, QoS)> {
        self.dispatch.subscriptions()
    }

    /// The session is not connected any more.
    pub fn disconnected(&mut self) {
        self.outbox.disconnected();
        self.tally.disconnected();
        self.server_takes = false;
        let now = self.clock.stamp();
        self.bank.server(false, now);
        self.echo(now);
    }

    /// The server has taken a message. For the outputs it is there from the first one on: a server that lets us in and
    /// takes nothing is none.
    pub fn acked(&mut self, token: Token) {
        if !std::mem::replace(&mut self.server_takes, true) {
            let now = self.clock.stamp();
            self.bank.server(true, now);
            self.echo(now);
        }
        if token != REPLY {
            self.outbox.acked(token);
        }
    }

    /// Whether every sensor is to be read now; told once.
    pub fn take_read_all(&mut self) -> bool {
        std::mem::take(&mut self.read_all)
    }

    /// Lets every timer that has run out do its work.
    pub fn tick(&mut self) {
        let now = self.clock.stamp();
        self.bank.tick(now);
        if self.next_look().is_some_and(|due| due <= now.at) {
            self.looked = now.at;
            self.inputs.look(now);
        }
        self.inputs.tick(now);
        self.echo(now);
        match self.state.tick(now.at) {
            Err(error) if !std::mem::replace(&mut self.state_unwritten, true) => {
                log::error!(error:% = error; "state not written, tried again every minute");
            }
            // The error of the minute before.
            Err(_) => {}
            Ok(true) if std::mem::take(&mut self.state_unwritten) => log::info!("state written again"),
            Ok(_) => {}
        }
        if let (Some(slot), true) = (self.slots.metrics, now.at >= self.next_metrics) {
            self.next_metrics = now.at + self.plan.metrics_interval;
            let numbers = self.tally.numbers(now, &self.outbox, &self.sensors, &self.inputs);
            self.outbox.set(slot, |into| numbers.encode(into));
        }
    }

    /// When [`Core::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let metrics = self.slots.metrics.map(|_| self.next_metrics);
        let all = [self.bank.deadline(), self.inputs.deadline(), self.next_look(), self.state.deadline(), metrics];
        all.into_iter().flatten().min()
    }

    fn next_look(&self) -> Option<Instant> {
        self.inputs.look_every().map(|every| self.looked + every)
    }

    /// Hands to the session whatever may go now.
    pub fn pump(&mut self, link: &mut dyn Link) {
        self.outbox.pump(link, self.clock.stamp());
    }

    /// When [`Core::pump`] has something to do although nothing has happened.
    pub fn pump_deadline(&self) -> Option<Instant> {
        self.outbox.deadline()
    }

    /// The outbox, to see whether everything was sent.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Ordered stop, last part: what the server did not take is stored.
    pub fn finish_store(&mut self) {
        self.outbox.finish();
    }

    /// How many sensors fail now.
    pub fn failing(&self) -> usize {
        self.sensors.failing()
    }

    /// So many buses hang now.
    pub fn buses_hanging(&mut self, count: usize) {
        self.tally.hanging = count;
    }

    /// So many more reports were dropped because this was too slow to take them.
    pub fn reports_dropped(&mut self, count: u64) {
        self.tally.reports_dropped(count);
    }

    /// Ordered stop, first part: outputs to their `on_exit` levels, the state file on its way, history in a hurry.
    pub fn shutdown(&mut self) {
        let now = self.clock.stamp();
        self.bank.shutdown(now);
        self.stopping = true;
        self.echo(now);
        self.outbox.hurry(now.at);
        self.tally.losses_over(&self.outbox);
        if let Err(error) = self.state.write(now.at) {
            log::error!(error:% = error; "state not written");
        }
    }

    /// Ordered stop, last part: the state file is on disk, if the disk answers within `patience`.
    pub fn finish_state(&mut self, patience: Duration) {
        if let Err(error) = self.state.finish(patience, self.clock.now()) {
            log::error!(error:% = error; "state not written");
        }
    }

    /// Publishes what outputs and inputs have become, and keeps what is to outlive a restart.
    fn echo(&mut self, now: Stamp) {
        let mut changes = std::mem::take(&mut self.scratch.outputs);
        self.bank.changes(&mut changes);
        for change in changes.drain(..) {
            self.echo_output(change, now);
        }
        self.scratch.outputs = changes;
        let mut changes = std::mem::take(&mut self.scratch.inputs);
        self.inputs.changes(&mut changes);
        for change in changes.drain(..) {
            self.echo_input(change, now);
        }
        self.scratch.inputs = changes;
    }

    fn echo_output(&mut self, change: outputs::Change, now: Stamp) {
        let slot = self.slots.outputs[change.output];
        let output = &self.plan.outputs[change.output].spec;
        let Some(level) = change.level else {
            // What the line is, nobody knows: no state is better than a wrong one.
            self.outbox.clear(slot);
            return;
        };
        let pwm = output.drive.is_pwm();
        self.outbox.set(slot, |into| into.extend_from_slice(state_text(level, pwm).as_bytes()));
        let last = output.initial == Initial::Last && !self.stopping;
        // How long ago it went off, nobody can tell after a restart, so `min_off` counts anew then.
        let was_on = output.limits.min_off.is_some() && level.is_on();
        if last || was_on {
            self.state.change(now.at, |kept| {
                kept.levels.extend(last.then(|| (output.name.clone(), level.percent())));
                kept.was_on.extend(was_on.then(|| output.name.clone()));
            });
        }
    }

    fn echo_input(&mut self, change: InputChange, now: Stamp) {
        let slot = self.slots.inputs[change.input];
        match change.state {
            State::Level(active) => {
                let word: &[u8] = if active { b"ON" } else { b"OFF" };
                self.outbox.set(slot, |into| into.extend_from_slice(word));
            }
            State::Count(total) => {
                let spec = &self.plan.inputs[change.input].spec;
                let decimals = spec.count.as_ref().map_or(0, |count| decimals_of(count.per_pulse));
                self.outbox.set(slot, |into| payload::decimal(total, decimals, into));
                let name = spec.name.clone();
                self.state.change(now.at, |kept| {
                    kept.totals.insert(name, total);
                });
            }
        }
    }

    fn keep_elevation(&mut self, sensor: usize, sea_level_hpa: f64, now: Stamp) {
        let Some(elevation_m) = self.sensors.known_elevation(sensor) else { return };
        let calibration = Calibration { boot_id: self.boot_id.clone(), elevation_m, sea_level_hpa };
        let name = self.sensors.name(sensor).to_owned();
        log::info!(sensor = name.as_str(), sea_level_hpa; "sea-level pressure taken from the known elevation");
        self.state.change(now.at, |kept| drop(kept.sea_level.insert(name, calibration)));
    }
}

/// The token of replies, which nobody waits for.
const REPLY: Token = (1 << 62) - 1;

impl Slots {
    fn add(status: SlotId, plan: &Plan, outbox: &mut Outbox) -> Self {
        let mut add = |topic: &str, qos, retain| outbox.add(SlotSpec::state(topic, qos, retain));
        Self {
            status,
            outputs: plan.outputs.iter().map(|o| add(&o.topic, o.qos, o.retain)).collect(),
            inputs: plan.inputs.iter().map(|i| add(&i.topic, i.qos, i.retain)).collect(),
            metrics: plan.metrics_topic.as_ref().map(|topic| add(topic, plan.qos, plan.retain)),
        }
    }
}

fn earlier(kept: &Kept, output: &str) -> Earlier {
    let last = kept.levels.get(output).copied().and_then(Level::from_percent);
    Earlier { last, was_on: kept.was_on.contains(output) || last.is_some_and(Level::is_on) }
}

/// The digits after the point that a total of such pulses can have.
fn decimals_of(per_pulse: f64) -> u8 {
    let text = per_pulse.to_string();
    text.split_once('.').map_or(0, |(_, digits)| digits.len().min(9) as u8)
}

/// Sea-level pressures taken earlier in this boot, for the same elevation, hold on.
fn restore_elevations(
    plan: &Plan,
    state: &StateFile,
    boot_id: &str,
    sensors: &mut Sensors,
    now: Stamp,
    outbox: &mut Outbox,
) {
    for (index, sensor) in plan.sensors.iter().enumerate() {
        let Some(kept) = state.kept().sea_level.get(&sensor.name) else { continue };
        let same = crate::plan::SeaLevel::KnownElevation(kept.elevation_m) == sensor.sea_level;
        if same && kept.boot_id == boot_id && !sensors.sea_level(index, kept.sea_level_hpa, now, outbox) {
            log::warn!(sensor = sensor.name.as_str(), hpa = kept.sea_level_hpa; "kept sea-level pressure out of range, ignored");
        }
    }
}
