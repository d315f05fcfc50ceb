//! Payloads that no documentation calls a command, from a generator with a fixed seed, judged by an oracle of our own:
//! whatever might be a command by its words is left out, even if the agent would refuse it.

use serde_json::Value;

/// Whether the documentation might call this a command, on a switch or on a dimmer.
fn might_be_a_command(payload: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(payload) else { return false };
    let text = text.trim().to_ascii_lowercase();
    let words = ["on", "off", "toggle", "auto", "true", "false"];
    if words.contains(&text.as_str()) || text.parse::<f64>().is_ok_and(|number| (0.0..=100.0).contains(&number)) {
        return true;
    }
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(&text) else { return false };
    let known = ["state", "level", "for", "id", "expires"];
    let plain = object.keys().all(|key| known.contains(&key.as_str()));
    plain && (object.contains_key("state") != object.contains_key("level"))
}

/// Payloads that are no commands, one after the other.
pub struct Hostile {
    random: fastrand::Rng,
}

impl Hostile {
    /// The same seed gives the same payloads.
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    /// A number below `limit`.
    pub fn pick(&mut self, limit: usize) -> usize {
        self.random.usize(..limit)
    }

    /// The next one.
    pub fn next(&mut self) -> Vec<u8> {
        loop {
            let payload = match self.random.u8(0..8) {
                0 => self.bytes(),
                1 => self.near_word(),
                2 | 3 => self.mutation(),
                4 => self.wrong_object(),
                5 => self.deep(),
                6 => self.number(),
                _ => self.large(),
            };
            if !might_be_a_command(&payload) {
                return payload;
            }
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.random.usize(0..64);
        (0..length).map(|_| self.random.u8(..)).collect()
    }

    fn near_word(&mut self) -> Vec<u8> {
        let near: [&[u8]; 12] = [
            b"ON\0",
            b"\0ON",
            b"O N",
            b"ON OFF",
            b"\"ON\"",
            b"ONN",
            b"\xef\xbb\xbfON",
            b"0N",
            b"ON\xff",
            b"yes",
            "\u{ff2f}\u{ff2e}".as_bytes(),
            b"ON;OFF",
        ];
        near[self.random.usize(..near.len())].to_vec()
    }

    /// A command with a few bytes changed, lost, doubled or swapped.
    fn mutation(&mut self) -> Vec<u8> {
        let commands = [
            "ON",
            "toggle",
            "40",
            r#"{"state":"ON"}"#,
            r#"{"level":40,"for":"1m"}"#,
            r#"{"state":"ON","for":"5s","id":"a","expires":"2099-01-01T00:00:00Z"}"#,
        ];
        let mut bytes = commands[self.random.usize(..commands.len())].as_bytes().to_vec();
        for _ in 0..self.random.usize(1..4) {
            let at = self.random.usize(..bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match self.random.u8(0..5) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.random.u8(0..8),
                1 if !bytes.is_empty() => drop(bytes.remove(at)),
                2 => bytes.insert(at, self.random.u8(..)),
                3 => bytes.truncate(at),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    }

    /// Well-formed JSON, none of it a command: refused for what it says.
    fn wrong_object(&mut self) -> Vec<u8> {
        let objects = [
            r#"{"state":"ON","level":40}"#,
            r#"{"state":"ON","expire":"2099-01-01T00:00:00Z"}"#,
            r#"{"State":"ON"}"#,
            r#"{"id":1}"#,
            r#"{"":""}"#,
            r#"[{"state":"ON"}]"#,
            r#"{"state":"ON"}{"state":"ON"}"#,
            r#"{"cmd":{"state":"ON"}}"#,
            r#"{"__proto__":{"state":"ON"},"for":"1s"}"#,
            r#"{"level":40,"min":0}"#,
        ];
        objects[self.random.usize(..objects.len())].as_bytes().to_vec()
    }

    fn deep(&mut self) -> Vec<u8> {
        let depth = self.random.usize(1..1_500);
        let (open, close) = [("[", "]"), ("{\"a\":", "}"), ("{\"state\":", "}")][self.random.usize(..3)];
        let end = if self.random.bool() { close.repeat(depth) } else { String::new() };
        // One level alone might be a command.
        format!("{}[]{end}", open.repeat(depth + 1)).into_bytes()
    }

    fn number(&mut self) -> Vec<u8> {
        let numbers = ["101", "-1", "1e309", "nan", "inf", "-inf", "0x10", "1_0", "4O", "--4", "1e", "٤"];
        numbers[self.random.usize(..numbers.len())].as_bytes().to_vec()
    }

    /// Mostly a little too long, now and then as long as a message may be.
    fn large(&mut self) -> Vec<u8> {
        let most = if self.random.u16(..) < 200 { 250_000 } else { 5_000 };
        let length = self.random.usize(4_097..most);
        let mut payload = b"ON".to_vec();
        payload.resize(length, [b' ', b'x', 0, 0xff][self.random.usize(..4)]);
        payload
    }
}
