//! The validated plan: the configuration resolved against the registries, every name found, every topic rendered.
//!
//! It owns every fault that shows only when two things are looked at together. The flows take its types as they are.

use crate::inputs;
use crate::line::I2cPlace;
use crate::outputs;
use crate::payload::Format;
use crate::process;
use crate::quantity::{Quantity, Unit};
use crate::sensors::{Driver, Options};
use crate::topic::QoS;
use std::time::Duration;

/// Everything the flows need, resolved.
pub struct Plan {
    /// The gateway's name.
    pub name: String,
    /// Retained `online` / `offline`, QoS 1.
    pub status_topic: String,
    /// Any message here: everything is read and published again.
    pub get_topic: Option<String>,
    /// Where metrics go.
    pub metrics_topic: Option<String>,
    /// How often.
    pub metrics_interval: Duration,
    /// QoS of sensor status, health and metrics.
    pub qos: QoS,
    /// Retain flag of sensor status, health and metrics.
    pub retain: bool,
    /// In the file's order.
    pub sensors: Vec<Sensor>,
    /// In the file's order.
    pub inputs: Vec<Input>,
    /// In the file's order; [`outputs::Limits::interlock`] holds indices into it.
    pub outputs: Vec<Output>,
    /// What outputs follow or require, by [`outputs::SourceId`].
    pub sources: Vec<Source>,
}

/// A sensor and its readings.
pub struct Sensor {
    /// The name in the configuration.
    pub name: String,
    /// Its driver.
    pub driver: &'static Driver,
    /// Where it hangs, for drivers that need a place.
    pub place: Option<I2cPlace>,
    /// The driver's options.
    pub options: Options,
    /// How often it is read.
    pub interval: Duration,
    /// How long a read may take.
    pub deadline: Duration,
    /// Where the sea-level pressure comes from, for sensors with an altitude.
    pub sea_level: SeaLevel,
    /// The retained value is removed while the sensor fails.
    pub clear_when_failing: bool,
    /// What is published of it, in the driver's order, altitude last. Quantities not asked for but followed by an output
    /// are here too, without topics.
    pub readings: Vec<Reading>,
    /// One JSON object with all quantities.
    pub json_topic: Option<String>,
    /// `online` / `offline`
    pub status_topic: Option<String>,
    /// The health JSON.
    pub health_topic: Option<String>,
}

/// Where the sea-level pressure comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum SeaLevel {
    /// hPa.
    Fixed(f64),
    /// A topic that somebody else publishes.
    Topic {
        /// The topic.
        topic: String,
        /// Of plain numbers on it.
        unit: Unit,
        /// Older values are not used.
        stale_after: Option<Duration>,
        /// hPa, while there is none.
        otherwise: Option<f64>,
    },
    /// Metres; the pressure is worked out once per boot.
    KnownElevation(f64),
}

/// One quantity of one sensor.
pub struct Reading {
    /// Which.
    pub quantity: Quantity,
    /// How it is processed.
    pub process: process::Spec,
    /// How it is written.
    pub format: Format,
    /// Digits after the point.
    pub decimals: u8,
    /// Its own topic.
    pub topic: Option<String>,
    /// Where what was measured during an outage goes.
    pub history: Option<String>,
    /// QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
}

/// An input.
pub struct Input {
    /// What it is.
    pub spec: inputs::Spec,
    /// Its state, or its total.
    pub topic: String,
    /// QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
}

/// An output.
pub struct Output {
    /// What it is and may do.
    pub spec: outputs::Spec,
    /// Its state.
    pub topic: String,
    /// Its commands.
    pub set: String,
    /// The replies.
    pub reply: Option<String>,
    /// QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
}

/// A value that outputs follow or require.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Somebody's topic; values are converted to `unit` where the payload names another.
    Topic {
        /// The topic.
        topic: String,
        /// The unit of plain numbers on it, and of the rules' numbers.
        unit: Option<Unit>,
    },
    /// A reading of this board, processed, in its published unit.
    Reading {
        /// Index into [`Plan::sensors`].
        sensor: usize,
        /// Which quantity.
        quantity: Quantity,
    },
}
