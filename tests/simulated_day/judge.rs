//! An independent judge of the outputs: it sees what was written to the lines, what the sensors gave and what was commanded,
//! and works out by itself what the limits allow. It shares no code with the guard.

use crate::support::rig::Write;
use board2mqtt::clock::Instant;
use board2mqtt::line::Level;
use board2mqtt::outputs::{Rule, Spec};
use board2mqtt::plan::Source;
use std::collections::HashMap;
use std::time::Duration;

/// After a line that could not be driven works again, it is tried within a minute.
const RETRY: Duration = Duration::from_secs(61);

/// The guard counts from when a value was read, a write is seen when the whole turn's reads are over: drivers wait for chips.
const TURN: Duration = Duration::from_millis(250);

/// What is seen of one output.
struct Seen {
    spec: Spec,
    line: String,
    /// `None` after a write that failed: nobody knows.
    level: Option<Level>,
    /// It was written before: its first level is no switch-off.
    written: bool,
    on_since: Option<Instant>,
    off_since: Option<Instant>,
    /// The last command that may switch it on.
    commanded: Option<Instant>,
    /// What the limits say is not asked until then: the line could not be driven.
    excused_until: Instant,
    /// The rule's answer while values are fresh.
    followed: Option<Level>,
}

/// The judge.
pub struct Judge {
    outputs: Vec<Seen>,
    sources: Vec<Source>,
    /// The newest good value by source.
    values: HashMap<usize, (f64, Instant)>,
    lost_since: Option<Instant>,
    pub switched_on: usize,
}

impl Judge {
    pub fn new(specs: impl Iterator<Item = Spec>, sources: &[Source], now: Instant) -> Self {
        let seen = |spec: Spec| Seen {
            line: spec.drive.to_string(),
            spec,
            level: None,
            written: false,
            on_since: None,
            off_since: None,
            commanded: None,
            excused_until: now,
            followed: None,
        };
        let outputs = specs.map(seen).collect();
        Self { outputs, sources: sources.to_vec(), values: HashMap::new(), lost_since: Some(now), switched_on: 0 }
    }

    pub fn server(&mut self, connected: bool, now: Instant) {
        self.lost_since = if connected { None } else { self.lost_since.or(Some(now)) };
    }

    pub fn commanded(&mut self, output: usize, now: Instant) {
        self.outputs[output].commanded = Some(now);
    }

    pub fn excuse(&mut self, output: usize, until: Instant) {
        self.outputs[output].excused_until = until + RETRY;
    }

    /// The agent was started anew: what it had heard is gone.
    pub fn restarted(&mut self, now: Instant) {
        self.values.clear();
        self.lost_since = Some(now);
        for seen in &mut self.outputs {
            (seen.followed, seen.commanded) = (None, None);
        }
    }

    /// A good value of a source.
    pub fn value(&mut self, wanted: &Source, value: f64, now: Instant) {
        for (id, _) in self.sources.iter().enumerate().filter(|(_, source)| *source == wanted) {
            let before = self.values.insert(id, (value, now));
            for seen in &mut self.outputs {
                let Some(follow) = seen.spec.follow.as_ref().filter(|follow| follow.source == id) else { continue };
                let gap = before.is_none_or(|(_, at)| now >= at + follow.stale_after);
                let held = seen.followed.filter(|_| !gap).unwrap_or(seen.spec.limits.safe);
                seen.followed = Some(asked(&follow.rule, value, held));
            }
        }
    }

    /// Takes what was written since the last time.
    pub fn written(&mut self, writes: &mut Vec<Write>) {
        for write in writes.drain(..) {
            let output = self.outputs.iter().position(|seen| seen.line == write.line).expect("an output's line");
            self.take(output, write.level, write.at);
        }
    }

    fn take(&mut self, output: usize, level: Option<Level>, at: Instant) {
        let seen = &self.outputs[output];
        let was_on = seen.level.is_none_or(Level::is_on);
        let engages = |level: Option<Level>| level.is_some_and(|level| level.is_on() && level != seen.spec.limits.safe);
        let (engaged, engages) = (engages(seen.level), engages(level));
        if engages && !was_on {
            self.may_switch_on(output, at);
            self.switched_on += 1;
        }
        let seen = &mut self.outputs[output];
        seen.on_since = if engages { seen.on_since.filter(|_| engaged).or(Some(at)) } else { None };
        if seen.written && was_on && level.is_some_and(|level| !level.is_on()) {
            seen.off_since = Some(at);
        }
        (seen.level, seen.written) = (level, true);
    }

