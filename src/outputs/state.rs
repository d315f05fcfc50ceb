//! What the guard remembers of an output, and the level that follows from it: the one place where limits are applied.
//!
//! Pure: no I/O, no clock. Invariant: [`State::target`] gives a level other than safe only where nothing forbids it,
//! so that no event, however it changed the state, can lead around a limit.

use super::surroundings::Surroundings;
use super::{Limits, SourceId, Spec};
use crate::clock::Instant;
use crate::line::Level;
use std::time::Duration;

/// What is known of the line itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Not requested yet.
    Absent,
    /// Could not be driven: whether it is on or off, nobody knows.
    Unknown,
    /// Driven to this level.
    At(Level),
}

impl Line {
    /// Known to be off.
    pub const fn is_off(self) -> bool {
        matches!(self, Self::At(level) if !level.is_on())
    }
}

/// Who says what the level should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `follow`, or safe where there is none.
    Auto,
    /// A command, the initial level, or safe where a fault ended one of these.
    Held {
        /// What is held.
        level: Level,
        /// Then [`Mode::Auto`].
        until: Option<Instant>,
        /// Then safe, unless repeated.
        renew_by: Option<Instant>,
        /// Where that comes from.
        why: Why,
    },
}

/// Why a level is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is the initial one, which the first followed value ends.
    Initial,
    /// A command.
    Command,
    /// A limit, a partner, the loss of the server or the stop has ended what was held.
    Ended,
}

/// A value that was heard, as far as the guard needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard<T> {
    pub(super) what: T,
    pub(super) at: Instant,
}

impl<T> Heard<T> {
    /// `stale_after` old is stale.
    pub(super) fn is_fresh(&self, now: Instant, stale_after: Duration) -> bool {
        now < self.at + stale_after
    }
}

/// What the guard remembers of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The line.
    pub line: Line,
    /// Who says what it should be.
    pub mode: Mode,
    /// Since when the level is on and not safe, without a break.
    pub(super) engaged_since: Option<Instant>,
    /// When the line was last switched off; at the request where it was requested off, or at the start.
    pub(super) off_since: Option<Instant>,
    /// That somebody had it on before `off_since`.
    pub(super) was_on: bool,
    /// When `max_on` ran out; nothing but a new command, the rule letting go or `min_off` ends it.
    pub(super) spent_since: Option<Instant>,
    /// When the absence of the server leads to safe.
    pub(super) loss_at: Option<Instant>,
    /// What ON means on a PWM output.
    pub(super) last_on: Level,
    /// What the followed value asks for.
    pub(super) followed: Option<Heard<Level>>,
    /// Whether the required value permits.
    pub(super) required: Option<Heard<bool>>,
    /// After a failure: when the line may be tried again.
    pub(super) retry_at: Option<Instant>,
    /// Failures without a success between them.
    pub(super) failures: u32,
}

impl State {
    /// An output not yet requested. `initial` is held until a command or the first followed value, at the latest until
    /// a followed value would be stale; `was_on` says that an earlier run had it on, for `min_off`.
    pub fn new(spec: &Spec, initial: Level, was_on: bool, now: Instant) -> Self {
        let mut state = Self {
            line: Line::Absent,
            mode: Mode::Auto,
            engaged_since: None,
            off_since: was_on.then_some(now),
            was_on,
            spent_since: None,
            loss_at: spec.limits.on_server_loss.map(|after| now + after),
            last_on: Level::ON,
            followed: None,
            required: None,
            retry_at: None,
            failures: 0,
        };
        state.hold_initially(spec, initial, now);
        state
    }

    /// Holds `level` as the initial one.
    pub(super) fn hold_initially(&mut self, spec: &Spec, level: Level, now: Instant) {
        self.mode = if level == spec.limits.safe {
            Mode::Auto
        } else {
            Mode::Held {
                level,
                until: spec.follow.as_ref().map(|follow| now + follow.stale_after),
                renew_by: spec.limits.renew_within.map(|within| now + within),
                why: Why::Initial,
            }
        };
    }

    /// Goes on under a new specification. What was heard counts only where source and rule are the same.
    pub(super) fn adopt(
        &mut self,
        old: &Spec,
        new: &Spec,
        same_source: &dyn Fn(SourceId, SourceId) -> bool,
        connected: bool,
        now: Instant,
    ) {
        let follows = old.follow.as_ref().zip(new.follow.as_ref());
        self.followed = self
            .followed
            .filter(|_| follows.is_some_and(|(old, new)| same_source(old.source, new.source) && old.rule == new.rule));
        let requires = old.require.as_ref().zip(new.require.as_ref());
        self.required = self.required.filter(|_| {
            requires.is_some_and(|(old, new)| {
                same_source(old.source, new.source) && (old.below, old.above) == (new.below, new.above)
            })
        });
        let (old, new) = (&old.limits, &new.limits);
        if let Mode::Held { level, renew_by, why, .. } = &mut self.mode {
            if *level == old.safe && *why != Why::Command {
                *level = new.safe;
            }
            if old.renew_within != new.renew_within {
                *renew_by = new.renew_within.filter(|_| *level != new.safe).map(|within| now + within);
            }
        }
        if old.on_server_loss != new.on_server_loss {
            self.loss_at = new.on_server_loss.filter(|_| !connected).map(|after| now + after);
        }
        let engaged = matches!(self.line, Line::At(level) if new.engages(level));
        self.engaged_since = engaged.then(|| self.engaged_since.unwrap_or(now));
    }

