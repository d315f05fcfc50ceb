//! Which packet ids are in use, for what, since when.
//!
//! Ids are given out in a circle of [`IN_FLIGHT`]. They come back in any order, so the window is counted from the oldest
//! one still out rather than by how many are out: an id is then never given twice, whatever order the server acks in.
//! SUBSCRIBE and UNSUBSCRIBE draw from the same circle (MQTT 3.1.1, 2.3.1) and keep the part of it that publishes may not use.
//!
//! rumqttc's `MqttState` gives the ids and pairs the acks; it never sees topics or payloads, as it is never asked to
//! send anything twice. An ack that nobody waits for is ignored rather than the end of the connection.

use super::Token;
use crate::clock::Instant;
use crate::topic::QoS;
use rumqttc::{MqttState, PubRel, Publish, Request, Subscribe, SubscribeFilter, Unsubscribe};
use std::collections::VecDeque;
use std::time::Duration;

/// Ids in the circle.
pub(super) const IN_FLIGHT: u16 = 100;
/// How many of them publishes may use, counted from the oldest.
pub(super) const WINDOW: usize = 80;
/// How many publishes at QoS 2 may be out. Mosquitto holds 20 of one client (`max_inflight_messages`); from MQTT 3.1.1
/// clients it drops what is beyond and acks it all the same (seen with 2.0.11: PUBREC 151, whose code 3.1.1 cannot carry).
pub(super) const EXACTLY_ONCE_WINDOW: usize = 10;
/// How long the oldest may be out while nothing else moves either.
pub(super) const ACK_TIME_OUT: Duration = Duration::from_secs(30);

/// What an id is out for.
#[derive(Debug)]
enum Use {
    /// A publish at QoS 1 that is not acked yet.
    Publish(Option<Token>),
    /// A publish at QoS 2 that is not received yet.
    ExactlyOnce(Option<Token>),
    /// A publish at QoS 2 whose PUBREL is sent.
    Released(Option<Token>),
    /// The filters of a SUBSCRIBE.
    Subscribe(Vec<String>),
    /// An UNSUBSCRIBE.
    Unsubscribe,
    /// It is back, but an older one is not.
    Back,
}

#[derive(Debug)]
struct Slot {
    id: u16,
    since: Instant,
    used: Use,
}

/// The ids of one connection.
pub(super) struct Window {
    state: MqttState,
    /// Consecutive ids, the oldest that is out first.
    slots: VecDeque<Slot>,
    /// How many of them are publishes at QoS 2.
    exactly_once: usize,
    last_ack: Instant,
    /// PUBCOMPs still to come for ids of an earlier connection.
    swept: usize,
    must_sweep: bool,
}

impl Window {
    /// For a new connection. If the server `resumed` our session it may hold QoS 2 publishes we know nothing of.
    pub fn new(now: Instant, resumed: bool) -> Self {
        let state = MqttState::new(IN_FLIGHT, true);
        Self { state, slots: VecDeque::new(), exactly_once: 0, last_ack: now, swept: 0, must_sweep: resumed }
    }

    /// How many more publishes at `qos` fit; at QoS 0 they need no id.
    pub fn room(&self, qos: QoS) -> usize {
        let room = WINDOW.saturating_sub(self.slots.len());
        match qos {
            QoS::AtMostOnce => usize::MAX,
            QoS::AtLeastOnce => room,
            QoS::ExactlyOnce => room.min(EXACTLY_ONCE_WINDOW.saturating_sub(self.exactly_once)),
        }
    }

    /// Whether every id is back.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// An id for a publish at QoS 1 or 2; `None` when the whole circle is out. The caller asks [`Window::room`] first
    /// unless this is the last thing it will ever say.
    pub fn publish(&mut self, qos: QoS, token: Option<Token>, now: Instant) -> Option<u16> {
        self.has_id().then_some(())?;
        let level = rumqttc::qos(qos.level()).expect("a level of 0 to 2");
        let publish = Publish::from_bytes(String::new(), level, bytes::Bytes::new());
        let packet = self.outgoing(Request::Publish(publish));
        let rumqttc::Packet::Publish(publish) = packet? else { unreachable!("a publish stays one") };
        let used = if qos == QoS::ExactlyOnce { Use::ExactlyOnce(token) } else { Use::Publish(token) };
        self.exactly_once += usize::from(qos == QoS::ExactlyOnce);
        self.slots.push_back(Slot { id: publish.pkid, since: now, used });
        Some(publish.pkid)
    }

