//! Names of the board's parts as the configuration spells them: I2C buses and addresses, GPIO lines, PWM channels,
//! and the level of an output. No I/O.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A GPIO line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LineId {
    /// By its name in the device tree, such as `GPIO17` or `P9_12`.
    Name(String),
    /// By chip (`gpiochip0`, `/dev/gpiochip0` or its label) and offset.
    Offset {
        /// The chip's name, path or label.
        chip: String,
        /// The line's offset on the chip.
        offset: u32,
    },
}

impl fmt::Display for LineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Offset { chip, offset } => write!(f, "{chip}:{offset}"),
        }
    }
}

/// A hardware PWM channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PwmId {
    /// The channel behind a named line (on a Raspberry Pi GPIO12, 13, 18, 19).
    Line(String),
    /// A sysfs chip (`pwmchip0`, or its device's name) and channel.
    Channel {
        /// The chip's name.
        chip: String,
        /// The channel's number.
        channel: u32,
    },
}

impl fmt::Display for PwmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(name) => f.write_str(name),
            Self::Channel { chip, channel } => write!(f, "{chip}:{channel}"),
        }
    }
}

/// A chip's place: an I2C bus device file and a 7-bit address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct I2cPlace {
    /// Such as `/dev/i2c-1`.
    pub bus: PathBuf,
    /// 0x03 to 0x77.
    pub address: u8,
}

impl fmt::Display for I2cPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} 0x{:02x}", self.bus.display(), self.address)
    }
}

/// Which physical level is the logical one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Active {
    /// High is ON.
    #[default]
    High,
    /// Low is ON.
    Low,
}

/// The bias of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bias {
    /// As the board has it.
    #[default]
    AsIs,
    /// No bias.
    Disabled,
    /// Pulled up.
    PullUp,
    /// Pulled down.
    PullDown,
}

/// Which changes of an input's logical level are told as edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edges {
    /// To either level.
    #[default]
    Both,
    /// To ON.
    Activations,
    /// To OFF.
    Deactivations,
}

impl Edges {
    /// Whether a change to ON (`active`) or to OFF is told.
    pub const fn tell(self, active: bool) -> bool {
        match self {
            Self::Both => true,
            Self::Activations => active,
            Self::Deactivations => !active,
        }
    }
}

/// The logical level of an output in hundredths of a percent, 0 to 10,000; a switch knows only the two ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Level(u16);

/// A number of hundredths of a percent above 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a level has 0 to 10000 hundredths of a percent, this one {0}")]
pub struct LevelError(u16);

impl TryFrom<u16> for Level {
    type Error = LevelError;
    fn try_from(hundredths: u16) -> Result<Self, LevelError> {
        if hundredths <= Self::ON.0 { Ok(Self(hundredths)) } else { Err(LevelError(hundredths)) }
    }
}

impl From<Level> for u16 {
    fn from(level: Level) -> Self {
        level.0
    }
}

impl Level {
    /// Off, 0 %.
    pub const OFF: Self = Self(0);
    /// On, 100 %.
    pub const ON: Self = Self(10_000);

    /// The level of a percentage; `None` outside 0 to 100 or not a number.
    pub fn from_percent(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 100.0).round() as u16))
    }

    /// ON or OFF.
    pub const fn switch(on: bool) -> Self {
        if on { Self::ON } else { Self::OFF }
    }

    /// 0 to 100.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Above zero.
    pub const fn is_on(self) -> bool {
        self.0 > 0
    }
}

impl fmt::Display for Level {
    /// The percentage without trailing zeros: `40`, `12.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.percent())
    }
}

/// What an output drives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Drive {
    /// A GPIO line: on or off.
    Switch {
        /// The line.
        line: LineId,
        /// Which level is ON.
        active: Active,
    },
    /// A PWM channel: 0 to 100 %.
    Pwm {
        /// The channel.
        channel: PwmId,
        /// Hertz.
        frequency_hz: u32,
        /// `Low` inverts the duty.
        active: Active,
    },
}

impl Drive {
    /// Whether levels between OFF and ON mean something.
    pub const fn is_pwm(&self) -> bool {
        matches!(self, Self::Pwm { .. })
    }
}

impl fmt::Display for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch { line, .. } => line.fmt(f),
            Self::Pwm { channel, .. } => channel.fmt(f),
        }
    }
}

/// How an output's line is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Driven to this level in the request itself, so that it never glitches.
    Level(Level),
    /// Taken over as it is found.
    Keep,
}
