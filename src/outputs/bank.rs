//! All outputs with their lines while they run: carries out what the guard decides, and nothing else.
//!
//! `life_cycle` has the start, the reload and the end. It knows no topic and no clock. Invariant: a line is written only where [`guard::decide`] says so, once for each change
//! of level, and every outcome goes back to the guard before anything else happens.

use super::guard::{self, Decision, Event, Line, State, Surroundings};
use super::wire::Wire;
use super::{SourceId, Spec};
use crate::board::Board;
use crate::clock::{Instant, Stamp};
use crate::command::{Command, Refusal};
use crate::line::Level;
use crate::sample::Failure;
use std::sync::Arc;

/// A change of an output's true state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The output's index.
    pub output: usize,
    /// What its line is driven to; `None` while nobody knows.
    pub level: Option<Level>,
}

/// One output.
pub(super) struct Cell {
    pub(super) spec: Spec,
    pub(super) state: State,
    pub(super) wire: Wire,
    /// The outputs it must not be on together with, whichever of the two names the other.
    pub(super) partners: Vec<usize>,
    pub(super) deadline: Option<Instant>,
    pub(super) queued: bool,
}

impl Cell {
    fn decide(&mut self, event: Event<'_>, at: Instant, around: &Surroundings) -> Decision {
        let (state, decision) = guard::decide(&self.spec, self.state, event, at, around);
        (self.state, self.deadline) = (state, decision.deadline);
        decision
    }

    pub(super) const fn level(&self) -> Option<Level> {
        match self.state.line {
            Line::At(level) => Some(level),
            Line::Absent | Line::Unknown => None,
        }
    }
}

/// What came of one event.
pub(super) struct Driven {
    /// The guard's first answer.
    decision: Decision,
    /// The line did not do as it was told.
    failed: bool,
}

/// All outputs, by their index in the configuration.
pub struct Bank {
    pub(super) board: Arc<dyn Board>,
    pub(super) cells: Vec<Cell>,
    /// Outputs to look at again because an interlocked one has changed; each at most once.
    pub(super) queue: Vec<usize>,
    pub(super) changes: Vec<Change>,
    /// The last value of each source, and when it came: what a rule is judged by that a reload brings.
    pub(super) heard: Vec<Option<(f64, Instant)>>,
    pub(super) connected: bool,
    pub(super) closed: bool,
    pub(super) now: Instant,
}

impl Bank {
    /// Carries out a command for the output at that index, or says why not. `Ok` may also mean that it only waits for an
    /// interlock's gap.
    ///
    /// # Errors
    /// The reason of the refusal; `hardware` where the line could not be driven, `malformed` where there is no such output.
    pub fn command(&mut self, output: usize, command: &Command, retained: bool, now: Stamp) -> Result<(), Refusal> {
        let at = self.advance(now);
        if output >= self.cells.len() {
            return Err(Refusal::Malformed);
        }
        if self.closed {
            return Err(Refusal::Hardware);
        }
        self.drive(output, Event::Tick, at);
        let before = self.cells[output].state;
        let Driven { decision, failed } = self.drive(output, Event::Command { command, retained, wall: now.wall }, at);
        let outcome = match decision.refusal {
            Some(refusal) => Err(refusal),
            None if decision.take_over => self.take_over(output, before, at),
            None if failed => Err(Refusal::Hardware),
            None => Ok(()),
        };
        self.settle(at);
        outcome
    }

    /// A value that outputs follow or require has arrived; one that is no finite number is the loss of it.
    pub fn value(&mut self, source: SourceId, value: f64, now: Stamp) {
        let at = self.advance(now);
        if let Some(heard) = self.heard.get_mut(source) {
            *heard = Some((value, at));
        }
        for output in 0..self.open_cells() {
            let spec = &self.cells[output].spec;
            let follows = spec.follow.as_ref().is_some_and(|follow| follow.source == source);
            let requires = spec.require.as_ref().is_some_and(|require| require.source == source);
            if requires {
                self.drive(output, Event::Required(value), at);
            }
            if follows {
                self.drive(output, Event::Followed(value), at);
            }
        }
        self.settle(at);
    }

    /// The connection to the server has come or gone; saying the same again changes nothing.
    pub fn server(&mut self, connected: bool, now: Stamp) {
        let at = self.advance(now);
        if std::mem::replace(&mut self.connected, connected) == connected {
            return;
        }
        for output in 0..self.open_cells() {
            self.drive(output, Event::Server(connected), at);
        }
        self.settle(at);
    }

    /// Does what time alone asks for: `max_on`, `for`, `renew_within`, stale values, gaps, retries. To be called at
    /// [`Bank::deadline`], and harmless at any other time.
    pub fn tick(&mut self, now: Stamp) {
        let at = self.advance(now);
        for output in 0..self.open_cells() {
            if self.cells[output].deadline.is_some_and(|deadline| deadline <= at) {
                self.drive(output, Event::Tick, at);
            }
        }
        self.settle(at);
    }

    /// When [`Bank::tick`] has something to do next: always later than the last call of anything here.
    pub fn deadline(&self) -> Option<Instant> {
        self.cells[..self.open_cells()].iter().filter_map(|cell| cell.deadline).min()
    }

    /// Moves the changes of true state since the last call into `into`, in order. While nobody asks, only the newest of an
    /// output is certain to be kept.
    pub fn changes(&mut self, into: &mut Vec<Change>) {
        into.append(&mut self.changes);
    }

