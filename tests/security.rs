//! What a hostile network sends moves nothing, costs nothing, and learns nothing.
//!
//! The payloads come from a generator with a fixed seed and are judged by an oracle of our own, which knows only the
//! documentation: whatever might be a command by its words is left out.

mod support;

use rumqttc::{Packet, Publish, QoS};
use serde_json::Value;
use std::collections::BTreeSet;
use support::agent::{Agent, Recipe};
use support::mosquitto::{Mosquitto, password_file};
use support::raw::Raw;
use support::scripted::Scripted;
use support::wait_for;

const MESSAGES: usize = 100_000;
/// Replies that may be on their way: fewer than the server keeps for a client.
const WINDOW: usize = 400;
/// KiB that may come with buffers that grow to their working size, and no more after that.
const GROWTH_KIB: u64 = 2_048;

/// A gateway called `gate` with two switches and a dimmer.
fn gate(server: u16) -> Recipe {
    Recipe::new(
        "[gateway]\nname = \"gate\"\n\
         [mqtt]\nserver = \"mqtt://localhost\"\n\
         [board]\nkind = \"simulated\"\n\
         [outputs.lamp]\nline = \"GPIO17\"\n\
         [outputs.horn]\nline = \"GPIO22\"\nqos = 0\n\
         [outputs.fan]\npwm = { line = \"GPIO18\", frequency = 100 }\n\
         [outputs.beacon]\nline = \"GPIO23\"\n\
         follow = { topic = \"drone/altitude\", unit = \"ft\", on_above = 400, off_below = 380, stale_after = \"1h\" }\n",
    )
    .server(server)
}

const OUTPUTS: [&str; 4] = ["lamp", "horn", "fan", "beacon"];

/// What each line was driven to so far.
fn all_levels(agent: &Agent) -> [Vec<String>; 4] {
    ["GPIO17", "GPIO22", "GPIO18", "GPIO23"].map(|line| agent.levels(line))
}

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
struct Hostile {
    random: fastrand::Rng,
}

