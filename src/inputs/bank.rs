//! All inputs with their lines: reads edges when told that they wait, the level when it has stood, and opens what is missing.
//!
//! It knows no topic and no clock. Invariants: a batch of edges ends with the true level, read from the board; memory and
//! processor time are bounded however many edges come; a line that fails has no state until it is back.

use super::{Counter, Debounce, Passed, Spec};
use crate::board::{Board, Edge, Input};
use crate::clock::{Instant, Stamp};
use crate::line::Edges;
use crate::sample::Failure;
use log::{info, warn};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// As many edges as [`Input::edges`] gives at most; fewer mean that none wait any more.
const BATCH: usize = 64;

/// An input that more edges wait for, or that had edges less than twice this long ago, is left alone for this long: what
/// comes meanwhile gathers in the kernel, and the rest of the gateway has the processor. 64 edges in 5 ms are 12,800 a second.
const REST: Duration = Duration::from_millis(5);

/// How often it is told of one input that edges are lost.
const TOLD_AGAIN: Duration = Duration::from_secs(600);

/// How often the level of every line is read although no edge has told of it: what a controller may lose is found.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The same where a controller tells no edges at all.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// The longest pause between attempts at a line that fails.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What is published of an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    /// The debounced level, true for ON.
    Level(bool),
    /// The total, in the unit of the specification.
    Count(f64),
}

/// A state or total to publish.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputChange {
    /// The input's index.
    pub input: usize,
    /// What it is now.
    pub state: State,
}

/// A requested line and what is believed of it.
struct Open {
    line: Box<dyn Input>,
    debounce: Debounce,
    /// When edges were last taken.
    read_at: Option<Instant>,
    /// Until then it is not read, and nobody need wait for it.
    rests_until: Option<Instant>,
    /// No two openings have the same, so that a file descriptor's number used again is not mistaken for the same one.
    generation: u32,
}

impl Open {
    /// When it is to be read although nobody says that edges wait.
    fn deadline(&self) -> Option<Instant> {
        self.rests_until.or_else(|| self.debounce.deadline())
    }

    /// So many edges were taken.
    fn was_read(&mut self, edges: usize, at: Instant) {
        self.rests_until = None;
        if edges > 0 {
            let soon = self.read_at.is_some_and(|before| at < before + 2 * REST);
            self.rests_until = (soon || edges == BATCH).then(|| at + REST);
            self.read_at = Some(at);
        }
    }
}

/// One input.
struct Cell {
    spec: Spec,
    open: Option<Open>,
    counter: Option<Counter>,
    failure: Option<Failure>,
    failures: u32,
    retry_at: Instant,
    /// When it was last told that edges are lost.
    told: Option<Instant>,
    /// The total is to be published, not before `publish_at`.
    due: bool,
    publish_at: Instant,
}

impl Cell {
    fn new(spec: Spec, now: Instant) -> Self {
        let counter = spec.count.as_ref().map(Counter::new);
        let due = counter.is_some();
        Self { spec, open: None, counter, failure: None, failures: 0, retry_at: now, told: None, due, publish_at: now }
    }

    /// Whether an input with that specification goes on with the open line.
    fn keeps_line(&self, spec: &Spec) -> bool {
        let request = |spec: &Spec| (spec.name.clone(), spec.line.clone(), spec.active, spec.bias, spec.edges());
        request(&self.spec) == request(spec)
    }

    /// Goes on under another specification: with the open line if that is the same, with the total if its unit is.
    fn adopt(self, spec: Spec, now: Instant) -> Self {
        if self.spec == spec {
            return self;
        }
        let mut new = Self::new(spec, now);
        let counts = self.spec.count.as_ref().zip(new.spec.count.as_ref());
        let same_unit = counts.is_some_and(|(old, new)| old.unit == new.unit);
        if let (true, Some(old), Some(counter)) = (same_unit, &self.counter, &mut new.counter) {
            counter.restore(old.total());
        }
        if self.keeps_line(&new.spec) {
            new.open = self.open;
            (new.failure, new.failures, new.retry_at) = (self.failure, self.failures, self.retry_at);
            new.told = self.told;
        }
        if let Some(open) = &mut new.open {
            open.debounce.restand(new.spec.debounce);
        }
        new
    }

