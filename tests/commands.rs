//! Commands from the server to the line, as the sender, the line and everybody else see them.

mod support;

use std::time::{Duration, Instant};
use support::agent::{Agent, Recipe};
use support::mosquitto::{Mosquitto, Received, Subscriber};
use support::proxy::Proxy;
use support::wait_for;

/// A gateway called `yard` with three switches and a dimmer.
fn yard(server: u16) -> Recipe {
    Recipe::new(
        "[gateway]\nname = \"yard\"\n\
         [mqtt]\nserver = \"mqtt://localhost\"\nreconnect = { min = \"100ms\", max = \"500ms\" }\n\
         [board]\nkind = \"simulated\"\n\
         [outputs.lamp]\nline = \"GPIO17\"\n\
         [outputs.up]\nline = \"GPIO22\"\nmax_on = \"600ms\"\n\
         interlock = { with = [\"down\"], conflict = \"refuse\" }\n\
         [outputs.down]\nline = \"GPIO23\"\nactive = \"low\"\n\
         [outputs.fan]\npwm = { line = \"GPIO18\", frequency = 100 }\n",
    )
    .server(server)
}

fn topic(output: &str, what: &str) -> String {
    format!("board2mqtt/yard/{output}{what}")
}

/// Waits until every output is known and commands are heard.
fn ready(server: &Mosquitto, agent: &Agent) -> Subscriber {
    let watch = server.subscribe(&["board2mqtt/yard/#"]);
    watch.wait_for("board2mqtt/yard/fan", "0");
    server.wait_for_log("board2mqtt-yard 1 board2mqtt/yard/get");
    assert_eq!(agent.levels("GPIO17"), ["0"]);
    watch
}

/// Sends a command and waits for the next reply of its output.
fn ask(server: &Mosquitto, watch: &Subscriber, output: &str, payload: &str) -> String {
    let reply = topic(output, "/reply");
    let of = |messages: &[Received]| messages.iter().filter(|message| message.topic == reply).count();
    let before = of(&watch.messages());
    server.publish(&topic(output, "/set"), payload);
    watch.wait_until(&format!("the reply to {payload}"), |messages| {
        (of(messages) > before).then(|| messages.iter().rfind(|message| message.topic == reply).cloned())?
    });
    watch.messages().into_iter().rfind(|message| message.topic == reply).expect("just seen").payload
}