    /// A SUBSCRIBE with its id; `None` when the whole circle is out.
    pub fn subscribe(&mut self, filters: Vec<SubscribeFilter>, now: Instant) -> Option<Subscribe> {
        self.has_id().then_some(())?;
        let names = filters.iter().map(|filter| filter.path.clone()).collect();
        let packet = self.outgoing(Request::Subscribe(Subscribe::new_many(filters)));
        let Some(rumqttc::Packet::Subscribe(subscribe)) = packet else { unreachable!("it has filters and an id") };
        self.slots.push_back(Slot { id: subscribe.pkid, since: now, used: Use::Subscribe(names) });
        Some(subscribe)
    }

    /// An UNSUBSCRIBE with its id; `None` when the whole circle is out.
    pub fn unsubscribe(&mut self, filters: Vec<String>, now: Instant) -> Option<Unsubscribe> {
        self.has_id().then_some(())?;
        let packet = self.outgoing(Request::Unsubscribe(Unsubscribe { pkid: 0, topics: filters }));
        let Some(rumqttc::Packet::Unsubscribe(unsubscribe)) = packet else { unreachable!("it has an id") };
        self.slots.push_back(Slot { id: unsubscribe.pkid, since: now, used: Use::Unsubscribe });
        Some(unsubscribe)
    }

    /// The PUBRELs that must precede the first publish at QoS 2 of a resumed session, else none.
    ///
    /// The server may still hold ids whose PUBREL we never sent. Used again they would look like repetitions to it, and
    /// the new messages would be dropped; released, they are free.
    pub fn sweep(&mut self) -> Vec<PubRel> {
        if !std::mem::take(&mut self.must_sweep) {
            return Vec::new();
        }
        self.swept = usize::from(IN_FLIGHT);
        (1..=IN_FLIGHT)
            .map(PubRel::new)
            .inspect(|release| drop(self.outgoing(Request::PubRel(release.clone()))))
            .collect()
    }

    /// PUBACK: the token, if one was given.
    pub fn puback(&mut self, id: u16, now: Instant) -> Option<Token> {
        let index = self.index(id)?;
        let Use::Publish(token) = self.slots[index].used else { return None };
        self.incoming(rumqttc::Packet::PubAck(rumqttc::PubAck::new(id)));
        self.back(index, now);
        token
    }

    /// PUBREC: PUBREL follows, whether or not somebody waits for it.
    pub fn pubrec(&mut self, id: u16, now: Instant) -> PubRel {
        if let Some(index) = self.index(id)
            && let Use::ExactlyOnce(token) = self.slots[index].used
        {
            self.incoming(rumqttc::Packet::PubRec(rumqttc::PubRec::new(id)));
            self.slots[index].used = Use::Released(token);
            self.slots[index].since = now;
            self.last_ack = now;
        }
        PubRel::new(id)
    }

    /// PUBCOMP: the token, if one was given.
    pub fn pubcomp(&mut self, id: u16, now: Instant) -> Option<Token> {
        let released = self.index(id).filter(|&index| matches!(self.slots[index].used, Use::Released(_)));
        if released.is_some() || self.swept > 0 {
            self.incoming(rumqttc::Packet::PubComp(rumqttc::PubComp::new(id)));
        }
        let Some(index) = released else {
            self.swept = self.swept.saturating_sub(1);
            return None;
        };
        let Use::Released(token) = self.slots[index].used else { return None };
        self.exactly_once -= 1;
        self.back(index, now);
        token
    }

    /// SUBACK: the filters it answers, in the order they were asked for.
    pub fn suback(&mut self, id: u16, now: Instant) -> Option<Vec<String>> {
        let index = self.index(id)?;
        let Use::Subscribe(filters) = &mut self.slots[index].used else { return None };
        let filters = std::mem::take(filters);
        self.back(index, now);
        Some(filters)
    }