    fn request(&self, board: &dyn Board) -> Result<Box<dyn Input>, Failure> {
        board.input(&self.spec.line, self.spec.active, self.spec.bias, self.spec.edges())
    }

    /// Requests the line and reads its level, which counts as no change.
    fn open(&mut self, board: &dyn Board, generation: u32, now: Instant) -> Option<bool> {
        let opened = self.request(board).and_then(|mut line| {
            let active = line.is_active()?;
            let debounce = Debounce::new(self.spec.debounce, active, now);
            Ok(Open { line, debounce, read_at: None, rests_until: None, generation })
        });
        match opened {
            Ok(open) => {
                let active = open.debounce.is_active();
                if !open.line.tells_edges() {
                    warn!(input = self.spec.name, line:% = self.spec.line; "line tells no edges, it is read ten times a second");
                }
                self.open = Some(open);
                self.failures = 0;
                if self.failure.take().is_some() {
                    info!(input = self.spec.name, line:% = self.spec.line; "input can be read again");
                }
                Some(active)
            }
            Err(failure) => {
                self.fail(failure, now);
                None
            }
        }
    }

    /// Closes the line and plans the next attempt: after 1 s, doubled each time, at most a minute.
    fn fail(&mut self, failure: Failure, now: Instant) {
        if self.failure.as_ref().is_none_or(|before| before.reason != failure.reason) {
            warn!(
                input = self.spec.name, line:% = self.spec.line, reason:% = failure.reason, detail = &*failure.detail;
                "input cannot be read"
            );
        }
        self.open = None;
        self.failure = Some(failure);
        self.retry_at = now + Duration::from_secs(1 << self.failures.min(6)).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
    }

    /// Edges were dropped because nobody read them in time.
    fn tell_lost(&mut self, lost: u64, now: Instant) {
        if self.told.is_none_or(|told| now.since(told) >= TOLD_AGAIN) {
            self.told = Some(now);
            warn!(input = self.spec.name, line:% = self.spec.line, lost; "edges come faster than they can be read, some are lost");
        }
    }

    fn state(&self) -> Option<State> {
        match &self.counter {
            Some(counter) => Some(State::Count(counter.total())),
            None => self.open.as_ref().map(|open| State::Level(open.debounce.is_active())),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let line = match &self.open {
            Some(open) => open.deadline(),
            None => Some(self.retry_at),
        };
        let publish = self.due.then_some(self.publish_at);
        line.into_iter().chain(publish).min()
    }
}

/// All inputs, by their index in the configuration.
pub struct Inputs {
    board: Arc<dyn Board>,
    cells: Vec<Cell>,
    changes: Vec<InputChange>,
    /// Reused for every batch.
    edges: Vec<Edge>,
    /// Edges dropped so far because nobody read them in time.
    lost: u64,
    openings: u32,
    now: Instant,
}

impl Inputs {
    /// Requests every line and reads its level; one that fails is retried by [`Inputs::tick`].
    ///
    /// Totals start at zero until [`Inputs::restore`]; the first [`Inputs::changes`] gives every state there is.
    pub fn open(specs: Vec<Spec>, board: Arc<dyn Board>, now: Stamp) -> Self {
        let (cells, changes, edges) = (Vec::new(), Vec::new(), Vec::with_capacity(BATCH));
        let mut inputs = Self { board, cells, changes, edges, lost: 0, openings: 0, now: now.at };
        inputs.reconfigure(specs, now);
        inputs
    }