    fn may_switch_on(&self, output: usize, at: Instant) {
        let Seen { spec, off_since, commanded, followed, .. } = &self.outputs[output];
        let (name, limits) = (&spec.name, &spec.limits);
        if let (Some(min_off), Some(off)) = (limits.min_off, off_since) {
            assert!(at + TURN >= *off + min_off, "{name} was off for {:?} only", at.since(*off));
        }
        let by_command = commanded.is_some_and(|commanded| at <= commanded + limits.gap.max(Duration::from_secs(1)));
        let by_rule = spec.follow.as_ref().is_some_and(|follow| {
            self.fresh(follow.source, follow.stale_after, at).is_some() && followed.is_some_and(Level::is_on)
        });
        assert!(by_command || by_rule, "{name} was switched on, and nobody wanted that");
        for partner in self.partners(output) {
            assert!(partner.level.is_some_and(|level| !level.is_on()), "{name} and {} are on", partner.spec.name);
            let gap = limits.gap.max(partner.spec.limits.gap);
            let clear = partner.off_since.is_none_or(|off| at >= off + gap);
            assert!(clear, "{name} was switched on within the gap after {}", partner.spec.name);
        }
    }

    fn partners(&self, output: usize) -> impl Iterator<Item = &Seen> {
        let names = |from: usize, to: usize| self.outputs[from].spec.limits.interlock.contains(&to);
        let all = self.outputs.iter().enumerate();
        all.filter(move |(other, _)| names(output, *other) || names(*other, output)).map(|(_, seen)| seen)
    }

    fn fresh(&self, source: usize, stale_after: Duration, now: Instant) -> Option<f64> {
        self.values.get(&source).filter(|(_, at)| now < *at + stale_after).map(|(value, _)| *value)
    }

    /// Nothing is beyond its limits now.
    pub fn inspect(&self, now: Instant) {
        for (output, seen) in self.outputs.iter().enumerate().filter(|(_, seen)| now >= seen.excused_until) {
            let (name, limits) = (&seen.spec.name, &seen.spec.limits);
            let level = seen.level.unwrap_or_else(|| panic!("{name} is not driven although its line works"));
            if let (Some(max_on), Some(since)) = (limits.max_on, seen.on_since) {
                assert!(now < since + max_on, "{name} is on for longer than max_on");
            }
            if level != limits.safe {
                self.inspect_unsafe(seen, now);
            }
            if seen.commanded.is_none() && seen.spec.follow.is_some() {
                self.inspect_rule(seen, level, now);
            }
            let together = self.partners(output).filter(|partner| partner.level.is_some_and(Level::is_on)).count();
            assert!(!level.is_on() || together == 0, "{name} is on together with what it is interlocked with");
        }
    }

    fn inspect_unsafe(&self, seen: &Seen, now: Instant) {
        let (name, limits) = (&seen.spec.name, &seen.spec.limits);
        if let Some(require) = &seen.spec.require {
            let value = self.fresh(require.source, require.stale_after, now);
            let permits =
                |value: f64| require.below.is_none_or(|b| value < b) && require.above.is_none_or(|a| value > a);
            assert!(value.is_some_and(permits), "{name} is on at {value:?}, beyond what it requires");
        }
        if let (Some(after), Some(lost)) = (limits.on_server_loss, self.lost_since) {
            assert!(now < lost + after, "{name} is on without a server");
        }
        if let (Some(within), None) = (limits.renew_within, &seen.spec.follow) {
            assert!(seen.commanded.is_some_and(|at| now < at + within), "{name} is on without renewal");
        }
    }

    /// An output that nobody has commanded does exactly what its rule says, but for `min_off` and `max_on`.
    fn inspect_rule(&self, seen: &Seen, level: Level, now: Instant) {
        let (follow, limits) = (seen.spec.follow.as_ref().expect("a rule"), &seen.spec.limits);
        let fresh = self.fresh(follow.source, follow.stale_after, now);
        let wanted = fresh.and(seen.followed).unwrap_or(limits.safe);
        let rests = limits.min_off.zip(seen.off_since).is_some_and(|(min_off, off)| now < off + min_off);
        // Where `max_on` may have run out, too, what its rule asks for is only the upper bound, which is asserted elsewhere.
        let may_differ = limits.max_on.is_some() || (rests && !level.is_on());
        assert!(may_differ || level == wanted, "{} is at {level}, its rule says {wanted} at {fresh:?}", seen.spec.name);
    }
}

/// What a rule asks for.
fn asked(rule: &Rule, value: f64, held: Level) -> Level {
    match rule {
        Rule::OnAbove { on_above, .. } if value > *on_above => Level::ON,
        Rule::OnAbove { off_below, .. } if value < *off_below => Level::OFF,
        Rule::OnBelow { on_below, .. } if value < *on_below => Level::ON,
        Rule::OnBelow { off_above, .. } if value > *off_above => Level::OFF,
        Rule::OnAbove { .. } | Rule::OnBelow { .. } => held,
        Rule::Curve(points) => {
            let (first, last) = (points[0], points[points.len() - 1]);
            let pair = points.windows(2).find(|pair| (pair[0].0..pair[1].0).contains(&value));
            let percent = match pair {
                Some([(x0, y0), (x1, y1)]) => y0 + (y1 - y0) * (value - x0) / (x1 - x0),
                _ if value < first.0 => first.1,
                _ => last.1,
            };
            Level::from_percent(percent).expect("a percentage")
        }
    }
}
