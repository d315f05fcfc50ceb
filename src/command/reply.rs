//! What is answered to a command, and how a level is written on a state topic.

use super::Refusal;
use crate::line::Level;
use serde_json::Value;
use std::borrow::Cow;
use std::io::Write;

/// The answer to one command, as DESIGN's `{"id":…,"outcome":…,"state":…,"reason":…}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The command's; left out where it had none.
    pub id: Option<Value>,
    /// Why it was refused, or `None` when it was done.
    pub refusal: Option<Refusal>,
    /// The output's level after it; left out where it is not known.
    pub state: Option<Level>,
    /// Whether the state is a percentage.
    pub pwm: bool,
}

impl Reply {
    /// Appends the JSON object to `into`: `state` is `"ON"`, `"OFF"`, or on PWM a number; absent members are left out.
    pub fn encode(&self, into: &mut Vec<u8>) {
        const TO_MEMORY: &str = "writing to memory succeeds";
        into.push(b'{');
        if let Some(id) = &self.id {
            write!(into, "\"id\":{id},").expect(TO_MEMORY);
        }
        let outcome = if self.refusal.is_some() { "refused" } else { "done" };
        write!(into, "\"outcome\":\"{outcome}\"").expect(TO_MEMORY);
        if let Some(level) = self.state {
            let quote = if self.pwm { "" } else { "\"" };
            write!(into, ",\"state\":{quote}{}{quote}", state_text(level, self.pwm)).expect(TO_MEMORY);
        }
        if let Some(refusal) = self.refusal {
            write!(into, ",\"reason\":\"{}\"", refusal.as_str()).expect(TO_MEMORY);
        }
        into.push(b'}');
    }
}

/// The payload of a state topic: `ON` or `OFF`, on PWM the percentage without trailing zeros.
pub fn state_text(level: Level, pwm: bool) -> Cow<'static, str> {
    match (pwm, level.is_on()) {
        (true, _) => Cow::Owned(level.to_string()),
        (false, true) => Cow::Borrowed("ON"),
        (false, false) => Cow::Borrowed("OFF"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn encoded(reply: &Reply) -> String {
        let mut into = Vec::new();
        reply.encode(&mut into);
        String::from_utf8(into).expect("text")
    }

    #[test]
    fn replies_are_the_documented_objects() {
        let done = Reply { id: Some(json!("a\"1")), refusal: None, state: Some(Level::ON), pwm: false };
        assert_eq!(encoded(&done), r#"{"id":"a\"1","outcome":"done","state":"ON"}"#);
        let refused = Reply { id: None, refusal: Some(Refusal::MaxOn), state: Level::from_percent(12.5), pwm: true };
        assert_eq!(encoded(&refused), r#"{"outcome":"refused","state":12.5,"reason":"max-on"}"#);
        let unknown = Reply { id: Some(Value::Null), refusal: Some(Refusal::Hardware), state: None, pwm: false };
        assert_eq!(encoded(&unknown), r#"{"id":null,"outcome":"refused","reason":"hardware"}"#);
        assert!(serde_json::from_str::<Value>(&encoded(&done)).is_ok());
    }

    #[test]
    fn states_are_words_or_percentages() {
        assert_eq!(state_text(Level::ON, false), "ON");
        assert_eq!(state_text(Level::OFF, false), "OFF");
        assert_eq!(state_text(Level::ON, true), "100");
        assert_eq!(state_text(Level::OFF, true), "0");
    }
}