    /// Closes the lines that no input of `specs` goes on with, so that others may have them.
    pub fn let_go(&mut self, specs: &[Spec]) {
        for cell in &mut self.cells {
            if !specs.iter().any(|spec| cell.keeps_line(spec)) {
                cell.open = None;
            }
        }
    }

    /// Replaces the specifications: an input whose line is the same stays open and keeps its total; if no more than
    /// counting or debouncing changed it goes on with that. Lines that are gone are closed before new ones are requested.
    pub fn reconfigure(&mut self, specs: Vec<Spec>, now: Stamp) {
        let at = self.advance(now);
        let mut old: Vec<Option<Cell>> = std::mem::take(&mut self.cells).into_iter().map(Some).collect();
        let mut adopt = |spec: Spec| {
            let same = |cell: &Option<Cell>| cell.as_ref().is_some_and(|cell| cell.spec.name == spec.name);
            match old.iter_mut().find(|cell| same(cell)).and_then(Option::take) {
                Some(cell) => cell.adopt(spec, at),
                None => Cell::new(spec, at),
            }
        };
        let adopted: Vec<Cell> = specs.into_iter().map(&mut adopt).collect();
        drop(old);
        self.cells = adopted;
        self.changes.clear();
        for input in 0..self.cells.len() {
            if let (None, Some(state)) = (&self.cells[input].counter, self.cells[input].state()) {
                self.changes.push(InputChange { input, state });
            }
        }
        self.tick(now);
    }

    /// Adds the total of an earlier run; nothing for an input that does not count.
    pub fn restore(&mut self, input: usize, total: f64) {
        if let Some(counter) = self.cells.get_mut(input).and_then(|cell| cell.counter.as_mut()) {
            counter.restore(total);
        }
    }

    /// The total of a counting input, whether its line works or not.
    pub fn total(&self, input: usize) -> Option<f64> {
        self.cells.get(input)?.counter.as_ref().map(Counter::total)
    }

    /// The input's file descriptor is readable: takes the edges that wait, 64 at most. If more do, or if they come one soon
    /// after the other, it then rests, and [`Inputs::tick`] takes the next.
    pub fn ready(&mut self, input: usize, now: Stamp) {
        let at = self.advance(now);
        if input < self.cells.len() {
            self.read(input, at);
        }
    }

    /// Takes the edges that wait and the true level of every line; due every [`Inputs::look_every`].
    pub fn look(&mut self, now: Stamp) {
        (0..self.cells.len()).for_each(|input| self.ready(input, now));
    }

    /// How often [`Inputs::look`] is due, in addition to the edges that the lines tell of.
    pub fn look_every(&self) -> Option<Duration> {
        let every = |open: &Open| if open.line.tells_edges() { LOOK_EVERY } else { POLL_EVERY };
        self.cells.iter().filter_map(|cell| cell.open.as_ref().map(every)).min()
    }

    /// Believes levels that have stood long enough, opens what is missing, publishes totals that are due. To be called at
    /// [`Inputs::deadline`], and harmless at any other time.
    pub fn tick(&mut self, now: Stamp) {
        let at = self.advance(now);
        for input in 0..self.cells.len() {
            let cell = &mut self.cells[input];
            match &cell.open {
                Some(open) if open.deadline().is_some_and(|deadline| deadline <= at) => self.read(input, at),
                None if cell.retry_at <= at => {
                    self.openings = self.openings.wrapping_add(1);
                    let opened = cell.open(self.board.as_ref(), self.openings, at);
                    if let (Some(active), None) = (opened, &cell.counter) {
                        self.record(InputChange { input, state: State::Level(active) });
                    }
                }
                _ => {}
            }
            self.publish(input, at);
        }
    }

    /// When [`Inputs::tick`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        self.cells.iter().filter_map(Cell::deadline).min()
    }