    /// Every output's true state.
    pub fn all(&self) -> impl Iterator<Item = Change> + '_ {
        self.cells.iter().enumerate().map(|(output, cell)| Change { output, level: cell.level() })
    }

    /// What the line is driven to; `None` while nobody knows, and for an index there is not.
    pub fn level(&self, output: usize) -> Option<Level> {
        self.cells.get(output)?.level()
    }

    /// Why the line cannot be driven, while it cannot.
    pub fn failure(&self, output: usize) -> Option<&Failure> {
        self.cells.get(output)?.wire.failure()
    }

    /// The specifications, by index.
    pub fn specs(&self) -> impl ExactSizeIterator<Item = &Spec> {
        self.cells.iter().map(|cell| &cell.spec)
    }

    /// The index of the output with that name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.specs().position(|spec| spec.name == name)
    }

    /// The time, never running backwards: messages are stamped by other threads.
    pub(super) fn advance(&mut self, now: Stamp) -> Instant {
        self.now = self.now.max(now.at);
        self.now
    }

    /// How many outputs still move: all, or none after the shutdown.
    const fn open_cells(&self) -> usize {
        if self.closed { 0 } else { self.cells.len() }
    }

    /// Switches the partners off for a granted command; if one does not go, the command is refused after all.
    fn take_over(&mut self, output: usize, before: State, at: Instant) -> Result<(), Refusal> {
        for index in 0..self.cells[output].partners.len() {
            let partner = self.cells[output].partners[index];
            let state = &self.cells[partner].state;
            if !state.line.is_off() || state.claims() {
                self.drive(partner, Event::Yield, at);
            }
        }
        let partners = &self.cells[output].partners;
        if partners.iter().all(|&partner| self.cells[partner].state.line.is_off()) {
            let failed = self.drive(output, Event::Tick, at).failed;
            return if failed { Err(Refusal::Hardware) } else { Ok(()) };
        }
        self.cells[output].state = before;
        self.drive(output, Event::Tick, at);
        Err(Refusal::Interlock)
    }

    /// Looks again at everything interlocked with what has changed, until nothing changes.
    pub(super) fn settle(&mut self, at: Instant) {
        while let Some(output) = self.queue.pop() {
            self.cells[output].queued = false;
            self.drive(output, Event::Tick, at);
        }
    }

    /// Puts one event to the guard and does what it says, until it says nothing more; gives its first answer, and whether
    /// the line did as it was told.
    pub(super) fn drive(&mut self, output: usize, event: Event<'_>, at: Instant) -> Driven {
        let around = self.surroundings(output);
        let cell = &mut self.cells[output];
        let (level, shown) = (cell.level(), (cell.state.line, cell.state.claims()));
        let mut failed = false;
        let first = cell.decide(event, at, &around);
        let mut write = first.write;
        while let Some(level) = write {
            let event = if cell.wire.put(self.board.as_ref(), &cell.spec.name, &cell.spec.drive, level) {
                Event::Driven(level)
            } else {
                failed = true;
                Event::Failed
            };
            write = cell.decide(event, at, &around).write;
        }
        if cell.level() != level {
            let level = cell.level();
            self.record(Change { output, level });
        }
        let cell = &self.cells[output];
        if (cell.state.line, cell.state.claims()) != shown {
            self.queue_partners(output);
        }
        Driven { decision: first, failed }
    }

    fn surroundings(&self, output: usize) -> Surroundings {
        let own = &self.cells[output];
        let mut around = Surroundings::default();
        for &partner in &own.partners {
            let partner = &self.cells[partner];
            around.meet(&partner.state, own.spec.limits.gap.max(partner.spec.limits.gap));
        }
        around
    }

    fn queue_partners(&mut self, output: usize) {
        for index in 0..self.cells[output].partners.len() {
            let partner = self.cells[output].partners[index];
            if !std::mem::replace(&mut self.cells[partner].queued, true) {
                self.queue.push(partner);
            }
        }
    }

    /// Keeps a change for [`Bank::changes`]; when full, one that a later one of the same output has overtaken goes.
    pub(super) fn record(&mut self, change: Change) {
        if self.changes.len() >= max_changes(self.cells.len()) {
            let overtaken = |(place, old): &(usize, &Change)| {
                self.changes[place + 1..].iter().chain([&change]).any(|newer| newer.output == old.output)
            };
            if let Some(place) = self.changes.iter().enumerate().find(overtaken).map(|(place, _)| place) {
                self.changes.remove(place);
            }
        }
        self.changes.push(change);
    }
}

