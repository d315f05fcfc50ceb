//! Payloads to commands: a word, a number, or a JSON object.

use super::{Command, MAX_HOLD, MAX_ID, MAX_PAYLOAD, Malformed, Refusal, Wish};
use crate::clock::Wall;
use crate::line::Level;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

const WISH_OF_A_SWITCH: &str = "not a command, allowed are ON, OFF, TOGGLE, AUTO, 1, 0, true, false and a JSON object";
const WISH_OF_A_PWM: &str = "not a command, allowed are ON, OFF, TOGGLE, AUTO, true, false, 0 to 100 and a JSON object";

/// Parses a command; `pwm` tells whether the output has levels: there every number is a percentage, `1` too.
///
/// Plain: `ON`, `OFF`, `TOGGLE`, `AUTO`, `true`, `false` in any case, `1` and `0` on a switch, a percentage on PWM.
/// JSON: an object with `state` (a word or value from the list before) or, on PWM, `level` (a number), and optionally
/// `for` (a duration such as `"5s"`, up to [`MAX_HOLD`], not with `AUTO`), `id` (any scalar, up to [`MAX_ID`] bytes)
/// and `expires` (RFC 3339, UTC). A misspelt `expires` must not make a late command valid, hence unknown members are refused.
///
/// # Errors
/// [`Malformed`], with the `id` where there is one to answer to.
pub fn parse(payload: &[u8], pwm: bool) -> Result<Command, Malformed> {
    let refuse = |refusal, detail| Err(Malformed { refusal, id: None, detail });
    if payload.len() > MAX_PAYLOAD {
        return refuse(Refusal::Oversize, "a command has at most 4096 bytes");
    }
    let Ok(text) = std::str::from_utf8(payload) else {
        return refuse(Refusal::Malformed, "not UTF-8");
    };
    let text = text.trim_ascii();
    if text.starts_with('{') {
        return match serde_json::from_str::<Members>(text) {
            Ok(members) => members.into_command(pwm),
            Err(_) => refuse(Refusal::Malformed, "not a JSON object"),
        };
    }
    match word(text, pwm) {
        Some(wish) => Ok(Command { wish, hold: None, id: None, expires: None }),
        None => refuse(Refusal::Malformed, not_a_wish(pwm)),
    }
}

const fn not_a_wish(pwm: bool) -> &'static str {
    if pwm { WISH_OF_A_PWM } else { WISH_OF_A_SWITCH }
}

/// The wish a word or a plain number stands for.
fn word(text: &str, pwm: bool) -> Option<Wish> {
    const WORDS: [(&str, Wish); 6] = [
        ("on", Wish::On),
        ("off", Wish::Off),
        ("toggle", Wish::Toggle),
        ("auto", Wish::Auto),
        ("true", Wish::On),
        ("false", Wish::Off),
    ];
    if let Some((_, wish)) = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
        return Some(*wish);
    }
    match (pwm, text) {
        (true, _) => text.parse().ok().and_then(Level::from_percent).map(Wish::Level),
        (false, "1") => Some(Wish::On),
        (false, "0") => Some(Wish::Off),
        (false, _) => None,
    }
}

/// The members of a command object as they came. Collected even when something is wrong, so that `id` is known.
#[derive(Default)]
struct Members {
    state: Option<Value>,
    level: Option<Value>,
    hold: Option<Value>,
    id: Option<Value>,
    expires: Option<Value>,
    fault: Option<&'static str>,
}

impl Members {
    fn slot(&mut self, name: &str) -> Option<&mut Option<Value>> {
        match name {
            "state" => Some(&mut self.state),
            "level" => Some(&mut self.level),
            "for" => Some(&mut self.hold),
            "id" => Some(&mut self.id),
            "expires" => Some(&mut self.expires),
            _ => None,
        }
    }

    fn into_command(mut self, pwm: bool) -> Result<Command, Malformed> {
        let id = self.id.take();
        let has_usable_id = id.as_ref().is_none_or(is_usable_id);
        let parsed = match self.fault {
            Some(fault) => Err(fault),
            None if !has_usable_id => Err("`id` must be a string, number, true, false or null of at most 256 bytes"),
            None => self.fields(pwm),
        };
        let id = id.filter(|_| has_usable_id);
        match parsed {
            Ok((wish, hold, expires)) => Ok(Command { wish, hold, id, expires }),
            Err(detail) => Err(Malformed { refusal: Refusal::Malformed, id, detail }),
        }
    }

