//! Random and exhaustive histories against the promises of the module's limits.
//!
//! The witness knows the specification and what it did itself, never the guard's state: what it checks it works out
//! from the recorded line writes and its own notes.

use super::fake::{Rig, after, switch};
use super::{Exit, Follow, Initial, Require, Rule, Spec};
use crate::clock::Instant;
use crate::command::{Refusal, Wish};
use crate::line::Level;
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::Duration;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What can happen.
#[derive(Clone, Debug)]
enum Step {
    Command {
        output: usize,
        wish: Wish,
        hold: Option<Duration>,
        retained: bool,
    },
    Value {
        source: usize,
        value: f64,
    },
    Server(bool),
    /// Ticks at every deadline on the way.
    Run(Duration),
    /// One tick at the end, as after a suspend.
    Leap(Duration),
    /// Requests and writes of the line fail from now on, or work again.
    Break(usize, bool),
}

/// What the witness remembers of one output.
#[derive(Clone, Debug, Default)]
struct Notes {
    granted_at: Option<Instant>,
    lost_since: Option<Instant>,
    ever_broken: bool,
}

struct Witness {
    rig: Rig,
    specs: Vec<Spec>,
    start: Instant,
    notes: Vec<Notes>,
    heard: HashMap<usize, (f64, Instant)>,
    connected: bool,
}

