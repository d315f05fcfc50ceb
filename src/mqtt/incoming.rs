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
            Packet::UnsubAck(_) => {}
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
