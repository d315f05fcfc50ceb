//! What to tell somebody whose key or value is not allowed: the nearest allowed word, an example, the place it belongs to.
//!
//! It decides nothing. Invariant: no remedy repeats a value that may be secret.

use super::keys::{Kind, Section};
use super::tree::{Data, escape};
use super::values::server;
use super::{Diagnostic, Located, Origin};
use crate::quantity::{Quantity, Unit};

/// The allowed word somebody may have meant by `word`.
pub(super) fn nearest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let distance = |candidate: &str| strsim::osa_distance(&word, &candidate.to_ascii_lowercase().replace('-', "_"));
    let tolerated = |candidate: &str| (candidate.chars().count() / 3).max(1);
    allowed
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= tolerated(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "unknown key `adress` in [sensors.barometer]", with the nearest and all allowed ones; `place` is empty for the file itself.
///
/// Whoever knows more keys than this module (a driver's options) says it in the same words with this.
pub fn unknown_key(place: &str, key: &Located<String>, allowed: &[&str]) -> Diagnostic {
    unknown(&place_name(place), &key.value, &key.origin, allowed)
}

fn unknown(place: &str, key: &str, origin: &Origin, allowed: &[&str]) -> Diagnostic {
    let meant =
        nearest(key, allowed.iter().copied()).map(|word| format!("did you mean `{word}`? ")).unwrap_or_default();
    Diagnostic::fault(origin, format!("unknown key `{}` {place}", escape(key)))
        .help(format!("{meant}allowed here: {}", allowed.join(", ")))
}

/// The same for a table of the key table.
pub(super) fn unknown_in(section: &Section, place: &str, key: &str, origin: &Origin) -> Diagnostic {
    unknown(&place_name(place), key, origin, &section.names())
}

/// "in [mqtt.tls]", or "in the file".
pub(super) fn place_name(place: &str) -> String {
    if place.is_empty() { "in the file".to_owned() } else { format!("in [{place}]") }
}

/// What was found, or only its type where it may be a secret.
pub(super) fn found(data: &Data, kind: Kind) -> String {
    let secret = match kind {
        Kind::Secret => true,
        Kind::Server => data.text().is_some_and(|text| text.contains('@')),
        _ => false,
    };
    if secret { data.noun().to_owned() } else { data.to_string() }
}

/// How a value of that kind is written.
pub(super) fn remedy(data: &Data, kind: Kind) -> Option<String> {
    match (kind, data) {
        (Kind::Choice(words), Data::Text(text)) => did_you_mean(text, words.iter().copied()),
        (Kind::LevelOr(words), Data::Text(text)) => did_you_mean(text, words.iter().copied().chain(["on", "off"])),
        (Kind::Level, Data::Text(text)) => did_you_mean(text, ["on", "off"]),
        (Kind::KeepOr, Data::Text(text)) if humantime::parse_duration(text).is_ok() => {
            Some(format!("write {{ after = \"{}\" }}", escape(text)))
        }
        (Kind::Protocol, Data::Text(text)) if text.starts_with('5') => Some("MQTT 5 comes later".to_owned()),
        (Kind::Server, Data::Text(text)) => server(text).err(),
        (Kind::Duration(..), Data::Whole(_) | Data::Number(_)) => {
            Some("a duration is a string with a unit: \"500ms\", \"10s\", \"5m\", \"3h\", \"7d\"".to_owned())
        }
        (Kind::Duration(..), Data::Text(text)) if humantime::parse_duration(text).is_err() => {
            Some("durations are written like \"500ms\", \"10s\", \"5m\", \"3h\", \"7d\"".to_owned())
        }
        (Kind::Size(..), _) => Some("sizes are written like \"512KiB\", \"64MiB\", \"1GiB\"".to_owned()),
        (Kind::Rate(..), _) => Some("rates are written like \"200/s\"".to_owned()),
        (Kind::Pressure(..) | Kind::SeaLevel, Data::Whole(_) | Data::Number(_) | Data::Text(_)) => {
            Some("pressures are written with their unit: \"1013.25 hPa\", \"29.92 inHg\"".to_owned())
        }
        (Kind::Length(..), _) => Some("heights are written with their unit: \"35 m\", \"115 ft\"".to_owned()),
        (Kind::Line | Kind::LineName, Data::Whole(_)) => {
            Some("name the line as the board does, such as \"GPIO17\" or \"P9_12\"".to_owned())
        }
        (Kind::Unit, Data::Text(text)) => unit_remedy(text),
        (Kind::Flag, Data::Text(text)) if matches!(text.as_str(), "true" | "false") => {
            Some(format!("write {text} without quotes"))
        }
        (Kind::Address, Data::Text(_)) => Some("an address is a number without quotes, such as 0x76".to_owned()),
        (Kind::Whole(..) | Kind::Odd(..) | Kind::Number | Kind::NotNegative | Kind::NotZero, Data::Text(text))
            if text.parse::<f64>().is_ok() =>
        {
            Some("write the number without quotes".to_owned())
        }
        _ => None,
    }
}

/// "did you mean `x`?"
fn did_you_mean<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, allowed).map(|word| format!("did you mean \"{word}\"?"))
}

/// The unit spelled so but for its case.
fn unit_remedy(text: &str) -> Option<String> {
    let mut all = Quantity::ALL.into_iter().flat_map(Unit::of).flat_map(|unit| unit.spellings());
    let meant = all.find(|spelling| spelling.eq_ignore_ascii_case(text))?;
    Some(format!("did you mean \"{meant}\"?"))
}

/// "quantities are …"
pub(super) fn quantity_names() -> String {
    format!("quantities are {}", Quantity::ALL.map(Quantity::name).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_recognised_and_strangers_are_not() {
        let words = ["address", "bus", "deadline", "keep_alive"];
        assert_eq!(nearest("adress", words), Some("address"));
        assert_eq!(nearest("KEEP-ALIVE", words), Some("keep_alive"));
        assert_eq!(nearest("bsu", words), Some("bus"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest(&"a".repeat(1_000), words), None);
    }

    #[test]
    fn a_secret_is_named_by_its_type_alone() {
        let secret = Data::Text("hunter2".into());
        assert_eq!(found(&secret, Kind::Secret), "a string");
        assert_eq!(found(&Data::Text("mqtt://pi:hunter2@x".into()), Kind::Server), "a string");
        assert_eq!(found(&secret, Kind::Text), "\"hunter2\"");
    }
}