    /// Moves the states and totals to publish since the last call into `into`, in order. While nobody asks, only the newest
    /// of an input is certain to be kept.
    pub fn changes(&mut self, into: &mut Vec<InputChange>) {
        into.extend(self.changes.drain(..).map(|change| match (change.state, &self.cells[change.input].counter) {
            (State::Count(_), Some(counter)) => InputChange { state: State::Count(counter.total()), ..change },
            _ => change,
        }));
    }

    /// What the input is now; a level only while the line can be read.
    pub fn state(&self, input: usize) -> Option<State> {
        self.cells.get(input)?.state()
    }

    /// Why the line cannot be read, while it cannot.
    pub fn failure(&self, input: usize) -> Option<&Failure> {
        self.cells.get(input)?.failure.as_ref()
    }

    /// Edges lost so far because they came faster than they can be read.
    pub fn edges_lost(&self) -> u64 {
        self.lost
    }

    /// The file descriptor to wait on, none while the input rests, and the number of the opening it belongs to: another number, another descriptor.
    pub fn input(&self, input: usize) -> Option<(BorrowedFd<'_>, u32)> {
        let cell = self.cells.get(input)?;
        cell.open.as_ref().filter(|open| open.rests_until.is_none()).map(|open| (open.line.as_fd(), open.generation))
    }

    /// The specifications, by index.
    pub fn specs(&self) -> impl ExactSizeIterator<Item = &Spec> {
        self.cells.iter().map(|cell| &cell.spec)
    }

    fn advance(&mut self, now: Stamp) -> Instant {
        self.now = self.now.max(now.at);
        self.now
    }

    /// Takes a batch of edges, and the true level once none wait any more; pulses counted by edges of one kind have none, unless they are found by looking.
    fn read(&mut self, input: usize, at: Instant) {
        let both = self.cells[input].spec.edges() == Edges::Both;
        let Some(open) = &mut self.cells[input].open else { return };
        let levels = both || !open.line.tells_edges();
        self.edges.clear();
        let mut outcome = open.line.edges(&mut self.edges);
        open.was_read(self.edges.len(), at);
        let lost = self.edges.iter().map(|edge| u64::from(edge.lost)).sum();
        self.lost += lost;
        if lost > 0 {
            self.cells[input].tell_lost(lost, at);
        }
        for place in 0..self.edges.len() {
            let edge = self.edges[place];
            self.pass(input, |debounce| if levels { debounce.edge(edge, at) } else { Passed::lone(edge) });
        }
        let Some(open) = &mut self.cells[input].open else { return };
        if levels && outcome.is_ok() && self.edges.len() < BATCH {
            match open.line.is_active() {
                Ok(active) => self.pass(input, |debounce| debounce.settle(active, at)),
                Err(failure) => outcome = Err(failure),
            }
        }
        if let Err(failure) = outcome {
            self.cells[input].fail(failure, at);
        }
        self.publish(input, at);
    }

    /// Takes a step of the debouncing; counts what it believes, or keeps it to be published.
    fn pass(&mut self, input: usize, step: impl FnOnce(&mut Debounce) -> Passed) {
        let cell = &mut self.cells[input];
        let Some(open) = &mut cell.open else { return };
        let passed = step(&mut open.debounce);
        let state = State::Level(open.debounce.is_active());
        match &mut cell.counter {
            Some(counter) => cell.due |= counter.count(passed),
            None if passed.any() => self.record(InputChange { input, state }),
            None => {}
        }
    }

    /// Hands the total out if it has changed and its interval is over.
    fn publish(&mut self, input: usize, at: Instant) {
        let cell = &mut self.cells[input];
        let Some((count, counter)) = cell.spec.count.as_ref().zip(cell.counter.as_ref()) else { return };
        if cell.due && cell.publish_at <= at {
            cell.due = false;
            cell.publish_at = at + count.interval;
            let state = State::Count(counter.total());
            self.record(InputChange { input, state });
        }
    }

