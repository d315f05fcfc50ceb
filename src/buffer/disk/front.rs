//! The store as the main thread sees it: what is in memory, what is on disk, and which request the thread gets next.
//!
//! Everything is decided here, from the times it is given; it neither reads a clock nor does I/O. Invariant: a record is in
//! the queue until the disk has confirmed it, and of each kind of request at most one is under way.

use super::StoreError;
use super::folder::{Directory, Folder};
use super::log::{Appended, Found, Log};
use super::shelf::Shelf;
use super::worker::{Port, Reply, Request, Worker, connect};
use crate::buffer::names::Names;
use crate::buffer::queue::{Queue, State, capacity};
use crate::buffer::{Buffer, Contents, Limits, Moment, Record, Ticket};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Records written at once.
const BATCH: usize = 1024;
/// Records read ahead, unless whoever empties the store asks for larger shares…
const AHEAD: usize = 512;
/// …but never more than these, 1.5 MiB.
const MOST_AHEAD: usize = 32 * 1024;
/// After this long, what the disk refused is tried again.
const AGAIN_MS: u64 = 10_000;

/// What a store on disk needs.
pub struct Options {
    /// The folder.
    pub path: PathBuf,
    /// The limits.
    pub limits: Limits,
    /// What a power cut may cost.
    pub flush_every: Duration,
    /// This boot, as the kernel names it.
    pub boot: u128,
    /// Called whenever [`Buffer::turn`] has something to take in; by another thread.
    pub wake: Box<dyn Fn() + Send>,
}

/// The store on disk.
pub struct Disk {
    path: PathBuf,
    names: Arc<Names>,
    limits: Limits,
    flush_ms: u64,
    port: Port,
    /// In memory: not on disk yet, and perhaps never.
    queue: Queue,
    /// What is being written.
    sent: Vec<Ticket>,
    shelf: Shelf,
    under_way: UnderWay,
    due: Due,
    /// Everything is written at once: nobody is there to acknowledge it.
    offline: bool,
    /// The limit is reached, and what is new gives way.
    full: bool,
    finishing: bool,
    /// The disk refuses to work, which is told.
    in_trouble: bool,
    /// So many are read ahead.
    ahead: usize,
    /// Where what was peeked last ends: a number on disk and a ticket in the queue, 0 for none.
    peeked: (u64, Ticket),
    now: Moment,
    dropped: u64,
    damaged: u64,
}

/// Requests that are not answered yet.
#[derive(Default)]
struct UnderWay {
    append: bool,
    read: bool,
    forget: bool,
    sync: bool,
}

/// What is to be asked for, and since when or from when on, in milliseconds of uptime.
#[derive(Default)]
struct Due {
    /// The log is not open: it is tried then, or an answer is awaited.
    open: Option<Option<u64>>,
    /// The cursor on disk is not what it should be.
    forget: bool,
    /// Something is written that has to be on disk by then.
    sync: Option<u64>,
    /// Until then the disk is not asked to write.
    again: Option<u64>,
}

impl Disk {
    /// Starts the thread, which opens the folder; meanwhile, and if that fails, records wait in memory.
    pub fn start(options: Options) -> Self {
        let folder = Box::new(Directory::new(&options.path));
        let (mut disk, worker) = Self::over(folder, options);
        if let Err(error) = worker.start() {
            disk.trouble(&error.into());
        }
        disk
    }

    /// The store over a folder, and the worker that has to be run for it.
    pub(super) fn over(folder: Box<dyn Folder>, options: Options) -> (Self, Worker) {
        let Options { path, limits, flush_every, boot, wake } = options;
        let names = Arc::new(Names::new(boot));
        let (port, worker) = connect(Log::new(folder, names.clone(), limits), wake);
        port.ask(Request::Open);
        let disk = Self {
            path,
            names,
            limits,
            flush_ms: flush_every.as_millis() as u64,
            port,
            queue: Queue::default(),
            sent: Vec::new(),
            shelf: Shelf::default(),
            under_way: UnderWay::default(),
            due: Due { open: Some(None), ..Due::default() },
            offline: true,
            full: false,
            finishing: false,
            in_trouble: false,
            ahead: AHEAD,
            peeked: (0, 0),
            now: Moment::default(),
            dropped: 0,
            damaged: 0,
        };
        (disk, worker)
    }
}