impl Hostile {
    fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    fn next(&mut self) -> Vec<u8> {
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

fn is_reply(message: &Publish) -> bool {
    message.topic.ends_with("/reply")
}

/// Sends `count` messages and takes their replies; none of them may be `done`.
fn flood(client: &mut Raw, hostile: &mut Hostile, count: usize) {
    let (mut sent, mut answered) = (0, client.count());
    let begun = answered;
    let mut reasons = BTreeSet::new();
    while sent < count {
        for _ in 0..WINDOW / 2 {
            let output = OUTPUTS[hostile.random.usize(..OUTPUTS.len())];
            client.publish(&format!("board2mqtt/gate/{output}/set"), &hostile.next(), false);
            sent += 1;
        }
        // Neighbours of the command topics, which nobody has subscribed to.
        for topic in ["board2mqtt/gate/lamp/set/", "board2mqtt/gate//set", "board2mqtt/gate/lamp", "drone/altitude"] {
            client.publish(topic, b"\xff 9e9 ON", false);
        }
        client.publish("board2mqtt/gate/status/set", b"ON", false);
        client.flush();
        answered += WINDOW / 2;
        for reply in client.wait_for_count(answered) {
            assert!(is_reply(&reply), "{}", reply.topic);
            let reply: Value = serde_json::from_slice(&reply.payload).expect("JSON");
            assert_eq!(reply["outcome"], "refused", "{reply}");
            reasons.insert(reply["reason"].as_str().expect("a reason").to_owned());
        }
    }
    assert_eq!(client.count() - begun, sent, "one answer each");
    assert_eq!(reasons.iter().map(String::as_str).collect::<Vec<_>>(), ["malformed", "oversize"]);
}

#[test]
fn a_hundred_thousand_hostile_messages_move_nothing_and_leave_nothing_behind() {
    // Its log would be larger than all else.
    let server =
        Mosquitto::with(|_| "allow_anonymous true\nlog_type none\nlog_type error\nset_tcp_nodelay true".into());
    let mut agent = gate(server.port()).start();
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for("board2mqtt/gate/fan", "0");
    let mut client = Raw::connect(server.port(), "hostile");
    client.subscribe("board2mqtt/gate/+/reply");
    wait_for("the agent to hear commands", || {
        server.publish("board2mqtt/gate/lamp/set", "OFF");
        (client.count() > 0).then_some(())
    });
    // Those that came before it listened are lost, those after it are answered: let them all arrive.
    server.publish("board2mqtt/gate/fan/set", "0");
    watch.wait_for("board2mqtt/gate/fan/reply", r#"{"outcome":"done","state":0}"#);
    drop(watch);
    let before = all_levels(&agent);
    drop(client);

    let mut client = Raw::connect(server.port(), "hostile");
    client.subscribe("board2mqtt/gate/+/reply");
    let mut hostile = Hostile::new(0x0b0a_2d1e);
    flood(&mut client, &mut hostile, MESSAGES / 10);
    let warm = agent.memory_kib();
    flood(&mut client, &mut hostile, MESSAGES - MESSAGES / 10);
    let grown = agent.memory_kib().saturating_sub(warm);
    assert!(grown < GROWTH_KIB, "resident memory has grown by {grown} KiB from {warm}");
    assert_eq!(all_levels(&agent), before, "a line has moved");
    agent.assert_alive();
    assert_eq!(agent.logged("WARN") + agent.logged("ERROR"), 0, "nobody fills our log:\n{}", agent.log());

    let watch = server.subscribe(&["board2mqtt/gate/+/reply"]);
    server.publish("board2mqtt/gate/lamp/set", r#"{"state":"ON","id":"after"}"#);
    watch.wait_for("board2mqtt/gate/lamp/reply", r#"{"id":"after","outcome":"done","state":"ON"}"#);
    assert_eq!(agent.levels("GPIO17"), ["0", "1"]);
}

#[test]
fn numbers_followed_from_a_hostile_topic_are_numbers_or_nothing() {
    let server = Mosquitto::start();
    let agent = gate(server.port()).start();
    server.wait_for_log("board2mqtt-gate 1 board2mqtt/gate/get");
    let mut client = Raw::connect(server.port(), "hostile");
    for payload in ["inf", "1e999", "nan", "500 °C", "500 ftft", "0x1f4", "", "5\u{0}00", "{\"value\":[500]}", "-inf"]
    {
        client.publish("drone/altitude", payload.as_bytes(), false);
    }
    client.publish("drone/altitude", &[b'9'; 70_000], false);
    client.publish("drone/altitude", b"\xff\xfe500", false);
    client.flush();
    server.publish("drone/altitude", "390 feet");
    server.publish("board2mqtt/gate/lamp/set", "ON");
    agent.wait_for_levels("GPIO17", &["0", "1"]);
    assert_eq!(agent.levels("GPIO23"), ["0"]);
    server.publish("drone/altitude", "410 feet");
    agent.wait_for_levels("GPIO23", &["0", "1"]);
}

#[tokio::test]
async fn a_hostile_server_moves_nothing_with_topics_nobody_subscribed_to() {
    let server = Scripted::new().await;
    let agent = gate(server.port()).set("MQTT__RECONNECT__MIN", "100ms").start();
    let mut link = server.accept(false).await;
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..2_000 {
        let length = random.usize(0..40);
        let pieces = ["board2mqtt", "gate", "lamp", "set", "/", "//", "+", "#", "\u{0}", "ä", "$SYS", " ", "SET"];
        let topic: String = (0..length).map(|_| pieces[random.usize(..pieces.len())]).collect();
        let qos = if random.bool() { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let mut publish = Publish::new(topic, qos, "ON");
        publish.pkid = if qos == QoS::AtMostOnce { 0 } else { random.u16(1..) };
        publish.retain = random.bool();
        link.say(Packet::Publish(publish)).await;
    }
    // The link still lives, and what is said on the right topic is done.
    link.say(support::scripted::publish("board2mqtt/gate/lamp/set", "ON", QoS::AtMostOnce, 0, false)).await;
    let reply = loop {
        if let Packet::Publish(publish) = link.next().await.expect("the connection")
            && is_reply(&publish)
        {
            break publish;
        }
    };
    assert_eq!((reply.topic.as_str(), reply.payload.as_ref()), ("board2mqtt/gate/lamp/reply", done()));
    assert_eq!(all_levels(&agent).map(|levels| levels.len()), [2, 1, 1, 1]);
}

fn done() -> &'static [u8] {
    br#"{"outcome":"done","state":"ON"}"#
}

#[tokio::test]
async fn what_no_server_may_send_ends_the_connection_and_not_the_agent() {
    let server = Scripted::new().await;
    let mut agent =
        gate(server.port()).set("MQTT__RECONNECT__MIN", "100ms").set("MQTT__RECONNECT__MAX", "200ms").start();
    let wrong: [&[u8]; 5] = [
        b"\x30\x05\x00\x02\xff\xfeO",    // a topic that is no UTF-8
        b"\x36\x05\x00\x01a\x00\x01",    // QoS 3
        b"\x30\xff\xff\xff\x7f\x00\x01", // a quarter of a gigabyte to come
        b"\x10\x00",                     // a CONNECT
        b"\xf0\x00",                     // no packet at all
    ];
    for bytes in wrong {
        let mut link = server.accept(false).await;
        link.say_bytes(bytes).await;
        while link.next().await.is_some() {}
    }
    let _link = server.accept(false).await;
    agent.assert_alive();
    assert_eq!(all_levels(&agent).map(|levels| levels.len()), [1, 1, 1, 1]);
}

#[test]
fn a_password_is_in_no_log_and_no_error_wherever_it_comes_from() {
    const SECRET: &str = "Xyzzy-4711-plugh";
    let mut server = Mosquitto::with(|folder| {
        password_file(folder, &[("pi", SECRET)]);
        format!("allow_anonymous false\npassword_file {}", folder.join("passwords").display())
    });
    let config = |password: &str| {
        let port = server.port();
        format!(
            "[gateway]\nname = \"gate\"\n[mqtt]\nserver = \"mqtt://127.0.0.1:{port}\"\nusername = \"pi\"\n\
             password = {password}\n[board]\nkind = \"simulated\"\n[outputs.lamp]\nline = \"GPIO17\"\n\
             [mqtt.reconnect]\nmin = \"100ms\"\nmax = \"200ms\"\n"
        )
    };
    let credentials = tempfile::tempdir().expect("a folder");
    std::fs::write(credentials.path().join("mqtt"), SECRET).expect("a credential");
    let credentials = credentials.path().display().to_string();
    let recipes = [
        Recipe::new(&config(&format!("\"{SECRET}\""))),
        Recipe::new(&config("{ file = \"password\" }")).file("password", &format!("{SECRET}\n")),
        Recipe::new(&config("{ env = \"SECRET\" }")).variable("SECRET", SECRET),
        Recipe::new(&config("{ credential = \"mqtt\" }")).variable("CREDENTIALS_DIRECTORY", credentials),
        Recipe::new(&config("\"other\"")).set("MQTT__PASSWORD", SECRET),
    ];
    let mut agents: Vec<_> = recipes
        .into_iter()
        .enumerate()
        .map(|(number, recipe)| recipe.set("MQTT__CLIENT_ID", format!("gate{number}")).log_level("trace").start())
        .collect();
    for agent in &agents {
        agent.wait_for_log("connected to the server", 1);
        // A refusal is told at the lowest levels: so these are on.
        wait_for("a word at the lowest levels", || {
            server.publish_with("board2mqtt/gate/lamp/set", "?", &["-u", "pi", "-P", SECRET]);
            (agent.logged("DEBUG") > 0).then_some(())
        });
    }
    // The worst moment: it is refused, and the log says so.
    server.kill();
    password_file(&server.file(""), &[("pi", "another")]);
    server.start_again();
    for agent in &mut agents {
        agent.wait_for_log("authorise", 1);
        agent.stop();
        assert!(!agent.log().contains(SECRET), "{}", agent.log());
        for folder in ["run", "state"] {
            for entry in std::fs::read_dir(agent.file(folder)).expect("its folder") {
                let content = std::fs::read(entry.expect("readable").path()).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&content).contains(SECRET));
            }
        }
    }
}