impl Witness {
    fn new(specs: Vec<Spec>) -> Self {
        let rig = Rig::new(specs.clone());
        let start = rig.now().at;
        let notes = vec![Notes { lost_since: Some(start), ..Notes::default() }; specs.len()];
        Self { rig, specs, start, notes, heard: HashMap::new(), connected: false }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Command { output, wish, hold, retained } => self.command(*output, *wish, *hold, *retained),
            Step::Value { source, value } => {
                self.heard.insert(*source, (*value, self.now()));
                self.rig.value(*source, *value);
            }
            Step::Server(connected) => {
                if self.connected != *connected {
                    self.connected = *connected;
                    self.note_server(*connected);
                }
                self.rig.server(*connected);
            }
            Step::Run(duration) => {
                let end = self.now() + *duration;
                while let Some(deadline) = self.rig.bank.deadline().filter(|deadline| *deadline <= end) {
                    self.rig.leap_to(deadline);
                    self.check();
                }
                self.rig.leap_to(end);
            }
            Step::Leap(duration) => self.rig.leap_to(self.now() + *duration),
            Step::Break(output, broken) => {
                self.rig.board.break_line(NAMES[*output], *broken);
                self.notes[*output].ever_broken = true;
            }
        }
        self.check();
    }

    fn now(&self) -> Instant {
        self.rig.now().at
    }

    /// A loss that has had its effect stays noted when the server returns, until a command.
    fn note_server(&mut self, connected: bool) {
        let now = self.now();
        for (notes, spec) in self.notes.iter_mut().zip(&self.specs) {
            let led_to_safe =
                spec.limits.on_server_loss.zip(notes.lost_since).is_some_and(|(after, at)| now >= at + after);
            if !led_to_safe {
                notes.lost_since = (!connected).then_some(now);
            }
        }
    }

    fn command(&mut self, output: usize, wish: Wish, hold: Option<Duration>, retained: bool) {
        let before = self.rig.level(output);
        let command = after(wish, hold);
        let outcome = if retained { self.rig.retained(output, wish) } else { self.rig.full(output, &command) };
        if outcome.is_err() {
            assert!(!retained || outcome == Err(Refusal::Retained));
            return;
        }
        let (now, spec) = (self.now(), &self.specs[output]);
        let notes = &mut self.notes[output];
        notes.granted_at = Some(now);
        let led_to_safe = spec.limits.on_server_loss.zip(notes.lost_since).is_some_and(|(after, at)| now >= at + after);
        if led_to_safe {
            // One loss leads to safe once.
            notes.lost_since = None;
        }
        let level = self.rig.level(output);
        let interlocked = !self.partners(output).is_empty();
        match wish {
            Wish::Off => assert_eq!(level, Some(Level::OFF)),
            Wish::On => assert!(level.is_some_and(Level::is_on) || interlocked, "{level:?}"),
            Wish::Toggle => assert!(level.map(Level::is_on) != before.map(Level::is_on) || interlocked),
            Wish::Level(wanted) => assert!(level == Some(wanted) || interlocked),
            Wish::Auto => {}
        }
    }

    fn partners(&self, output: usize) -> Vec<usize> {
        let names = |from: usize, to: usize| self.specs[from].limits.interlock.contains(&to);
        (0..self.specs.len()).filter(|&p| p != output && (names(p, output) || names(output, p))).collect()
    }

    /// All promises at this instant.
    fn check(&self) {
        if let Some(deadline) = self.rig.bank.deadline() {
            assert!(deadline > self.now(), "a deadline lies ahead");
        }
        let world = self.rig.board.world();
        let levels: Vec<Level> = NAMES[..self.specs.len()].iter().map(|name| world.levels[*name]).collect();
        drop(world);
        for (output, spec) in self.specs.iter().enumerate() {
            let level = levels[output];
            self.check_writes(output, spec);
            for partner in self.partners(output) {
                assert!(!(level.is_on() && levels[partner].is_on()), "{output} and {partner} are on together");
            }
            if !self.notes[output].ever_broken {
                assert_eq!(self.rig.level(output), Some(level), "the state told is the true one");
                self.check_safe(output, spec, level);
            }
        }
    }

    /// What must be safe is safe.
    fn check_safe(&self, output: usize, spec: &Spec, level: Level) {
        let (now, notes) = (self.now(), &self.notes[output]);
        let is_safe = level == spec.limits.safe;
        if let Some(require) = &spec.require {
            let heard = self.heard.get(&require.source).filter(|(_, at)| now.since(*at) < require.stale_after);
            let holds = heard.is_some_and(|(value, _)| {
                require.below.is_none_or(|limit| *value < limit)
                    && require.above.is_none_or(|limit| *value > limit)
                    && value.is_finite()
            });
            assert!(holds || is_safe, "{output} is {level} while its requirement fails");
        }
        let trip = spec.limits.on_server_loss.zip(notes.lost_since).map(|(after, since)| since + after);
        assert!(trip.is_none_or(|trip| now < trip) || is_safe, "{output} is {level} without a server");
        let renew_by = spec.limits.renew_within.map(|within| notes.granted_at.unwrap_or(self.start) + within);
        let by_rule = spec.follow.is_some();
        assert!(by_rule || is_safe || renew_by.is_none_or(|by| now < by), "{output} is {level}, not renewed");
    }

    /// What the line did: each write a change, never on too long, never too soon.
    fn check_writes(&self, output: usize, spec: &Spec) {
        let limits = &spec.limits;
        let broken = self.notes[output].ever_broken;
        let engages = |level: Level| level.is_on() && level != limits.safe;
        let world = self.rig.board.world();
        let mut before: Option<Level> = None;
        let mut was_on = false;
        let (mut engaged_since, mut off_since) = (None, None);
        for (at, _, level) in world.writes.iter().filter(|(_, line, _)| line == NAMES[output]) {
            assert!(broken || before != Some(*level), "{output} was written {level} twice");
            if engages(*level) && before == Some(Level::OFF) && was_on {
                let min_off = limits.min_off.unwrap_or_default();
                assert!(at.since(off_since.expect("it went off")) >= min_off, "{output} went on too soon");
            }
            if !level.is_on() && before != Some(Level::OFF) {
                off_since = Some(*at);
            }
            if !engages(*level) {
                engaged_since = None;
            } else if engaged_since.is_none() {
                engaged_since = Some(*at);
            }
            was_on |= level.is_on();
            before = Some(*level);
        }
        if let Some((since, max_on)) = engaged_since.zip(limits.max_on) {
            assert!(broken || world.now.since(since) < max_on, "{output} is on for too long");
        }
        drop(world);
        for partner in self.partners(output) {
            self.check_gap(output, partner);
        }
    }

    /// Every switch-on of `output` comes at least the gap after `partner` went off.
    fn check_gap(&self, output: usize, partner: usize) {
        let gap = self.specs[output].limits.gap.max(self.specs[partner].limits.gap);
        let world = self.rig.board.world();
        let mut partner_off = None;
        let (mut own_on, mut partner_on) = (false, false);
        for (at, line, level) in &world.writes {
            if line == NAMES[partner] {
                if !level.is_on() && (partner_on || partner_off.is_none()) {
                    partner_off = Some(*at);
                }
                partner_on = level.is_on();
            } else if line == NAMES[output] {
                if level.is_on() && !own_on {
                    let since = partner_off.map(|off| at.since(off));
                    assert!(since.is_some_and(|since| since >= gap), "no gap between {partner} and {output}");
                }
                own_on = level.is_on();
            }
        }
    }

    fn stop(mut self) {
        self.rig.shutdown();
        let world = self.rig.board.world();
        for (output, spec) in self.specs.iter().enumerate() {
            let plain = spec.require.is_none() && spec.limits.min_off.is_none() && self.partners(output).is_empty();
            if let Exit::Level(level) = spec.on_exit
                && (plain || level == spec.limits.safe)
                && !self.notes[output].ever_broken
            {
                assert_eq!(world.levels[NAMES[output]], level, "{output} after the shutdown");
            }
        }
        drop(world);
        assert_eq!(self.rig.bank.deadline(), None);
    }
}

