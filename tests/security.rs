//! What a hostile network sends moves nothing, costs nothing, and learns nothing.

mod support;

use rumqttc::{Packet, Publish, QoS};
use serde_json::Value;
use std::collections::BTreeSet;
use support::agent::{Agent, Recipe};
use support::hostile::Hostile;
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
            let output = OUTPUTS[hostile.pick(OUTPUTS.len())];
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
    let server = Mosquitto::with(|_| {
        "allow_anonymous true\nlog_type none\nlog_type error\nlog_type information\nset_tcp_nodelay true".into()
    });
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
