//! A board of recording lines and a clock in one hand, for the tests of this module. No limits are known here.

use super::{Bank, Change, Earlier, Exit, Initial, Limits, SourceId, Spec};
use crate::board::{Board, Bus, Input, Output};
use crate::clock::{Instant, Stamp, Wall};
use crate::command::{Command, Refusal, Wish};
use crate::line::{Active, Bias, Drive, Edges, I2cPlace, Initial as Request, Level, LineId};
use crate::sample::{Failure, Reason};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Where every test starts: long after the clock's origin.
const START: Instant = Instant::from_nanos(1_000_000_000_000);

pub(super) fn on() -> Wish {
    Wish::On
}

pub(super) fn off() -> Wish {
    Wish::Off
}

/// The wish as a whole command with a `for`.
pub(super) fn after(wish: Wish, hold: Option<Duration>) -> Command {
    Command { wish, hold, id: None, expires: None }
}

/// A switch without any limit, safe off, on the line of its name.
pub(super) fn switch(name: &str) -> Spec {
    Spec {
        name: name.to_owned(),
        drive: Drive::Switch { line: LineId::Name(name.to_owned()), active: Active::High },
        limits: Limits {
            safe: Level::OFF,
            pwm: false,
            max_on: None,
            min_off: None,
            renew_within: None,
            on_server_loss: None,
            interlock: vec![],
            switch: false,
            gap: Duration::ZERO,
        },
        initial: Initial::Level(Level::OFF),
        on_exit: Exit::Level(Level::OFF),
        accept_retained: false,
        follow: None,
        require: None,
    }
}

/// What the recording lines saw and how they fail.
#[derive(Default)]
pub(super) struct World {
    pub(super) now: Instant,
    /// Every write that had an effect: when, which line, what level.
    pub(super) writes: Vec<(Instant, String, Level)>,
    /// The level each line really has.
    pub(super) levels: HashMap<String, Level>,
    requests: Vec<(String, Request)>,
    attempts: HashMap<String, usize>,
    broken: HashMap<String, bool>,
    /// Broken lines do what they are told and report a failure all the same.
    pub(super) sly: bool,
    broken_level: HashMap<String, Level>,
    found: Level,
}

impl World {
    fn record(&mut self, line: &str, level: Level) {
        self.writes.push((self.now, line.to_owned(), level));
        self.levels.insert(line.to_owned(), level);
    }
}

/// A board whose lines are named by their [`LineId::Name`].
#[derive(Clone, Default)]
pub(super) struct FakeBoard(Arc<Mutex<World>>);

impl FakeBoard {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    /// Makes requests and writes of a line fail without effect, or succeed again.
    pub(super) fn break_line(&self, line: &str, broken: bool) {
        self.world().broken.insert(line.to_owned(), broken);
    }

    /// Makes only this level fail.
    pub(super) fn break_level(&self, line: &str, level: Option<Level>) {
        let mut world = self.world();
        match level {
            Some(level) => world.broken_level.insert(line.to_owned(), level),
            None => world.broken_level.remove(line),
        };
    }

    /// Requests and writes so far, failed ones too.
    pub(super) fn attempts(&self, line: &str) -> usize {
        self.world().attempts.get(line).copied().unwrap_or(0)
    }

    pub(super) fn requests(&self, line: &str) -> Vec<Request> {
        self.world().requests.iter().filter(|(name, _)| name == line).map(|(_, request)| *request).collect()
    }

    pub(super) fn writes(&self, line: &str) -> Vec<Level> {
        self.world().writes.iter().filter(|(_, name, _)| name == line).map(|(_, _, level)| *level).collect()
    }

    fn put(&self, line: &str, level: Option<Level>) -> Result<(), Failure> {
        let mut world = self.world();
        *world.attempts.entry(line.to_owned()).or_default() += 1;
        let broken = world.broken.get(line).copied().unwrap_or(false);
        if broken || (level.is_some() && world.broken_level.get(line).copied() == level) {
            if let (true, Some(level)) = (world.sly && world.levels.contains_key(line), level) {
                world.record(line, level);
            }
            return Err(Failure::new(Reason::Bus, "broken for the test"));
        }
        if let Some(level) = level {
            world.record(line, level);
        } else {
            let found = world.found;
            world.levels.entry(line.to_owned()).or_insert(found);
        }
        Ok(())
    }
}

impl Board for FakeBoard {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn i2c(&self, _: &I2cPlace, _: Duration) -> Result<Bus, Failure> {
        Err(Failure::new(Reason::Absent, "no bus here"))
    }

    fn output(&self, drive: &Drive, initial: Request) -> Result<Box<dyn Output>, Failure> {
        let line = drive.to_string();
        let level = match initial {
            Request::Level(level) => Some(level),
            Request::Keep => None,
        };
        self.put(&line, level)?;
        self.world().requests.push((line.clone(), initial));
        Ok(Box::new(FakeLine { board: self.clone(), line }))
    }

