//! What keeps the agent honest: the watchdog, the status line, the word of a reload, and hanging reads.

use super::core::Core;
use super::reload::Refusal;
use crate::clock::Instant;
use crate::mqtt::Server;
use crate::poll::Resource;
use crate::sample::{Failure, Reason};
use crate::systemd::Notifier;
use std::fmt;
use std::time::Duration;

/// How often the status line is looked at while nothing else happens.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Feeds systemd's watchdog as long as the main loop turns, and keeps the STATUS line true.
pub struct Supervisor {
    notifier: Notifier,
    server: Server,
    cause: Option<String>,
    /// Why the last configuration was not taken up.
    refusal: Option<Refusal>,
    /// Cause or refusal is another one, and not told yet.
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
        let (cause, refusal) = (None, None);
        Self { notifier, server, cause, refusal, news: false, connected: false, failing: 0, next_feed, next_status }
    }

    /// The server of the STATUS line.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Outputs stand at their initial levels.
    pub fn ready(&mut self) {
        self.notifier.ready();
    }

    /// Another configuration is being read.
    pub fn reloading(&mut self) {
        self.notifier.reloading();
    }

    /// It is taken up.
    pub fn reloaded(&mut self, server: Server) {
        if self.server != server {
            (self.server, self.cause) = (server, None);
        }
        (self.refusal, self.news) = (None, true);
        self.notifier.ready();
    }

    /// It is not, and the one before goes on.
    pub fn refused(&mut self, refusal: Refusal) {
        (self.refusal, self.news) = (Some(refusal), true);
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
        let refused = self.refusal.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{refused}{session}; {} of {sensors} sensors ok; {waiting} readings waiting", sensors - self.failing)
    }
}

impl fmt::Display for Refusal {
    /// As the beginning of the status line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults {
            0 | 1 => write!(f, "reload refused: {}; ", self.first),
            more => write!(f, "reload refused, {more} faults, the first: {}; ", self.first),
        }
    }
}

/// A read has gone on beyond its deadline: the sensor fails, and so do those that wait behind it.
pub fn tell_hanging(resource: &Resource, hanging: usize, core: &mut Core) {
    let (name, bus) = (core.sensors().name(hanging).to_owned(), resource.name());
    for sensor in resource.sensors() {
        let detail = if sensor == hanging {
            format!("the read on {bus} does not end, the bus or the chip hangs")
        } else if name.is_empty() {
            format!("{bus} is held by the read of a sensor that is gone")
        } else {
            format!("{bus} is held by the sensor `{name}`")
        };
        core.sensor_failed(sensor, Failure::new(Reason::Timeout, detail));
    }
}