    /// Keeps a change for [`Inputs::changes`]; when full, one that a later one of the same input has overtaken goes.
    fn record(&mut self, change: InputChange) {
        if self.changes.len() >= 8 * self.cells.len() + 8 {
            let overtaken = |(place, old): &(usize, &InputChange)| {
                self.changes[place + 1..].iter().chain([&change]).any(|newer| newer.input == old.input)
            };
            if let Some(place) = self.changes.iter().enumerate().find(overtaken).map(|(place, _)| place) {
                self.changes.remove(place);
            }
        }
        self.changes.push(change);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CountSpec, Counted};
    use super::*;
    use crate::board::{Bus, Output};
    use crate::line::{Active, Bias, Drive, I2cPlace, Initial, LineId};
    use crate::sample::Reason;
    use std::collections::VecDeque;
    use std::os::unix::net::UnixStream;
    use std::sync::{Mutex, MutexGuard};

    /// The one line of the test's board.
    #[derive(Default)]
    struct World {
        active: bool,
        edges: VecDeque<Edge>,
        /// The edges that the last request asked for.
        wanted: Edges,
        broken: bool,
        edgeless: bool,
        requests: usize,
    }

    #[derive(Clone, Default)]
    struct FakeBoard(Arc<Mutex<World>>);

    impl FakeBoard {
        fn world(&self) -> MutexGuard<'_, World> {
            self.0.lock().expect("no test panics while it holds the lock")
        }