    /// UNSUBACK.
    pub fn unsuback(&mut self, id: u16, now: Instant) {
        if let Some(index) = self.index(id).filter(|&index| matches!(self.slots[index].used, Use::Unsubscribe)) {
            self.back(index, now);
        }
    }

    /// When the oldest will have been out too long; `waited` is when bytes last left us that had had to wait.
    ///
    /// On a slow link acks are late but come, in order, so each one gives the rest more time. If younger ones are back
    /// already it is not slow but lost.
    pub fn overdue(&self, waited: Instant) -> Option<Instant> {
        let oldest = self.slots.front()?;
        let overtaken = self.slots.iter().any(|slot| matches!(slot.used, Use::Back));
        let since = if overtaken { oldest.since } else { oldest.since.max(self.last_ack).max(waited) };
        Some(since + ACK_TIME_OUT)
    }

    /// Whether an id is free.
    pub fn has_id(&self) -> bool {
        self.slots.len() < usize::from(IN_FLIGHT)
    }

    fn index(&self, id: u16) -> Option<usize> {
        let first = self.slots.front()?.id;
        (1..=IN_FLIGHT).contains(&id).then_some(())?;
        let index = usize::from((id + IN_FLIGHT - first) % IN_FLIGHT);
        (index < self.slots.len()).then_some(index)
    }

    fn back(&mut self, index: usize, now: Instant) {
        self.last_ack = now;
        self.slots[index].used = Use::Back;
        while self.slots.front().is_some_and(|slot| matches!(slot.used, Use::Back)) {
            self.slots.pop_front();
        }
    }

    /// `MqttState` knows `unimplemented!()` for other requests than those this file makes, keeps a log of events that
    /// nobody here reads, and parks a publish whose id is out, which the window makes impossible.
    fn outgoing(&mut self, request: Request) -> Option<rumqttc::Packet> {
        let packet = self.state.handle_outgoing_packet(request);
        self.state.events.clear();
        packet.expect("an id of the circle that is not out")
    }