impl Buffer for Disk {
    fn series(&mut self, label: &str) -> u32 {
        self.names.series(label)
    }

    fn label(&self, series: u32) -> Option<Arc<str>> {
        self.names.label(series)
    }

    fn boot(&self, boot: u32) -> Option<u128> {
        self.names.boot(boot)
    }

    fn push(&mut self, record: Record) -> Ticket {
        self.queue.push(record)
    }

    fn release(&mut self, tickets: Range<Ticket>) {
        for ticket in tickets {
            // What is in neither place was on disk, and had to give way while it was held.
            let is_here = self.queue.release(ticket) || self.shelf.release(ticket);
            self.dropped += u64::from(!is_here);
        }
        self.shed();
    }

    fn forget(&mut self, tickets: Range<Ticket>) {
        for ticket in tickets {
            if self.queue.take(ticket).is_none() {
                self.due.forget |= self.shelf.forget(ticket);
            }
        }
    }

    fn peek(&mut self, max: usize, into: &mut Vec<Record>) {
        self.ahead = self.ahead.max(max.saturating_mul(2)).min(MOST_AHEAD);
        let before = into.len();
        self.peeked = (self.shelf.peek(max, into), 0);
        let rest = max - (into.len() - before);
        if rest > 0 && self.shelf.is_read_out() {
            self.peeked.1 = self.queue.peek(rest, into);
        }
    }

    fn forget_peeked(&mut self) {
        let (number, ticket) = std::mem::take(&mut self.peeked);
        if number > 0 {
            self.shelf.forget_before(number);
            self.due.forget = true;
        }
        self.queue.take_history_before(ticket);
    }

    fn give_back(&mut self) {
        self.peeked = (0, 0);
    }

    fn is_ready(&self) -> bool {
        self.shelf.is_ready() || (self.shelf.is_read_out() && self.queue.is_ready())
    }

    fn online(&mut self, online: bool) {
        self.offline = !online;
    }

    fn turn(&mut self, now: Moment) {
        self.now = now;
        loop {
            match self.port.reply() {
                Ok(Some(reply)) => self.hear(reply),
                Ok(None) => break,
                Err(_) => return self.lost(),
            }
        }
        self.expire();
        self.ask();
    }

    fn deadline(&self) -> Option<u64> {
        if let Some(open) = self.due.open {
            return open;
        }
        let append = self.append_due().filter(|_| !self.under_way.append);
        let sync = self.due.sync.filter(|_| !self.under_way.sync);
        let first = [append, sync].into_iter().flatten().min();
        let forget = self.due.forget && !self.under_way.forget;
        match self.due.again {
            Some(again) if first.is_some() || forget => Some(again.max(first.unwrap_or(again))),
            Some(_) => None,
            None => first,
        }
    }

    fn finish(&mut self) {
        self.finishing = true;
        // Whatever was to be tried later is tried once more, now.
        self.due.again = None;
        self.due.open = self.due.open.map(|at| at.map(|_| 0));
    }

    fn is_busy(&self) -> bool {
        let UnderWay { append, read: _, forget, sync } = self.under_way;
        let is_opening = self.due.open == Some(None);
        let has_work = self.append_due().is_some() || self.due.forget || self.due.sync.is_some();
        let may_work = self.due.open.is_none() && self.due.again.is_none();
        append || forget || sync || is_opening || (self.finishing && has_work && may_work)
    }