    fn fields(&self, pwm: bool) -> Result<(Wish, Option<Duration>, Option<Wall>), &'static str> {
        let wish = match (&self.state, &self.level) {
            (Some(state), None) => state_wish(state, pwm).ok_or(not_a_wish(pwm))?,
            (None, Some(level)) => level_wish(level, pwm)?,
            (Some(_), Some(_)) => return Err("`state` and `level` exclude each other"),
            (None, None) => return Err("neither `state` nor `level`"),
        };
        let hold = self.hold.as_ref().map(hold_duration).transpose()?;
        if wish == Wish::Auto && hold.is_some() {
            return Err("`for` has no meaning with AUTO");
        }
        let expires = self.expires.as_ref().map(date).transpose()?;
        Ok((wish, hold, expires))
    }
}

fn is_usable_id(id: &Value) -> bool {
    let is_scalar = !matches!(id, Value::Array(_) | Value::Object(_));
    is_scalar && id.to_string().len() <= MAX_ID
}

fn state_wish(state: &Value, pwm: bool) -> Option<Wish> {
    match state {
        Value::String(text) => word(text.trim_ascii(), pwm),
        Value::Bool(on) => Some(if *on { Wish::On } else { Wish::Off }),
        Value::Number(number) => word(&number.to_string(), pwm),
        _ => None,
    }
}

fn level_wish(level: &Value, pwm: bool) -> Result<Wish, &'static str> {
    if !pwm {
        return Err("`level` belongs to PWM outputs, this one is a switch");
    }
    level.as_f64().and_then(Level::from_percent).map(Wish::Level).ok_or("`level` must be a number from 0 to 100")
}

fn hold_duration(hold: &Value) -> Result<Duration, &'static str> {
    hold.as_str()
        .and_then(|text| humantime::parse_duration(text).ok())
        .filter(|duration| !duration.is_zero() && *duration <= MAX_HOLD)
        .ok_or("`for` must be a duration such as \"5s\", above zero, at most 365 days")
}

