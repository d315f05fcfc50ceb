//! The flow from samples to MQTT: process → encode → outbox → publish → acknowledged → forget.
//!
//! [`outbox`] decides what is sent when; [`sensors`] turns samples into readings, status and health. Neither does I/O:
//! what leaves goes through a [`Link`].

pub mod clearing;
pub mod history;
pub mod outbox;
mod queue;
mod reading;
pub mod reference;
pub mod sensors;
mod told;

use crate::mqtt::{Outgoing, PublishError, Session, Token};
use crate::topic::QoS;

/// The session as the outbox sees it; a test may stand in for it.
pub trait Link {
    /// Whether messages can be sent at all.
    fn is_connected(&self) -> bool;
    /// How many more messages at this QoS, 1 or 2, may be sent now.
    fn room(&self, qos: QoS) -> usize;
    /// Bytes already waiting to be written.
    fn backlog(&self) -> usize;
    /// Sends a message; `token` comes back once the server has taken responsibility for it (QoS 1 and 2).
    ///
    /// # Errors
    /// Not connected, no room, or larger than MQTT allows.
    fn publish(&mut self, message: &Outgoing<'_>, token: Option<Token>) -> Result<(), PublishError>;
}

impl Link for Session {
    fn is_connected(&self) -> bool {
        Session::is_connected(self)
    }

    fn room(&self, qos: QoS) -> usize {
        self.room_at(qos)
    }

    fn backlog(&self) -> usize {
        Session::backlog(self)
    }

    fn publish(&mut self, message: &Outgoing<'_>, token: Option<Token>) -> Result<(), PublishError> {
        Session::publish(self, message, token)
    }
}
