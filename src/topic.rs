//! MQTT topics, filters, qualities of service, and the templates the configuration writes topics with. No I/O.

use std::fmt;

/// MQTT's quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// 0: at most once.
    AtMostOnce,
    /// 1: at least once.
    #[default]
    AtLeastOnce,
    /// 2: exactly once.
    ExactlyOnce,
}

impl QoS {
    /// The level of that number.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// 0, 1 or 2.
    pub const fn level(self) -> u8 {
        self as u8
    }
}

/// The longest topic in bytes (MQTT 3.1.1, 1.5.3).
pub const MAX_TOPIC_LEN: usize = 65_535;

/// What is wrong with a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing is left of it.
    #[error("a topic must not be empty")]
    Empty,
    /// More than 65,535 bytes.
    #[error("a topic has at most 65535 bytes, this one {0}")]
    TooLong(usize),
    /// `+` and `#` belong to filters.
    #[error("a topic must not contain the wildcard `{0}`")]
    Wildcard(char),
    /// U+0000 and control characters are not allowed.
    #[error("a topic must not contain the control character U+{0:04X}")]
    Control(u32),
    /// Topics that start with `$` belong to the server.
    #[error("a topic must not start with `$`, such topics belong to the server")]
    Dollar,
    /// `{name}` with a name no template knows here.
    #[error("unknown field `{{{name}}}`, allowed here: {allowed}")]
    UnknownField {
        /// What was found.
        name: String,
        /// What may stand there.
        allowed: String,
    },
    /// A `{` without its `}`.
    #[error("`{{` without `}}`")]
    Unclosed,
    /// A topic template that refers to itself.
    #[error("the template refers to itself through `{{{0}}}`")]
    Cycle(String),
}

/// Checks a topic to publish on or to follow (MQTT 3.1.1, 4.7), stricter than the standard in refusing control characters.
pub fn validate(topic: &str) -> Result<(), TopicError> {
    if topic.is_empty() {
        return Err(TopicError::Empty);
    }
    if topic.len() > MAX_TOPIC_LEN {
        return Err(TopicError::TooLong(topic.len()));
    }
    if topic.starts_with('$') {
        return Err(TopicError::Dollar);
    }
    match topic.chars().find(|c| matches!(c, '+' | '#') || c.is_control()) {
        Some(c @ ('+' | '#')) => Err(TopicError::Wildcard(c)),
        Some(c) => Err(TopicError::Control(c as u32)),
        None => Ok(()),
    }
}

/// A piece of a template: literal text or a `{field}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// The name between the braces.
    Field(String),
}

/// Splits `text` at its `{field}`s and checks each name against `allowed`; `{{` and `}}` are the braces themselves.
///
/// # Errors
/// [`TopicError::Unclosed`] and [`TopicError::UnknownField`].
pub fn parse_template(text: &str, allowed: &[&str]) -> Result<Vec<Piece>, TopicError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(brace) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(brace);
        literal.push_str(before);
        if from.starts_with("{{") || from.starts_with("}}") {
            literal.push_str(&from[..1]);
            rest = &from[2..];
        } else if let Some(after) = from.strip_prefix('}') {
            literal.push('}');
            rest = after;
        } else {
            let close = from.find('}').ok_or(TopicError::Unclosed)?;
            let field = checked_field(&from[1..close], allowed)?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(field);
            rest = &from[close + 1..];
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

fn checked_field(name: &str, allowed: &[&str]) -> Result<Piece, TopicError> {
    if allowed.contains(&name) {
        return Ok(Piece::Field(name.to_owned()));
    }
    let allowed = allowed.iter().map(|a| format!("{{{a}}}")).collect::<Vec<_>>().join(" ");
    Err(TopicError::UnknownField { name: name.to_owned(), allowed })
}

/// Renders a template; `field` gives each field's text.
pub fn render(pieces: &[Piece], mut field: impl FnMut(&str) -> String) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Field(name) => field(name),
        })
        .collect()
}

impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.level().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_checked() {
        assert_eq!(validate("sensors/drone01/altitude"), Ok(()));
        assert_eq!(validate(""), Err(TopicError::Empty));
        assert_eq!(validate("a/+/b"), Err(TopicError::Wildcard('+')));
        assert_eq!(validate("a/#"), Err(TopicError::Wildcard('#')));
        assert_eq!(validate("a\0b"), Err(TopicError::Control(0)));
        assert_eq!(validate("$SYS/x"), Err(TopicError::Dollar));
        assert_eq!(validate(&"a".repeat(65_536)), Err(TopicError::TooLong(65_536)));
    }

    #[test]
    fn templates_know_their_fields() {
        let pieces = parse_template("{base}/{sensor}", &["base", "sensor"]).expect("a template");
        assert_eq!(render(&pieces, |field| field.to_uppercase()), "BASE/SENSOR");
        assert!(matches!(parse_template("{bse}", &["base"]), Err(TopicError::UnknownField { .. })));
        assert_eq!(parse_template("{base", &["base"]), Err(TopicError::Unclosed));
    }

    #[test]
    fn doubled_braces_are_braces() {
        let rendered = |text| render(&parse_template(text, &["value"]).expect("a template"), |_| "3".to_owned());
        assert_eq!(rendered(r#"{{"v":{value}}}"#), r#"{"v":3}"#);
        assert_eq!(rendered("a}b"), "a}b");
        assert_eq!(rendered("{{{{"), "{{");
        assert_eq!(rendered(""), "");
    }
}