fn done(state: &str) -> String {
    format!(r#"{{"outcome":"done","state":{state}}}"#)
}

fn refused(state: &str, reason: &str) -> String {
    format!(r#"{{"outcome":"refused","state":{state},"reason":"{reason}"}}"#)
}

#[test]
fn a_retained_on_met_when_subscribing_moves_nothing_and_is_answered() {
    let server = Mosquitto::start();
    server.retain("board2mqtt/yard/lamp/set", "ON");
    server.retain("board2mqtt/yard/fan/set", r#"{"level":70,"id":"old"}"#);
    let proxy = Proxy::to(server.port());
    let watch = server.subscribe(&["board2mqtt/yard/#"]);
    let agent = yard(proxy.port()).start();
    let answers = |messages: &[Received], output: &str| {
        let reply = topic(output, "/reply");
        messages
            .iter()
            .filter(|message| message.topic == reply)
            .map(|message| message.payload.clone())
            .collect::<Vec<_>>()
    };
    // At the first connection and at every later one.
    for connection in 1..=3 {
        watch.wait_until(&format!("both answers at connection {connection}"), |messages| {
            let both = ["lamp", "fan"].iter().all(|output| answers(messages, output).len() >= connection);
            both.then_some(())
        });
        proxy.cut();
    }
    let messages = watch.messages();
    for answer in answers(&messages, "lamp") {
        assert_eq!(answer, refused("\"OFF\"", "retained"));
    }
    for answer in answers(&messages, "fan") {
        assert_eq!(answer, r#"{"id":"old","outcome":"refused","state":0,"reason":"retained"}"#);
    }
    assert_eq!((agent.levels("GPIO17"), agent.levels("GPIO18")), (vec!["0".to_owned()], vec!["0".to_owned()]));
    // The same topic still takes what is said now.
    agent.wait_for_log("connected to the server", 3);
    wait_for("the lamp to be lit", || {
        server.publish("board2mqtt/yard/lamp/set", "ON");
        (agent.levels("GPIO17") == ["0", "1"]).then_some(())
    });
}

#[test]
fn commands_sent_while_the_agent_was_away_never_arrive_late() {
    for clean_session in ["true", "false"] {
        let server = Mosquitto::persistent();
        let mut agent = yard(server.port()).set("MQTT__CLEAN_SESSION", clean_session).start();
        // The last of its subscriptions stands, at whatever QoS.
        let subscribed = |times| {
            let last = |line: &&str| line.contains("board2mqtt-yard ") && line.ends_with(" board2mqtt/yard/get");
            let count = || server.log().lines().filter(last).count();
            wait_for("its subscriptions", || (count() >= times).then_some(()));
        };
        subscribed(1);
        let watch = server.subscribe(&["board2mqtt/yard/#"]);
        assert_eq!(ask(&server, &watch, "down", "ON"), done("\"ON\""));

        agent.kill();
        watch.wait_for("board2mqtt/yard/status", "offline");
        for output in ["lamp", "up", "fan"] {
            for qos in ["0", "1", "2"] {
                server.publish_with(&topic(output, "/set"), "ON", &["-q", qos]);
            }
        }
        watch.clear();
        agent.start_again();
        watch.wait_for("board2mqtt/yard/status", "online");
        subscribed(2);
        // A command said now is heard, after everything that was queued before it.
        assert_eq!(ask(&server, &watch, "down", "ON"), done("\"ON\""));
        for line in ["GPIO17", "GPIO22", "GPIO18"] {
            assert!(agent.levels(line).iter().all(|level| level == "0"), "{line} moved, clean_session {clean_session}");
        }
        let late = watch.messages().into_iter().filter(|message| message.topic.ends_with("/reply")).count();
        assert_eq!(late, 1, "only the fence is answered");
    }
}

#[test]
fn every_command_is_answered_and_the_state_is_what_the_line_is() {
    let server = Mosquitto::start();
    let agent = yard(server.port()).start();
    let watch = ready(&server, &agent);
    let say = |output: &str, payload: &str| ask(&server, &watch, output, payload);

    assert_eq!(say("lamp", "on"), done("\"ON\""));
    assert_eq!(say("lamp", "TOGGLE"), done("\"OFF\""));
    assert_eq!(say("lamp", "Toggle"), done("\"ON\""));
    assert_eq!(say("lamp", "0"), done("\"OFF\""));
    assert_eq!(say("lamp", "true"), done("\"ON\""));
    assert_eq!(say("lamp", "false"), done("\"OFF\""));
    assert_eq!(agent.levels("GPIO17"), ["0", "1", "0", "1", "0", "1", "0"]);
    // Active low: the payload and the state are logical, the line is physical.
    assert_eq!(say("down", "ON"), done("\"ON\""));
    assert_eq!(say("down", "OFF"), done("\"OFF\""));
    assert_eq!(agent.levels("GPIO23"), ["1", "0", "1"]);
    // Numbers are percent, ON is the last level above zero.
    assert_eq!(say("fan", "40"), done("40"));
    assert_eq!(say("fan", "OFF"), done("0"));
    assert_eq!(say("fan", "ON"), done("40"));
    assert_eq!(say("fan", r#"{"level":12.5}"#), done("12.5"));
    assert_eq!(say("fan", "1"), done("1"));
    assert_eq!(agent.levels("GPIO18"), ["0", "40", "0", "40", "12.5", "1"]);

    for (id, told) in [("\"a-1\"", "\"a-1\""), ("7", "7"), ("null", "null"), ("\"\\u00e4\\\"\"", "\"ä\\\"\"")] {
        let reply = say("lamp", &format!(r#"{{"state":"ON","id":{id}}}"#));
        assert_eq!(reply, format!(r#"{{"id":{told},"outcome":"done","state":"ON"}}"#));
    }
    let states: Vec<_> = watch.messages().into_iter().filter(|message| message.topic == topic("lamp", "")).collect();
    let words: Vec<_> = states.iter().map(|message| message.payload.as_str()).collect();
    assert_eq!(words, ["OFF", "ON", "OFF", "ON", "OFF", "ON", "OFF", "ON"]);
    assert_eq!(server.retained(&topic("lamp", "")).as_deref(), Some("ON"));
    assert_eq!(server.retained(&topic("fan", "")).as_deref(), Some("1"));
    assert_eq!(server.retained(&topic("lamp", "/reply")), None, "a reply concerns only who asked");
}

#[test]
fn what_is_late_wrong_or_too_long_is_refused_with_its_reason() {
    let server = Mosquitto::start();
    let agent = yard(server.port()).start();
    let watch = ready(&server, &agent);
    let say = |output: &str, payload: &str| ask(&server, &watch, output, payload);
    let off = "\"OFF\"";

    assert_eq!(say("lamp", r#"{"state":"ON","expires":"2020-01-01T00:00:00Z"}"#), refused(off, "expired"));
    for payload in
        ["MAYBE", "", "2", "{", "[]", r#"{"state":"ON","expire":"2099-01-01T00:00:00Z"}"#, "{\"for\":\"1s\"}"]
    {
        assert_eq!(say("lamp", payload), refused(off, "malformed"), "{payload}");
    }
    for payload in ["101", "-1", "NaN", "inf", r#"{"level":"40"}"#] {
        assert_eq!(say("fan", payload), refused("0", "malformed"), "{payload}");
    }
    assert_eq!(
        say("lamp", r#"{"state":"MAYBE","id":5}"#),
        r#"{"id":5,"outcome":"refused","state":"OFF","reason":"malformed"}"#
    );
    assert_eq!(say("lamp", &format!("ON{}", " ".repeat(5000))), refused(off, "oversize"));
    assert_eq!(say("up", r#"{"state":"ON","for":"1h"}"#), refused(off, "max-on"));
    assert_eq!((agent.levels("GPIO17"), agent.levels("GPIO22")), (vec!["0".to_owned()], vec!["0".to_owned()]));
    // What has not expired yet is carried out.
    assert_eq!(say("lamp", r#"{"state":"ON","expires":"2099-01-01T00:00:00Z"}"#), done("\"ON\""));
}

/// How long a line stood at its value before its last, from the trace.
fn stood(agent: &Agent, line: &str) -> Duration {
    let times: Vec<_> =
        agent.writes().into_iter().filter(|write| write.line == line).map(|write| write.at_ns).collect();
    Duration::from_nanos(times[times.len() - 1] - times[times.len() - 2])
}

#[test]
fn a_command_for_a_while_ends_by_itself_and_a_new_one_replaces_it() {
    let server = Mosquitto::start();
    let agent = yard(server.port()).start();
    let watch = ready(&server, &agent);
    let begun = Instant::now();
    assert_eq!(ask(&server, &watch, "lamp", r#"{"state":"ON","for":"500ms"}"#), done("\"ON\""));
    agent.wait_for_levels("GPIO17", &["0", "1", "0"]);
    let lit = stood(&agent, "GPIO17");
    // It counts from the command, which is a moment before the line is written.
    assert!(lit >= Duration::from_millis(450) && lit <= begun.elapsed(), "{lit:?}");
    wait_for("the state", || (server.retained(&topic("lamp", ""))? == "OFF").then_some(()));

    assert_eq!(ask(&server, &watch, "fan", r#"{"level":80,"for":"300ms"}"#), done("80"));
    assert_eq!(ask(&server, &watch, "fan", r#"{"level":30,"for":"1s"}"#), done("30"));
    agent.wait_for_levels("GPIO18", &["0", "80", "30", "0"]);
    assert!(stood(&agent, "GPIO18") >= Duration::from_millis(950), "the first one's end is forgotten");
}

#[test]
fn interlocked_outputs_are_never_on_together_and_none_longer_than_it_may() {
    let server = Mosquitto::start();
    let agent = yard(server.port()).start();
    let watch = ready(&server, &agent);
    assert_eq!(ask(&server, &watch, "down", "ON"), done("\"ON\""));
    assert_eq!(ask(&server, &watch, "up", "ON"), refused("\"OFF\"", "interlock"));
    assert_eq!(ask(&server, &watch, "down", "OFF"), done("\"OFF\""));
    assert_eq!(ask(&server, &watch, "up", "ON"), done("\"ON\""));
    assert_eq!(ask(&server, &watch, "down", "ON"), refused("\"OFF\"", "interlock"));
    // Repeating ON does not buy more time: it ends while we go on asking, and then it may begin anew.
    let writes = wait_for("the end of the longest time", || {
        server.publish("board2mqtt/yard/up/set", "ON");
        (agent.levels("GPIO22").len() >= 3).then(|| agent.levels("GPIO22"))
    });
    assert_eq!(writes[..3], ["0", "1", "0"]);
    let up: Vec<_> = agent.writes().into_iter().filter(|write| write.line == "GPIO22").collect();
    let lit = Duration::from_nanos(up[2].at_ns - up[1].at_ns);
    // The time counts from the command; the trace notes a write a little later.
    assert!(lit >= Duration::from_millis(590), "{lit:?}");
    assert!(lit < Duration::from_secs(5), "{lit:?}, repeating has extended it");
    assert_eq!(agent.levels("GPIO23"), ["1", "0", "1"], "the other one never moved meanwhile");
}