    fn contents(&self) -> Contents {
        Contents {
            waiting: self.queue.len() + self.shelf.len(),
            held: self.queue.held() + self.shelf.held(),
            on_disk: self.shelf.len(),
            at_risk: self.queue.len(),
            dropped: self.dropped,
            damaged: self.damaged,
        }
    }
}

/// What the disk has answered.
impl Disk {
    fn hear(&mut self, reply: Reply) {
        match reply {
            Reply::Opened(Ok(found)) => self.opened(found),
            Reply::Opened(Err(error)) => {
                self.due.open = Some(Some(self.now.uptime_ms + AGAIN_MS));
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
                if let Some(batch) = self.judge(outcome) {
                    self.read(from, batch);
                }
            }
            Reply::Forgotten(outcome) => {
                self.under_way.forget = false;
                let freed = self.judge(outcome);
                self.due.forget |= freed.is_none();
                self.full &= freed != Some(true);
                self.sync_by(self.now.uptime_ms + self.flush_ms);
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
        (self.due.open, self.due.again) = (None, None);
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

    fn read(&mut self, from: u64, batch: super::log::Batch) {
        let damaged = self.shelf.read(from, batch);
        self.due.forget |= damaged > 0;
        self.found_damaged(damaged);
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
                if matches!(error, StoreError::Removed) {
                    self.removed();
                } else {
                    self.due.again = Some(self.now.uptime_ms + AGAIN_MS);
                }
                self.trouble(&error);
                None
            }
        }
    }

    fn trouble(&mut self, error: &StoreError) {
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
        self.due = Due { open: Some(Some(self.now.uptime_ms)), ..Due::default() };
    }

    /// The thread has died.
    fn lost(&mut self) {
        self.due = Due { open: Some(Some(u64::MAX)), ..Due::default() };
        self.under_way = UnderWay::default();
        self.trouble(&StoreError::Io(std::io::Error::other("its thread has ended")));
        self.shed();
    }
}

/// What the disk is asked for.
impl Disk {
    fn ask(&mut self) {
        let now = self.now.uptime_ms;
        match self.due.open {
            None => {}
            Some(Some(at)) if now >= at => return self.open(),
            Some(_) => return,
        }
        self.ask_read();
        if self.due.again.is_some_and(|again| now < again) {
            return;
        }
        self.due.again = None;
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

    fn open(&mut self) {
        self.due.open = Some(None);
        self.port.ask(Request::Open);
    }

    fn ask_read(&mut self) {
        // While nothing can be sent, the oldest one is enough: whether it is too old is all that matters.
        let few = if self.offline { 1 } else { self.ahead / 2 };
        if let (false, Some(from)) = (self.under_way.read, self.shelf.wants(few)) {
            self.under_way.read = self.port.ask(Request::Read(from, self.ahead));
        }
    }

    /// When the oldest record in memory has to be written; `None` if there is none, or no room for it.
    fn append_due(&self) -> Option<u64> {
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

    fn sync_by(&mut self, uptime_ms: u64) {
        self.due.sync = Some(self.due.sync.map_or(uptime_ms, |due| due.min(uptime_ms)));
    }

    /// What is too much in memory gives way: all history where the limit on disk is reached, else what is beyond its own.
    fn shed(&mut self) {
        let room = if self.full { 0 } else { capacity(self.limits.max_size) };
        self.dropped += self.queue.shed(room, self.limits.overflow);
    }

    /// What is too old goes, unless it is on its way.
    fn expire(&mut self) {
        if self.peeked != (0, 0) {
            return;
        }
        let (limits, now) = (self.limits, self.now);
        let on_disk = self.shelf.expire(|record| limits.is_over_age(record, now));
        self.due.forget |= on_disk > 0;
        self.dropped += on_disk;
        if self.shelf.is_read_out() && !self.shelf.is_ready() {
            self.dropped += self.queue.expire(|record| limits.is_over_age(record, now));
        }
    }
}
