//! What keeps the agent honest: the watchdog, the status line, and hanging reads.

use super::core::Core;
use crate::clock::Instant;
use crate::mqtt::Server;
use crate::poll::Resource;
use crate::sample::{Failure, Reason};
use crate::systemd::Notifier;
use std::time::Duration;

/// How often the status line is looked at while nothing else happens.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Feeds systemd's watchdog as long as the main loop turns, and keeps the STATUS line true.
pub struct Supervisor {
    notifier: Notifier,
    server: Server,
    cause: Option<String>,
    /// The cause is another one, and not told yet.
    news: bool,
    connected: bool,
    failing: usize,
    next_feed: Option<Instant>,
    next_status: Option<Instant>,
}

impl Supervisor {
    /// Feeds nothing and says nothing where no service manager listens.
    pub fn new(notifier: Notifier, server: Server, now: Instant) -> Self {
        let next_feed = notifier.watchdog_interval().map(|_| now);
        let next_status = notifier.is_present().then_some(now);
        Self { notifier, server, cause: None, news: false, connected: false, failing: 0, next_feed, next_status }
    }

    /// The server of the STATUS line.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Outputs stand at their initial levels.
    pub fn ready(&mut self) {
        self.notifier.ready();
    }

    /// The agent is going to stop.
    pub fn stopping(&mut self) {
        self.notifier.stopping();
    }

    /// The session has ended, and why.
    pub fn disconnected(&mut self, cause: String) {
        self.news |= self.cause.as_ref() != Some(&cause);
        self.cause = Some(cause);
    }

    /// The main loop has come round.
    pub fn turn(&mut self, now: Instant, core: &Core, connected: bool) {
        if self.next_feed.is_some_and(|at| now >= at) {
            self.notifier.watchdog();
            self.next_feed = self.notifier.watchdog_interval().map(|interval| now + interval);
        }
        let changed = self.news || connected != self.connected || core.failing() != self.failing;
        if self.next_status.is_some_and(|at| changed || now >= at) {
            self.news = false;
            self.connected = connected;
            self.failing = core.failing();
            self.notifier.status(&self.text(core));
            self.next_status = Some(now + STATUS_INTERVAL);
        }
    }

    /// When [`Supervisor::turn`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        [self.next_feed, self.next_status].into_iter().flatten().min()
    }

    fn text(&self, core: &Core) -> String {
        let sensors = core.sensors().len();
        let session = match (&self.cause, self.connected) {
            (_, true) => format!("connected to {}", self.server),
            (Some(cause), false) => format!("no connection to {}: {cause}", self.server),
            (None, false) => format!("connecting to {}", self.server),
        };
        let waiting = core.outbox().waiting();
        format!("{session}; {} of {sensors} sensors ok; {waiting} readings waiting", sensors - self.failing)
    }
}

/// A read has gone on beyond its deadline: the sensor fails, and so do those that wait behind it.
pub fn tell_hanging(resource: &Resource, hanging: usize, core: &mut Core) {
    let (name, bus) = (core.sensors().name(hanging).to_owned(), resource.name());
    for sensor in resource.sensors() {
        let detail = if sensor == hanging {
            format!("the read on {bus} does not end, the bus or the chip hangs")
        } else {
            format!("{bus} is held by the sensor `{name}`")
        };
        core.sensor_failed(sensor, Failure::new(Reason::Timeout, detail));
    }
}
