//! The slots that wait to be sent, the one that has waited longest first.
//!
//! The session has a window for what is acknowledged, a smaller one at QoS 2, and none at QoS 0. So a slot that waits for
//! room holds back those of its own QoS and no others.

use super::outbox::SlotId;
use crate::topic::QoS;
use std::collections::VecDeque;

/// A lane for each QoS; numbers tell the order across them.
#[derive(Default)]
pub struct Queue {
    lanes: [VecDeque<(u64, SlotId)>; 3],
    next: u64,
}

impl Queue {
    /// Behind everything else.
    pub fn push(&mut self, qos: QoS, slot: SlotId) {
        let number = self.next;
        self.next += 1;
        self.lane(qos).push_back((number, slot));
    }

    /// The first one, of those for which there is room.
    pub fn first(&self, has_room: impl Fn(QoS) -> bool) -> Option<(QoS, SlotId)> {
        let fronts = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().zip(&self.lanes);
        let fronts = fronts.filter_map(|(qos, lane)| lane.front().map(|(number, slot)| (*number, qos, *slot)));
        let open = fronts.filter(|(_, qos, _)| has_room(*qos));
        open.min_by_key(|(number, ..)| *number).map(|(_, qos, slot)| (qos, slot))
    }

    /// The first one of this QoS is on its way.
    pub fn pop(&mut self, qos: QoS) {
        self.lane(qos).pop_front();
    }

    /// Whether one waits that goes before history, which is sent at QoS 1. One at QoS 2 may wait long for a server that
    /// takes everything else.
    pub fn precedes_history(&self) -> bool {
        let [at_most_once, at_least_once, _] = &self.lanes;
        !at_most_once.is_empty() || !at_least_once.is_empty()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Those that are not to be sent any more go.
    pub fn retain(&mut self, keep: impl Fn(SlotId) -> bool) {
        self.lanes.iter_mut().for_each(|lane| lane.retain(|(_, slot)| keep(*slot)));
    }

    /// None waits any more.
    pub fn clear(&mut self) {
        self.lanes.iter_mut().for_each(VecDeque::clear);
    }

    fn lane(&mut self, qos: QoS) -> &mut VecDeque<(u64, SlotId)> {
        &mut self.lanes[usize::from(qos.level())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_but_for_those_without_room() {
        let mut queue = Queue::default();
        for (qos, slot) in [(QoS::ExactlyOnce, 1), (QoS::AtLeastOnce, 2), (QoS::AtMostOnce, 3), (QoS::AtLeastOnce, 4)] {
            queue.push(qos, slot);
        }
        let next = |queue: &mut Queue, full: &[QoS]| {
            let (qos, slot) = queue.first(|qos| !full.contains(&qos))?;
            queue.pop(qos);
            Some(slot)
        };
        assert_eq!(next(&mut queue, &[QoS::ExactlyOnce]), Some(2));
        assert_eq!(next(&mut queue, &[QoS::ExactlyOnce, QoS::AtLeastOnce]), Some(3));
        assert_eq!(next(&mut queue, &[QoS::ExactlyOnce, QoS::AtLeastOnce]), None);
        assert!(queue.precedes_history());
        assert_eq!(next(&mut queue, &[]), Some(1));
        assert_eq!(next(&mut queue, &[]), Some(4));
        assert!(queue.is_empty());
        queue.push(QoS::ExactlyOnce, 5);
        assert!(!queue.precedes_history() && !queue.is_empty());
        queue.clear();
        assert_eq!(next(&mut queue, &[]), None);
    }
}
