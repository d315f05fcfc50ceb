//! PUBLISH, written straight into the write buffer: topic and payload are copied once and nothing is allocated.
//!
//! Every other packet is rare enough for rumqttc's own types.

use super::Outgoing;
use bytes::{BufMut, BytesMut};

/// The longest string of MQTT in bytes (MQTT 3.1.1, 1.5.3).
pub(super) const MAX_STRING: usize = 65_535;

/// Bytes `message` takes as a packet; at most 5 of them are the fixed header.
pub(super) fn publish_size(message: &Outgoing<'_>) -> usize {
    let rest = remaining(message);
    1 + length_size(rest) + rest
}

/// Appends `message` (MQTT 3.1.1, 3.3), with the packet id `id` unless it is at QoS 0.
///
/// The topic must have at most [`MAX_STRING`] bytes and the packet less than 256 MiB; the caller has checked both.
pub(super) fn publish(buffer: &mut BytesMut, message: &Outgoing<'_>, id: u16) {
    let rest = remaining(message);
    buffer.reserve(1 + length_size(rest) + rest);
    buffer.put_u8(0b0011_0000 | (message.qos.level() << 1) | u8::from(message.retain));
    put_length(buffer, rest);
    buffer.put_u16(u16::try_from(message.topic.len()).expect("the caller has checked the topic's length"));
    buffer.put_slice(message.topic.as_bytes());
    if message.qos.level() > 0 {
        buffer.put_u16(id);
    }
    buffer.put_slice(message.payload);
}

fn remaining(message: &Outgoing<'_>) -> usize {
    let id = if message.qos.level() > 0 { 2 } else { 0 };
    2 + message.topic.len() + id + message.payload.len()
}

/// Bytes of the variable-length integer `length` (MQTT 3.1.1, 2.2.3).
fn length_size(length: usize) -> usize {
    match length {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

fn put_length(buffer: &mut BytesMut, mut length: usize) {
    while length > 127 {
        buffer.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    buffer.put_u8(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::QoS;
    use proptest::prelude::*;

    fn reference(message: &Outgoing<'_>, id: u16) -> BytesMut {
        let qos = rumqttc::qos(message.qos.level()).expect("a level");
        let mut publish = rumqttc::Publish::new(message.topic, qos, message.payload);
        publish.retain = message.retain;
        publish.pkid = if message.qos.level() > 0 { id } else { 0 };
        let mut buffer = BytesMut::new();
        publish.write(&mut buffer).expect("a packet");
        buffer
    }

    proptest! {
        #[test]
        fn it_writes_what_rumqttc_writes(
            topic in "[a-z/äö]{1,300}",
            payload in proptest::collection::vec(any::<u8>(), 0..400),
            level in 0u8..3,
            retain: bool,
            id in 1u16..,
        ) {
            let qos = QoS::from_level(level).expect("a level");
            let message = Outgoing { topic: &topic, payload: &payload, qos, retain };
            let mut buffer = BytesMut::new();
            publish(&mut buffer, &message, id);
            prop_assert_eq!(&buffer, &reference(&message, id));
            prop_assert_eq!(buffer.len(), publish_size(&message));
        }
    }

    #[test]
    fn lengths_of_one_to_four_bytes() {
        for size in [0, 120, 121, 16_370, 16_380, 2_097_100, 2_097_150] {
            let payload = vec![7; size];
            let message = Outgoing { topic: "a/b", payload: &payload, qos: QoS::AtLeastOnce, retain: true };
            let mut buffer = BytesMut::new();
            publish(&mut buffer, &message, 9);
            assert_eq!(buffer, reference(&message, 9), "{size} bytes");
        }
    }
}