/// How many changes are kept while nobody asks for them: more than there are outputs, so one is always overtaken.
pub(super) const fn max_changes(outputs: usize) -> usize {
    8 * outputs + 8
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Rig, after, off, on, switch};
    use super::super::{Earlier, Exit, Follow, Initial, Limits, Require, Rule};
    use super::*;
    use crate::command::Wish;
    use crate::line::Initial as Request;
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limits(change: impl FnOnce(&mut Limits)) -> Spec {
        let mut spec = switch("beacon");
        change(&mut spec.limits);
        spec
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn follow(stale_after: Duration) -> Option<Follow> {
        Some(Follow { source: 0, rule: Rule::OnAbove { on_above: 400.0, off_below: 380.0 }, stale_after })
    }

    fn percent(percent: f64) -> Level {
        Level::from_percent(percent).expect("a percentage")
    }

    fn pwm(name: &str) -> Spec {
        let mut spec = switch(name);
        spec.limits.pwm = true;
        spec
    }

    #[test]
    fn a_command_is_one_write_and_a_repeated_one_is_none() {
        let mut rig = Rig::new(vec![switch("beacon")]);
        assert_eq!(rig.command(0, on()), Ok(()));
        assert_eq!(rig.command(0, on()), Ok(()));
        assert_eq!(rig.command(0, off()), Ok(()));
        assert_eq!(rig.writes(0), [Level::OFF, Level::ON, Level::OFF]);
        assert_eq!(rig.changes(), [(0, Some(Level::OFF)), (0, Some(Level::ON)), (0, Some(Level::OFF))]);
        assert_eq!(rig.bank.deadline(), None);
    }

    #[test]
    fn toggle_goes_by_the_true_state() {
        let mut rig = Rig::new(vec![limits(|l| l.max_on = Some(secs(5)))]);
        rig.command(0, Wish::Toggle).expect("on");
        assert_eq!(rig.level(0), Some(Level::ON));
        rig.run(secs(6));
        rig.command(0, Wish::Toggle).expect("on again, because max_on had it off");
        assert_eq!(rig.level(0), Some(Level::ON));
    }

    #[test]
    fn retained_expired_and_malformed_commands_change_nothing() {
        let mut open = switch("open");
        open.accept_retained = true;
        let mut rig = Rig::new(vec![switch("beacon"), open]);
        assert_eq!(rig.retained(0, on()), Err(Refusal::Retained));
        assert_eq!(rig.retained(1, on()), Ok(()));
        let mut late = after(on(), None);
        late.expires = Some(crate::clock::Wall(1_000));
        assert_eq!(rig.full(0, &late), Err(Refusal::Expired), "the date is not known");
        rig.wall = Some(crate::clock::Wall(1_000));
        assert_eq!(rig.full(0, &late), Err(Refusal::Expired), "the date has come");
        rig.wall = Some(crate::clock::Wall(999));
        assert_eq!(rig.full(0, &late), Ok(()));
        assert_eq!(rig.command(0, Wish::Level(percent(40.0))), Err(Refusal::Malformed));
        assert_eq!(rig.full(0, &after(on(), Some(Duration::ZERO))), Err(Refusal::Malformed));
        assert_eq!(rig.command(7, on()), Err(Refusal::Malformed));
        assert_eq!(rig.writes(0), [Level::OFF, Level::ON]);
    }

    #[test]
    fn a_for_ends_in_safe_and_a_new_command_replaces_it() {
        let mut rig = Rig::new(vec![switch("beacon")]);
        rig.full(0, &after(on(), Some(secs(5)))).expect("on for 5 s");
        rig.run(secs(4));
        rig.full(0, &after(on(), Some(secs(5)))).expect("on for another 5 s");
        rig.run(secs(4));
        assert_eq!(rig.level(0), Some(Level::ON));
        rig.run(secs(1));
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.full(0, &after(on(), Some(secs(5)))).expect("on for 5 s");
        rig.command(0, on()).expect("on without end");
        rig.run(MINUTE);
        assert_eq!(rig.level(0), Some(Level::ON));
    }

    #[test]
    fn max_on_is_a_total_that_no_repetition_and_no_level_extends() {
        let mut lamp = pwm("lamp");
        lamp.limits.max_on = Some(secs(10));
        let mut rig = Rig::new(vec![lamp]);
        for step in 0..9 {
            rig.command(0, if step % 2 == 0 { on() } else { Wish::Level(percent(1.0)) }).expect("on");
            rig.run(secs(1));
        }
        assert!(rig.level(0).is_some_and(Level::is_on));
        rig.run(secs(1));
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.run(MINUTE);
        assert_eq!(rig.level(0), Some(Level::OFF));
        assert_eq!(rig.full(0, &after(on(), Some(secs(11)))), Err(Refusal::MaxOn));
        assert_eq!(rig.full(0, &after(off(), Some(secs(11)))), Ok(()), "OFF may last");
    }

    #[test]
    fn min_off_refuses_commands_and_delays_rules() {
        let mut rig = Rig::new(vec![limits(|l| l.min_off = Some(secs(3)))]);
        rig.command(0, on()).expect("nothing was on before");
        rig.command(0, off()).expect("off");
        rig.run(Duration::from_millis(2_999));
        assert_eq!(rig.command(0, on()), Err(Refusal::MinOff));
        rig.run(Duration::from_millis(1));
        assert_eq!(rig.command(0, on()), Ok(()));

        let mut spec = limits(|l| l.min_off = Some(secs(3)));
        spec.follow = follow(MINUTE);
        let mut rig = Rig::new(vec![spec]);
        for value in [500.0, 300.0, 500.0] {
            rig.value(0, value);
        }
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.run(secs(3));
        assert_eq!(rig.level(0), Some(Level::ON));
    }

    #[test]
    fn min_off_counts_from_the_start_where_an_earlier_run_had_it_on() {
        let spec = || limits(|l| l.min_off = Some(secs(3)));
        let off_at_last = Earlier { last: Some(Level::OFF), was_on: true };
        let mut rig = Rig::after(vec![spec()], off_at_last);
        assert_eq!(rig.command(0, on()), Err(Refusal::MinOff));
        rig.run(secs(3));
        assert_eq!(rig.command(0, on()), Ok(()));
        let mut rig = Rig::after(vec![spec()], Earlier { was_on: false, ..off_at_last });
        assert_eq!(rig.command(0, on()), Ok(()));
    }

    #[test]
    fn an_initial_level_waits_for_min_off_where_an_earlier_run_had_it_on() {
        let starts = |initial| {
            let mut spec = limits(|l| l.min_off = Some(secs(3)));
            spec.initial = initial;
            spec
        };
        for initial in [Initial::Last, Initial::Level(Level::ON)] {
            let mut rig = Rig::after(vec![starts(initial)], Earlier { last: Some(Level::ON), was_on: true });
            assert_eq!(rig.board.requests("beacon"), [Request::Level(Level::OFF)]);
            rig.run(Duration::from_millis(2_999));
            assert_eq!((rig.level(0), rig.command(0, on())), (Some(Level::OFF), Err(Refusal::MinOff)));
            rig.run(Duration::from_millis(1));
            assert_eq!(rig.level(0), Some(Level::ON), "{initial:?}");
        }
        let mut rig = Rig::after(vec![starts(Initial::Last)], Earlier { last: Some(Level::ON), was_on: true });
        rig.command(0, off()).expect("off");
        rig.run(MINUTE);
        assert_eq!(rig.level(0), Some(Level::OFF), "a command has ended it");
        let rig = Rig::new(vec![starts(Initial::Level(Level::ON))]);
        assert_eq!(rig.board.requests("beacon"), [Request::Level(Level::ON)], "nothing was on before");
    }

    #[test]
    fn after_max_on_a_rule_waits_until_it_has_let_go() {
        let mut spec = limits(|l| l.max_on = Some(secs(10)));
        spec.follow = follow(MINUTE);
        let mut rig = Rig::new(vec![spec]);
        for _ in 0..30 {
            rig.value(0, 500.0);
            rig.run(secs(1));
        }
        assert_eq!(rig.writes(0), [Level::OFF, Level::ON, Level::OFF]);
        rig.value(0, 300.0);
        rig.value(0, 500.0);
        assert_eq!(rig.level(0), Some(Level::ON));
    }

    #[test]
    fn after_max_on_a_rule_waits_for_min_off_where_there_is_one() {
        let mut spec = limits(|l| (l.max_on, l.min_off) = (Some(secs(10)), Some(secs(4))));
        spec.follow = follow(MINUTE);
        let mut rig = Rig::new(vec![spec]);
        rig.value(0, 500.0);
        rig.run(secs(10));
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.run(secs(4));
        assert_eq!(rig.level(0), Some(Level::ON));
    }

    #[test]
    fn a_command_not_renewed_ends_in_safe() {
        let mut rig = Rig::new(vec![limits(|l| l.renew_within = Some(secs(10)))]);
        rig.command(0, on()).expect("on");
        rig.run(secs(9));
        rig.command(0, on()).expect("renewed");
        rig.run(secs(9));
        assert_eq!(rig.level(0), Some(Level::ON));
        rig.run(secs(1));
        assert_eq!(rig.level(0), Some(Level::OFF));
    }

    #[test]
    fn loss_of_the_server_counts_from_the_start_and_lasts_until_a_command() {
        let mut spec = limits(|l| l.on_server_loss = Some(secs(30)));
        spec.follow = follow(secs(1_000));
        let mut rig = Rig::new(vec![spec]);
        rig.value(0, 500.0);
        rig.run(secs(29));
        assert_eq!(rig.level(0), Some(Level::ON));
        rig.run(secs(1));
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.server(true);
        rig.value(0, 500.0);
        rig.run(secs(100));
        assert_eq!(rig.level(0), Some(Level::OFF), "the server's return is no command");
        rig.command(0, Wish::Auto).expect("back to the rule");
        assert_eq!(rig.level(0), Some(Level::ON));
        rig.server(false);
        rig.run(secs(20));
        rig.server(false);
        rig.run(secs(10));
        assert_eq!(rig.level(0), Some(Level::OFF), "the same loss does not count anew");
        rig.command(0, on()).expect("a local command");
        rig.run(secs(100));
        assert_eq!(rig.level(0), Some(Level::ON), "one loss leads to safe once");
    }

    #[test]
    fn a_short_loss_of_the_server_changes_nothing() {
        let mut rig = Rig::new(vec![limits(|l| l.on_server_loss = Some(secs(30)))]);
        rig.server(true);
        rig.command(0, on()).expect("on");
        rig.server(false);
        rig.run(secs(29));
        rig.server(true);
        rig.run(secs(100));
        assert_eq!(rig.writes(0), [Level::OFF, Level::ON]);
    }

    #[test]
    fn a_requirement_ends_a_command_and_only_suspends_a_rule() {
        let require = Some(Require { source: 1, below: Some(90.0), above: None, stale_after: secs(30) });
        let mut spec = switch("boiler");
        spec.require = require;
        let mut rig = Rig::new(vec![spec.clone()]);
        assert_eq!(rig.command(0, on()), Err(Refusal::Require), "nothing heard yet");
        rig.value(1, 20.0);
        assert_eq!(rig.command(0, on()), Ok(()));
        rig.run(secs(30));
        assert_eq!(rig.level(0), Some(Level::OFF), "stale");
        rig.value(1, 20.0);
        assert_eq!(rig.level(0), Some(Level::OFF), "the command is over");
        rig.command(0, on()).expect("on");
        rig.value(1, 90.0);
        assert_eq!((rig.level(0), rig.command(0, on())), (Some(Level::OFF), Err(Refusal::Require)));
        assert_eq!(rig.command(0, off()), Ok(()), "safe is never refused");

        spec.follow = follow(MINUTE);
        let mut rig = Rig::new(vec![spec]);
        rig.value(0, 500.0);
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.value(1, 20.0);
        assert_eq!(rig.level(0), Some(Level::ON));
        rig.value(1, f64::NAN);
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.value(1, 20.0);
        assert_eq!(rig.level(0), Some(Level::ON));
    }

    #[test]
    fn a_safe_level_that_is_on_has_no_limits() {
        let mut fan = pwm("fan");
        fan.limits.safe = Level::ON;
        fan.limits.max_on = Some(secs(10));
        fan.limits.min_off = Some(secs(5));
        fan.follow = Some(Follow {
            source: 0,
            rule: Rule::Curve(vec![(24.0, 0.0), (26.0, 20.0), (34.0, 100.0)]),
            stale_after: secs(60),
        });
        fan.require = Some(Require { source: 0, below: None, above: Some(-20.0), stale_after: secs(60) });
        let mut rig = Rig::new(vec![fan]);
        assert_eq!(rig.level(0), Some(Level::ON), "nothing heard yet");
        rig.run(secs(100));
        assert_eq!(rig.level(0), Some(Level::ON), "max_on is not about safe");
        rig.value(0, 25.0);
        assert_eq!(rig.level(0), Some(percent(10.0)));
        rig.value(0, 20.0);
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.value(0, -40.0);
        assert_eq!(rig.level(0), Some(Level::ON), "min_off is not about safe");
        assert_eq!(rig.command(0, off()), Err(Refusal::Require), "neither may it be switched off");
    }

    #[test]
    fn a_command_overrides_the_rule_until_auto_or_the_end_of_its_for() {
        let mut spec = switch("beacon");
        spec.follow = follow(secs(1_000));
        let mut rig = Rig::new(vec![spec]);
        rig.command(0, on()).expect("on");
        rig.value(0, 300.0);
        assert_eq!(rig.level(0), Some(Level::ON));
        rig.command(0, Wish::Auto).expect("auto");
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.value(0, 500.0);
        rig.full(0, &after(off(), Some(secs(5)))).expect("off for 5 s");
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.run(secs(5));
        assert_eq!(rig.level(0), Some(Level::ON));
        rig.run(secs(995));
        assert_eq!(rig.level(0), Some(Level::OFF), "stale");
        rig.value(0, 390.0);
        assert_eq!(rig.level(0), Some(Level::OFF), "between the thresholds after a gap: safe holds on");
    }

    #[test]
    fn between_the_thresholds_safe_holds_on_until_the_rule_has_spoken() {
        let mut heater = pwm("heater");
        heater.limits.safe = percent(30.0);
        heater.follow = follow(MINUTE);
        let mut rig = Rig::new(vec![heater]);
        for (value, level) in [(390.0, 30.0), (500.0, 100.0), (390.0, 100.0), (300.0, 0.0), (390.0, 0.0)] {
            rig.value(0, value);
            assert_eq!(rig.level(0), Some(percent(level)), "at {value}");
        }
    }

    #[test]
    fn on_is_the_last_level_above_zero() {
        let mut rig = Rig::new(vec![pwm("lamp")]);
        rig.command(0, on()).expect("on");
        assert_eq!(rig.level(0), Some(Level::ON));
        rig.command(0, Wish::Level(percent(12.5))).expect("12.5 %");
        rig.command(0, off()).expect("off");
        rig.command(0, Wish::Toggle).expect("on");
        assert_eq!(rig.level(0), Some(percent(12.5)));
    }

    fn pair(switch_over: bool, gap: Duration) -> Vec<Spec> {
        let mut up = switch("up");
        up.limits.interlock = vec![1];
        up.limits.gap = gap;
        let mut down = switch("down");
        // Only one names the other: the interlock is symmetric all the same.
        down.limits.switch = switch_over;
        vec![up, down]
    }

    #[test]
    fn an_interlock_refuses_while_the_other_is_on_and_for_the_gap_after_it() {
        let mut rig = Rig::new(pair(false, secs(1)));
        rig.run(secs(1));
        rig.command(0, on()).expect("up");
        assert_eq!(rig.command(1, on()), Err(Refusal::Interlock));
        rig.command(0, off()).expect("off");
        assert_eq!(rig.command(1, on()), Err(Refusal::Interlock));
        rig.run(secs(1));
        assert_eq!(rig.command(1, on()), Ok(()));
        assert_eq!(rig.command(0, on()), Err(Refusal::Interlock));
    }

    #[test]
    fn an_interlock_that_switches_breaks_before_it_makes() {
        let mut rig = Rig::new(pair(true, secs(1)));
        rig.run(secs(1));
        rig.command(0, on()).expect("up");
        assert_eq!(rig.command(1, on()), Ok(()));
        assert_eq!((rig.level(0), rig.level(1)), (Some(Level::OFF), Some(Level::OFF)));
        rig.run(secs(1));
        assert_eq!((rig.level(0), rig.level(1)), (Some(Level::OFF), Some(Level::ON)));
        let mut rig = Rig::new(pair(true, Duration::ZERO));
        rig.command(0, on()).expect("up");
        rig.command(1, on()).expect("down");
        assert_eq!((rig.level(0), rig.level(1)), (Some(Level::OFF), Some(Level::ON)));
    }

    #[test]
    fn nothing_is_switched_off_for_a_command_that_cannot_be_carried_out() {
        let mut specs = vec![switch("a"), switch("b"), switch("c")];
        specs[0].limits.interlock = vec![1, 2];
        specs[0].limits.switch = true;
        let mut rig = Rig::new(specs);
        rig.command(1, on()).expect("b");
        rig.command(2, on()).expect("c");
        rig.board.break_line("c", true);
        assert_eq!(rig.command(2, off()), Err(Refusal::Hardware));
        assert_eq!(rig.command(0, on()), Err(Refusal::Interlock));
        assert_eq!(rig.level(1), Some(Level::ON), "it has not yielded in vain");
    }

    #[test]
    fn the_last_word_wins_while_a_gap_is_awaited() {
        let mut rig = Rig::new(pair(true, secs(1)));
        rig.run(secs(1));
        rig.command(0, on()).expect("up");
        rig.command(1, on()).expect("down, in a second");
        assert_eq!(rig.command(0, on()), Err(Refusal::Interlock), "down is coming");
        rig.command(1, off()).expect("not down after all");
        rig.run(MINUTE);
        assert_eq!(rig.level(1), Some(Level::OFF));
    }

    #[test]
    fn a_command_in_the_first_gap_after_the_start_waits() {
        let mut rig = Rig::new(pair(false, secs(1)));
        assert_eq!(rig.command(1, on()), Ok(()));
        assert_eq!(rig.level(1), Some(Level::OFF));
        rig.run(secs(1));
        assert_eq!(rig.level(1), Some(Level::ON));
    }

    #[test]
    fn rules_wait_for_an_interlock_and_never_take_turns() {
        let mut specs = pair(true, secs(1));
        for spec in &mut specs {
            spec.follow = follow(secs(10_000));
            spec.limits.switch = true;
        }
        let mut rig = Rig::new(specs);
        rig.value(0, 500.0);
        rig.run(secs(10));
        let first = usize::from(rig.level(1) == Some(Level::ON));
        rig.run(secs(100));
        assert_eq!(rig.level(first), Some(Level::ON), "nobody took over");
        rig.command(1 - first, on()).expect("a command takes over");
        rig.run(secs(100));
        assert_eq!((rig.level(first), rig.level(1 - first)), (Some(Level::OFF), Some(Level::ON)));
        rig.full(1 - first, &after(off(), Some(secs(5)))).expect("off for 5 s");
        rig.run(secs(1));
        assert_eq!(rig.level(first), Some(Level::ON), "the rule had waited");
    }

    #[test]
    fn a_line_that_fails_is_led_to_safe_and_counts_as_on() {
        let mut rig = Rig::new(pair(true, Duration::ZERO));
        rig.command(0, on()).expect("up");
        rig.board.break_line("up", true);
        assert_eq!(rig.command(0, off()), Err(Refusal::Hardware));
        assert_eq!(rig.level(0), None);
        assert!(rig.bank.failure(0).is_some());
        assert_eq!(rig.command(1, on()), Err(Refusal::Interlock));
        assert_eq!(rig.command(0, on()), Err(Refusal::Hardware));
        rig.board.break_line("up", false);
        assert_eq!(rig.command(0, off()), Ok(()), "safe is tried at once");
        assert_eq!((rig.level(0), rig.bank.failure(0)), (Some(Level::OFF), None));
        assert_eq!(rig.command(1, on()), Ok(()));
    }

    #[test]
    fn retries_back_off_and_end_in_safe() {
        let mut rig = Rig::new(vec![switch("beacon")]);
        rig.board.break_line("beacon", true);
        assert_eq!(rig.command(0, on()), Err(Refusal::Hardware));
        let tried = rig.board.attempts("beacon");
        rig.run(secs(1 + 2 + 4 + 8));
        assert_eq!(rig.board.attempts("beacon") - tried, 4);
        rig.run(secs(3600));
        assert!(rig.board.attempts("beacon") - tried < 70, "at most once a minute");
        rig.board.break_line("beacon", false);
        rig.run(secs(60));
        assert_eq!(rig.level(0), Some(Level::OFF), "the command is over");
    }

    #[test]
    fn a_rule_leaves_a_failing_line_alone_for_a_while() {
        let mut spec = switch("beacon");
        spec.follow = follow(secs(100_000));
        let mut rig = Rig::new(vec![spec]);
        rig.board.break_level("beacon", Some(Level::ON));
        rig.value(0, 500.0);
        rig.run(secs(3600));
        assert!(rig.board.attempts("beacon") < 150, "{} attempts", rig.board.attempts("beacon"));
        rig.board.break_level("beacon", None);
        rig.run(secs(60));
        assert_eq!(rig.level(0), Some(Level::ON));
    }

    #[test]
    fn a_line_that_is_missing_at_the_start_is_requested_later() {
        let mut spec = switch("beacon");
        spec.initial = Initial::Level(Level::ON);
        let mut rig = Rig::broken(vec![spec], "beacon");
        assert_eq!((rig.level(0), rig.command(0, off())), (None, Err(Refusal::Hardware)));
        rig.board.break_line("beacon", false);
        rig.run(secs(1));
        assert_eq!(rig.writes(0), [Level::OFF], "the command took the initial level back");
    }

    #[test]
    fn initial_levels_are_requested_in_one_call_and_obey_limits() {
        let initial = |initial| {
            let mut spec = switch("beacon");
            spec.initial = initial;
            spec
        };
        assert_eq!(Rig::new(vec![initial(Initial::Level(Level::ON))]).writes(0), [Level::ON]);
        let was_on = Earlier { last: Some(Level::ON), was_on: true };
        assert_eq!(Rig::after(vec![initial(Initial::Last)], was_on).writes(0), [Level::ON]);
        assert_eq!(Rig::new(vec![initial(Initial::Last)]).writes(0), [Level::OFF]);
        let mut kept = Rig::found(vec![initial(Initial::Keep)], Level::ON);
        assert_eq!(kept.changes(), [(0, Some(Level::ON))], "its state is told");
        assert_eq!((kept.level(0), kept.board.requests("beacon")), (Some(Level::ON), vec![Request::Keep]));
        assert_eq!(kept.writes(0), []);

        let mut spec = initial(Initial::Level(Level::ON));
        spec.require = Some(Require { source: 0, below: Some(1.0), above: None, stale_after: secs(1) });
        let mut rig = Rig::new(vec![spec.clone()]);
        assert_eq!(rig.board.requests("beacon"), [Request::Level(Level::OFF)]);
        rig.value(0, 0.0);
        assert_eq!(rig.level(0), Some(Level::OFF), "it does not come back");
        spec.require = None;
        spec.limits.max_on = Some(secs(10));
        let mut rig = Rig::new(vec![spec]);
        rig.run(secs(10));
        assert_eq!(rig.level(0), Some(Level::OFF));
    }

    #[test]
    fn an_initial_level_stands_until_the_first_followed_value() {
        let mut spec = switch("beacon");
        spec.initial = Initial::Level(Level::ON);
        spec.follow = follow(secs(10));
        let mut rig = Rig::new(vec![spec.clone()]);
        rig.value(0, 300.0);
        assert_eq!(rig.writes(0), [Level::ON, Level::OFF]);
        let mut rig = Rig::new(vec![spec]);
        rig.run(secs(10));
        assert_eq!(rig.writes(0), [Level::ON, Level::OFF]);
    }

    #[test]
    fn interlocked_outputs_found_on_together_do_not_stay_so() {
        let mut specs = pair(false, secs(1));
        for spec in &mut specs {
            spec.initial = Initial::Keep;
        }
        let rig = Rig::found(specs, Level::ON);
        assert!(rig.level(0) != Some(Level::ON) || rig.level(1) != Some(Level::ON));
    }

    #[test]
    fn of_two_interlocked_outputs_that_start_on_one_stays_off_for_good() {
        let mut specs = pair(false, secs(1));
        for spec in &mut specs {
            spec.initial = Initial::Level(Level::ON);
        }
        let mut rig = Rig::new(specs);
        rig.run(secs(1));
        let first = usize::from(rig.level(1) == Some(Level::ON));
        assert_eq!((rig.level(first), rig.level(1 - first)), (Some(Level::ON), Some(Level::OFF)));
        rig.command(first, off()).expect("off");
        rig.run(MINUTE);
        assert_eq!(rig.level(1 - first), Some(Level::OFF), "nobody has asked for it since");
    }

    #[test]
    fn a_waiting_command_is_over_if_the_other_fails_meanwhile() {
        let mut specs = pair(true, secs(10));
        specs[0].follow = follow(secs(10_000));
        let mut rig = Rig::new(specs);
        rig.run(secs(10));
        rig.value(0, 500.0);
        rig.board.break_line("up", true);
        assert_eq!(rig.command(1, on()), Err(Refusal::Interlock), "it cannot be switched off");
        rig.board.break_line("up", false);
        rig.run(MINUTE);
        assert_eq!((rig.level(0), rig.level(1)), (Some(Level::ON), Some(Level::OFF)), "the rule has it again");
    }

    #[test]
    fn auto_gives_an_output_back_to_a_rule_whose_max_on_ran_out() {
        let mut spec = limits(|l| l.max_on = Some(secs(10)));
        spec.follow = follow(MINUTE);
        let mut rig = Rig::new(vec![spec]);
        rig.value(0, 500.0);
        rig.run(secs(20));
        assert_eq!(rig.level(0), Some(Level::OFF));
        rig.command(0, Wish::Auto).expect("auto");
        assert_eq!(rig.level(0), Some(Level::ON));
    }

    #[test]
    fn shutdown_leads_to_the_exit_levels_and_ends_everything() {
        let exits = [Exit::Level(Level::OFF), Exit::Level(Level::ON), Exit::Keep];
        let specs = exits.iter().enumerate().map(|(i, exit)| {
            let mut spec = switch(["a", "b", "c"][i]);
            spec.on_exit = *exit;
            spec
        });
        let mut rig = Rig::new(specs.collect());
        for output in 0..3 {
            rig.full(output, &after(on(), Some(secs(9)))).expect("on");
        }
        rig.command(1, off()).expect("off");
        rig.shutdown();
        assert_eq!([rig.level(0), rig.level(1), rig.level(2)], [Some(Level::OFF), Some(Level::ON), Some(Level::ON)]);
        assert_eq!(rig.bank.deadline(), None);
        rig.run(secs(100));
        assert_eq!((rig.level(2), rig.command(0, on())), (Some(Level::ON), Err(Refusal::Hardware)));
    }

    #[test]
    fn shutdown_respects_interlocks() {
        let mut specs = pair(false, secs(1));
        specs[0].on_exit = Exit::Level(Level::ON);
        let mut rig = Rig::new(specs);
        rig.run(secs(1));
        rig.command(1, on()).expect("down");
        rig.shutdown();
        assert_eq!((rig.level(0), rig.level(1)), (Some(Level::OFF), Some(Level::OFF)), "the gap cannot be awaited");
    }

    #[test]
    fn changes_stay_bounded_and_keep_the_newest() {
        let mut rig = Rig::new(vec![switch("a"), switch("b")]);
        rig.command(1, on()).expect("on");
        for _ in 0..1_000 {
            rig.command(0, Wish::Toggle).expect("toggles");
        }
        let changes = rig.changes();
        assert!(changes.len() <= max_changes(2));
        assert!(changes.contains(&(1, Some(Level::ON))));
        assert_eq!(changes.last(), Some(&(0, rig.level(0))));
    }

    #[test]
    fn a_reload_moves_no_unchanged_output() {
        let mut heater = switch("heater");
        heater.follow = follow(secs(100));
        let old = vec![switch("old"), heater.clone(), switch("lamp")];
        let mut rig = Rig::new(old);
        rig.value(0, 500.0);
        rig.full(2, &after(on(), Some(secs(10)))).expect("on for 10 s");
        rig.command(0, on()).expect("on");
        heater.follow.as_mut().expect("it follows").source = 3;
        let new = vec![switch("lamp"), heater, switch("new")];
        rig.reconfigure(new, &|old, new| (old, new) == (0, 3));
        assert_eq!(rig.board.writes("old"), [Level::OFF, Level::ON, Level::OFF], "what is gone is left safe");
        assert_eq!(rig.board.writes("heater"), [Level::OFF, Level::ON]);
        assert_eq!(rig.board.writes("lamp"), [Level::OFF, Level::ON]);
        assert_eq!(rig.board.writes("new"), [Level::OFF]);
        assert_eq!(rig.changes().len(), 3);
        rig.run(secs(10));
        assert_eq!(rig.level(0), Some(Level::OFF), "its `for` went on");
        rig.value(3, 300.0);
        assert_eq!(rig.level(1), Some(Level::OFF));
    }

    #[test]
    fn a_reload_forgets_values_of_other_sources() {
        let mut heater = switch("heater");
        heater.follow = follow(secs(100));
        let mut rig = Rig::new(vec![heater.clone()]);
        rig.value(0, 500.0);
        rig.reconfigure(vec![heater], &|_, _| false);
        assert_eq!(rig.level(0), Some(Level::OFF));
    }

    #[test]
    fn a_new_rule_judges_the_last_value_as_old_as_it_is() {
        let mut heater = switch("heater");
        heater.follow = follow(secs(100));
        let mut rig = Rig::new(vec![heater.clone()]);
        rig.value(0, 500.0);
        rig.run(secs(60));
        let rule = |on_above, off_below| Rule::OnAbove { on_above, off_below };
        heater.follow.as_mut().expect("it follows").rule = rule(450.0, 440.0);
        let mut fan = switch("fan");
        fan.follow = follow(secs(70));
        fan.require = Some(Require { source: 0, below: Some(600.0), above: None, stale_after: secs(100) });
        rig.reconfigure(vec![heater.clone(), fan.clone()], &|old, new| (old, new) == (0, 0));
        assert_eq!(rig.writes(0), [Level::OFF, Level::ON], "500 is above 450, and nothing blinks");
        assert_eq!(rig.writes(1), [Level::ON], "a new output knows the value too");
        rig.run(secs(10));
        assert_eq!(rig.level(1), Some(Level::OFF), "70 s after the value, not after the reload");
        heater.follow.as_mut().expect("it follows").rule = rule(600.0, 550.0);
        fan.follow.as_mut().expect("it follows").stale_after = secs(100);
        fan.require.as_mut().expect("it requires").below = Some(400.0);
        rig.reconfigure(vec![heater, fan], &|old, new| (old, new) == (0, 0));
        assert_eq!((rig.level(0), rig.level(1)), (Some(Level::OFF), Some(Level::OFF)));
    }

    #[test]
    fn an_output_added_while_connected_knows_of_no_loss() {
        let mut spec = limits(|l| l.on_server_loss = Some(secs(30)));
        let mut rig = Rig::new(vec![]);
        rig.server(true);
        rig.reconfigure(vec![spec.clone()], &|_, _| true);
        rig.command(0, on()).expect("on");
        rig.run(secs(100));
        assert_eq!(rig.level(0), Some(Level::ON));
        rig.server(false);
        rig.run(secs(10));
        spec.limits.on_server_loss = Some(secs(40));
        rig.reconfigure(vec![spec], &|_, _| true);
        rig.run(secs(40));
        assert_eq!(rig.level(0), Some(Level::OFF), "a new grace counts from the reload");
    }

    #[test]
    fn time_that_runs_backwards_stands_still() {
        let mut rig = Rig::new(vec![limits(|l| l.min_off = Some(secs(3)))]);
        rig.run(secs(100));
        rig.command(0, on()).expect("on");
        rig.command(0, off()).expect("off");
        let early = Stamp { at: Instant::from_nanos(0), wall: None };
        assert_eq!(rig.bank.command(0, &after(on(), None), false, early), Err(Refusal::MinOff));
    }
}
