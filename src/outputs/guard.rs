//! The guard: `(specification, state, event, now, surroundings) → (state, decision)`. Pure: no I/O, no clock, no topic.
//!
//! Whatever happens is first folded into the [`State`]; then the level that is right follows from that state alone. A
//! command is granted only if the state it would lead to gives the level it asks for, so the table below is both what
//! refuses commands and what ends them. Read it from the top: the first line that applies decides.
//!
//! | # | if | the line goes to | a command for another level | what ends it |
//! |---|---|---|---|---|
//! | 1 | the line could not be driven | safe, tried at once, then after 1 s … 60 s | `hardware` | a successful attempt |
//! | 2 | an interlocked output is on, or its state is not known | off, even where safe is on | `interlock`; with `switch` the other goes off first | the other is off for `gap` |
//! | 3 | `require`: value missing, stale or beyond its limit | safe; a held command is over | `require` | the value; a rule then goes on, a command does not |
//! | 4 | `max_on` has passed since it went on | safe; a held command is over | (`for` > `max_on`: `max-on`) | a command; for a rule `min_off`, or a value for which it lets go |
//! | 5 | off for less than `min_off` | stays off; a rule waits | `min-off` | time |
//! | 6 | the server has been away for `on_server_loss` | safe, rules on local readings too | is carried out | a command (AUTO is one), not the server's return |
//! | 7 | not repeated within `renew_within` | safe | is carried out | a command |
//! | 8 | a command holds it | its level | is carried out | `for` is over, AUTO, another command |
//! | 9 | it starts with an `initial` level other than safe | that level | is carried out | a command, the first followed value, `stale_after` from start |
//! | 10 | `follow` with a fresh value | what the rule says | is carried out | AUTO brings it back |
//! | 11 | none of these | safe | is carried out | |
//!
//! - **Safe is never limited**, except by an interlock: 3 to 7 are about levels other than safe (OFF too, where safe is
//!   on), and `max_on` and `min_off` about levels that are on and other than safe. PWM is on above zero.
//! - **What has ended stays ended.** A command stopped by 1 to 7 is replaced by safe and does not come back when the
//!   reason goes; its `for` still counts, so that `follow` has the output again when it was to have it.
//! - **`max_on`** counts from off to on; repeating ON, changing the level or handing over between command and rule does
//!   not restart it. **`min_off`** counts from a switch-off that was seen, or from the start where an earlier run is
//!   known to have had the output on; an initial level that is on waits for it.
//! - **Interlock.** The gap is the longer one of the pair. Commands within a gap that began with a switch-off are refused
//!   (`interlock`), with `switch` they wait; rules wait; and commands in the first gap after the start wait too, because
//!   what was on before is not known. Only commands switch others off, so two rules never take turns; a waiting command
//!   goes before a rule, and is over if somebody else gets on first.
//! - **After a `for`**: `follow`, or safe where nothing is followed; so ON for 5 s ends in off. A `for` of an OFF may be
//!   longer than `max_on`; one of AUTO means nothing.
//! - **The server** counts as away from the start until it has first taken a message. One absence leads to safe once: a command
//!   given meanwhile (locally) is carried out and stays.
//! - **While the line cannot be driven** a command for the safe level is tried at once, others are refused. A rule
//!   leaves the line at safe until the pause after the failure is over.
//! - **Expired** is what is not known to be in time: a command with `expires` needs a known date.

pub use super::state::{Line, Mode, State, Why};
pub use super::surroundings::Surroundings;

use super::state::{Block, Heard, Target};
use super::{SourceId, Spec};
use crate::clock::{Instant, Wall};
use crate::command::{Command, Refusal, Wish};
use crate::line::Level;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Nothing but time.
    Tick,
    /// Somebody wants something.
    Command {
        /// What.
        command: &'a Command,
        /// It was a retained message met when subscribing.
        retained: bool,
        /// The date, where it is known.
        wall: Option<Wall>,
    },
    /// The followed value; anything but a finite number is the loss of it.
    Followed(f64),
    /// The required value.
    Required(f64),
    /// The server has come (true) or gone; the same twice in a row restarts the count.
    Server(bool),
    /// An interlocked output takes over.
    Yield,
    /// The line now stands at this level.
    Driven(Level),
    /// The line could not be driven, or not be requested.
    Failed,
    /// The line was taken over as it was found; `None` if it does not tell its level.
    Found(Option<Level>),
    /// The agent stops and wants this level.
    Exit(Level),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Drive the line to this level now (or request it so) and report [`Event::Driven`] or [`Event::Failed`].
    pub write: Option<Level>,
    /// The command is not carried out.
    pub refusal: Option<Refusal>,
    /// The command is granted once the interlocked outputs have yielded; if they cannot, the earlier state is to be kept.
    pub take_over: bool,
    /// Ask again then, always later than now.
    pub deadline: Option<Instant>,
}

