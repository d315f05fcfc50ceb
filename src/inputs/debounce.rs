//! Debouncing: a level is believed once it has stood long enough. Pure, one state machine an input, bounded memory.
//!
//! Invariant: whatever edges are late, doubled or lost, the state ends on the level that [`Debounce::settle`] is told last.

use crate::board::Edge;
use crate::clock::Instant;
use std::time::Duration;

/// What a step of the state machine made of the levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Changes to ON.
    pub activations: u64,
    /// Changes to OFF.
    pub deactivations: u64,
}

impl Passed {
    /// One edge of a line that tells only its kind: each is a change, and so is each that was dropped before it.
    pub fn lone(edge: Edge) -> Self {
        let changes = 1 + u64::from(edge.lost);
        if edge.active {
            Self { activations: changes, deactivations: 0 }
        } else {
            Self { activations: 0, deactivations: changes }
        }
    }

    fn change(&mut self, active: bool) {
        if active {
            self.activations += 1;
        } else {
            self.deactivations += 1;
        }
    }

    /// Whether the state changed at all, if only there and back.
    pub const fn any(self) -> bool {
        self.activations + self.deactivations > 0
    }
}

/// The debounced state of one input.
#[derive(Clone, Debug)]
pub struct Debounce {
    stand: Duration,
    active: bool,
    /// The other level, and since when it has been standing.
    candidate: Option<Instant>,
    /// No edge is earlier than the one before it.
    latest: Instant,
}

impl Debounce {
    /// Starts at the level that was read; a level must stand for `stand`, zero believes every edge.
    pub const fn new(stand: Duration, active: bool, now: Instant) -> Self {
        Self { stand, active, candidate: None, latest: now }
    }

    /// The state that is believed.
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// Goes on with another standing time.
    pub const fn restand(&mut self, stand: Duration) {
        self.stand = stand;
    }

    /// When the level should be read and given to [`Debounce::settle`].
    pub fn deadline(&self) -> Option<Instant> {
        self.candidate.map(|since| since + self.stand)
    }

    /// Takes an edge. A level that had stood long enough before it is believed, so edges may be read late.
    ///
    /// Without debouncing, edges the kernel counted but dropped have alternated and are counted as such. With it nobody
    /// knows when they came: the standing starts anew.
    pub fn edge(&mut self, edge: Edge, now: Instant) -> Passed {
        let at = edge.at.min(now).max(self.latest);
        self.latest = at;
        let mut passed = Passed::default();
        if self.stand.is_zero() {
            passed.activations += u64::from(edge.lost / 2);
            passed.deactivations += u64::from(edge.lost / 2);
            if edge.lost % 2 == 1 {
                self.flip(&mut passed);
            }
            if edge.active != self.active {
                self.flip(&mut passed);
            }
            return passed;
        }
        if edge.lost > 0 {
            self.candidate = None;
        } else if self.deadline().is_some_and(|deadline| deadline <= at) {
            self.flip(&mut passed);
        }
        if edge.active == self.active {
            self.candidate = None;
        } else if self.candidate.is_none() || edge.lost > 0 {
            self.candidate = Some(at);
        }
        passed
    }

    /// Takes the true level, read after all waiting edges: it is believed if it has stood long enough, and starts to stand
    /// if no edge had told of it.
    pub fn settle(&mut self, active: bool, now: Instant) -> Passed {
        self.latest = self.latest.max(now);
        let mut passed = Passed::default();
        if active == self.active {
            self.candidate = None;
        } else {
            let since = *self.candidate.get_or_insert(now);
            if since + self.stand <= now {
                self.flip(&mut passed);
            }
        }
        passed
    }

