//! Other people's payloads to numbers. They are hostile until parsed: anything but one finite number is refused.

use crate::quantity::Unit;
use serde::Deserialize;

/// The longest payload in bytes that is looked at.
pub const MAX_NUMBER: usize = 256;

/// Why a payload is no number. Never shows the payload itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// More than [`MAX_NUMBER`] bytes.
    #[error("the payload has {0} bytes, a number at most 256")]
    TooLong(usize),
    /// Not UTF-8, or it does not start with a decimal number, or the JSON is not an object with a number `value`.
    #[error("not a decimal number or a JSON object with `value`")]
    NotANumber,
    /// The number is beyond what a double can hold.
    #[error("the number is out of range")]
    OutOfRange,
    /// What follows the number, or the JSON's `unit`, is no unit.
    #[error("what follows the number is no unit")]
    UnknownUnit,
}

/// The number in a payload, and its unit where one is named.
///
/// Accepted: a decimal number (`30.5`, `1e3`), one with a unit after it in any spelling of [`Unit`] (`100 feet`, `75 F`,
/// `30.5m`), and a JSON object with a number `value` and perhaps a `unit` (a string or null; other members are passed
/// over). White space around is ignored. Refused: hexadecimal, `nan`, `inf`, anything else behind the number.
///
/// # Errors
/// [`NumberError`].
pub fn number(payload: &[u8]) -> Result<(f64, Option<Unit>), NumberError> {
    if payload.len() > MAX_NUMBER {
        return Err(NumberError::TooLong(payload.len()));
    }
    let text = std::str::from_utf8(payload).map_err(|_| NumberError::NotANumber)?.trim_ascii();
    let (value, unit) = if text.starts_with('{') {
        let object: Object<'_> = serde_json::from_str(text).map_err(|_| NumberError::NotANumber)?;
        (object.value, object.unit.unwrap_or_default())
    } else {
        let (digits, rest) = text.split_at(decimal_len(text.as_bytes()).ok_or(NumberError::NotANumber)?);
        (digits.parse().map_err(|_| NumberError::NotANumber)?, rest.trim_ascii_start().into())
    };
    if !value.is_finite() {
        return Err(NumberError::OutOfRange);
    }
    let unit = match Unit::parse(&unit) {
        Some(Unit::One) => None,
        Some(unit) => Some(unit),
        None => return Err(NumberError::UnknownUnit),
    };
    // Adding zero makes a negative zero a positive one.
    Ok((value + 0.0, unit))
}

#[derive(Deserialize)]
struct Object<'a> {
    value: f64,
    #[serde(borrow, default)]
    unit: Option<std::borrow::Cow<'a, str>>,
}

/// The length of the decimal number `text` starts with: a sign, digits with a point among, before or behind them, an exponent.
fn decimal_len(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let whole = digits(sign);
    let mut end = sign + whole;
    let mut fraction = 0;
    if text.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        end += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits((end + 1 + sign).min(text.len()));
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_units_and_objects() {
        for (text, value, unit) in [
            ("30.5", 30.5, None),
            (" -4\n", -4.0, None),
            ("+.5", 0.5, None),
            ("5.", 5.0, None),
            ("1e3", 1000.0, None),
            ("1E-2 m", 0.01, Some(Unit::Metre)),
            ("100 feet", 100.0, Some(Unit::Foot)),
            ("75 F", 75.0, Some(Unit::Fahrenheit)),
            ("21.5 °C", 21.5, Some(Unit::Celsius)),
            ("30.5m", 30.5, Some(Unit::Metre)),
            ("40 %", 40.0, Some(Unit::Percent)),
            (r#"{"value":30.5}"#, 30.5, None),
            (r#"{"value":30.5,"unit":""}"#, 30.5, None),
            (r#"{"value":3,"unit":null,"x":[1]}"#, 3.0, None),
            (r#"{"unit":"\u0068Pa","value":1e3,"time":"2026-01-31T12:00:00.250Z"}"#, 1000.0, Some(Unit::Hectopascal)),
        ] {
            assert_eq!(number(text.as_bytes()), Ok((value, unit)), "{text}");
        }
    }

    #[test]
    fn a_negative_zero_becomes_a_zero() {
        assert!(number(b"-0.0").expect("a number").0.is_sign_positive());
    }

    #[test]
    fn everything_else_is_refused() {
        use NumberError::{NotANumber, OutOfRange, UnknownUnit};
        for (text, error) in [
            ("", NotANumber),
            (".", NotANumber),
            ("-", NotANumber),
            ("e5", NotANumber),
            ("nan", NotANumber),
            ("NaN", NotANumber),
            ("inf", NotANumber),
            ("-infinity", NotANumber),
            ("0x10", UnknownUnit),
            ("1e", UnknownUnit),
            ("1e+", UnknownUnit),
            ("1,5", UnknownUnit),
            ("1 2", UnknownUnit),
            ("1.2.3", UnknownUnit),
            ("5 furlongs", UnknownUnit),
            ("5\0", UnknownUnit),
            ("1e999", OutOfRange),
            ("-1e999 m", OutOfRange),
            ("unavailable", NotANumber),
            ("[1]", NotANumber),
            ("\"1\"", NotANumber),
            ("{", NotANumber),
            ("{}", NotANumber),
            (r#"{"value":"1"}"#, NotANumber),
            (r#"{"value":null}"#, NotANumber),
            (r#"{"value":1e999}"#, NotANumber),
            (r#"{"value":1,"value":2}"#, NotANumber),
            (r#"{"value":1}x"#, NotANumber),
            (r#"{"value":1,"unit":"furlong"}"#, UnknownUnit),
        ] {
            assert_eq!(number(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(number(&[b'1'; 257]), Err(NumberError::TooLong(257)));
        assert_eq!(number(b"1\xff"), Err(NotANumber));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_finite_number_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((value, _)) = number(&payload) {
                prop_assert!(value.is_finite());
            }
        }

        #[test]
        fn near_numbers_never_break_it(text in "[-+0-9.eE{}\":a-z ]{0,20}") {
            if let Ok((value, _)) = number(text.as_bytes()) {
                prop_assert!(value.is_finite());
            }
        }

        #[test]
        fn what_readings_publish_is_understood(value in -1e9..1e9f64, quantity in prop::sample::select(crate::quantity::Quantity::ALL.to_vec()), json in any::<bool>()) {
            for unit in Unit::of(quantity) {
                let format = if json { crate::payload::Format::Json } else { crate::payload::Format::parse("{value} {unit}").expect("a template") };
                let facts = crate::payload::Facts { sensor: "s", quantity, unit: *unit, decimals: 3, when: crate::clock::Stamp::default().into() };
                let mut payload = Vec::new();
                format.encode(value, &facts, &mut payload);
                let (back, named) = number(&payload).expect("our own");
                prop_assert!((back - value).abs() <= 0.0006);
                prop_assert_eq!(named.unwrap_or(Unit::One), *unit);
            }
        }
    }
}
