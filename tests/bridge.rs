//! The life of the bridge, seen from the server: how it begins, ends and dies, and what it says of itself meanwhile.

mod support;

use std::time::{Duration, Instant};
use support::agent::Recipe;
use support::mosquitto::{Mosquitto, Received, Subscriber, password_file};
use support::proxy::Proxy;
use support::wait_for;

const STATUS: &str = "board2mqtt/bridge/status";

/// A gateway called `bridge` with a counter and an output; `more` follows.
fn bridge(more: &str) -> Recipe {
    Recipe::new(&format!(
        "[gateway]\nname = \"bridge\"\n\
         [mqtt]\nserver = \"mqtt://localhost\"\nkeep_alive = \"5s\"\n\
         [board]\nkind = \"simulated\"\n\
         [sensors.ticks]\ndriver = \"test-counter\"\ninterval = \"100ms\"\n\
         [outputs.lamp]\nline = \"GPIO17\"\n\
         {more}"
    ))
}

fn texts<'a>(messages: &'a [Received], topic: &str) -> Vec<&'a str> {
    messages.iter().filter(|message| message.topic == topic).map(|message| message.payload.as_str()).collect()
}

fn last(watch: &Subscriber, topic: &str) -> Option<String> {
    texts(&watch.messages(), topic).last().map(|text| (*text).to_owned())
}

#[test]
fn a_killed_agent_is_offline_at_once_and_a_frozen_one_within_one_and_a_half_keep_alives() {
    let server = Mosquitto::start();
    let mut agent = bridge("").server(server.port()).start();
    let watch = server.subscribe(&[STATUS]);
    watch.wait_for(STATUS, "online");
    let limit = Duration::from_millis(7_500);

    let killed = Instant::now();
    agent.kill();
    let offline = watch.wait_for(STATUS, "offline");
    assert!(offline.at.duration_since(killed) < limit, "{:?}", offline.at.duration_since(killed));
    assert_eq!(server.retained(STATUS).as_deref(), Some("offline"));

    agent.start_again();
    wait_for("the agent to be back", || (last(&watch, STATUS)? == "online").then_some(()));
    watch.clear();
    // The connection stays open and nobody speaks on it any more, as when a board hangs or its link is gone.
    let frozen = Instant::now();
    agent.signal(libc::SIGSTOP);
    let offline = watch.wait_for(STATUS, "offline");
    // Mosquitto looks for silent clients every five seconds.
    let took = offline.at.duration_since(frozen);
    assert!(took < limit + Duration::from_secs(6), "{took:?}");

    watch.clear();
    agent.signal(libc::SIGCONT);
    watch.wait_for(STATUS, "online");
}

#[test]
fn a_stop_takes_two_seconds_at_most_and_leaves_outputs_safe_and_offline_behind() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/bridge/#"]);
    let lamp = "on_exit = \"on\"\n[outputs.heater]\nline = \"GPIO22\"\n[outputs.fan]\n\
                pwm = { line = \"GPIO18\", frequency = 100 }\non_exit = \"keep\"";
    for (signal, start) in [(libc::SIGTERM, 0), (libc::SIGINT, 1)] {
        let mut agent = bridge(lamp).server(server.port()).start();
        wait_for("online", || (last(&watch, STATUS)? == "online").then_some(()));
        for (output, command) in [("heater", "ON"), ("fan", "40")] {
            server.publish(&format!("board2mqtt/bridge/{output}/set"), command);
        }
        agent.wait_for_levels("GPIO22", &["0", "1"]);
        agent.wait_for_levels("GPIO18", &["0", "40"]);

        let begun = Instant::now();
        agent.signal(signal);
        let status = agent.wait_for_end();
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(begun.elapsed() < Duration::from_secs(2), "start {start}: {:?}", begun.elapsed());
        assert_eq!(agent.levels("GPIO17"), ["0", "1"]);
        assert_eq!(agent.levels("GPIO22"), ["0", "1", "0"]);
        assert_eq!(agent.levels("GPIO18"), ["0", "40"]);
        server.wait_for_log("Received DISCONNECT from board2mqtt-bridge");
        // A fence: what the agent published before it ended has come when this has.
        server.publish("fence", "");
        watch.wait_for(STATUS, "offline");
        let messages = watch.messages();
        let at = |topic: &str, text: &str| messages.iter().rposition(|m| m.topic == topic && m.payload == text);
        assert!(at("board2mqtt/bridge/heater", "OFF") < at(STATUS, "offline"), "the outputs' last word comes first");
        assert_eq!(texts(&messages, "board2mqtt/bridge/lamp").last(), Some(&"ON"));
        assert_eq!(server.retained(STATUS).as_deref(), Some("offline"));
        watch.clear();
    }
}