fn date(expires: &Value) -> Result<Wall, &'static str> {
    expires.as_str().and_then(Wall::parse).ok_or("`expires` must be an RFC 3339 date in UTC")
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<String>()? {
            match members.slot(&name) {
                Some(slot @ None) => *slot = Some(map.next_value()?),
                Some(Some(_)) => {
                    map.next_value::<IgnoredAny>()?;
                    members.fault = Some("a member is given twice");
                    // Which of two would the sender recognise?
                    if name == "id" {
                        members.id = Some(Value::Array(Vec::new()));
                    }
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                    members.fault = Some("unknown member, allowed are `state`, `level`, `for`, `id` and `expires`");
                }
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn wish(text: &str, pwm: bool) -> Option<Wish> {
        parse(text.as_bytes(), pwm).ok().map(|command| command.wish)
    }

    fn percent(percent: f64) -> Option<Wish> {
        Level::from_percent(percent).map(Wish::Level)
    }

    #[test]
    fn words_in_any_case() {
        for pwm in [false, true] {
            for (text, expected) in [
                ("ON", Wish::On),
                ("on", Wish::On),
                ("oFf\n", Wish::Off),
                (" Toggle ", Wish::Toggle),
                ("auto", Wish::Auto),
                ("True", Wish::On),
                ("FALSE", Wish::Off),
                (r#"{"state":"on"}"#, Wish::On),
                (r#"{"state":true}"#, Wish::On),
                (r#"{"state":"AUTO"}"#, Wish::Auto),
            ] {
                assert_eq!(wish(text, pwm), Some(expected), "{text} pwm {pwm}");
            }
        }
    }

    #[test]
    fn numbers_are_percent_on_pwm_and_truth_on_a_switch() {
        assert_eq!(wish("1", false), Some(Wish::On));
        assert_eq!(wish("0", false), Some(Wish::Off));
        assert_eq!(wish(r#"{"state":1}"#, false), Some(Wish::On));
        assert_eq!(wish("1", true), percent(1.0));
        assert_eq!(wish("0", true), percent(0.0));
        assert_eq!(wish("-0", true), percent(0.0));
        assert_eq!(wish("12.345", true), percent(12.345));
        assert_eq!(wish(r#"{"level":40}"#, true), percent(40.0));
        assert_eq!(wish(r#"{"state":40}"#, true), percent(40.0));
        for refused in ["2", "40", "1.0", "-1", r#"{"level":40}"#, r#"{"state":40}"#] {
            assert_eq!(wish(refused, false), None, "{refused} on a switch");
        }
        for refused in
            ["nan", "inf", "-inf", "infinity", "1e999", "100.01", "-0.01", "0x10", "40 %", r#"{"level":"40"}"#]
        {
            assert_eq!(wish(refused, true), None, "{refused} on PWM");
        }
    }

    #[test]
    fn every_member_of_the_object() {
        let text = r#" {"state":"ON","for":"1m 30s","id":"a-1","expires":"2026-01-31T12:00:00Z"} "#;
        let expected = Command {
            wish: Wish::On,
            hold: Some(Duration::from_secs(90)),
            id: Some(json!("a-1")),
            expires: Wall::parse("2026-01-31T12:00:00Z"),
        };
        assert_eq!(parse(text.as_bytes(), false), Ok(expected));
    }

    #[test]
    fn malformed_commands_keep_their_id() {
        for text in [
            r#"{"id":7,"state":"MAYBE"}"#,
            r#"{"id":7}"#,
            r#"{"id":7,"state":"ON","level":1}"#,
            r#"{"id":7,"state":"ON","expire":"2026-01-31T12:00:00Z"}"#,
            r#"{"id":7,"state":"ON","state":"OFF"}"#,
            r#"{"id":7,"state":"ON","for":"0s"}"#,
            r#"{"id":7,"state":"ON","for":"366days"}"#,
            r#"{"id":7,"state":"ON","for":5}"#,
            r#"{"id":7,"state":"ON","for":"-5s"}"#,
            r#"{"id":7,"state":"AUTO","for":"5s"}"#,
            r#"{"id":7,"state":"ON","expires":"tomorrow"}"#,
            r#"{"id":7,"state":"ON","expires":null}"#,
            r#"{"id":7,"state":null}"#,
        ] {
            let malformed = parse(text.as_bytes(), true).expect_err(text);
            assert_eq!((malformed.refusal, malformed.id), (Refusal::Malformed, Some(json!(7))), "{text}");
        }
    }

    #[test]
    fn ids_are_short_scalars() {
        let with = |id: &str| parse(format!(r#"{{"state":"ON","id":{id}}}"#).as_bytes(), false);
        for id in ["\"x\"", "1.5", "true", "null", &format!("\"{}\"", "x".repeat(254))] {
            assert_eq!(with(id).expect(id).id, Some(serde_json::from_str(id).expect("JSON")));
        }
        for id in ["[1]", "{}", &format!("\"{}\"", "x".repeat(255)), "1,\"id\":2"] {
            assert_eq!(with(id).expect_err(id).id, None, "{id}");
        }
    }

    #[test]
    fn hostile_payloads_are_refused() {
        let bomb = format!("{{\"state\":{}", "[".repeat(4000));
        let closed_bomb = format!("{{\"x\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
        for text in [
            "",
            " ",
            "\0",
            "ON\0",
            "O N",
            "\"ON\"",
            "[\"ON\"]",
            "{",
            "{}",
            "{\"state\":\"ON\"}x",
            "null",
            &bomb,
            &closed_bomb,
        ] {
            assert_eq!(parse(text.as_bytes(), true).expect_err(text).refusal, Refusal::Malformed, "{text:.40}");
        }
        assert_eq!(parse(b"\xff\xfe", false).expect_err("no text").refusal, Refusal::Malformed);
        assert_eq!(parse(&[b' '; MAX_PAYLOAD + 1], false).expect_err("long").refusal, Refusal::Oversize);
        let padded = format!("ON{}", " ".repeat(MAX_PAYLOAD - 2));
        assert_eq!(wish(&padded, false), Some(Wish::On));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_command_or_a_refusal(payload in prop::collection::vec(any::<u8>(), 0..200), pwm in any::<bool>()) {
            if let Ok(command) = parse(&payload, pwm) {
                prop_assert!(pwm || !matches!(command.wish, Wish::Level(_)));
            }
        }

        #[test]
        fn objects_close_to_commands_never_break_it(
            name in prop::sample::select(vec!["state", "level", "for", "id", "expires", "States"]),
            value in prop::sample::select(vec!["1", "-1e400", "\"ON\"", "\"5s\"", "\"9999999999y\"", "[]", "null", "\"\\ud800\"", "1e308", "{\"a\":1}"]),
            pwm in any::<bool>(),
        ) {
            let text = format!(r#"{{"state":"ON","{name}":{value}}}"#);
            if let Ok(command) = parse(text.as_bytes(), pwm) {
                prop_assert_eq!(command.wish, Wish::On);
                prop_assert!(command.hold.is_none_or(|hold| hold <= MAX_HOLD));
            }
        }

        #[test]
        fn percentages_come_back(hundredths in 0u16..=10_000) {
            let value = f64::from(hundredths) / 100.0;
            prop_assert_eq!(wish(&value.to_string(), true), percent(value));
        }
    }
}
