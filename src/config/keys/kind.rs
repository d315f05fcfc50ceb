//! What a key may hold, in a form the reader checks against and people can read.
//!
//! It checks nothing itself. Invariant: the words printed and the limits checked are the same ones.

use crate::quantity::{Quantity, Unit};
use std::fmt;
use std::time::Duration;

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config) enum Kind {
    /// Any text.
    Text,
    /// `[A-Za-z0-9_-]+`
    Name,
    /// A topic, or a template of one.
    Topic,
    /// The same, or `none`.
    TopicOrNone,
    /// A path, relative to the file's folder.
    Path,
    /// `mqtt://`, `mqtts://`, `unix:`
    Server,
    /// MQTT's version.
    Protocol,
    /// A password, or where it is.
    Secret,
    /// `true` or `false`.
    Flag,
    /// A whole number, both ends included.
    Whole(i64, i64),
    /// An odd one.
    Odd(i64, i64),
    /// A 7-bit I2C address.
    Address,
    /// A finite number.
    Number,
    /// A finite number above or at zero.
    NotNegative,
    /// A finite number other than zero.
    NotZero,
    /// A duration, both ends included.
    Duration(Duration, Duration),
    /// Bytes, both ends included.
    Size(u64, u64),
    /// So many a second, both ends included.
    Rate(i64, i64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An output's level.
    Level,
    /// An output's level, or one of these words.
    LevelOr(&'static [&'static str]),
    /// A list of quantities.
    Quantities,
    /// A unit.
    Unit,
    /// A pressure with its unit, in hPa from and to.
    Pressure(f64, f64),
    /// A length with its unit, in m from and to.
    Length(f64, f64),
    /// Where the sea-level pressure comes from.
    SeaLevel,
    /// A GPIO line.
    Line,
    /// A GPIO line by name.
    LineName,
    /// A list of outputs.
    Names,
    /// A curve.
    Curve,
    /// `keep`, or a table.
    KeepOr,
    /// A table.
    Table,
}

impl fmt::Display for Kind {
    /// Follows "must be".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a string"),
            Self::Name => f.write_str("a name of letters, digits, `_` and `-`"),
            Self::Topic => f.write_str("a topic"),
            Self::TopicOrNone => f.write_str("a topic, or \"none\""),
            Self::Path => f.write_str("a path"),
            Self::Server => f.write_str("an address such as \"mqtt://HOST\", \"mqtts://HOST:8883\" or \"unix:/PATH\""),
            Self::Protocol => f.write_str("\"3.1.1\""),
            Self::Secret => {
                f.write_str("a string, or one of { file = \"…\" }, { env = \"…\" }, { credential = \"…\" }")
            }
            Self::Flag => f.write_str("true or false"),
            Self::Whole(min, max) => write!(f, "a whole number from {min} to {max}"),
            Self::Odd(min, max) => write!(f, "an odd whole number from {min} to {max}"),
            Self::Address => f.write_str("an address from 0x03 to 0x77"),
            Self::Number => f.write_str("a number"),
            Self::NotNegative => f.write_str("a number that is not negative"),
            Self::NotZero => f.write_str("a number other than 0"),
            Self::Duration(min, max) => {
                write!(f, "a duration from {} to {}", show_duration(*min), show_duration(*max))
            }
            Self::Size(min, max) => write!(f, "a size from {} to {}", show_size(*min), show_size(*max)),
            Self::Rate(min, max) => write!(f, "a rate from \"{min}/s\" to \"{max}/s\""),
            Self::Choice(words) => list(f, words),
            Self::Level => f.write_str("\"on\", \"off\", or with `pwm` a percentage from 0 to 100"),
            Self::LevelOr(words) => {
                for word in *words {
                    write!(f, "\"{word}\", ")?;
                }
                Self::Level.fmt(f)
            }
            Self::Quantities => {
                write!(f, "a list of quantities ({})", Quantity::ALL.map(Quantity::name).join(", "))
            }
            Self::Unit => {
                let symbols = Quantity::ALL.into_iter().flat_map(Unit::of).map(|unit| unit.symbol());
                let symbols: Vec<_> = symbols.filter(|symbol| !symbol.is_empty()).collect();
                write!(f, "a unit ({})", symbols.join(", "))
            }
            Self::Pressure(min, max) => write!(f, "a pressure from \"{min} hPa\" to \"{max} hPa\""),
            Self::Length(min, max) => write!(f, "a height from \"{min} m\" to \"{max} m\""),
            Self::SeaLevel => {
                f.write_str("a pressure from \"800 hPa\" to \"1100 hPa\", { topic = … } or { known_elevation = … }")
            }
            Self::Line => f.write_str("a line's name, or { chip = \"…\", offset = … }"),
            Self::LineName => f.write_str("a line's name"),
            Self::Names => f.write_str("a list of names of other outputs"),
            Self::Curve => f.write_str("a list of 2 to 32 points [value, percent]"),
            Self::KeepOr => f.write_str("\"keep\", or { after = \"…\" }"),
            Self::Table => f.write_str("a table"),
        }
    }
}

/// `"a"`; `"a" or "b"`; `"a", "b" or "c"`.
fn list(f: &mut fmt::Formatter<'_>, words: &[&str]) -> fmt::Result {
    for (index, word) in words.iter().enumerate() {
        let before = match index {
            0 => "",
            _ if index + 1 == words.len() => " or ",
            _ => ", ",
        };
        write!(f, "{before}\"{word}\"")?;
    }
    Ok(())
}

/// A duration as the configuration spells it, in the largest unit that leaves no rest.
fn show_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let ms = duration.as_millis();
    UNITS.iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)).map_or_else(
        || if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") },
        |(unit, name)| format!("{}{name}", ms / unit),
    )
}

/// A size as the configuration spells it, in the largest unit that leaves no rest.
fn show_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    UNITS
        .iter()
        .find(|(unit, _)| bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes}B"), |(unit, name)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_shown_as_people_write_them() {
        let shown: Vec<_> = [0, 10, 1_000, 1_500, 60_000, 64_800_000, 86_400_000, 604_800_000]
            .map(|ms| show_duration(Duration::from_millis(ms)))
            .into();
        assert_eq!(shown, ["0s", "10ms", "1s", "1500ms", "1m", "18h", "1d", "7d"]);
        assert_eq!([1, 65_536, 1 << 26, 1 << 36].map(show_size), ["1B", "64KiB", "64MiB", "64GiB"]);
    }

    #[test]
    fn choices_read_as_a_sentence() {
        assert_eq!(Kind::Choice(&["a"]).to_string(), "\"a\"");
        assert_eq!(Kind::Choice(&["a", "b", "c"]).to_string(), "\"a\", \"b\" or \"c\"");
    }
}
