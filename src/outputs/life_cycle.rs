//! The start, the reload and the end of a bank: lines are requested, handed on and left.
//!
//! Invariant: lines that go off are driven before lines that go on, and a line is let go only at its `on_exit` level.

use super::bank::{Bank, Cell, Change, max_changes};
use super::guard::{self, Event, Line, State, Surroundings};
use super::wire::Wire;
use super::{Earlier, Exit, Initial, SourceId, Spec};
use crate::board::Board;
use crate::clock::{Instant, Stamp};
use crate::line::Level;
use std::sync::Arc;

impl Cell {
    fn new(spec: Spec, earlier: Earlier, now: Instant) -> Self {
        let initial = match spec.initial {
            Initial::Level(level) => level,
            Initial::Last => earlier.last.unwrap_or(spec.limits.safe),
            Initial::Keep => spec.limits.safe,
        };
        let initial = if spec.limits.pwm { initial } else { Level::switch(initial.is_on()) };
        let state = State::new(&spec, initial, earlier.was_on, now);
        Self { spec, state, wire: Wire::default(), partners: Vec::new(), deadline: None, queued: false }
    }
}

/// What was heard of the sources of `specs`, under their numbers there.
fn rehear(
    heard: &[Option<(f64, Instant)>],
    specs: &[Spec],
    same_source: &dyn Fn(SourceId, SourceId) -> bool,
) -> Vec<Option<(f64, Instant)>> {
    let follow = |spec: &Spec| spec.follow.as_ref().map(|follow| follow.source);
    let require = |spec: &Spec| spec.require.as_ref().map(|require| require.source);
    let last = specs.iter().flat_map(|spec| [follow(spec), require(spec)]).flatten().max();
    let of = |new| (0..heard.len()).find(|old| same_source(*old, new)).and_then(|old| heard[old]);
    last.map_or(Vec::new(), |last| (0..=last).map(of).collect())
}

impl Bank {
    /// Requests every line with its initial level; one that cannot be requested is retried by [`Bank::tick`].
    ///
    /// `earlier` gives what is known of an output from earlier runs.
    pub fn open(specs: Vec<Spec>, board: Arc<dyn Board>, earlier: &dyn Fn(&str) -> Earlier, now: Stamp) -> Self {
        let (cells, changes, heard) = (Vec::new(), Vec::new(), Vec::new());
        let mut bank =
            Self { board, cells, queue: Vec::new(), changes, heard, connected: false, closed: false, now: now.at };
        bank.reconfigure(specs, &|_, _| false, earlier, now);
        bank
    }

    /// Replaces the specifications: what is the same output (name and line) goes on as it is, under its new limits and
    /// with what it had heard of the same sources; what is gone is left at its `on_exit` level, before new lines are requested.
    /// A new rule is judged by the last value of its source.
    pub fn reconfigure(
        &mut self,
        specs: Vec<Spec>,
        same_source: &dyn Fn(SourceId, SourceId) -> bool,
        earlier: &dyn Fn(&str) -> Earlier,
        now: Stamp,
    ) {
        let at = self.advance(now);
        let same =
            |cell: &Cell| specs.iter().position(|spec| spec.name == cell.spec.name && spec.drive == cell.spec.drive);
        let places: Vec<_> = self.cells.iter().map(same).collect();
        self.exit(|output| places[output].is_none());
        let mut kept: Vec<Option<Cell>> = specs.iter().map(|_| None).collect();
        for (cell, place) in std::mem::take(&mut self.cells).into_iter().zip(places) {
            if let Some(place) = place {
                kept[place] = Some(cell);
            }
        }
        self.heard = rehear(&self.heard, &specs, same_source);
        let (connected, heard) = (self.connected, &self.heard);
        let adopt = |(spec, kept): (Spec, Option<Cell>)| {
            let mut cell = match kept {
                Some(mut cell) => {
                    cell.state.adopt(&cell.spec, &spec, same_source, connected, at);
                    Cell { spec, ..cell }
                }
                None => {
                    let earlier = earlier(&spec.name);
                    let mut cell = Cell::new(spec, earlier, at);
                    cell.state.loss_at = cell.state.loss_at.filter(|_| !connected);
                    cell
                }
            };
            guard::hear(&cell.spec, &mut cell.state, &|source| heard.get(source).copied().flatten());
            cell
        };
        self.cells = specs.into_iter().zip(kept).map(adopt).collect();
        self.link();
        self.request_all();
        self.changes.clear();
        let known = self.cells.iter().enumerate().filter(|(_, cell)| cell.level().is_some());
        self.changes.extend(known.map(|(output, cell)| Change { output, level: cell.level() }));
    }

    /// Drives every line to its `on_exit` level as far as its limits allow, those that go off first; after that nothing
    /// moves any more and commands are refused. Lines with [`Exit::Keep`] are left alone.
    pub fn shutdown(&mut self, now: Stamp) {
        self.advance(now);
        if !self.closed {
            self.exit(|_| true);
            self.closed = true;
        }
    }

    /// Finds the partners and makes room, so that nothing allocates later.
    fn link(&mut self) {
        let count = self.cells.len();
        for output in 0..count {
            let names = |from: usize, to: usize| self.cells[from].spec.limits.interlock.contains(&to);
            let partners = (0..count).filter(|&p| p != output && (names(output, p) || names(p, output))).collect();
            self.cells[output].partners = partners;
        }
        self.queue.reserve(count);
        self.changes.reserve(max_changes(count));
    }

    /// Requests the lines that are not open: those taken over as they are found, then those that go off, then those that
    /// go on, so that an interlock knows its partners before it lets one on.
    fn request_all(&mut self) {
        let (board, now) = (Arc::clone(&self.board), self.now);
        let alone = Surroundings::default();
        for output in 0..self.cells.len() {
            let Cell { spec, state, wire, .. } = &mut self.cells[output];
            if spec.initial == Initial::Keep && state.line == Line::Absent {
                let found = wire.take_over(board.as_ref(), &spec.name, &spec.drive);
                *state = guard::decide(spec, *state, found.map_or(Event::Failed, Event::Found), now, &alone).0;
                if let Some(level) = self.cells[output].level() {
                    self.record(Change { output, level: Some(level) });
                }
            }
        }
        for goes_on in [false, true] {
            for output in 0..self.cells.len() {
                let Cell { spec, state, .. } = &self.cells[output];
                let asked = || guard::decide(spec, *state, Event::Tick, now, &alone).1.write;
                if state.line == Line::Absent && asked().is_some_and(Level::is_on) == goes_on {
                    self.drive(output, Event::Tick, now);
                }
            }
        }
        for output in 0..self.cells.len() {
            self.drive(output, Event::Tick, self.now);
        }
        self.settle(self.now);
    }

    /// Drives the open lines among `which` to their `on_exit` level, those that go off first.
    fn exit(&mut self, which: impl Fn(usize) -> bool) {
        for on in [false, true] {
            for output in 0..self.cells.len() {
                let cell = &self.cells[output];
                let Exit::Level(level) = cell.spec.on_exit else { continue };
                if which(output) && level.is_on() == on && cell.wire.is_open() {
                    self.drive(output, Event::Exit(level), self.now);
                }
            }
        }
        while let Some(output) = self.queue.pop() {
            self.cells[output].queued = false;
        }
    }
}
