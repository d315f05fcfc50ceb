//! One topic's slot: its specification, the newest payload, and the readings that stand behind it.

use crate::buffer::Ticket;
use crate::mqtt::Token;
use crate::topic::QoS;
use std::ops::Range;

/// A slot's number.
pub type SlotId = u32;

/// A topic this gateway publishes on.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotSpec {
    /// The topic.
    pub topic: Box<str>,
    /// QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// Where superseded readings go, as the outbox numbers it; `None` where only the newest matters.
    pub series: Option<u32>,
    /// Sent again on every connect even if it is not retained: it still holds, which an old reading does not.
    pub lasting: bool,
}

impl SlotSpec {
    /// A state: only the newest matters.
    pub fn state(topic: &str, qos: QoS, retain: bool) -> Self {
        Self { topic: topic.into(), qos, retain, series: None, lasting: true }
    }
}

pub(super) struct Slot {
    pub(super) spec: SlotSpec,
    pub(super) payload: Vec<u8>,
    /// Whether `payload` was ever set.
    pub(super) known: bool,
    /// Queued to be sent.
    pub(super) pending: bool,
    /// The readings `payload` stands for, while they are neither with the server nor on their way there.
    pub(super) owed: Readings,
    /// The message that carries them otherwise, until a newer payload takes their place.
    pub(super) carried_by: Option<Token>,
    /// Nobody fills it any more: its number can be given anew.
    pub(super) gone: bool,
}

impl Slot {
    pub(super) fn new(spec: SlotSpec) -> Self {
        let (payload, owed) = (Vec::new(), Readings::default());
        Self { spec, payload, known: false, pending: false, owed, carried_by: None, gone: false }
    }
}

/// The readings a payload stands for: none for a state, one for a plain reading, a few for a sensor's JSON object.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// In the store.
    pub(super) kept: Range<Ticket>,
    /// A reading without a history, which no store keeps.
    pub(super) bare: bool,
}

impl Readings {
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty() && !self.bare
    }
}