    fn input(&self, _: &LineId, _: Active, _: Bias, _: Edges) -> Result<Box<dyn Input>, Failure> {
        Err(Failure::new(Reason::Absent, "no input here"))
    }
}

struct FakeLine {
    board: FakeBoard,
    line: String,
}

impl Output for FakeLine {
    fn set(&mut self, level: Level) -> Result<(), Failure> {
        self.board.put(&self.line, Some(level))
    }

    fn level(&mut self) -> Result<Level, Failure> {
        Ok(self.board.world().levels[&self.line])
    }
}

/// A bank on a [`FakeBoard`], ticked exactly at its deadlines.
pub(super) struct Rig {
    pub(super) board: FakeBoard,
    pub(super) bank: Bank,
    pub(super) wall: Option<Wall>,
    names: Vec<String>,
}

impl Rig {
    pub(super) fn new(specs: Vec<Spec>) -> Self {
        Self::after(specs, Earlier::default())
    }

    /// All that is known of earlier runs, the same of every output.
    pub(super) fn after(specs: Vec<Spec>, earlier: Earlier) -> Self {
        Self::on(FakeBoard::default(), specs, earlier)
    }

    /// Every line is found at `level`.
    pub(super) fn found(specs: Vec<Spec>, level: Level) -> Self {
        let board = FakeBoard::default();
        board.world().found = level;
        Self::on(board, specs, Earlier::default())
    }

    /// One line cannot be requested.
    pub(super) fn broken(specs: Vec<Spec>, line: &str) -> Self {
        let board = FakeBoard::default();
        board.break_line(line, true);
        Self::on(board, specs, Earlier::default())
    }

    fn on(board: FakeBoard, specs: Vec<Spec>, earlier: Earlier) -> Self {
        board.world().now = START;
        let names = specs.iter().map(|spec| spec.name.clone()).collect();
        let bank = Bank::open(specs, Arc::new(board.clone()), &|_| earlier, Stamp { at: START, wall: None });
        Self { board, bank, wall: None, names }
    }

    pub(super) fn now(&self) -> Stamp {
        Stamp { at: self.board.world().now, wall: self.wall }
    }

    pub(super) fn level(&self, output: usize) -> Option<Level> {
        self.bank.level(output)
    }

    pub(super) fn writes(&self, output: usize) -> Vec<Level> {
        self.board.writes(&self.names[output])
    }

    pub(super) fn changes(&mut self) -> Vec<(usize, Option<Level>)> {
        let mut changes = Vec::new();
        self.bank.changes(&mut changes);
        changes.into_iter().map(|Change { output, level }| (output, level)).collect()
    }

    pub(super) fn command(&mut self, output: usize, wish: Wish) -> Result<(), Refusal> {
        self.full(output, &after(wish, None))
    }

    pub(super) fn retained(&mut self, output: usize, wish: Wish) -> Result<(), Refusal> {
        let now = self.now();
        self.bank.command(output, &after(wish, None), true, now)
    }

    pub(super) fn full(&mut self, output: usize, command: &Command) -> Result<(), Refusal> {
        let now = self.now();
        self.bank.command(output, command, false, now)
    }

    pub(super) fn value(&mut self, source: SourceId, value: f64) {
        let now = self.now();
        self.bank.value(source, value, now);
    }

    pub(super) fn server(&mut self, connected: bool) {
        let now = self.now();
        self.bank.server(connected, now);
    }

    pub(super) fn shutdown(&mut self) {
        let now = self.now();
        self.bank.shutdown(now);
    }

    pub(super) fn reconfigure(&mut self, specs: Vec<Spec>, same_source: &dyn Fn(SourceId, SourceId) -> bool) {
        let now = self.now();
        self.names = specs.iter().map(|spec| spec.name.clone()).collect();
        self.bank.reconfigure(specs, same_source, &|_| Earlier::default(), now);
    }

    /// Lets time pass, with a tick at every deadline on the way.
    pub(super) fn run(&mut self, duration: Duration) {
        self.run_with(duration, &mut |_| {});
    }

    /// The same, with a look at the rig after every tick.
    pub(super) fn run_with(&mut self, duration: Duration, look: &mut dyn FnMut(&Self)) {
        let end = self.now().at + duration;
        while let Some(deadline) = self.bank.deadline().filter(|deadline| *deadline <= end) {
            self.leap_to(deadline);
            assert!(self.bank.deadline().is_none_or(|next| next > deadline), "a tick at its deadline leads on");
            look(self);
        }
        self.leap_to(end);
        look(self);
    }

    /// Moves the clock without any tick on the way, as a suspended machine does, then ticks.
    pub(super) fn leap_to(&mut self, instant: Instant) {
        self.board.world().now = instant;
        let now = self.now();
        self.bank.tick(now);
    }
}