#[test]
fn a_stop_needs_no_server() {
    let mut server = Mosquitto::start();
    let mut agent = bridge("").server(server.port()).start();
    agent.wait_for_log("connected to the server", 1);
    server.kill();
    agent.wait_for_log("no connection to the server", 1);
    let (status, took) = agent.stop();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_gateway_that_is_there_before_its_server_is_online_when_that_comes() {
    let mut server = Mosquitto::start();
    server.kill();
    let mut agent = bridge("").server(server.port()).start();
    agent.wait_for_log("connection refused", 1);
    agent.wait_for_levels("GPIO17", &["0"]);
    agent.assert_alive();
    let started = format!(
        "INFO  started version={} gateway=bridge server=mqtt://127.0.0.1:{} sensors=1 inputs=0 outputs=1",
        env!("CARGO_PKG_VERSION"),
        server.port()
    );
    assert_eq!(agent.log().lines().filter(|line| *line == started).count(), 1, "{}", agent.log());
    server.start_again();
    let watch = server.subscribe(&["board2mqtt/bridge/#"]);
    watch.wait_for(STATUS, "online");
    watch.wait_for("board2mqtt/bridge/lamp", "OFF");
    assert_eq!(agent.logged("connection refused"), 1, "one line however often it tried");
}

#[test]
fn a_bad_login_is_told_in_words_and_tried_again() {
    let mut server = Mosquitto::with(|folder| {
        password_file(folder, &[("pi", "right")]);
        format!("allow_anonymous false\npassword_file {}", folder.join("passwords").display())
    });
    let login = |recipe: Recipe| recipe.set("MQTT__USERNAME", "pi").set("MQTT__PASSWORD", "Wr0ng-w0rd");
    let recipe = login(bridge("")).set("MQTT__RECONNECT__MIN", "100ms").set("MQTT__RECONNECT__MAX", "500ms");
    let mut agent = recipe.server(server.port()).log_level("trace").start();
    let refused = "no connection to the server";
    agent.wait_for_log(refused, 1);
    let line = agent.log().lines().find(|line| line.contains(refused)).expect("just seen").to_owned();
    assert!(line.contains("authorise") || line.contains("password"), "{line}");
    // Somebody corrects the server's file; nobody touches the agent.
    server.kill();
    password_file(server.file("").as_path(), &[("pi", "Wr0ng-w0rd")]);
    server.start_again();
    agent.wait_for_log("connected to the server", 1);
    agent.assert_alive();
    assert!(!agent.log().contains("Wr0ng-w0rd"), "the password is in the log");
}

#[test]
fn two_agents_with_one_client_id_are_named_as_such() {
    let server = Mosquitto::start();
    let twin =
        || bridge("").set("MQTT__RECONNECT__MIN", "100ms").set("MQTT__RECONNECT__MAX", "1s").server(server.port());
    let (one, other) = (twin().start(), twin().start());
    let named = "another client with the id `board2mqtt-bridge` seems to take over this session";
    wait_for("one of them to name the cause", || (one.logged(named) + other.logged(named) > 0).then_some(()));
}

#[test]
fn a_link_that_breaks_again_and_again_is_no_second_agent_and_hides_none() {
    let server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let twin = |port| bridge("").set("MQTT__RECONNECT__MIN", "100ms").set("MQTT__RECONNECT__MAX", "500ms").server(port);
    let agent = twin(proxy.port()).start();
    for times in 1..=6 {
        agent.wait_for_log("connected to the server", times);
        proxy.reset();
        agent.wait_for_log("the connection broke: connection reset by peer", times);
    }
    let named = "another client with the id `board2mqtt-bridge` seems to take over this session";
    assert_eq!(agent.logged(named), 0, "{}", agent.log());
    let other = twin(server.port()).start();
    wait_for("one of them to name the cause", || (agent.logged(named) + other.logged(named) > 0).then_some(()));
}

#[test]
fn an_offline_by_somebody_else_is_contradicted_with_one_warning() {
    let server = Mosquitto::start();
    let agent = bridge("").server(server.port()).start();
    let watch = server.subscribe(&[STATUS]);
    for _ in 0..3 {
        wait_for("online", || (last(&watch, STATUS)? == "online").then_some(()));
        watch.clear();
        server.retain(STATUS, "offline");
        watch.wait_for(STATUS, "offline");
    }
    // And by a second gateway of our name, which has its own client id.
    wait_for("online", || (last(&watch, STATUS)? == "online").then_some(()));
    let mut second = bridge("").set("MQTT__CLIENT_ID", "another").server(server.port()).start();
    second.wait_for_log("connected to the server", 1);
    watch.clear();
    second.stop();
    watch.wait_for(STATUS, "offline");
    wait_for("online", || (last(&watch, STATUS)? == "online").then_some(()));
    assert_eq!(server.retained(STATUS).as_deref(), Some("online"));
    assert_eq!(agent.logged("published offline on our status topic"), 1);
}

#[test]
fn a_server_that_stops_in_order_is_no_second_agent() {
    let mut server = Mosquitto::start();
    let agent = bridge("").server(server.port()).start();
    for times in 1..=2 {
        let subscribed = || server.log().lines().filter(|line| line.ends_with("1 board2mqtt/bridge/get")).count();
        wait_for("its subscriptions", || (subscribed() >= times).then_some(()));
        // It publishes our will to everybody, us included, before it closes our connection.
        server.stop();
        agent.wait_for_log("no connection to the server", times);
        server.start_again();
        agent.wait_for_log("connected to the server", times + 1);
    }
    assert_eq!(agent.logged("published offline on our status topic"), 0, "{}", agent.log());
}

const ORCHESTRA: &str = "[metrics]\ninterval = \"1s\"\n\
    [sensors.roof]\ndriver = \"tmp102\"\naddress = 0x48\ninterval = \"1h\"\n\
    [inputs.door]\nline = \"GPIO27\"\nactive = \"low\"\ndebounce = \"20ms\"";

#[test]
fn get_publishes_everything_again() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/bridge/#"]);
    let quiet = "[sensors.ticks.readings.count]\nretain = false\n";
    let _agent = bridge(&format!("{ORCHESTRA}\n{quiet}")).server(server.port()).start();
    let all = [
        "status",
        "lamp",
        "door",
        "metrics",
        "roof/temperature",
        "roof/status",
        "roof/health",
        "ticks/status",
        "ticks/health",
        "ticks/count",
    ];
    let everything = |messages: &[Received]| {
        let seen = |name: &&str| messages.iter().any(|message| message.topic == format!("board2mqtt/bridge/{name}"));
        all.iter().all(seen).then_some(())
    };
    watch.wait_until("everything at first", everything);
    watch.clear();
    server.publish("board2mqtt/bridge/get", "");
    watch.wait_until("everything again", everything);
}