fn durations() -> impl Strategy<Value = Duration> {
    (1u64..=12).prop_map(|halves| Duration::from_millis(500 * halves))
}

fn some_duration() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of(durations())
}

fn levels() -> impl Strategy<Value = Level> {
    prop::sample::select(vec![0.0, 0.01, 30.0, 100.0])
        .prop_map(|percent| Level::from_percent(percent).expect("in range"))
}

fn rules() -> impl Strategy<Value = Rule> {
    prop_oneof![
        Just(Rule::OnAbove { on_above: 2.0, off_below: 1.0 }),
        Just(Rule::OnBelow { on_below: 1.0, off_above: 2.0 }),
        Just(Rule::Curve(vec![(0.0, 0.0), (1.0, 30.0), (3.0, 100.0)])),
    ]
}

/// One output; interlocked ones are safe when off, as the plan demands.
fn spec(index: usize) -> impl Strategy<Value = Spec> {
    let limits = (some_duration(), some_duration(), some_duration(), some_duration(), any::<bool>(), any::<bool>());
    let level = |pwm: bool| move |level: Level| if pwm { level } else { Level::switch(level.is_on()) };
    (
        limits,
        (levels(), levels(), levels()),
        prop::option::of((rules(), durations())),
        prop::option::of((any::<bool>(), durations())),
        (prop::collection::vec(0usize..3, 0..2), any::<bool>(), prop_oneof![Just(Duration::ZERO), durations()]),
    )
        .prop_map(move |(limits, (safe, initial, exit), follow, require, (interlock, switch_over, gap))| {
            let mut spec = switch(NAMES[index]);
            let (max_on, min_off, renew_within, on_server_loss, pwm, _) = limits;
            let safe = if limits.5 { level(pwm)(safe) } else { Level::OFF };
            spec.initial = Initial::Level(level(pwm)(initial));
            spec.on_exit = Exit::Level(level(pwm)(exit));
            spec.follow = follow.map(|(rule, stale_after)| Follow { source: 0, rule, stale_after });
            spec.require = require.map(|(below, stale_after)| Require {
                source: 1,
                below: below.then_some(2.0),
                above: (!below).then_some(1.0),
                stale_after,
            });
            let limits = &mut spec.limits;
            (limits.max_on, limits.min_off, limits.renew_within) = (max_on, min_off, renew_within);
            (limits.on_server_loss, limits.pwm, limits.safe) = (on_server_loss, pwm, safe);
            (limits.interlock, limits.switch, limits.gap) = (interlock, switch_over, gap);
            spec
        })
}

/// One to three outputs; an interlocked one has safe off and starts off.
fn specs() -> impl Strategy<Value = Vec<Spec>> {
    (spec(0), spec(1), spec(2), 1usize..=3).prop_map(|(a, b, c, count)| {
        let mut specs: Vec<Spec> = [a, b, c].into_iter().take(count).collect();
        let named: Vec<usize> = specs.iter().flat_map(|spec| spec.limits.interlock.clone()).collect();
        for (index, spec) in specs.iter_mut().enumerate() {
            if !spec.limits.interlock.is_empty() || named.contains(&index) {
                spec.limits.safe = Level::OFF;
            }
        }
        specs
    })
}

