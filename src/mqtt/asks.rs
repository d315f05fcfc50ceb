//! What we want to hear and what no longer: SUBSCRIBE and UNSUBSCRIBE, in the order asked, as packet ids are free.
//!
//! Invariant: of one filter the last word is said last.

use super::window::Window;
use crate::clock::Instant;
use crate::topic::QoS;
use rumqttc::{Packet, SubscribeFilter};
use std::collections::VecDeque;
use std::mem::discriminant;

/// Bytes of filters in one packet; some servers limit what they accept.
const CHUNK: usize = 4 * 1024;
/// Filters in one packet; some cloud services take no more.
const FILTERS: usize = 8;

enum Ask {
    Subscribe(SubscribeFilter),
    Unsubscribe(String),
}

impl Ask {
    fn len(&self) -> usize {
        match self {
            Self::Subscribe(filter) => filter.path.len(),
            Self::Unsubscribe(path) => path.len(),
        }
    }
}

/// What was asked for and not sent yet.
#[derive(Default)]
pub(super) struct Asks(VecDeque<Ask>);

impl Asks {
    /// Adds filters to hear.
    pub fn subscribe(&mut self, filters: &[(&str, QoS)]) {
        let ask = |(path, qos): &(&str, QoS)| {
            let qos = rumqttc::qos(qos.level()).expect("a level of 0 to 2");
            Ask::Subscribe(SubscribeFilter::new((*path).to_owned(), qos))
        };
        self.0.extend(filters.iter().map(ask));
    }

    /// Adds filters to hear no longer.
    pub fn unsubscribe(&mut self, filters: &[&str]) {
        self.0.extend(filters.iter().map(|path| Ask::Unsubscribe((*path).to_owned())));
    }

    /// Whether all is sent.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what was not sent.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The next packet, with its id; `None` when there is nothing to ask or no id free.
    pub fn next(&mut self, window: &mut Window, now: Instant) -> Option<Packet> {
        let kind = discriminant(self.0.front()?);
        window.has_id().then_some(())?;
        let mut bytes = 0;
        let fits = |ask: &&Ask| {
            bytes += ask.len();
            bytes <= CHUNK && discriminant(*ask) == kind
        };
        let count = self.0.iter().take(FILTERS).take_while(fits).count().max(1);
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for ask in self.0.drain(..count) {
            match ask {
                Ask::Subscribe(filter) => wanted.push(filter),
                Ask::Unsubscribe(path) => unwanted.push(path),
            }
        }
        if unwanted.is_empty() {
            window.subscribe(wanted, now).map(Packet::Subscribe)
        } else {
            window.unsubscribe(unwanted, now).map(Packet::Unsubscribe)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn said(asks: &mut Asks, window: &mut Window) -> Vec<String> {
        let packets = std::iter::from_fn(|| asks.next(window, NOW));
        let word = |packet| match packet {
            Packet::Subscribe(packet) => {
                let paths: Vec<_> = packet.filters.into_iter().map(|filter| filter.path).collect();
                format!("{} + {}", packet.pkid, paths.join(" "))
            }
            Packet::Unsubscribe(packet) => format!("{} - {}", packet.pkid, packet.topics.join(" ")),
            other => panic!("{other:?}"),
        };
        packets.map(word).collect()
    }

    #[test]
    fn what_is_wanted_and_what_is_not_goes_out_in_the_order_asked() {
        let (mut asks, mut window) = (Asks::default(), Window::new(NOW, false));
        asks.subscribe(&[("a", QoS::AtLeastOnce), ("b", QoS::AtMostOnce)]);
        asks.unsubscribe(&["a"]);
        asks.subscribe(&[("a", QoS::AtMostOnce)]);
        assert_eq!(said(&mut asks, &mut window), ["1 + a b", "2 - a", "3 + a"]);
        assert!(asks.is_empty());
    }

    #[test]
    fn packets_are_small_and_wait_for_ids() {
        let (mut asks, mut window) = (Asks::default(), Window::new(NOW, false));
        let long = "x".repeat(3000);
        asks.unsubscribe(&[&long, &long]);
        asks.unsubscribe(&["s"; 9]);
        let said_now = said(&mut asks, &mut window);
        let filters: Vec<_> = said_now.iter().map(|packet| packet.split(' ').count() - 2).collect();
        assert_eq!(filters, [1, 8, 2]);
        asks.unsubscribe(&["s"; 8 * 100]);
        assert_eq!(said(&mut asks, &mut window).len(), 97, "the circle is out");
        assert!(!asks.is_empty());
        window.unsuback(1, NOW);
        assert_eq!(said(&mut asks, &mut window), ["1 - s s s s s s s s"]);
    }
}
