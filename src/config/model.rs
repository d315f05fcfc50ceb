//! The configuration as it is written: every value typed and in range, names not yet resolved against one another.
//!
//! What can be wrong only in relation to something else (a unit that does not fit its quantity, a name nobody has, a line
//! used twice) is found by `plan`, which is why those values carry their place in the file.

use crate::line::{Active, Bias, Drive, Level, LineId};
use crate::quantity::{Quantity, Unit};
use crate::topic::QoS;
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::time::Duration;

/// Where a value was written: a byte range of the file, or an environment variable that replaced it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Bytes of the file; empty for a default.
    pub span: Range<usize>,
    /// The environment variable the value came from instead.
    pub variable: Option<String>,
}

/// A value and where it was written. Equality looks at the value alone.
#[derive(Clone, Debug, Default)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub origin: Origin,
}

impl<T> Deref for Located<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The folder relative paths start at.
    pub folder: PathBuf,
    /// `gateway.name`, by default the host name.
    pub name: Located<String>,
    /// `[mqtt]`
    pub mqtt: Mqtt,
    /// `[topics]`
    pub topics: Topics,
    /// `[metrics] interval`
    pub metrics_interval: Duration,
    /// `board.kind`
    pub board: Located<BoardKind>,
    /// `[simulated]`
    pub simulated: Simulated,
    /// `[buffer]`
    pub buffer: Buffer,
    /// `[sensors.*]` in the file's order.
    pub sensors: Vec<Sensor>,
    /// `[inputs.*]` in the file's order.
    pub inputs: Vec<Input>,
    /// `[outputs.*]` in the file's order.
    pub outputs: Vec<Output>,
}

/// `[mqtt]`
#[derive(Clone, Debug, PartialEq)]
pub struct Mqtt {
    /// `mqtt://…`, `mqtts://…`, `unix:…`
    pub server: Located<ServerUrl>,
    /// The client identifier, by default `board2mqtt-{name}`.
    pub client_id: Located<String>,
    /// User name.
    pub username: Option<Located<String>>,
    /// Where the password comes from.
    pub password: Option<Located<Secret>>,
    /// Keep-alive.
    pub keep_alive: Duration,
    /// Clean session.
    pub clean_session: bool,
    /// Default QoS of what is published.
    pub qos: QoS,
    /// Default retain flag of what is published.
    pub retain: bool,
    /// `tls.ca`, resolved against the folder.
    pub ca: Option<Located<PathBuf>>,
    /// `tls.cert`
    pub cert: Option<Located<PathBuf>>,
    /// `tls.key`
    pub key: Option<Located<PathBuf>>,
    /// `reconnect.min`
    pub reconnect_min: Duration,
    /// `reconnect.max`
    pub reconnect_max: Duration,
}

/// The server's address as a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerUrl {
    /// `mqtt://host:port`
    Mqtt(String, u16),
    /// `mqtts://host:port`
    Mqtts(String, u16),
    /// `unix:/path`
    Unix(PathBuf),
}

/// Where a secret is kept. `Debug` never shows one.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// In the configuration itself.
    Text(String),
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential (`LoadCredential=`), by name.
    Credential(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => write!(f, "File({path:?})"),
            Self::Env(name) => write!(f, "Env({name})"),
            Self::Credential(name) => write!(f, "Credential({name})"),
        }
    }
}

/// `[topics]`: templates as written; `none` is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Topics {
    /// `base`
    pub base: Located<String>,
    /// `status`
    pub status: Located<String>,
    /// `reading`, may be none
    pub reading: Option<Located<String>>,
    /// `history`, may be none
    pub history: Option<Located<String>>,
    /// `sensor`, none by default
    pub sensor: Option<Located<String>>,
    /// `sensor_status`, may be none
    pub sensor_status: Option<Located<String>>,
    /// `health`, may be none
    pub health: Option<Located<String>>,
    /// `input`
    pub input: Located<String>,
    /// `output`
    pub output: Located<String>,
    /// `set`
    pub set: Located<String>,
    /// `reply`, may be none
    pub reply: Option<Located<String>>,
    /// `get`, may be none
    pub get: Option<Located<String>>,
    /// `metrics`, may be none
    pub metrics: Option<Located<String>>,
}

/// `board.kind`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BoardKind {
    /// The character device; on a Raspberry Pi PWM through rppal.
    #[default]
    Auto,
    /// rppal's GPIO and PWM.
    RaspberryPi,
    /// The character device and sysfs PWM.
    Linux,
    /// Models of chips and lines.
    Simulated,
}

/// `[simulated]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Simulated {
    /// The script, resolved against the folder.
    pub script: Option<Located<PathBuf>>,
    /// The trace: a path, or `unix:/path`.
    pub trace: Option<Located<String>>,
}

/// `[buffer]`
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// The folder of the store, where given.
    pub path: Option<PathBuf>,
    /// Bytes.
    pub max_size: u64,
    /// Oldest kept.
    pub max_age: Duration,
    /// `drop-oldest` or `drop-newest`.
    pub drop_newest: bool,
    /// What a power cut may cost.
    pub flush_every: Duration,
    /// Records of history per second.
    pub drain_per_second: u32,
}

/// `[sensors.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Sensor {
    /// The table's name.
    pub name: Located<String>,
    /// `driver`
    pub driver: Located<String>,
    /// `bus`, or the default.
    pub bus: Located<PathBuf>,
    /// `address`; drivers with one address need none.
    pub address: Option<Located<u8>>,
    /// `interval`
    pub interval: Duration,
    /// `deadline`: how long a read may take.
    pub deadline: Duration,
    /// `sea_level_pressure`
    pub sea_level_pressure: Option<Located<SeaLevel>>,
    /// `quantities`, where given.
    pub quantities: Option<Vec<Located<Quantity>>>,
    /// `when_failing = "clear"`
    pub clear_when_failing: bool,
    /// `readings.QUANTITY`, where given.
    pub readings: Vec<Reading>,
    /// Keys the configuration does not know; they may be options of the driver.
    pub options: Vec<(Located<String>, Located<i64>)>,
    /// Unknown keys whose value is no whole number.
    pub misfits: Vec<Located<String>>,
}

