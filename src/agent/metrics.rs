//! The gateway's own numbers, for the metrics topic.

use crate::clock::{Instant, Stamp, processor_time};
use crate::inputs::Inputs;
use crate::publish::outbox::Outbox;
use crate::publish::sensors::Sensors;
use serde::Serialize;

/// Events nobody else counts.
pub struct Tally {
    started: Instant,
    connects: u64,
    /// Configurations taken up since the start.
    pub reloads: u64,
    online: bool,
    contradicted: bool,
    contradiction_told: bool,
    /// Buses on which a read hangs now.
    pub hanging: usize,
    reports_dropped: u64,
    /// What the outbox had dropped when that was last told.
    losses_told: u64,
    /// It drops, which is told; how much follows.
    losing: bool,
}

/// The JSON of the metrics topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Numbers {
    /// RFC 3339, or null while the clock is not known to be right.
    pub time: Option<String>,
    /// Since the agent started, in seconds.
    pub uptime_s: u64,
    /// Connections to the server.
    pub connects: u64,
    /// Configurations taken up since the start.
    pub reloads: u64,
    /// Successful reads.
    pub readings: u64,
    /// Failed reads.
    pub failures: u64,
    /// Sensors that fail now.
    pub failing: usize,
    /// Buses on which a read hangs now.
    pub hanging: usize,
    /// Messages published on live topics.
    pub published: u64,
    /// Readings sent as history.
    pub history: u64,
    /// Readings that wait for the server now, in memory or on disk.
    pub buffered: usize,
    /// Those of them that are on disk.
    pub on_disk: usize,
    /// Readings lost: the buffer was full, they were too old, or the agent was too slow.
    pub dropped: u64,
    /// Readings found damaged on disk.
    pub damaged: u64,
    /// Older values of topics without a history that a newer one replaced.
    pub superseded: u64,
    /// Edges of inputs that came faster than they can be read.
    pub edges_lost: u64,
    /// Processor time used, in seconds.
    pub cpu_s: f64,
    /// Resident memory, in KiB.
    pub memory_kib: u64,
}

impl Tally {
    /// Nothing has happened yet.
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            connects: 0,
            reloads: 0,
            online: false,
            contradicted: false,
            contradiction_told: false,
            hanging: 0,
            reports_dropped: 0,
            losses_told: 0,
            losing: false,
        }
    }

    /// The session has connected.
    pub fn connected(&mut self) {
        self.connects += 1;
        self.online = true;
    }

    /// Somebody has said that we are offline.
    pub fn contradicted(&mut self) {
        self.contradicted = true;
    }

    /// The server has taken our answer to that, so it was somebody else.
    pub fn confirmed(&mut self) {
        if std::mem::take(&mut self.contradicted) && !self.contradiction_told {
            self.contradiction_told = true;
            log::warn!("somebody published offline on our status topic: does a second agent have our name?");
        }
    }

    /// The session has ended: it was our own will, which a server that stops in order publishes before it closes.
    pub fn disconnected(&mut self) {
        self.contradicted = false;
        self.online = false;
    }

    /// So many more reports were dropped before anybody saw them.
    pub fn reports_dropped(&mut self, count: u64) {
        if count > 0 {
            log::error!(dropped = count; "readings dropped, the agent was too slow");
            self.reports_dropped += count;
        }
    }

    /// What waits for the server has come to its limit, or has left it; told once, and the total when it is over.
    pub fn losses(&mut self, outbox: &Outbox) {
        let stored = outbox.stored();
        if self.losing && self.online && stored.waiting == stored.held {
            self.losses_over(outbox);
        } else if !self.losing && outbox.counts().dropped > self.losses_told {
            self.losing = true;
            log::error!(waiting = outbox.waiting(); "readings are being lost, more wait for the server than the buffer keeps");
        }
    }

    /// The connection is back, or nobody waits for it any more: how many readings were lost meanwhile.
    pub fn losses_over(&mut self, outbox: &Outbox) {
        let dropped = outbox.counts().dropped - self.losses_told;
        if dropped > 0 {
            log::error!(dropped; "readings lost while they waited for the server");
        }
        self.losses_told += dropped;
        self.losing = false;
    }

    /// All numbers now.
    pub fn numbers(&self, now: Stamp, outbox: &Outbox, sensors: &Sensors, inputs: &Inputs) -> Numbers {
        let (counts, stored, reads) = (outbox.counts(), outbox.stored(), sensors.counts());
        Numbers {
            time: now.wall.map(|wall| wall.to_string()),
            uptime_s: now.at.since(self.started).as_secs(),
            connects: self.connects,
            reloads: self.reloads,
            readings: reads.reads,
            failures: reads.failures,
            failing: sensors.failing(),
            hanging: self.hanging,
            published: counts.published,
            history: counts.history,
            buffered: outbox.waiting(),
            on_disk: stored.on_disk,
            dropped: counts.dropped + self.reports_dropped,
            damaged: stored.damaged,
            superseded: counts.superseded,
            edges_lost: inputs.edges_lost(),
            cpu_s: processor_time().as_millis() as f64 / 1000.0,
            memory_kib: resident_kib(),
        }
    }
}

impl Numbers {
    /// Appends the JSON.
    pub fn encode(&self, into: &mut Vec<u8>) {
        serde_json::to_writer(into, self).expect("numbers serialise into memory");
    }
}

/// `VmRSS`, 0 where the kernel does not tell.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
