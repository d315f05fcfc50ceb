//! Simulated GPIO lines and PWM channels: every one exists, has a physical level, and one holder at most.
//!
//! Levels here are physical; only the requested output or input turns them into logical ones. A released output stays
//! where it was. An input's edges wait in a bounded queue that drops the oldest, as the kernel's does.

use super::trace::{Physical, Trace};
use crate::board::{Edge, Input, Output};
use crate::clock::{Clock, Instant};
use crate::line::{Active, Bias, Drive, Edges, Initial, Level, LineId, PwmId};
use crate::sample::{Failure, Reason};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Edges that wait before the oldest is dropped: as many as are asked of the kernel.
const QUEUE: usize = 256;
/// Edges taken in one call.
const EDGES: usize = 64;

/// All lines of a board.
pub(super) struct Lines {
    clock: Arc<dyn Clock>,
    trace: Option<Trace>,
    all: Mutex<HashMap<String, Arc<Line>>>,
}

/// One line or channel.
pub(super) struct Line {
    key: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` while nothing has driven it.
    physical: Option<Level>,
    holder: Option<Holder>,
    /// Setting it fails.
    fails: bool,
    requests: u64,
    writes: u64,
}

enum Holder {
    Output,
    Input(Watch),
}

/// The edges of a requested input.
struct Watch {
    event: Arc<OwnedFd>,
    active: Active,
    edges: Edges,
    queue: VecDeque<Change>,
    /// The number of the next change.
    next: u64,
}

struct Change {
    number: u64,
    high: bool,
    at: Instant,
}

/// The name under which a line is known, whichever way it is spelled.
pub(super) fn line_key(line: &LineId) -> String {
    match line {
        LineId::Name(name) => name.clone(),
        LineId::Offset { chip, offset } => format!("{}:{offset}", last_part(chip)),
    }
}

fn drive_key(drive: &Drive) -> String {
    match drive {
        Drive::Switch { line, .. } => line_key(line),
        Drive::Pwm { channel: PwmId::Line(name), .. } => name.clone(),
        Drive::Pwm { channel: PwmId::Channel { chip, channel }, .. } => format!("{}:{channel}", last_part(chip)),
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Lines {
    pub(super) fn new(clock: Arc<dyn Clock>, trace: Option<Trace>) -> Self {
        Self { clock, trace, all: Mutex::default() }
    }

    /// The line of that name, made if need be.
    pub(super) fn line(&self, key: &str) -> Arc<Line> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = all.get(key) {
            return line.clone();
        }
        let line = Arc::new(Line { key: key.to_owned(), state: Mutex::default() });
        all.insert(key.to_owned(), line.clone());
        line
    }

    /// Where output writes are noted.
    pub(super) fn trace_target(&self) -> Option<&str> {
        self.trace.as_ref().map(Trace::target)
    }

    /// How many output writes the trace missed.
    pub(super) fn lost_in_trace(&self) -> u64 {
        self.trace.as_ref().map_or(0, Trace::lost)
    }

    /// Requests an output. `Keep` writes nothing.
    pub(super) fn output(self: &Arc<Self>, drive: &Drive, initial: Initial) -> Result<Box<dyn Output>, Failure> {
        let (Drive::Switch { active, .. } | Drive::Pwm { active, .. }) = drive;
        let line = self.line(&drive_key(drive));
        line.hold(|_| Ok(Holder::Output))?;
        let name = drive.to_string();
        let output = SimulatedOutput { lines: self.clone(), line, name, active: *active, pwm: drive.is_pwm() };
        if let Initial::Level(level) = initial {
            output.write(&mut output.line.state(), level);
        }
        Ok(Box::new(output))
    }

    /// Requests an input. A line that nothing has driven is high with a pull-up, else low.
    pub(super) fn input(
        &self,
        line: &LineId,
        active: Active,
        bias: Bias,
        edges: Edges,
    ) -> Result<Box<dyn Input>, Failure> {
        let line = self.line(&line_key(line));
        let refused = |error: io::Error| Failure::new(Reason::Driver, format!("no event for an input: {error}"));
        let event = Arc::new(new_event().map_err(refused)?);
        line.hold(|state| {
            state.physical = state.physical.or(Some(Level::switch(bias == Bias::PullUp)));
            Ok(Holder::Input(Watch { event: event.clone(), active, edges, queue: VecDeque::new(), next: 0 }))
        })?;
        Ok(Box::new(SimulatedInput { line, event, active, last: None }))
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, holder: impl FnOnce(&mut State) -> Result<Holder, Failure>) -> Result<(), Failure> {
        let mut state = self.state();
        if state.holder.is_some() {
            return Err(Failure::new(Reason::Busy, format!("{} is held by this program already", self.key)));
        }
        state.holder = Some(holder(&mut state)?);
        state.requests += 1;
        Ok(())
    }

    fn release(&self) {
        self.state().holder = None;
    }

    /// Drives the line from outside; an input that watches it sees an edge.
    ///
    /// # Errors
    /// `busy` while an output drives it.
    pub(super) fn drive(&self, high: bool, at: Instant) -> Result<(), Failure> {
        let mut state = self.state();
        if matches!(state.holder, Some(Holder::Output)) {
            return Err(Failure::new(Reason::Busy, format!("{} is driven by an output", self.key)));
        }
        let level = Some(Level::switch(high));
        if state.physical != level {
            state.physical = level;
            if let Some(Holder::Input(watch)) = &mut state.holder {
                watch.push(high, at);
            }
        }
        Ok(())
    }

    /// The physical level: the part of the time it is high.
    pub(super) fn physical(&self) -> Option<Level> {
        self.state().physical
    }

    /// How often it has been requested.
    pub(super) fn requests(&self) -> u64 {
        self.state().requests
    }

    /// How often an output has written it.
    pub(super) fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Makes setting it fail, or work again.
    pub(super) fn fail(&self, fails: bool) {
        self.state().fails = fails;
    }
}

impl Watch {
    fn push(&mut self, high: bool, at: Instant) {
        if !self.edges.tell(logical(high, self.active)) {
            return;
        }
        if self.queue.len() == QUEUE {
            self.queue.pop_front();
        }
        self.queue.push_back(Change { number: self.next, high, at });
        self.next += 1;
        raise(&self.event);
    }
}

struct SimulatedOutput {
    lines: Arc<Lines>,
    line: Arc<Line>,
    /// As configured.
    name: String,
    active: Active,
    pwm: bool,
}

impl SimulatedOutput {
    /// Between logical and physical, both ways.
    fn turned(&self, level: Level) -> Level {
        let level = if self.pwm { level } else { Level::switch(level.is_on()) };
        match self.active {
            Active::High => level,
            Active::Low => Level::from_percent(100.0 - level.percent()).unwrap_or(Level::OFF),
        }
    }

    /// The stamp is taken when the level stands, and the line stays locked so that the trace keeps the order.
    fn write(&self, state: &mut State, level: Level) {
        let physical = self.turned(level);
        state.physical = Some(physical);
        state.writes += 1;
        if let Some(trace) = &self.lines.trace {
            let at = self.lines.clock.now();
            let value = if self.pwm { Physical::Pwm(physical) } else { Physical::Switch(physical.is_on()) };
            trace.write(at, &self.name, value);
        }
    }
}

impl Output for SimulatedOutput {
    fn set(&mut self, level: Level) -> Result<(), Failure> {
        let mut state = self.line.state();
        if state.fails {
            return Err(Failure::new(
                Reason::Driver,
                format!("setting {} fails, as the simulation was told", self.name),
            ));
        }
        self.write(&mut state, level);
        Ok(())
    }

    fn level(&mut self) -> Result<Level, Failure> {
        let low = self.turned(Level::OFF);
        Ok(self.line.physical().map_or_else(|| self.turned(low), |physical| self.turned(physical)))
    }
}

impl Drop for SimulatedOutput {
    fn drop(&mut self) {
        self.line.release();
    }
}

struct SimulatedInput {
    line: Arc<Line>,
    event: Arc<OwnedFd>,
    active: Active,
    /// The number of the last change taken.
    last: Option<u64>,
}

impl AsFd for SimulatedInput {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Input for SimulatedInput {
    fn is_active(&mut self) -> Result<bool, Failure> {
        Ok(logical(self.line.physical().is_some_and(Level::is_on), self.active))
    }

    fn edges(&mut self, into: &mut Vec<Edge>) -> Result<(), Failure> {
        let line = self.line.clone();
        let mut state = line.state();
        let Some(Holder::Input(watch)) = &mut state.holder else { return Ok(()) };
        for change in watch.queue.drain(..EDGES.min(watch.queue.len())) {
            let expected = self.last.map_or(0, |last| last + 1);
            self.last = Some(change.number);
            let lost = u32::try_from(change.number - expected).unwrap_or(u32::MAX);
            into.push(Edge { active: logical(change.high, self.active), at: change.at, lost });
        }
        if watch.queue.is_empty() {
            clear(&self.event);
        }
        Ok(())
    }
}

impl Drop for SimulatedInput {
    fn drop(&mut self) {
        self.line.release();
    }
}

/// Whether a physical level is the active one.
fn logical(high: bool, active: Active) -> bool {
    high == (active == Active::High)
}

fn new_event() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a non-negative answer is a new descriptor that nobody else owns.
    unsafe {
        match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Makes the descriptor readable. It cannot fail: the counter would have to reach 2⁶⁴ − 2.
fn raise(event: &OwnedFd) {
    let one = 1_u64;
    // SAFETY: eight readable bytes, and the descriptor is open.
    unsafe { libc::write(event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
}

/// Makes the descriptor unreadable. That it was not readable is no error.
fn clear(event: &OwnedFd) {
    let mut count = 0_u64;
    // SAFETY: eight writable bytes, and the descriptor is open.
    unsafe { libc::read(event.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn lines() -> Arc<Lines> {
        Arc::new(Lines::new(Arc::new(ManualClock::new(Instant::from_nanos(77))), None))
    }

    fn switch(name: &str, active: Active) -> Drive {
        Drive::Switch { line: LineId::Name(name.into()), active }
    }

    fn readable(input: &dyn Input) -> bool {
        let mut poll = libc::pollfd { fd: input.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd for the duration of the call.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }

    fn edges(input: &mut dyn Input) -> Vec<Edge> {
        let mut edges = Vec::new();
        input.edges(&mut edges).expect("edges");
        edges
    }

    #[test]
    fn a_line_has_one_holder_and_keeps_its_level_when_released() {
        let lines = lines();
        let mut output = lines.output(&switch("GPIO17", Active::Low), Initial::Level(Level::OFF)).expect("a line");
        assert_eq!(lines.line("GPIO17").physical(), Some(Level::ON), "OFF is high when low is active");
        let again = lines.output(&switch("GPIO17", Active::High), Initial::Keep).err().expect("held");
        assert_eq!(again.to_string(), "busy: GPIO17 is held by this program already");
        assert!(lines.input(&LineId::Name("GPIO17".into()), Active::High, Bias::AsIs, Edges::Both).is_err());
        output.set(Level::ON).expect("a level");
        drop(output);
        assert_eq!(lines.line("GPIO17").physical(), Some(Level::OFF));
        let mut kept = lines.output(&switch("GPIO17", Active::Low), Initial::Keep).expect("released");
        assert_eq!(kept.level().expect("a level"), Level::ON);
        assert_eq!((lines.line("GPIO17").requests(), lines.line("GPIO17").writes()), (2, 2));
    }

    #[test]
    fn chips_are_the_same_by_name_and_by_path() {
        let lines = lines();
        let offset = |chip: &str| LineId::Offset { chip: chip.into(), offset: 4 };
        let _held = lines.input(&offset("gpiochip0"), Active::High, Bias::AsIs, Edges::Both).expect("a line");
        assert!(lines.input(&offset("/dev/gpiochip0"), Active::High, Bias::AsIs, Edges::Both).is_err());
    }

    #[test]
    fn pwm_is_inverted_when_low_is_active_and_a_switch_knows_two_levels() {
        let lines = lines();
        let channel = PwmId::Channel { chip: "pwmchip0".into(), channel: 1 };
        let drive = Drive::Pwm { channel, frequency_hz: 100, active: Active::Low };
        let level = Level::from_percent(30.0).expect("a percentage");
        let mut pwm = lines.output(&drive, Initial::Level(level)).expect("a channel");
        assert_eq!(lines.line("pwmchip0:1").physical().map(Level::percent), Some(70.0));
        assert_eq!(pwm.level().expect("a level"), level);
        let mut output = lines.output(&switch("GPIO17", Active::High), Initial::Level(level)).expect("a line");
        assert_eq!(output.level().expect("a level"), Level::ON);
    }

    #[test]
    fn a_failing_output_does_not_move() {
        let lines = lines();
        let mut output = lines.output(&switch("GPIO17", Active::High), Initial::Level(Level::OFF)).expect("a line");
        lines.line("GPIO17").fail(true);
        assert_eq!(output.set(Level::ON).expect_err("told to fail").reason, Reason::Driver);
        assert_eq!(output.level().expect("a level"), Level::OFF);
        lines.line("GPIO17").fail(false);
        output.set(Level::ON).expect("works again");
    }

    #[test]
    fn edges_are_logical_stamped_and_make_the_descriptor_readable() {
        let lines = lines();
        let line = LineId::Name("GPIO27".into());
        let mut input = lines.input(&line, Active::Low, Bias::PullUp, Edges::Both).expect("a line");
        assert!(!input.is_active().expect("a level") && !readable(&*input));
        let at = Instant::from_nanos;
        for (high, nanos) in [(true, 1), (false, 2), (false, 3), (true, 4)] {
            lines.line("GPIO27").drive(high, at(nanos)).expect("an input");
        }
        assert!(readable(&*input));
        let expected = [Edge { active: true, at: at(2), lost: 0 }, Edge { active: false, at: at(4), lost: 0 }];
        assert_eq!(edges(&mut *input), expected);
        assert!(!readable(&*input));
        assert_eq!(edges(&mut *input), []);
    }

    #[test]
    fn an_input_tells_only_the_edges_it_was_asked_for() {
        let lines = lines();
        let line = LineId::Name("GPIO22".into());
        let mut input = lines.input(&line, Active::Low, Bias::PullUp, Edges::Deactivations).expect("a line");
        for (high, nanos) in [(false, 1), (true, 2), (false, 3), (true, 4)] {
            lines.line("GPIO22").drive(high, Instant::from_nanos(nanos)).expect("an input");
        }
        let told: Vec<_> = edges(&mut *input).iter().map(|edge| (edge.active, edge.at.as_nanos(), edge.lost)).collect();
        assert_eq!(told, [(false, 2, 0), (false, 4, 0)]);
    }

    #[test]
    fn the_queue_is_bounded_and_what_it_dropped_is_counted() {
        let lines = lines();
        let mut input =
            lines.input(&LineId::Name("GPIO27".into()), Active::High, Bias::AsIs, Edges::Both).expect("a line");
        for flip in 0..QUEUE as u64 + 10 {
            lines.line("GPIO27").drive(flip % 2 == 0, Instant::from_nanos(flip)).expect("an input");
        }
        let first = edges(&mut *input);
        assert_eq!((first.len(), first[0].lost, first[0].at), (EDGES, 10, Instant::from_nanos(10)));
        assert!(readable(&*input), "more wait");
        let mut all = first;
        while readable(&*input) {
            input.edges(&mut all).expect("edges");
        }
        assert_eq!(all.len(), QUEUE);
        assert!(all[1..].iter().all(|edge| edge.lost == 0));
    }

    #[test]
    fn nothing_outside_moves_a_line_that_an_output_drives() {
        let lines = lines();
        let _output = lines.output(&switch("GPIO17", Active::High), Initial::Level(Level::OFF)).expect("a line");
        let failure = lines.line("GPIO17").drive(true, Instant::default()).expect_err("driven");
        assert_eq!(failure.reason, Reason::Busy);
        assert_eq!(lines.line("GPIO17").physical(), Some(Level::OFF));
    }
}
