//! What the disk is asked for, and when; and what goes because it is too much or too old.

use super::{AGAIN_MS, BATCH, Disk, Opening};
use crate::buffer::disk::worker::Request;
use crate::buffer::queue::capacity;

impl Disk {
    /// Asks for whatever is due and not under way.
    pub(super) fn ask(&mut self) {
        let now = self.now.uptime_ms;
        match self.due.open {
            Opening::Done => {}
            Opening::Again { at } if now >= at => {
                self.due.open = Opening::Awaited { since: Some(now) };
                self.port.ask(Request::Open(self.limits));
                // It is opened under those that hold now.
                self.due.limit = false;
                return;
            }
            Opening::Again { .. } | Opening::Awaited { .. } => return,
        }
        self.ask_read();
        if self.due.again.is_some_and(|again| now < again) {
            return;
        }
        self.due.again = None;
        if !self.under_way.limit && std::mem::take(&mut self.due.limit) {
            self.under_way.limit = self.port.ask(Request::Limit(self.limits));
        }
        if !self.under_way.append && self.append_due().is_some_and(|at| now >= at) {
            self.ask_append();
        }
        if !self.under_way.forget && std::mem::take(&mut self.due.forget) {
            let (begin, ranges) = self.shelf.forgotten();
            self.under_way.forget = self.port.ask(Request::Forget(begin, ranges));
        }
        if !self.under_way.sync && self.due.sync.is_some_and(|at| now >= at || self.finishing) {
            self.due.sync = None;
            self.under_way.sync = self.port.ask(Request::Sync);
        }
    }

    /// Whether the history goes on in memory: whatever the disk may have is older, so its answer is awaited for a while.
    pub(super) fn is_read_out(&self) -> bool {
        match self.due.open {
            Opening::Awaited { since } => since.is_some_and(|since| self.now.uptime_ms >= since + AGAIN_MS),
            Opening::Done | Opening::Again { .. } => self.shelf.is_read_out(),
        }
    }

    /// Where to read on, if too little is read ahead and nothing is under way.
    pub(super) fn wants_read(&self) -> Option<u64> {
        // While nothing can be sent, the oldest one is enough: whether it is too old is all that matters.
        let few = if self.offline { 1 } else { self.ahead / 2 };
        self.shelf.wants(few).filter(|_| !self.under_way.read)
    }

    fn ask_read(&mut self) {
        let refused = self.due.read.is_some_and(|again| self.now.uptime_ms < again);
        if let Some(from) = self.wants_read().filter(|_| !refused) {
            self.under_way.read = self.port.ask(Request::Read(from, self.ahead));
        }
    }

    /// When the oldest record in memory has to be written; `None` if there is none, or no room for it.
    pub(super) fn append_due(&self) -> Option<u64> {
        let (_, oldest) = self.queue.iter().next().filter(|_| !self.full)?;
        Some(if self.offline || self.finishing { 0 } else { oldest.uptime_ms + self.flush_ms })
    }

    fn ask_append(&mut self) {
        let (tickets, records): (Vec<_>, Vec<_>) =
            self.queue.iter().take(BATCH).map(|(ticket, record)| (ticket, *record)).unzip();
        let oldest = records.first().map_or(0, |record| record.uptime_ms);
        self.under_way.append = self.port.ask(Request::Append(records));
        self.sent = tickets;
        self.sync_by(oldest + self.flush_ms);
    }

    /// What is written has to be on disk by then.
    pub(super) fn sync_by(&mut self, uptime_ms: u64) {
        self.due.sync = Some(self.due.sync.map_or(uptime_ms, |due| due.min(uptime_ms)));
    }

    /// What is too much in memory gives way: all history where the limit on disk is reached, else what is beyond its own.
    pub(super) fn shed(&mut self) {
        let room = if self.full { 0 } else { capacity(self.limits.max_size) };
        self.dropped += self.queue.shed(room, self.limits.overflow);
    }

    /// What is too old goes, unless it is on its way.
    pub(super) fn expire(&mut self) {
        if self.peeked != (0, 0) {
            return;
        }
        let (limits, now) = (self.limits, self.now);
        let on_disk = self.shelf.expire(|record| limits.is_over_age(record, now));
        self.due.forget |= on_disk > 0;
        self.dropped += on_disk;
        if self.is_read_out() && !self.shelf.is_ready() {
            self.dropped += self.queue.expire(|record| limits.is_over_age(record, now));
        }
    }
}
