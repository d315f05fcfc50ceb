//! What each packet of the server leads to: an event, an answer in the write buffer, or the end of the connection.
//!
//! A message at QoS 2 is delivered once although the connection breaks between its four packets: the ids that are delivered
//! and not yet released are the session's, since they outlive the connection. An answer to something we do not remember is
//! given all the same, as the server would ask for ever.

use super::connection::{Connection, Turn};
use super::failure::{self, Class, Failure};
use super::{Event, MAX_INCOMING_PACKET, Message};
use rumqttc::{Packet, PubAck, PubComp, PubRec, Publish, SubAck, SubscribeReasonCode};

impl Connection {
    /// The next event that is in the read buffer.
    pub(super) fn next_event(&mut self, turn: &mut Turn<'_>) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let packet = match Packet::read(&mut self.input, MAX_INCOMING_PACKET) {
                Ok(packet) => packet,
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
                Err(error) => return Err(failure::malformed(&error)),
            };
            if let Some(event) = self.take(packet, turn)? {
                return Ok(Some(event));
            }
        }
    }

    fn take(&mut self, packet: Packet, turn: &mut Turn<'_>) -> Result<Option<Event>, Failure> {
        match packet {
            Packet::Publish(publish) => return Ok(self.take_publish(publish, turn)),
            Packet::PubRel(release) => {
                // Answered whether or not we know it: it may belong to an earlier connection of this session.
                turn.delivered.remove(&release.pkid);
                self.put(&Packet::PubComp(PubComp { pkid: release.pkid }));
            }
            Packet::PubRec(received) => {
                let release = self.window.pubrec(received.pkid, self.received);
                self.put(&Packet::PubRel(release));
            }
            Packet::PubAck(ack) => {
                let token = self.window.puback(ack.pkid, self.received);
                self.ask();
                return Ok(token.map(Event::Acked));
            }
            Packet::PubComp(complete) => {
                let token = self.window.pubcomp(complete.pkid, self.received);
                self.ask();
                return Ok(token.map(Event::Acked));
            }
            Packet::SubAck(ack) => self.take_suback(&ack),
            Packet::PingResp => self.awaits_pong = false,
            Packet::UnsubAck(ack) => {
                self.window.unsuback(ack.pkid, self.received);
                self.ask();
            }
            other => {
                let kind = format!("{other:?}");
                let kind = kind.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                let cause = format!("the server sent {}, which only clients send", kind.to_uppercase());
                return Err(Failure::new(Class::Abandoned, cause));
            }
        }
        Ok(None)
    }

    fn take_publish(&mut self, publish: Publish, turn: &mut Turn<'_>) -> Option<Event> {
        if self.closing {
            return None;
        }
        match publish.qos {
            rumqttc::QoS::AtMostOnce => {}
            rumqttc::QoS::AtLeastOnce => self.put(&Packet::PubAck(PubAck::new(publish.pkid))),
            rumqttc::QoS::ExactlyOnce => {
                self.put(&Packet::PubRec(PubRec::new(publish.pkid)));
                if !turn.delivered.insert(publish.pkid) {
                    return None;
                }
            }
        }
        turn.statistics.messages_in += 1;
        Some(Event::Message(Message { topic: publish.topic, payload: publish.payload, retain: publish.retain }))
    }

    fn take_suback(&mut self, ack: &SubAck) {
        let filters = self.window.suback(ack.pkid, self.received).unwrap_or_default();
        for (filter, code) in filters.into_iter().zip(&ack.return_codes) {
            if *code == SubscribeReasonCode::Failure {
                log::error!(filter = filter.as_str(); "the server refused a subscription");
                self.events.push_back(Event::SubscriptionRefused { filter });
            }
        }
        self.ask();
    }
}

#[cfg(test)]
mod tests {
    use super::super::alarm::Alarm;
    use super::super::transport::Opened;
    use super::super::{Outgoing, Statistics};
    use super::*;
    use crate::clock::SystemClock;
    use crate::topic::QoS;
    use bytes::BytesMut;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;

    /// Everything a connection makes of `bytes` after 20 publishes, and why it ended.
    async fn outcome(bytes: &[u8]) -> (Vec<Event>, Failure) {
        let (mut server, client) = tokio::io::duplex(1024 * 1024);
        let opened = Opened { stream: Box::new(client), input: BytesMut::new(), session_present: false };
        let mut connection = Connection::new(opened, Duration::from_secs(30), Arc::new(SystemClock));
        for token in 0..20 {
            let qos = if token < 10 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            let message = Outgoing { topic: "a", payload: b"1", qos, retain: false };
            connection.publish(&message, Some(token)).expect("room for 10 of each");
        }
        server.write_all(bytes).await.expect("room in the pipe");
        server.shutdown().await.expect("an open pipe");
        let mut turn = Turn {
            alarm: &mut Alarm::default(),
            statistics: &mut Statistics::default(),
            delivered: &mut BTreeSet::new(),
            explain: &|error| failure::broken(error, &super::super::Server::Unix("s".into()), None),
        };
        let mut events = Vec::new();
        loop {
            match poll_fn(|cx| connection.poll(cx, &mut turn)).await {
                Ok(event) => events.push(event.expect("it is not closing")),
                Err(failure) => return (events, failure),
            }
        }
    }

    fn run(bytes: &[u8]) -> (Vec<Event>, Failure) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(outcome(bytes))
    }

    /// A packet of a random type with a true length, so that what is inside is decoded.
    fn packet() -> impl Strategy<Value = Vec<u8>> {
        let inside = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..12),
            (0u8..2, 0u8..30).prop_map(|(high, low)| vec![high, low]),
        ];
        (any::<u8>(), inside).prop_map(|(first, inside)| {
            let length = u8::try_from(inside.len()).expect("a short packet");
            [vec![first, length], inside].concat()
        })
    }

    proptest! {
        #[test]
        fn nothing_a_server_says_is_a_panic_and_no_token_is_acked_twice(
            packets in proptest::collection::vec(packet(), 0..40),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let (events, failure) = run(&[packets.concat(), rest].concat());
            prop_assert!(!failure.cause.is_empty());
            let mut acked = BTreeSet::new();
            for event in events {
                if let Event::Acked(token) = event {
                    prop_assert!(token < 20 && acked.insert(token), "{token}");
                }
            }
        }
    }

    #[test]
    fn acks_of_the_wrong_kind_ack_nothing() {
        // PUBACK 11 and PUBCOMP 12 are for publishes at QoS 2 that nobody has received, PUBREC 1 is for one at QoS 1.
        let (events, failure) = run(&[0x40, 2, 0, 11, 0x70, 2, 0, 12, 0x50, 2, 0, 1, 0x70, 2, 0, 1, 0x40, 2, 0, 2]);
        assert_eq!(events, [Event::Acked(1)]);
        assert_eq!(failure.class, Class::Closed);
    }
}