    fn incoming(&mut self, packet: rumqttc::Packet) {
        // A refusal would mean an ack nobody waits for, which the slots have ruled out, or one more of a sweep.
        let _ = self.state.handle_incoming_packet(packet);
        self.state.events.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn window() -> Window {
        Window::new(NOW, false)
    }

    fn publish(window: &mut Window, token: Token) -> u16 {
        window.publish(QoS::AtLeastOnce, Some(token), NOW).expect("an id")
    }

    #[test]
    fn acks_bring_their_tokens_in_any_order() {
        let mut window = window();
        let ids: Vec<_> = (0..5).map(|token| publish(&mut window, token)).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        for index in [3, 1, 4, 0, 2] {
            assert_eq!(window.puback(ids[index], NOW), Some(index as Token));
            assert_eq!(window.puback(ids[index], NOW), None, "a second one is ignored");
        }
        assert!(window.is_empty());
    }

    #[test]
    fn the_room_is_counted_from_the_oldest() {
        let mut window = window();
        let ids: Vec<_> = (0..80).map(|token| publish(&mut window, token)).collect();
        assert_eq!(window.room(QoS::AtLeastOnce), 0);
        for id in &ids[1..] {
            window.puback(*id, NOW);
        }
        assert_eq!(window.room(QoS::AtLeastOnce), 0, "the first is still out");
        window.puback(ids[0], NOW);
        assert_eq!(window.room(QoS::AtLeastOnce), 80);
    }

    #[test]
    fn subscriptions_have_room_when_publishes_have_none() {
        let mut window = window();
        for token in 0..80 {
            publish(&mut window, token);
        }
        let filter = || vec![SubscribeFilter::new("a/#".into(), rumqttc::QoS::AtMostOnce)];
        for n in 81..=100 {
            assert_eq!(window.subscribe(filter(), NOW).expect("an id").pkid, n);
        }
        assert!(window.subscribe(filter(), NOW).is_none() && window.unsubscribe(vec!["a/#".into()], NOW).is_none());
        assert_eq!(window.publish(QoS::AtLeastOnce, None, NOW), None);
        assert_eq!(window.suback(81, NOW), Some(vec!["a/#".to_owned()]));
        assert_eq!(window.suback(1, NOW), None, "a publish has no SUBACK");
        assert_eq!(window.puback(82, NOW), None, "a SUBSCRIBE has no PUBACK");
    }

    #[test]
    fn exactly_once_is_acked_by_pubcomp() {
        let mut window = window();
        let id = window.publish(QoS::ExactlyOnce, Some(7), NOW).expect("an id");
        assert_eq!(window.pubcomp(id, NOW), None, "before PUBREC it is not ours");
        assert_eq!(window.pubrec(id, NOW).pkid, id);
        assert_eq!(window.puback(id, NOW), None);
        assert_eq!(window.pubcomp(id, NOW), Some(7));
        assert!(window.is_empty());
    }

    #[test]
    fn exactly_once_has_a_smaller_window() {
        let mut window = window();
        let ids: Vec<_> = (0..10).filter_map(|_| window.publish(QoS::ExactlyOnce, None, NOW)).collect();
        assert_eq!((window.room(QoS::ExactlyOnce), window.room(QoS::AtLeastOnce)), (0, 70));
        window.pubrec(ids[0], NOW);
        assert_eq!(window.room(QoS::ExactlyOnce), 0, "received is not complete");
        window.pubcomp(ids[0], NOW);
        assert_eq!((window.room(QoS::ExactlyOnce), window.room(QoS::AtLeastOnce)), (1, 71));
    }

    #[test]
    fn a_sweep_frees_the_ids_of_an_earlier_connection_and_acks_nothing() {
        let mut window = Window::new(NOW, true);
        assert_eq!(window.sweep().len(), 100);
        assert!(window.sweep().is_empty(), "once per connection");
        let id = window.publish(QoS::ExactlyOnce, Some(7), NOW).expect("an id");
        for swept in 1..=100 {
            assert_eq!(window.pubcomp(swept, NOW), None);
        }
        window.pubrec(id, NOW);
        assert_eq!(window.pubcomp(id, NOW), Some(7));
        assert!(super::Window::new(NOW, false).sweep().is_empty());
    }

    #[test]
    fn the_oldest_is_overdue_after_30_s_without_progress() {
        let mut window = window();
        assert_eq!(window.overdue(NOW), None);
        let (first, second) = (publish(&mut window, 1), publish(&mut window, 2));
        publish(&mut window, 3);
        assert_eq!(window.overdue(NOW), Some(NOW + ACK_TIME_OUT));
        let later = NOW + Duration::from_secs(20);
        assert_eq!(window.overdue(later), Some(later + ACK_TIME_OUT), "bytes still wait");
        window.puback(first, later);
        assert_eq!(window.overdue(NOW), Some(later + ACK_TIME_OUT), "acks still come");
        publish(&mut window, 4);
        window.puback(second + 1, later);
        assert_eq!(window.overdue(later), Some(NOW + ACK_TIME_OUT), "a younger one came first");
    }

    proptest! {
        /// Against any order of acks, real and invented, no id is given twice and no token is lost or doubled.
        #[test]
        fn no_id_is_out_twice(acks in proptest::collection::vec((0usize..90, any::<bool>(), 0u16..200), 1..400)) {
            let mut window = window();
            let mut out: Vec<(u16, Token)> = Vec::new();
            let mut token = 0;
            for (index, publish_first, invented) in acks {
                while publish_first && window.room(QoS::AtLeastOnce) > 0 {
                    let id = publish(&mut window, token);
                    prop_assert!(out.iter().all(|(other, _)| *other != id));
                    out.push((id, token));
                    token += 1;
                }
                if !out.iter().any(|(id, _)| *id == invented) {
                    prop_assert_eq!(window.puback(invented, NOW), None);
                }
                if index < out.len() {
                    let (id, token) = out.remove(index);
                    prop_assert_eq!(window.puback(id, NOW), Some(token));
                }
                prop_assert_eq!(window.is_empty(), out.is_empty());
            }
        }
    }
}