/// Decides. `now` must never be earlier than in the decision before.
pub fn decide(spec: &Spec, state: State, event: Event<'_>, now: Instant, around: &Surroundings) -> (State, Decision) {
    let mut next = lapse(spec, state, now, around);
    let mut decision = Decision::default();
    match event {
        Event::Command { command, retained, wall } => {
            match authorise(spec, command, retained, wall).and_then(|()| admit(spec, &mut next, command, now, around)) {
                Ok(take_over) => decision.take_over = take_over,
                Err(refusal) => decision.refusal = Some(refusal),
            }
        }
        event => absorb(spec, &mut next, event, now),
    }
    let target = next.target(spec, now, around);
    decision.write = write(&next, target, now);
    decision.deadline = deadline(spec, &next, target, now, around);
    (next, decision)
}

/// Folds in what time alone has ended.
fn lapse(spec: &Spec, mut state: State, now: Instant, around: &Surroundings) -> State {
    let limits = &spec.limits;
    let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
    if let Mode::Held { until, renew_by, .. } = state.mode {
        if due(until) {
            state.mode = Mode::Auto;
        } else if due(renew_by) {
            state.give_up(limits.safe);
        }
    }
    if due(max_on_until(spec, &state)) {
        state.spent_since.get_or_insert(now);
        state.give_up(limits.safe);
    }
    if due(state.loss_at) {
        state.loss_at = None;
        state.mode = Mode::Held { level: limits.safe, until: None, renew_by: None, why: Why::Ended };
    }
    if state.mode == Mode::Auto && due(spent_until(spec, &state)) {
        state.spent_since = None;
    }
    if matches!(state.line, Line::At(_)) && due(state.retry_at) {
        state.retry_at = None;
    }
    if matches!(state.target(spec, now, around).block, Some(Block::Require | Block::Conflict)) {
        state.give_up(limits.safe);
    }
    state
}

/// Folds in everything but commands.
fn absorb(spec: &Spec, state: &mut State, event: Event<'_>, now: Instant) {
    let limits = &spec.limits;
    match event {
        Event::Tick | Event::Command { .. } => {}
        Event::Followed(value) => follow(spec, state, value, now),
        Event::Required(value) => {
            let permits = spec.require.as_ref().is_some_and(|require| require.permits(value));
            state.required = Some(Heard { what: permits, at: now });
        }
        Event::Server(connected) => {
            state.loss_at = limits.on_server_loss.filter(|_| !connected).map(|after| now + after);
        }
        Event::Yield => {
            if let Mode::Held { level, renew_by, why, .. } = &mut state.mode {
                (*level, *renew_by, *why) = (Level::OFF, None, Why::Ended);
            }
        }
        Event::Driven(level) => state.driven(limits, level, now),
        Event::Failed => state.failed(limits, now),
        Event::Found(Some(level)) => {
            state.driven(limits, level, now);
            state.hold_initially(spec, level, now);
        }
        Event::Found(None) => (state.line, state.mode) = (Line::Unknown, Mode::Auto),
        Event::Exit(level) => {
            state.mode = Mode::Held { level, until: None, renew_by: None, why: Why::Ended };
            (state.loss_at, state.retry_at) = (None, None);
        }
    }
}

/// Takes over what was `heard` of its sources, where nothing was judged by the present rule yet.
pub(super) fn hear(spec: &Spec, state: &mut State, heard: &dyn Fn(SourceId) -> Option<(f64, Instant)>) {
    let unjudged = spec.follow.as_ref().filter(|_| state.followed.is_none());
    if let Some((value, at)) = unjudged.and_then(|rule| heard(rule.source)) {
        follow(spec, state, value, at);
    }
    let unjudged = spec.require.as_ref().filter(|_| state.required.is_none());
    if let Some((require, (value, at))) = unjudged.and_then(|require| Some((require, heard(require.source)?))) {
        state.required = Some(Heard { what: require.permits(value), at });
    }
}

/// Takes a followed value over: between the thresholds what held before holds on, after a gap in the values safe.
fn follow(spec: &Spec, state: &mut State, value: f64, now: Instant) {
    let Some(follow) = &spec.follow else { return };
    let fresh = state.followed.filter(|heard| heard.is_fresh(now, follow.stale_after));
    let before = fresh.map_or(spec.limits.safe, |heard| heard.what);
    let level = Some(value).filter(|value| value.is_finite()).and_then(|value| follow.rule.level(value, before));
    state.followed = level.map(|level| {
        let what = if spec.limits.pwm { level } else { Level::switch(level.is_on()) };
        Heard { what, at: now }
    });
    if matches!(state.mode, Mode::Held { why: Why::Initial, .. }) {
        state.mode = Mode::Auto;
    }
    if state.followed.is_some_and(|heard| !spec.limits.engages(heard.what)) {
        state.spent_since = None;
    }
}