fn wishes() -> impl Strategy<Value = Wish> {
    prop_oneof![
        4 => Just(Wish::On),
        2 => Just(Wish::Off),
        2 => Just(Wish::Toggle),
        1 => Just(Wish::Auto),
        1 => levels().prop_map(Wish::Level),
    ]
}

fn steps(faults: bool) -> impl Strategy<Value = Vec<Step>> {
    let command = (0usize..3, wishes(), some_duration(), prop::bool::weighted(0.05))
        .prop_map(|(output, wish, hold, retained)| Step::Command { output, wish, hold, retained });
    let number = prop_oneof![8 => (-1i32..=8).prop_map(|half| f64::from(half) / 2.0), 1 => Just(f64::NAN)];
    let step = prop_oneof![
        6 => command,
        5 => (0usize..2, number).prop_map(|(source, value)| Step::Value { source, value }),
        1 => any::<bool>().prop_map(Step::Server),
        5 => (0u64..8).prop_map(|halves| Step::Run(Duration::from_millis(500 * halves))),
        2 => prop::sample::select(vec![1u64, 999, 5_001, 3_600_000, 1 << 40]).prop_map(|ms| Step::Leap(Duration::from_millis(ms))),
        (if faults { 3 } else { 0 }) => (0usize..3, any::<bool>()).prop_map(|(output, broken)| Step::Break(output, broken)),
    ];
    prop::collection::vec(step, 1..60)
}

fn play(specs: Vec<Spec>, steps: &[Step], sly: bool) {
    let count = specs.len();
    let mut witness = Witness::new(specs);
    witness.rig.board.world().sly = sly;
    witness.check();
    for step in steps {
        match step {
            Step::Command { output, .. } | Step::Break(output, _) if *output >= count => {}
            step => witness.step(step),
        }
    }
    witness.stop();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_leads_outside_the_limits(specs in specs(), steps in steps(false)) {
        play(specs, &steps, false);
    }

    #[test]
    fn no_fault_of_a_line_leads_outside_the_limits(specs in specs(), steps in steps(true), sly in any::<bool>()) {
        play(specs, &steps, sly);
    }
}

/// Every history of five steps over a small alphabet, on two interlocked outputs with everything configured.
#[test]
fn every_short_history_stays_inside_the_limits() {
    let second = Duration::from_secs(1);
    let mut specs = vec![switch("a"), switch("b")];
    for (index, spec) in specs.iter_mut().enumerate() {
        spec.limits.interlock = vec![1 - index];
        spec.limits.switch = index == 1;
        spec.limits.gap = second;
        spec.limits.max_on = Some(3 * second);
        spec.limits.min_off = Some(2 * second);
        spec.limits.on_server_loss = Some(5 * second);
    }
    specs[0].follow =
        Some(Follow { source: 0, rule: Rule::OnAbove { on_above: 2.0, off_below: 1.0 }, stale_after: 4 * second });
    specs[1].require = Some(Require { source: 0, below: Some(4.0), above: None, stale_after: 3 * second });
    let command = |output, wish| Step::Command { output, wish, hold: None, retained: false };
    let alphabet = [
        command(0, Wish::On),
        command(0, Wish::Auto),
        command(1, Wish::On),
        Step::Command { output: 1, wish: Wish::On, hold: Some(2 * second), retained: false },
        command(1, Wish::Off),
        Step::Value { source: 0, value: 3.0 },
        Step::Value { source: 0, value: 5.0 },
        Step::Server(true),
        Step::Run(second),
        Step::Leap(3 * second),
    ];
    const DEPTH: u32 = 4;
    for number in 0..alphabet.len().pow(DEPTH) {
        let steps: Vec<Step> = (0..DEPTH)
            .flat_map(|digit| {
                [alphabet[number / alphabet.len().pow(digit) % alphabet.len()].clone(), Step::Run(second)]
            })
            .collect();
        play(specs.clone(), &steps, false);
    }
}
