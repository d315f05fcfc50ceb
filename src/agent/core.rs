//! The gateway without threads, sockets and sleeps: every flow wired to every other, driven from outside.
//!
//! Whoever drives it tells it what has happened and when, calls [`Core::tick`] at [`Core::deadline`], and [`Core::pump`]
//! after each. So the same code runs on the system's clock and through simulated days.

mod configure;
mod differences;
mod echo;

pub use configure::{Configured, Same};
pub use differences::Differences;

use super::metrics;
use crate::board::Board;
use crate::buffer::{Buffer, Limits};
use crate::clock::{Clock, Instant, Stamp};
use crate::command::{Command, Refusal};
use crate::dispatch::{Action, Dispatch};
use crate::inputs::{InputChange, Inputs};
use crate::line::Level;
use crate::mqtt::{Message, Outgoing, Token};
use crate::outputs::{self, Bank, Earlier};
use crate::plan::Plan;
use crate::poll::Report;
use crate::publish::Link;
use crate::publish::outbox::{Outbox, SlotId};
use crate::publish::sensors::{Effects, Sensors};
use crate::sample::Failure;
use crate::state::StateFile;
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
    /// What outputs follow or require, by [`outputs::SourceId`].
    sources: Vec<configure::Identity>,
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
#[derive(Default)]
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
    pub fn new(plan: Plan, clean_session: bool, parts: Parts) -> Self {
        let mut core = Self::idle(parts);
        let numbers = core.number(&plan);
        core.configure(plan, clean_session, &numbers, &[]);
        core
    }

    /// A core that has nothing to do until it is given a plan by [`Core::configure`].
    pub fn idle(parts: Parts) -> Self {
        let now = parts.clock.stamp();
        Self {
            plan: Plan::default(),
            outbox: Outbox::new(parts.store, parts.drain_per_second),
            sensors: Sensors::default(),
            dispatch: Dispatch::default(),
            bank: Bank::open(Vec::new(), parts.board.clone(), &|_| Earlier::default(), now),
            inputs: Inputs::open(Vec::new(), parts.board, now),
            slots: Slots::default(),
            sources: Vec::new(),
            tally: metrics::Tally::new(now.at),
            next_metrics: now.at,
            looked: now.at,
            read_all: false,
            server_takes: false,
            state_unwritten: false,
            stopping: false,
            scratch: Scratch::default(),
            clock: parts.clock,
            state: parts.state,
            boot_id: parts.boot_id,
        }
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
            self.keep_totals(now);
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

    /// Other limits of what waits for the server, and another rate at which it goes out.
    pub fn limit(&mut self, limits: Limits, flush_every: Duration, drain_per_second: u32) {
        self.outbox.limit(limits, flush_every, drain_per_second);
    }

    /// A configuration was taken up while this ran.
    pub fn reloaded(&mut self) {
        self.tally.reloads += 1;
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
        self.keep_totals(now);
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
}

/// The token of replies, which nobody waits for.
const REPLY: Token = (1 << 62) - 1;
