//! The store as the main thread sees it: what is in memory, what is on disk, and which request the thread gets next.
//!
//! Everything is decided here, from the times it is given; it neither reads a clock nor does I/O. [`answers`] takes in what
//! the thread says, [`requests`] tells it what to do next. Invariant: a record is in the queue until the disk has confirmed
//! it, and of each kind of request at most one is under way.

mod answers;
mod requests;

use super::folder::{Directory, Folder};
use super::log::Log;
use super::shelf::Shelf;
use super::worker::{Port, Request, Worker, connect};
use crate::buffer::names::Names;
use crate::buffer::queue::Queue;
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
    /// A folder in memory that outlives the process, where there is one: then the disk is written every `flush_every` only.
    pub memory: Option<PathBuf>,
    /// The limits.
    pub limits: Limits,
    /// What a power cut may cost.
    pub flush_every: Duration,
    /// This boot, as the kernel names it.
    pub boot: u128,
    /// Called whenever [`Buffer::turn`] has something to take in; by another thread.
    pub wake: Box<dyn Fn() + Send + Sync>,
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
    limit: bool,
    sync: bool,
}

/// Whether the log is open; times are milliseconds of uptime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Opening {
    /// It is.
    #[default]
    Done,
    /// An answer is awaited; `None` before the first turn, which tells the time.
    Awaited { since: Option<u64> },
    /// It failed, and is tried again then.
    Again { at: u64 },
}

/// What is to be asked for, and from when on.
#[derive(Default)]
struct Due {
    open: Opening,
    /// The cursor on disk is not what it should be.
    forget: bool,
    /// The log has other limits than it should.
    limit: bool,
    /// Something is written that has to be on disk by then.
    sync: Option<u64>,
    /// Until then the disk is not asked to write.
    again: Option<u64>,
    /// Until then it is not asked to read.
    read: Option<u64>,
}

impl Disk {
    /// Starts the thread, which opens the folder; meanwhile, and if that fails, records wait in memory.
    pub fn start(options: Options) -> Self {
        let folder = Box::new(Directory::new(&options.path, options.memory.clone()));
        let (mut disk, worker) = Self::over(folder, options);
        if let Err(error) = worker.start() {
            disk.trouble(&error.into());
        }
        disk
    }

    /// The store over a folder, and the worker that has to be run for it.
    pub(super) fn over(folder: Box<dyn Folder>, options: Options) -> (Self, Worker) {
        let Options { path, limits, memory: _, flush_every, boot, wake } = options;
        let names = Arc::new(Names::new(boot));
        let (port, worker) = connect(Log::new(folder, names.clone(), limits), wake.into());
        port.ask(Request::Open(limits));
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
            due: Due { open: Opening::Awaited { since: None }, ..Due::default() },
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
        if rest > 0 && self.is_read_out() {
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
        self.shelf.is_ready() || (self.is_read_out() && self.queue.is_ready())
    }

    fn online(&mut self, online: bool) {
        self.offline = !online;
    }

    fn turn(&mut self, now: Moment) {
        self.now = now;
        if let Opening::Awaited { since } = &mut self.due.open {
            since.get_or_insert(now.uptime_ms);
        }
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
        match self.due.open {
            Opening::Done => {}
            // Then nobody waits for what the disk may have any more.
            Opening::Awaited { since } => {
                return since.map(|since| since + AGAIN_MS).filter(|at| *at > self.now.uptime_ms);
            }
            Opening::Again { at } => return Some(at),
        }
        let append = self.append_due().filter(|_| !self.under_way.append);
        let sync = self.due.sync.filter(|_| !self.under_way.sync);
        let first = [append, sync].into_iter().flatten().min();
        let UnderWay { forget, limit, .. } = self.under_way;
        let other = (self.due.forget && !forget) || (self.due.limit && !limit);
        let write = match self.due.again {
            Some(again) if first.is_some() || other => Some(again.max(first.unwrap_or(again))),
            Some(_) => None,
            None => first,
        };
        let read = self.due.read.filter(|_| self.wants_read().is_some());
        [write, read].into_iter().flatten().min()
    }

    fn limit(&mut self, limits: Limits, flush_every: Duration) {
        self.flush_ms = flush_every.as_millis() as u64;
        if self.limits != limits {
            self.limits = limits;
            self.due.limit = true;
            self.shed();
        }
    }

    fn finish(&mut self) {
        self.finishing = true;
        // Whatever was to be tried later is tried once more, now.
        self.due.again = None;
        if let Opening::Again { at } = &mut self.due.open {
            *at = 0;
        }
    }

    fn is_busy(&self) -> bool {
        let UnderWay { append, forget, sync, .. } = self.under_way;
        let is_opening = matches!(self.due.open, Opening::Awaited { .. });
        let has_work = self.append_due().is_some() || self.due.forget || self.due.sync.is_some();
        let may_work = self.due.open == Opening::Done && self.due.again.is_none();
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