#[test]
fn a_retained_get_is_nobodys_wish() {
    let server = Mosquitto::start();
    server.retain("board2mqtt/bridge/get", "now");
    let watch = server.subscribe(&["board2mqtt/bridge/#"]);
    let mut agent = bridge(ORCHESTRA).server(server.port()).start();
    watch.wait_until("ten readings", |messages| {
        (texts(messages, "board2mqtt/bridge/ticks/count").len() >= 10).then_some(())
    });
    agent.assert_alive();
    assert_eq!(texts(&watch.messages(), "board2mqtt/bridge/roof/temperature").len(), 1, "read once an hour");
}

#[test]
fn inputs_are_told_at_start_on_every_connect_and_only_where_they_come_to_rest() {
    let door = "board2mqtt/bridge/door";
    let script = "[[step]]\nat = \"1s\"\ninput = \"door\"\nlevel = \"ON\"\nbounces = 5\n\
                  [[step]]\nat = \"2s\"\ninput = \"door\"\nlevel = \"OFF\"\nbounces = 4\n\
                  [[step]]\nat = \"3s\"\ninput = \"door\"\nlevel = \"ON\"\nbounces = 7\n\
                  [[step]]\nat = \"6s\"\ninput = \"door\"\nlevel = \"OFF\"\nbounces = 3";
    let mut server = Mosquitto::start();
    let watch = server.subscribe(&[door]);
    let agent = bridge(ORCHESTRA).script(script).server(server.port()).start();
    let levels = watch.wait_until("three movements", |messages| {
        (messages.len() >= 4).then(|| texts(messages, door).iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    });
    assert_eq!(levels, ["OFF", "ON", "OFF", "ON"]);
    // It closes while the server is away.
    server.kill();
    agent.wait_for_log("no connection to the server", 1);
    std::thread::sleep(Duration::from_secs(4));
    server.start_again();
    let later = server.subscribe(&[door]);
    assert_eq!(later.wait_until("the level", |messages| messages.first().cloned()).payload, "OFF");
}

#[test]
fn altitude_follows_the_sea_level_pressure_of_a_topic_and_tells_its_age() {
    let server = Mosquitto::start();
    let altimeter = "[sensors.altimeter]\ndriver = \"bmp280\"\naddress = 0x76\ninterval = \"200ms\"\n\
        sea_level_pressure = { topic = \"weather/qnh\", unit = \"hPa\", stale_after = \"3h\", otherwise = \"1013.25 hPa\" }";
    let script = "[[step]]\nat = \"0s\"\nsensor = \"altimeter\"\npressure = 1000";
    let (altitude, health) = ("board2mqtt/bridge/altimeter/altitude", "board2mqtt/bridge/altimeter/health");
    let watch = server.subscribe(&[altitude, health]);
    let mut agent = bridge(altimeter).script(script).server(server.port()).start();
    let near = |metres: f64| {
        watch.wait_until(&format!("{metres} m"), |messages| {
            let value = texts(messages, altitude).last()?.parse::<f64>().expect("a number");
            ((value - metres).abs() < 1.0).then_some(())
        });
    };
    near(110.9);
    watch.wait_for(health, r#"{"state":"ok","reference_age_s":null}"#);
    // What cannot be true is not believed.
    for nonsense in ["0", "1000 ft", "high", "", "101325", "NaN"] {
        server.publish("weather/qnh", nonsense);
    }
    server.publish("weather/qnh", "990 hPa");
    near(-84.6);
    server.publish("weather/qnh", "1000");
    near(0.0);
    watch.wait_until("the reference's age", |messages| {
        texts(messages, health)
            .iter()
            .any(|text| text.starts_with(r#"{"state":"ok","reference_age_s":0"#))
            .then_some(())
    });
    agent.assert_alive();
}

#[test]
fn samples_are_in_the_log_for_who_asks_and_for_nobody_else() {
    let server = Mosquitto::start();
    let lines = |level| {
        let agent = bridge("").server(server.port()).log_level(level).start();
        agent.wait_for_log("connected to the server", 1);
        wait_for("three readings", || (last_count(&server)? >= 3).then_some(()));
        agent.logged("sample sensor=ticks quantity=count value=")
    };
    assert!(lines("debug") >= 3);
    assert_eq!(lines("info"), 0);
}

fn last_count(server: &Mosquitto) -> Option<u64> {
    server.retained("board2mqtt/bridge/ticks/count")?.parse().ok()
}