/// Where the sea-level pressure comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum SeaLevel {
    /// hPa.
    Fixed(f64),
    /// A topic that somebody else publishes.
    Topic {
        /// The topic.
        topic: Located<String>,
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

/// `[sensors.NAME.readings.QUANTITY]`, and the defaults where the table is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The table's name.
    pub quantity: Located<Quantity>,
    /// `topic`: replaces the template.
    pub topic: Option<Located<String>>,
    /// `unit`
    pub unit: Option<Located<Unit>>,
    /// `decimals`, 0 to 9
    pub decimals: Option<u8>,
    /// `payload`: `plain`, `json` or a template.
    pub payload: Option<Located<String>>,
    /// `qos`
    pub qos: Option<QoS>,
    /// `retain`
    pub retain: Option<bool>,
    /// `scale`
    pub scale: f64,
    /// `offset`
    pub offset: f64,
    /// `min`
    pub min: Option<Located<f64>>,
    /// `max`
    pub max: Option<Located<f64>>,
    /// `median`: samples, odd.
    pub median: usize,
    /// `average`: samples.
    pub average: usize,
    /// `change`
    pub change: Option<f64>,
    /// `at_least_every`
    pub at_least_every: Option<Located<Duration>>,
}

/// `[inputs.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The table's name.
    pub name: Located<String>,
    /// `line`
    pub line: Located<LineId>,
    /// `active`
    pub active: Active,
    /// `bias`
    pub bias: Bias,
    /// `debounce`
    pub debounce: Duration,
    /// `count`
    pub count: Option<Count>,
    /// `topic`: replaces the template.
    pub topic: Option<Located<String>>,
    /// `qos`
    pub qos: Option<QoS>,
    /// `retain`
    pub retain: Option<bool>,
}

/// Which edges count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountEdge {
    /// Physical low to high.
    Rising,
    /// Physical high to low.
    Falling,
    /// Both.
    Both,
}

/// `count = {…}` of an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// `edge`
    pub edge: CountEdge,
    /// `per_pulse`
    pub per_pulse: f64,
    /// `unit`, any text
    pub unit: String,
    /// `interval`: how often the total is published while it changes.
    pub interval: Duration,
}

/// `[outputs.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The table's name.
    pub name: Located<String>,
    /// `line` with `active`, or `pwm`.
    pub drive: Located<Drive>,
    /// `safe`
    pub safe: Level,
    /// `initial`
    pub initial: InitialState,
    /// `on_exit`
    pub on_exit: ExitState,
    /// `on_server_loss = { after }`
    pub on_server_loss: Option<Duration>,
    /// `max_on`
    pub max_on: Option<Duration>,
    /// `min_off`
    pub min_off: Option<Duration>,
    /// `renew_within`
    pub renew_within: Option<Duration>,
    /// `interlock`
    pub interlock: Option<Interlock>,
    /// `accept_retained`
    pub accept_retained: bool,
    /// `follow`
    pub follow: Option<Follow>,
    /// `require`
    pub require: Option<Require>,
    /// `topic`: replaces the template of the state.
    pub topic: Option<Located<String>>,
    /// `qos`
    pub qos: Option<QoS>,
    /// `retain`
    pub retain: Option<bool>,
}

/// `initial`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// `safe`
    Safe,
    /// `on`, `off`, or a percentage
    Level(Level),
    /// `last`: as it was, kept on disk
    Last,
    /// `keep`: as it is found
    Keep,
}

/// `on_exit`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitState {
    /// `safe`
    Safe,
    /// `on`, `off`, or a percentage
    Level(Level),
    /// `keep`
    Keep,
}

/// `interlock`
#[derive(Clone, Debug, PartialEq)]
pub struct Interlock {
    /// Names of other outputs.
    pub with: Vec<Located<String>>,
    /// `conflict = "switch"`: the other is switched off first.
    pub switch: bool,
    /// Both off this long before one may be on.
    pub gap: Duration,
}

/// What an output follows or requires.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Somebody's topic, with the unit of plain numbers on it.
    Topic(Located<String>, Option<Located<Unit>>),
    /// This board's own: `sensor.quantity` (in the reading's published unit) .
    Reading(Located<String>),
}

/// `follow`
#[derive(Clone, Debug, PartialEq)]
pub struct Follow {
    /// `topic` or `reading`
    pub source: Source,
    /// How the value leads to a level.
    pub rule: Rule,
    /// Safe when the value is older.
    pub stale_after: Located<Duration>,
}

/// How a value leads to a level.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// `on_above`, `off_below`: on above the first, off below the second, unchanged between.
    OnAbove {
        /// `on_above`
        on_above: f64,
        /// `off_below`
        off_below: f64,
    },
    /// `on_below`, `off_above`: for heating.
    OnBelow {
        /// `on_below`
        on_below: f64,
        /// `off_above`
        off_above: f64,
    },
    /// `curve`: value and percent, values rising; straight lines between, flat beyond the ends.
    Curve(Vec<(f64, f64)>),
}

/// `require`
#[derive(Clone, Debug, PartialEq)]
pub struct Require {
    /// `topic` or `reading`
    pub source: Source,
    /// `below`: the value must be less.
    pub below: Option<f64>,
    /// `above`: the value must be more.
    pub above: Option<f64>,
    /// Safe when the value is older.
    pub stale_after: Located<Duration>,
}
