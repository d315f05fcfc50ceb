//! The promise that commands go first, measured where it starts: carrying one out allocates nothing and writes once.

use board2mqtt::board::{Board, Bus, Input, Output};
use board2mqtt::clock::{Instant, Stamp};
use board2mqtt::command::{Command, Wish};
use board2mqtt::line::{Active, Bias, Drive, Edges, I2cPlace, Initial as Request, Level, LineId};
use board2mqtt::outputs::{Bank, Earlier, Exit, Initial, Limits, Spec};
use board2mqtt::sample::{Failure, Reason};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts what this thread asks for.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator; the counter is a plain thread-local number.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A board whose lines count their writes.
#[derive(Default)]
struct CountingBoard(Arc<AtomicUsize>);

impl Board for CountingBoard {
    fn kind(&self) -> &'static str {
        "counting"
    }

    fn i2c(&self, _: &I2cPlace, _: Duration) -> Result<Bus, Failure> {
        Err(Failure::new(Reason::Absent, "no bus here"))
    }

    fn output(&self, _: &Drive, _: Request) -> Result<Box<dyn Output>, Failure> {
        Ok(Box::new(CountingLine { writes: Arc::clone(&self.0), level: Level::OFF }))
    }

    fn input(&self, _: &LineId, _: Active, _: Bias, _: Edges) -> Result<Box<dyn Input>, Failure> {
        Err(Failure::new(Reason::Absent, "no input here"))
    }
}

struct CountingLine {
    writes: Arc<AtomicUsize>,
    level: Level,
}

impl Output for CountingLine {
    fn set(&mut self, level: Level) -> Result<(), Failure> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.level = level;
        Ok(())
    }

    fn level(&mut self) -> Result<Level, Failure> {
        Ok(self.level)
    }
}

fn switch(name: &str, interlock: Vec<usize>) -> Spec {
    Spec {
        name: name.to_owned(),
        drive: Drive::Switch { line: LineId::Name(name.to_owned()), active: Active::High },
        limits: Limits {
            safe: Level::OFF,
            pwm: false,
            max_on: Some(Duration::from_secs(300)),
            min_off: None,
            renew_within: Some(Duration::from_secs(600)),
            on_server_loss: None,
            interlock,
            switch: true,
            gap: Duration::ZERO,
        },
        initial: Initial::Level(Level::OFF),
        on_exit: Exit::Level(Level::OFF),
        accept_retained: false,
        follow: None,
        require: None,
    }
}

fn command(wish: Wish) -> Command {
    Command { wish, hold: None, id: None, expires: None }
}

#[test]
fn a_command_allocates_nothing_and_writes_once() {
    let board = CountingBoard::default();
    let writes = Arc::clone(&board.0);
    let now = |ms: u64| Stamp { at: Instant::from_nanos(ms * 1_000_000), wall: None };
    let specs = vec![switch("beacon", vec![]), switch("up", vec![2]), switch("down", vec![])];
    let mut bank = Bank::open(specs, Arc::new(board), &|_| Earlier::default(), now(0));
    let mut changes = Vec::with_capacity(64);
    bank.changes(&mut changes);
    let (on, off) = (command(Wish::On), command(Wish::Off));

    let before = ALLOCATIONS.get();
    for round in 1..=1_000 {
        for wish in [&on, &off] {
            changes.clear();
            assert_eq!(bank.command(0, wish, false, now(round)), Ok(()));
            bank.changes(&mut changes);
            assert_eq!(changes.len(), 1);
        }
        // An interlocked pair that takes over from each other: two writes a time.
        changes.clear();
        assert_eq!(bank.command(1 + (round % 2) as usize, &on, false, now(round)), Ok(()));
        bank.changes(&mut changes);
    }
    assert_eq!(ALLOCATIONS.get(), before, "allocations on the way of a command");
    assert_eq!(writes.load(Ordering::Relaxed), 1_000 * 2 + 1_000 * 2 - 1);
}