    /// Replaces the held level by safe; what has ended stays ended.
    pub(super) const fn give_up(&mut self, safe: Level) {
        if let Mode::Held { level, renew_by, why, .. } = &mut self.mode {
            (*level, *renew_by, *why) = (safe, None, Why::Ended);
        }
    }

    /// The line now stands at `level`.
    pub(super) fn driven(&mut self, limits: &Limits, level: Level, now: Instant) {
        let before = std::mem::replace(&mut self.line, Line::At(level));
        if !limits.engages(level) {
            self.engaged_since = None;
        } else if !matches!(before, Line::At(old) if limits.engages(old)) {
            self.engaged_since = Some(now);
        }
        if level.is_on() {
            self.last_on = level;
        } else if !before.is_off() {
            self.off_since = Some(now);
            self.was_on |= before != Line::Absent;
        }
        if before == Line::Unknown {
            self.retry_at = Some(now + pause(self.failures));
        } else {
            (self.failures, self.retry_at) = (0, None);
        }
    }

    /// The line could not be driven: a held level ends, and one more attempt at safe is made at once.
    pub(super) fn failed(&mut self, limits: &Limits, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(match self.line {
            Line::At(_) => now,
            Line::Absent => now + pause(self.failures),
            Line::Unknown => now + pause(self.failures - 1),
        });
        if self.line != Line::Absent {
            self.line = Line::Unknown;
            self.engaged_since = None;
            self.give_up(limits.safe);
        }
    }

    /// Whether the required value is there, fresh and inside its limits.
    pub(super) fn is_permitted(&self, spec: &Spec, now: Instant) -> bool {
        let Some(require) = &spec.require else { return true };
        self.required.is_some_and(|heard| heard.what && heard.is_fresh(now, require.stale_after))
    }

    /// What the rule asks for; safe while there is no fresh value.
    fn rule(&self, spec: &Spec, now: Instant) -> Level {
        let fresh =
            spec.follow.as_ref().zip(self.followed).filter(|(follow, heard)| heard.is_fresh(now, follow.stale_after));
        fresh.map_or(spec.limits.safe, |(_, heard)| heard.what)
    }

    /// The level that is right now, and what kept it from being the one asked for.
    pub(super) fn target(&self, spec: &Spec, now: Instant, around: &Surroundings) -> Target {
        let safe = spec.limits.safe;
        if self.line == Line::Unknown {
            return Target { level: safe, block: Some(Block::Hardware) };
        }
        let wanted = match self.mode {
            Mode::Held { level, .. } => level,
            Mode::Auto => self.rule(spec, now),
        };
        let (level, block) = match self.limit(spec, wanted, now) {
            Some(Block::MinOff) if self.line.is_off() => (Level::OFF, Some(Block::MinOff)),
            Some(block) => (safe, Some(block)),
            None => (wanted, None),
        };
        match self.exclude(level, now, around) {
            Some(exclusion) => Target { level: Level::OFF, block: block.or(Some(exclusion)) },
            None => Target { level, block },
        }
    }

    /// What forbids `wanted` by this output's own limits. Nothing ever forbids safe.
    fn limit(&self, spec: &Spec, wanted: Level, now: Instant) -> Option<Block> {
        let limits = &spec.limits;
        let auto = self.mode == Mode::Auto;
        if wanted != limits.safe && !self.is_permitted(spec, now) {
            return Some(Block::Require);
        }
        if !limits.engages(wanted) {
            return None;
        }
        if auto && self.line != Line::Absent && self.retry_at.is_some() {
            return Some(Block::Hardware);
        }
        if auto && self.spent_since.is_some() {
            return Some(Block::Spent);
        }
        let is_on = matches!(self.line, Line::At(level) if level.is_on());
        (!is_on && self.min_off_until(limits).is_some_and(|until| now < until)).then_some(Block::MinOff)
    }

    /// What the interlocked outputs forbid: being on while one of them is, or was a moment ago.
    fn exclude(&self, level: Level, now: Instant, around: &Surroundings) -> Option<Block> {
        if !level.is_on() {
            return None;
        }
        if around.is_on() || (around.is_claimed() && self.mode == Mode::Auto) {
            return Some(Block::Conflict);
        }
        let is_on = matches!(self.line, Line::At(level) if level.is_on());
        (!is_on && now < around.clear_at()).then_some(Block::Gap { seen: now < around.seen_clear_at() })
    }

    /// When `min_off` is over.
    pub(super) fn min_off_until(&self, limits: &Limits) -> Option<Instant> {
        let since = self.off_since.filter(|_| self.was_on)?;
        limits.min_off.map(|min_off| since + min_off)
    }

    /// A command for ON that only waits for an interlock's gap; rules step back before it.
    pub(super) const fn claims(&self) -> bool {
        self.line.is_off() && matches!(self.mode, Mode::Held { level, .. } if level.is_on())
    }
}

impl Limits {
    /// On, and not merely because it is safe so: what `max_on` and `min_off` are about.
    pub(super) fn engages(&self, level: Level) -> bool {
        level.is_on() && level != self.safe
    }
}

/// One second after the first failure, doubled with each, at most a minute.
fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

/// The right level, and what kept it from being the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) level: Level,
    pub(super) block: Option<Block>,
}

/// What keeps an output from the level it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// The line cannot be driven, or is being left alone after it could not.
    Hardware,
    /// The required value does not permit.
    Require,
    /// `max_on` ran out under a rule.
    Spent,
    /// Switched off too short a while ago.
    MinOff,
    /// An interlocked output is on, or nobody knows whether it is.
    Conflict,
    /// The interlock's gap is not over; `seen`: because an output was seen going off, not merely because the agent has
    /// just started and cannot know.
    Gap {
        /// See above.
        seen: bool,
    },
}