        fn check(&self) -> Result<MutexGuard<'_, World>, Failure> {
            let world = self.world();
            if world.broken { Err(Failure::new(Reason::Absent, "unplugged for the test")) } else { Ok(world) }
        }
    }

    impl Board for FakeBoard {
        fn kind(&self) -> &'static str {
            "fake"
        }

        fn i2c(&self, _: &I2cPlace, _: Duration) -> Result<Bus, Failure> {
            Err(Failure::new(Reason::Absent, "no bus here"))
        }

        fn output(&self, _: &Drive, _: Initial) -> Result<Box<dyn Output>, Failure> {
            Err(Failure::new(Reason::Absent, "no output here"))
        }

        fn input(&self, _: &LineId, _: Active, _: Bias, edges: Edges) -> Result<Box<dyn Input>, Failure> {
            let mut world = self.check()?;
            world.requests += 1;
            world.wanted = edges;
            let (file, _) = UnixStream::pair().expect("two sockets");
            Ok(Box::new(FakeLine { board: self.clone(), file }))
        }
    }

    struct FakeLine {
        board: FakeBoard,
        file: UnixStream,
    }

    impl AsFd for FakeLine {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.file.as_fd()
        }
    }

    impl Input for FakeLine {
        fn is_active(&mut self) -> Result<bool, Failure> {
            Ok(self.board.check()?.active)
        }

        fn tells_edges(&self) -> bool {
            !self.board.world().edgeless
        }

        fn edges(&mut self, into: &mut Vec<Edge>) -> Result<(), Failure> {
            let mut world = self.board.check()?;
            let count = world.edges.len().min(BATCH);
            into.extend(world.edges.drain(..count));
            Ok(())
        }
    }

    struct Rig {
        board: FakeBoard,
        inputs: Inputs,
        now_ms: u64,
    }

    impl Rig {
        fn new(board: FakeBoard, specs: Vec<Spec>) -> Self {
            let inputs = Inputs::open(specs, Arc::new(board.clone()), stamp(1_000));
            Self { board, inputs, now_ms: 1_000 }
        }

        /// The line takes a level now, with an edge that tells of it.
        fn edge(&mut self, active: bool) {
            let mut world = self.board.world();
            world.active = active;
            if world.wanted.tell(active) {
                world.edges.push_back(Edge { active, at: stamp(self.now_ms).at, lost: 0 });
            }
        }

        fn ready(&mut self) {
            self.inputs.ready(0, stamp(self.now_ms));
        }

        /// Lets time pass with a tick at every deadline.
        fn run(&mut self, ms: u64) {
            let end = stamp(self.now_ms + ms).at;
            while let Some(deadline) = self.inputs.deadline().filter(|deadline| *deadline <= end) {
                self.inputs.tick(Stamp { at: deadline, wall: None });
                assert!(self.inputs.deadline().is_none_or(|next| next > deadline), "a tick leads on");
            }
            self.now_ms += ms;
            self.inputs.tick(stamp(self.now_ms));
        }

        fn changes(&mut self) -> Vec<State> {
            let mut changes = Vec::new();
            self.inputs.changes(&mut changes);
            changes.into_iter().map(|change| change.state).collect()
        }
    }

    fn stamp(ms: u64) -> Stamp {
        Stamp { at: Instant::from_nanos(ms * 1_000_000), wall: None }
    }

    fn door(debounce_ms: u64) -> Spec {
        Spec {
            name: "door".to_owned(),
            line: LineId::Name("GPIO27".to_owned()),
            active: Active::Low,
            bias: Bias::PullUp,
            debounce: Duration::from_millis(debounce_ms),
            count: None,
        }
    }

    fn rain(debounce_ms: u64, interval_ms: u64) -> Spec {
        let count = CountSpec {
            counted: Counted::Activation,
            per_pulse: 0.5,
            unit: "mm".to_owned(),
            interval: Duration::from_millis(interval_ms),
        };
        Spec { count: Some(count), ..door(debounce_ms) }
    }

    #[test]
    fn the_level_is_known_from_the_start_and_follows_debounced() {
        let board = FakeBoard::default();
        board.world().active = true;
        let mut rig = Rig::new(board, vec![door(20)]);
        assert_eq!(rig.changes(), [State::Level(true)]);
        for active in [false, true, false] {
            rig.edge(active);
            rig.ready();
            rig.run(5);
        }
        assert_eq!(rig.changes(), []);
        rig.run(15);
        assert_eq!(rig.changes(), [State::Level(false)]);
        assert_eq!((rig.inputs.state(0), rig.inputs.deadline()), (Some(State::Level(false)), None));
    }

    #[test]
    fn edges_that_wait_are_taken_before_a_level_is_believed() {
        let mut rig = Rig::new(FakeBoard::default(), vec![door(20)]);
        rig.edge(true);
        rig.ready();
        rig.now_ms += 10;
        rig.edge(false);
        rig.now_ms += 5;
        rig.edge(true);
        rig.run(10);
        assert_eq!(rig.changes(), [State::Level(false)], "only the state at the start");
        rig.run(10);
        assert_eq!(rig.changes(), [State::Level(true)]);
    }

    #[test]
    fn a_level_no_edge_told_of_is_found() {
        for debounce in [0, 20] {
            let mut rig = Rig::new(FakeBoard::default(), vec![door(debounce)]);
            rig.edge(true);
            rig.ready();
            rig.edge(true);
            rig.board.world().active = false;
            rig.run(debounce);
            rig.ready();
            rig.run(debounce);
            assert_eq!(rig.inputs.state(0), Some(State::Level(false)), "debounce {debounce}");
        }
    }

    #[test]
    fn a_line_without_edges_is_followed_by_looking() {
        let board = FakeBoard::default();
        let mut rig = Rig::new(board, vec![door(20)]);
        assert_eq!(rig.inputs.look_every(), Some(Duration::from_secs(1)));
        rig.board.world().edgeless = true;
        assert_eq!(rig.inputs.look_every(), Some(Duration::from_millis(100)));
        rig.changes();
        rig.board.world().active = true;
        rig.inputs.look(stamp(rig.now_ms));
        assert_eq!(rig.changes(), [], "it has not stood yet");
        rig.run(20);
        assert_eq!(rig.changes(), [State::Level(true)]);
        rig.board.world().broken = true;
        rig.inputs.look(stamp(rig.now_ms));
        assert_eq!((rig.inputs.state(0), rig.inputs.look_every()), (None, None), "there is nothing to look at");
    }

    #[test]
    fn pulses_of_a_line_without_edges_are_counted_by_looking() {
        let board = FakeBoard::default();
        board.world().edgeless = true;
        let mut rig = Rig::new(board, vec![rain(0, 1_000)]);
        for active in [true, true, false, true, false, false] {
            rig.board.world().active = active;
            rig.inputs.look(stamp(rig.now_ms));
            rig.run(100);
        }
        assert_eq!(rig.inputs.total(0), Some(2.0 * 0.5));
    }

    #[test]
    fn without_debouncing_every_edge_is_published() {
        let mut rig = Rig::new(FakeBoard::default(), vec![door(0)]);
        for active in [true, false, true] {
            rig.edge(active);
        }
        rig.ready();
        assert_eq!(rig.changes()[1..], [State::Level(true), State::Level(false), State::Level(true)]);
    }

    #[test]
    fn totals_go_out_at_once_and_then_once_an_interval() {
        let mut rig = Rig::new(FakeBoard::default(), vec![rain(0, 1_000)]);
        rig.inputs.restore(0, 10.0);
        assert_eq!(rig.changes(), [State::Count(10.0)], "restored before anything is published");
        rig.run(5_000);
        let pulse = |rig: &mut Rig| {
            rig.edge(true);
            rig.edge(false);
            rig.ready();
        };
        pulse(&mut rig);
        assert_eq!(rig.changes(), [State::Count(10.5)]);
        pulse(&mut rig);
        pulse(&mut rig);
        assert_eq!(rig.changes(), []);
        rig.run(1_000);
        assert_eq!(rig.changes(), [State::Count(11.5)]);
        rig.run(10_000);
        assert_eq!((rig.changes(), rig.inputs.deadline()), (vec![], None));
        assert_eq!((rig.inputs.total(0), rig.inputs.state(0)), (Some(11.5), Some(State::Count(11.5))));
    }

    #[test]
    fn pulses_counted_as_they_come_need_no_level() {
        for (counted, active) in [(Counted::Activation, true), (Counted::Deactivation, false)] {
            let mut spec = rain(0, 1_000);
            spec.count.as_mut().expect("it counts").counted = counted;
            let mut rig = Rig::new(FakeBoard::default(), vec![spec]);
            let edge = |lost| Edge { active, at: stamp(1_000).at, lost };
            rig.board.world().edges.extend([edge(0), edge(0), edge(3)]);
            rig.board.world().active = active;
            rig.ready();
            rig.ready();
            assert_eq!(rig.inputs.total(0), Some(0.5 * 6.0), "three told, three dropped, no level believed");
        }
    }

    #[test]
    fn only_undebounced_pulses_do_without_the_other_edge() {
        let edges = |spec: Spec| spec.edges();
        assert_eq!(
            [edges(door(0)), edges(rain(0, 1)), edges(rain(1, 1))],
            [Edges::Both, Edges::Activations, Edges::Both]
        );
    }

    #[test]
    fn a_line_that_fails_is_opened_again_under_another_number() {
        let mut rig = Rig::new(FakeBoard::default(), vec![door(20)]);
        let first = rig.inputs.input(0).map(|(_, generation)| generation);
        rig.board.world().broken = true;
        rig.ready();
        assert!(rig.inputs.input(0).is_none() && rig.inputs.failure(0).is_some());
        assert_eq!(rig.inputs.state(0), None, "nobody knows");
        rig.changes();
        rig.run(10_000);
        {
            let mut world = rig.board.world();
            (world.broken, world.active) = (false, true);
        }
        rig.run(60_000);
        assert_eq!(rig.changes(), [State::Level(true)]);
        assert_ne!(rig.inputs.input(0).map(|(_, generation)| generation), first);
        assert_eq!(rig.inputs.failure(0), None);
    }

    #[test]
    fn what_happens_while_a_line_is_gone_does_not_count() {
        let board = FakeBoard::default();
        board.world().broken = true;
        let mut rig = Rig::new(board, vec![rain(0, 1_000)]);
        rig.inputs.restore(0, 3.0);
        {
            let mut world = rig.board.world();
            (world.broken, world.active) = (false, true);
        }
        rig.run(1_000);
        assert_eq!((rig.board.world().requests, rig.inputs.total(0)), (1, Some(3.0)));
    }

    #[test]
    fn a_flood_of_edges_costs_bounded_memory_and_ends_on_the_true_level() {
        let mut rig = Rig::new(FakeBoard::default(), vec![door(0)]);
        for number in 0..100_000 {
            rig.edge(number % 2 == 0);
        }
        while !rig.board.world().edges.is_empty() {
            rig.ready();
        }
        assert!(rig.inputs.edges.capacity() <= 2 * BATCH);
        assert!(rig.changes().len() <= 16);
        assert_eq!(rig.inputs.state(0), Some(State::Level(false)));
    }

    #[test]
    fn an_input_that_is_flooded_is_read_every_5_ms_and_by_nobody_in_between() {
        let mut rig = Rig::new(FakeBoard::default(), vec![door(0)]);
        (0..200).for_each(|number| rig.edge(number % 2 == 0));
        rig.board.world().edges[100].lost = 7;
        rig.ready();
        for left in [136, 72, 8] {
            assert_eq!(rig.board.world().edges.len(), left);
            assert!(rig.inputs.input(0).is_none(), "nobody waits for it");
            rig.run(4);
            assert_eq!(rig.board.world().edges.len(), left, "it rests");
            rig.run(1);
        }
        assert_eq!(rig.board.world().edges.len(), 0);
        assert!(rig.inputs.input(0).is_none(), "more may come");
        rig.run(5);
        assert!(rig.inputs.input(0).is_some() && rig.inputs.deadline().is_none());
        assert_eq!(rig.inputs.edges_lost(), 7);
    }

    #[test]
    fn an_edge_now_and_then_is_taken_at_once_and_followed_by_no_rest() {
        let mut rig = Rig::new(FakeBoard::default(), vec![door(0)]);
        for number in 0..4 {
            rig.edge(number % 2 == 0);
            rig.ready();
            assert_eq!(rig.inputs.state(0), Some(State::Level(number % 2 == 0)));
            assert!(rig.inputs.input(0).is_some());
            rig.run(10);
        }
        rig.run(1_000);
        rig.edge(true);
        rig.ready();
        rig.run(2);
        rig.edge(false);
        rig.ready();
        assert_eq!(rig.inputs.state(0), Some(State::Level(false)), "the first that comes soon after is taken too");
        assert!(rig.inputs.input(0).is_none(), "but then it rests");
    }

    #[test]
    fn a_reload_keeps_lines_and_totals() {
        let mut rig = Rig::new(FakeBoard::default(), vec![rain(10, 1_000)]);
        rig.inputs.restore(0, 3.0);
        let before = rig.inputs.input(0).map(|(_, generation)| generation);
        rig.changes();
        let mut spec = rain(20, 500);
        spec.count.as_mut().expect("it counts").per_pulse = 0.25;
        rig.inputs.reconfigure(vec![spec.clone()], stamp(2_000));
        assert_eq!(rig.inputs.input(0).map(|(_, generation)| generation), before);
        assert_eq!(rig.changes(), [State::Count(3.0)]);
        spec.bias = Bias::Disabled;
        spec.count = None;
        rig.inputs.reconfigure(vec![spec], stamp(3_000));
        assert_ne!(rig.inputs.input(0).map(|(_, generation)| generation), before);
        assert_eq!(rig.changes(), [State::Level(false)]);
        assert_eq!(rig.board.world().requests, 2);
    }
}