/// Whether the command may be looked at at all.
fn authorise(spec: &Spec, command: &Command, retained: bool, wall: Option<Wall>) -> Result<(), Refusal> {
    if retained && !spec.accept_retained {
        return Err(Refusal::Retained);
    }
    if command.expires.is_some_and(|expires| wall.is_none_or(|wall| expires <= wall)) {
        return Err(Refusal::Expired);
    }
    if command.hold.is_some_and(|hold| hold.is_zero()) || (matches!(command.wish, Wish::Level(_)) && !spec.limits.pwm) {
        return Err(Refusal::Malformed);
    }
    Ok(())
}

/// Folds in a command if the state it leads to gives what it asks for; `Ok(true)` if others must yield first.
fn admit(
    spec: &Spec,
    state: &mut State,
    command: &Command,
    now: Instant,
    around: &Surroundings,
) -> Result<bool, Refusal> {
    let limits = &spec.limits;
    if state.line == Line::Absent {
        // The line is not there, but whoever commands now does not want the initial level when it comes.
        state.mode = Mode::Auto;
        return Err(Refusal::Hardware);
    }
    let mut granted = State { spent_since: None, mode: Mode::Auto, ..*state };
    let Some(level) = wanted(limits.pwm, state, command.wish)? else {
        *state = granted;
        return Ok(false);
    };
    let exceeds = command.hold.zip(limits.max_on).is_some_and(|(hold, max_on)| hold > max_on);
    if exceeds && limits.engages(level) {
        return Err(Refusal::MaxOn);
    }
    granted.mode = Mode::Held {
        level,
        until: command.hold.map(|hold| now + hold),
        renew_by: limits.renew_within.filter(|_| level != limits.safe).map(|within| now + within),
        why: Why::Command,
    };
    let block = match granted.target(spec, now, around).block {
        None | Some(Block::Gap { .. }) if around.is_claimed() && level.is_on() => Some(Block::Conflict),
        block => block,
    };
    let take_over = match block {
        None | Some(Block::Gap { seen: false }) => false,
        Some(Block::Hardware) if level == limits.safe => {
            granted.retry_at = None;
            false
        }
        Some(Block::Conflict) if limits.switch && !around.is_stuck() => true,
        Some(Block::Gap { .. }) if limits.switch => false,
        Some(Block::Hardware | Block::Spent) => return Err(Refusal::Hardware),
        Some(Block::Require) => return Err(Refusal::Require),
        Some(Block::MinOff) => return Err(Refusal::MinOff),
        Some(Block::Conflict | Block::Gap { .. }) => return Err(Refusal::Interlock),
    };
    *state = granted;
    Ok(take_over)
}

/// The level a wish means now; `None` for AUTO.
fn wanted(pwm: bool, state: &State, wish: Wish) -> Result<Option<Level>, Refusal> {
    let on = if pwm { state.last_on } else { Level::ON };
    Ok(Some(match (wish, state.line) {
        (Wish::Auto, _) => return Ok(None),
        (Wish::On, _) => on,
        (Wish::Off, _) => Level::OFF,
        (Wish::Level(level), _) => level,
        (Wish::Toggle, Line::At(level)) => {
            if level.is_on() {
                Level::OFF
            } else {
                on
            }
        }
        (Wish::Toggle, Line::Absent | Line::Unknown) => return Err(Refusal::Hardware),
    }))
}

/// The write that brings the line to its target; none if it is there, or is to be left alone for now.
fn write(state: &State, target: Target, now: Instant) -> Option<Level> {
    let wanted = match state.line {
        Line::At(level) => level != target.level,
        Line::Unknown | Line::Absent => state.retry_at.is_none_or(|at| at <= now),
    };
    wanted.then_some(target.level)
}

/// When `max_on` runs out.
fn max_on_until(spec: &Spec, state: &State) -> Option<Instant> {
    Some(state.engaged_since? + spec.limits.max_on?)
}

/// When a rule may use an output again whose `max_on` ran out, if time alone decides that.
fn spent_until(spec: &Spec, state: &State) -> Option<Instant> {
    Some(state.spent_since? + spec.limits.min_off?)
}

/// The next instant at which time alone may change the decision.
fn deadline(spec: &Spec, state: &State, target: Target, now: Instant, around: &Surroundings) -> Option<Instant> {
    let (until, renew_by) = match state.mode {
        Mode::Held { until, renew_by, .. } => (until, renew_by),
        Mode::Auto => (None, spent_until(spec, state)),
    };
    let rule_stale = state.followed.zip(spec.follow.as_ref()).map(|(heard, follow)| heard.at + follow.stale_after);
    let require_stale =
        state.required.zip(spec.require.as_ref()).map(|(heard, require)| heard.at + require.stale_after);
    let unblocked = match target.block {
        Some(Block::MinOff) => state.min_off_until(&spec.limits),
        Some(Block::Gap { .. }) => Some(around.clear_at()),
        _ => None,
    };
    [until, renew_by, max_on_until(spec, state), state.loss_at, state.retry_at, rule_stale, require_stale, unblocked]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
}