    fn flip(&mut self, passed: &mut Passed) {
        self.active = !self.active;
        self.candidate = None;
        passed.change(self.active);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAND: Duration = Duration::from_millis(20);

    fn ms(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn edge(active: bool, at: u64, lost: u32) -> Edge {
        Edge { active, at: ms(at), lost }
    }

    fn passed(activations: u64, deactivations: u64) -> Passed {
        Passed { activations, deactivations }
    }

    #[test]
    fn a_level_is_believed_after_it_has_stood() {
        let mut door = Debounce::new(STAND, false, ms(0));
        assert_eq!(door.edge(edge(true, 100, 0), ms(100)), passed(0, 0));
        assert_eq!(door.deadline(), Some(ms(120)));
        assert_eq!(door.settle(true, ms(119)), passed(0, 0));
        assert_eq!(door.settle(true, ms(120)), passed(1, 0));
        assert_eq!((door.is_active(), door.deadline()), (true, None));
    }

    #[test]
    fn bouncing_restarts_the_standing_and_counts_once() {
        let mut door = Debounce::new(STAND, false, ms(0));
        for (at, active) in [(100, true), (105, false), (110, true), (125, false), (126, true)] {
            assert!(!door.edge(edge(active, at, 0), ms(at)).any());
        }
        assert_eq!(door.deadline(), Some(ms(146)));
        assert_eq!(door.settle(true, ms(146)), passed(1, 0));
    }

    #[test]
    fn a_glitch_shorter_than_the_standing_is_nothing() {
        let mut door = Debounce::new(STAND, false, ms(0));
        door.edge(edge(true, 100, 0), ms(100));
        assert!(!door.edge(edge(false, 119, 0), ms(119)).any());
        assert_eq!(door.deadline(), None);
    }

    #[test]
    fn edges_read_late_count_by_their_own_times() {
        let mut rain = Debounce::new(STAND, false, ms(0));
        let late = [edge(true, 100, 0), edge(false, 130, 0), edge(true, 200, 0), edge(false, 300, 0)];
        let counts: Vec<Passed> = late.map(|edge| rain.edge(edge, ms(5_000))).to_vec();
        assert_eq!(counts, [passed(0, 0), passed(1, 0), passed(0, 1), passed(1, 0)]);
        assert_eq!(rain.settle(false, ms(5_000)), passed(0, 1));
    }

    #[test]
    fn the_true_level_wins_over_missing_edges() {
        let mut door = Debounce::new(STAND, false, ms(0));
        door.edge(edge(true, 100, 0), ms(100));
        assert!(!door.settle(false, ms(120)).any(), "it has gone back unseen");
        assert!(!door.settle(true, ms(130)).any(), "no edge told of this one");
        assert_eq!(door.settle(true, ms(150)), passed(1, 0));
    }

    #[test]
    fn edges_from_the_future_or_out_of_order_count_from_now_on() {
        let mut door = Debounce::new(STAND, false, ms(0));
        door.edge(edge(true, 9_000, 0), ms(100));
        assert_eq!(door.deadline(), Some(ms(120)));
        door.edge(edge(false, 110, 0), ms(110));
        door.edge(edge(true, 50, 0), ms(111));
        assert_eq!(door.deadline(), Some(ms(130)));
    }

    #[test]
    fn lost_edges_restart_the_standing() {
        let mut door = Debounce::new(STAND, false, ms(0));
        door.edge(edge(true, 100, 0), ms(100));
        assert!(!door.edge(edge(true, 140, 2), ms(140)).any());
        assert_eq!(door.deadline(), Some(ms(160)));
    }

    #[test]
    fn without_debouncing_every_edge_passes_and_lost_ones_are_counted() {
        let mut meter = Debounce::new(Duration::ZERO, false, ms(0));
        assert_eq!(meter.edge(edge(true, 1, 0), ms(1)), passed(1, 0));
        assert_eq!(meter.edge(edge(false, 1, 0), ms(1)), passed(0, 1));
        assert_eq!(meter.edge(edge(true, 2, 4), ms(2)), passed(3, 2));
        assert!(meter.is_active());
        assert_eq!(meter.edge(edge(true, 3, 0), ms(3)), passed(0, 0), "the same level is no change");
        assert_eq!(meter.edge(edge(true, 3, u32::MAX), ms(3)), passed(1 << 31, 1 << 31));
        assert_eq!(meter.settle(false, ms(4)), passed(0, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the edges were, reading the level and waiting for the standing ends on it.
        #[test]
        fn it_always_ends_on_the_true_level(
            stand in 0u64..50,
            edges in prop::collection::vec((any::<bool>(), 0u64..10_000, 0u32..5), 0..50),
            end in any::<bool>(),
        ) {
            let stand = Duration::from_millis(stand);
            let mut input = Debounce::new(stand, false, ms(0));
            for (active, at, lost) in edges {
                input.edge(edge(active, at, lost), ms(at));
            }
            let now = ms(10_000);
            input.settle(end, now);
            input.settle(end, now + stand);
            prop_assert_eq!(input.is_active(), end);
            prop_assert_eq!(input.deadline(), None);
        }

        /// Clean pulses longer than the standing are all counted, however late and in whatever portions they are read.
        #[test]
        fn no_clean_pulse_is_missed(pulses in prop::collection::vec((21u64..500, 21u64..500), 1..40), lag in 0u64..2_000) {
            let mut rain = Debounce::new(STAND, false, ms(0));
            let (mut at, mut total) = (0, 0);
            for (gap, width) in &pulses {
                total += rain.edge(edge(true, at + gap, 0), ms(at + gap + lag)).activations;
                at += gap + width;
                total += rain.edge(edge(false, at, 0), ms(at + lag)).activations;
            }
            rain.settle(false, ms(at + lag) + STAND);
            prop_assert_eq!(total, pulses.len() as u64);
        }
    }
}
