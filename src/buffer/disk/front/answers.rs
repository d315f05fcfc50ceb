//! What the disk has answered: what it has now, what is lost, and what people are told.
//!
//! Transitions only: trouble is told once, and that it is over.

use super::{AGAIN_MS, Disk, Due, Opening, UnderWay};
use crate::buffer::Ticket;
use crate::buffer::disk::StoreError;
use crate::buffer::disk::log::{Appended, Batch, Found};
use crate::buffer::disk::shelf::Shelf;
use crate::buffer::disk::worker::Reply;
use crate::buffer::queue::State;

impl Disk {
    /// Takes in one answer.
    pub(super) fn hear(&mut self, reply: Reply) {
        match reply {
            Reply::Opened(Ok(found)) => self.opened(found),
            Reply::Opened(Err(error)) => {
                self.due.open = Opening::Again { at: self.now.uptime_ms + AGAIN_MS };
                self.trouble(&error);
            }
            Reply::Appended(outcome) => {
                self.under_way.append = false;
                let sent = std::mem::take(&mut self.sent);
                if let Some(appended) = self.judge(outcome) {
                    self.appended(&sent, &appended);
                }
            }
            Reply::Read(from, outcome) => {
                self.under_way.read = false;
                match outcome {
                    Ok(batch) => self.read(from, batch),
                    Err(error) => self.unreadable(&error),
                }
            }
            Reply::Forgotten(outcome) => {
                self.under_way.forget = false;
                let freed = self.judge(outcome);
                self.due.forget |= freed.is_none();
                self.full &= freed != Some(true);
                self.sync_by(self.now.uptime_ms + self.flush_ms);
            }
            Reply::Limited(outcome) => {
                self.under_way.limit = false;
                match self.judge(outcome) {
                    Some(begin) => self.limited(begin),
                    None => self.due.limit = true,
                }
            }
            Reply::Synced(outcome) => {
                self.under_way.sync = false;
                if self.judge(outcome).is_none() {
                    self.sync_by(self.now.uptime_ms);
                }
            }
        }
    }

    fn opened(&mut self, found: Found) {
        let Found { begin, next, forgotten, dropped, damaged, cursor_damaged, aside } = found;
        (self.due.open, self.due.again) = (Opening::Done, None);
        self.shelf = Shelf::new(begin, next, forgotten);
        self.dropped += dropped;
        self.recovered();
        let (path, readings) = (self.path.display(), self.shelf.len());
        for name in aside {
            log::error!(path:%, name = name.as_str(); "a newer version wrote this file, it is put aside and kept");
        }
        if cursor_damaged {
            log::warn!(path:%, readings; "the note of what the server has is damaged, readings may be sent again");
        }
        self.found_damaged(damaged);
        if readings > 0 {
            log::info!(path:% = self.path.display(), readings; "readings of an earlier run wait on disk");
        }
    }

    fn appended(&mut self, sent: &[Ticket], appended: &Appended) {
        let Appended { first, taken, begin } = *appended;
        self.dropped += self.shelf.dropped_before(begin);
        self.full = taken == 0 && !sent.is_empty();
        log::debug!(readings = taken; "safe from the end of this process");
        for (number, ticket) in (first..).zip(&sent[..taken]) {
            let state = self.queue.take(*ticket);
            self.shelf.written(number, (state == Some(State::Held)).then_some(*ticket));
            if state.is_none() {
                // Acknowledged, or gone otherwise, while it was being written.
                self.due.forget |= self.shelf.forget_number(number);
            } else if *ticket < self.peeked.1 {
                self.peeked.0 = number + 1;
            }
        }
        self.shed();
    }

    /// What had to give way is lost; there may be room now for what had none.
    fn limited(&mut self, begin: u64) {
        self.dropped += self.shelf.dropped_before(begin);
        self.full = false;
        self.sync_by(self.now.uptime_ms + self.flush_ms);
    }

    fn read(&mut self, from: u64, batch: Batch) {
        if self.due.read.take().is_some() {
            log::info!(path:% = self.path.display(); "readings on disk can be read again");
        }
        let damaged = self.shelf.read(from, batch);
        self.due.forget |= damaged > 0;
        self.found_damaged(damaged);
    }

    fn unreadable(&mut self, error: &StoreError) {
        if self.due.read.replace(self.now.uptime_ms + AGAIN_MS).is_none() {
            log::error!(path:% = self.path.display(), error:% = error; "readings on disk cannot be read, they wait");
        }
    }

    fn found_damaged(&mut self, readings: u64) {
        if readings > 0 && self.damaged == 0 {
            log::error!(path:% = self.path.display(), readings; "damaged readings on disk passed over; the metrics count all");
        }
        self.damaged += readings;
    }

    /// What went well; what did not is told once and tried again later.
    fn judge<T>(&mut self, outcome: Result<T, StoreError>) -> Option<T> {
        match outcome {
            Ok(done) => {
                self.recovered();
                Some(done)
            }
            Err(error) => {
                match error {
                    // Each request that was under way hears of it.
                    StoreError::Removed if self.due.open == Opening::Done => self.removed(),
                    StoreError::Removed => {}
                    _ => self.due.again = Some(self.now.uptime_ms + AGAIN_MS),
                }
                self.trouble(&error);
                None
            }
        }
    }

    pub(super) fn trouble(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.in_trouble, true) {
            log::error!(path:% = self.path.display(), error:% = error; "the store on disk cannot be used, readings wait in memory");
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.in_trouble) {
            log::info!(path:% = self.path.display(); "the store on disk is used again");
        }
    }

    /// What was on disk is not there any more; a new store is made in its place.
    fn removed(&mut self) {
        let end = self.shelf.end();
        self.dropped += self.shelf.dropped_before(end);
        self.peeked.0 = 0;
        self.due = Due { open: Opening::Again { at: self.now.uptime_ms }, ..Due::default() };
    }

    /// The thread has died.
    pub(super) fn lost(&mut self) {
        self.due = Due { open: Opening::Again { at: u64::MAX }, ..Due::default() };
        self.under_way = UnderWay::default();
        self.trouble(&StoreError::Io(std::io::Error::other("its thread has ended")));
        self.shed();
    }
}
