//! Chips that fail for a while, and what everybody else notices of it: nothing but one warning, a reason and the recovery.

mod support;

use board2mqtt::clock::Wall;
use serde_json::Value;
use std::time::Duration;
use support::agent::{Agent, Recipe};
use support::mosquitto::{Mosquitto, Received};

/// How long each fault lasts in the scripts below.
const LASTS: Duration = Duration::from_secs(3);

/// A gateway called `lab`: `sick` and `mate` on one bus, `far` on another. The sick one fails from 1 s to 4 s.
fn lab(server: u16, fault: &str) -> Recipe {
    let script = format!(
        "[[step]]\nat = \"0s\"\nsensor = \"sick\"\ntemperature = 30\n\
         [[step]]\nat = \"0s\"\nsensor = \"mate\"\ntemperature = 31\n\
         [[step]]\nat = \"0s\"\nsensor = \"far\"\ntemperature = 32\n\
         [[step]]\nat = \"1s\"\nlasts = \"3s\"\n{fault}"
    );
    Recipe::new(
        "[gateway]\nname = \"lab\"\n\
         [mqtt]\nserver = \"mqtt://localhost\"\n\
         [board]\nkind = \"simulated\"\n\
         [defaults]\ninterval = \"100ms\"\ndeadline = \"200ms\"\n\
         [sensors.sick]\ndriver = \"tmp117\"\naddress = 0x48\nreadings.temperature.payload = \"json\"\n\
         [sensors.mate]\ndriver = \"tmp102\"\naddress = 0x49\nreadings.temperature.payload = \"json\"\n\
         [sensors.far]\nbus = \"/dev/i2c-2\"\ndriver = \"lm75\"\naddress = 0x4a\nreadings.temperature.payload = \"json\"\n\
         [outputs.lamp]\nline = \"GPIO17\"\n\
         [metrics]\ninterval = \"1s\"\n",
    )
    .script(&script)
    .server(server)
}

fn topic(sensor: &str, what: &str) -> String {
    format!("board2mqtt/lab/{sensor}/{what}")
}

fn texts(messages: &[Received], topic: &str) -> Vec<String> {
    messages.iter().filter(|message| message.topic == topic).map(|message| message.payload.clone()).collect()
}

/// The readings of a sensor: value and time in milliseconds, those met retained left out.
fn readings(messages: &[Received], sensor: &str) -> Vec<(f64, i64)> {
    let topic = topic(sensor, "temperature");
    let of = messages.iter().filter(|message| message.topic == topic && !message.retain && !message.payload.is_empty());
    let read = |message: &Received| {
        let object: Value = serde_json::from_str(&message.payload).expect("JSON");
        let time = object["time"].as_str().and_then(Wall::parse).expect("a time");
        (object["value"].as_f64().expect("a number"), time.0)
    };
    of.map(read).collect()
}

/// What a lab has said from its start until a while after its sick sensor has recovered.
struct Story {
    messages: Vec<Received>,
    /// From when to when the sick sensor was told offline, in milliseconds.
    outage: (i64, i64),
    health: Vec<String>,
    agent: Agent,
}

fn story(fault: &str) -> Story {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/lab/#"]);
    let agent = lab(server.port(), fault).start();
    let status = topic("sick", "status");
    watch.wait_until("the failure", |messages| (texts(messages, &status).len() >= 2).then_some(()));
    // A command is carried out while the chip fails.
    server.publish("board2mqtt/lab/lamp/set", "ON");
    agent.wait_for_levels("GPIO17", &["0", "1"]);
    watch.wait_for("board2mqtt/lab/lamp", "ON");
    assert_eq!(texts(&watch.messages(), &status), ["online", "offline"], "the lamp was lit while the chip failed");
    watch.wait_until("the recovery", |messages| (texts(messages, &status).len() >= 3).then_some(()));
    let back = readings(&watch.messages(), "sick").len();
    watch.wait_until("readings after it", |messages| (readings(messages, "sick").len() >= back + 5).then_some(()));
    let messages = watch.messages();
    assert_eq!(texts(&messages, &status), ["online", "offline", "online"]);
    let times: Vec<_> = readings(&messages, "sick").iter().map(|(_, time)| *time).collect();
    let gap = times.windows(2).max_by_key(|pair| pair[1] - pair[0]).expect("many readings");
    Story { outage: (gap[0], gap[1]), health: texts(&messages, &topic("sick", "health")), messages, agent }
}

impl Story {
    /// One warning and one recovery, and a health that tells why.
    fn is_told(&self, sensor: &str, reason: &str) {
        let of = |text: &str| {
            let wanted = |line: &&str| line.contains(text) && line.contains(&format!("sensor={sensor} "));
            self.agent.log().lines().filter(wanted).map(str::to_owned).collect::<Vec<_>>()
        };
        let (failed, back) = (of("sensor fails"), of("sensor is back"));
        assert_eq!((failed.len(), back.len()), (1, 1), "{failed:?} {back:?}");
        assert!(failed[0].starts_with("WARN") && failed[0].contains(&format!("reason={reason} ")), "{failed:?}");
        assert!(back[0].starts_with("INFO"), "{back:?}");
        let health = texts(&self.messages, &topic(sensor, "health"));
        let told = format!(r#"{{"state":"failing","reason":"{reason}","since":""#);
        let failing: Vec<_> = health.iter().filter(|text| text.contains("failing")).collect();
        assert!(!failing.is_empty() && failing.iter().all(|text| text.starts_with(&told)), "{health:?}");
        assert_eq!(health.last().map(String::as_str), Some(r#"{"state":"ok"}"#));
    }

    /// No reading is missing or far from what the chip measures.
    fn kept_its_cadence(&self, sensor: &str, celsius: f64) {
        let readings = readings(&self.messages, sensor);
        let (from, until) = self.outage;
        let during: Vec<_> = readings.iter().filter(|(_, time)| (from..until).contains(time)).collect();
        let expected = usize::try_from((until - from) / 100).expect("an outage");
        assert!(expected >= 15, "the outage lasted {} ms", until - from);
        // A busy machine may cost one or the other, a held bus would cost them all.
        assert!(during.len() * 10 >= expected * 8, "{} of {expected} readings of {sensor}", during.len());
        assert!(readings.iter().all(|(value, _)| (value - celsius).abs() < 0.6), "{sensor}: {readings:?}");
        assert_eq!(texts(&self.messages, &topic(sensor, "status")), ["online"]);
    }

    fn never_said(&self, sensor: &str, celsius: f64) {
        let readings = readings(&self.messages, sensor);
        assert!(readings.iter().all(|(value, _)| (value - celsius).abs() < 0.6), "{sensor}: {readings:?}");
    }
}

#[test]
fn a_chip_that_does_not_answer_is_one_warning_and_its_bus_goes_on() {
    let story = story("sensor = \"sick\"\nfault = \"nack\"");
    story.is_told("sick", "nack");
    story.never_said("sick", 30.0);
    story.kept_its_cadence("mate", 31.0);
    story.kept_its_cadence("far", 32.0);
    assert!(story.health.iter().any(|text| text.contains(r#""failures":4}"#)), "{:?}", story.health);
}

#[test]
fn a_chip_that_is_absent_at_the_start_is_found_when_it_comes() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/lab/#"]);
    let script = "[[step]]\nat = \"0s\"\nsensor = \"sick\"\nfault = \"nack\"\nlasts = \"2s\"";
    let agent = lab(server.port(), "bus = \"/dev/i2c-9\"\nfault = \"nack\"").script(script).start();
    watch.wait_for(&topic("sick", "status"), "offline");
    watch.wait_for(&topic("mate", "status"), "online");
    watch.wait_for(&topic("sick", "status"), "online");
    assert_eq!((agent.logged("sensor fails"), agent.logged("sensor is back")), (1, 1));
}

#[test]
fn a_stuck_bus_is_a_time_out_and_the_other_bus_goes_on() {
    let story = story("bus = \"/dev/i2c-1\"\nfault = \"stuck\"");
    story.is_told("sick", "timeout");
    story.is_told("mate", "timeout");
    story.never_said("sick", 30.0);
    story.never_said("mate", 31.0);
    story.kept_its_cadence("far", 32.0);
}

#[test]
fn a_chip_that_hangs_its_bus_is_named_and_the_other_bus_goes_on() {
    let story = story("sensor = \"sick\"\nfault = \"stuck\"");
    story.is_told("sick", "timeout");
    story.kept_its_cadence("far", 32.0);
    let log = story.agent.log();
    assert!(
        log.lines().any(|line| line.contains("sensor=mate ") && line.contains("held by the sensor `sick`")),
        "{log}"
    );
    assert!(
        story.outage.1 - story.outage.0 < 3 * i64::try_from(LASTS.as_millis()).expect("small"),
        "it is asked again"
    );
}

#[test]
fn a_chip_that_answers_too_late_is_a_time_out_and_the_other_bus_goes_on() {
    let story = story("sensor = \"sick\"\nfault = \"slow\"\ndelay = \"400ms\"");
    story.is_told("sick", "timeout");
    story.kept_its_cadence("far", 32.0);
}

#[test]
fn a_lost_arbitration_is_a_fault_of_the_bus() {
    let story = story("bus = \"/dev/i2c-1\"\nfault = \"bus\"");
    story.is_told("sick", "bus");
    story.is_told("mate", "bus");
    story.kept_its_cadence("far", 32.0);
}

#[test]
fn a_driver_that_panics_is_one_warning_and_its_bus_goes_on() {
    let story = story("sensor = \"sick\"\nfault = \"panic\"");
    story.is_told("sick", "driver");
    story.kept_its_cadence("mate", 31.0);
    story.kept_its_cadence("far", 32.0);
    let log = story.agent.log();
    assert!(!log.contains("panicked at"), "each read of it would be a paragraph in the journal: {log}");
}

#[test]
fn a_value_is_removed_from_the_server_while_its_sensor_fails_where_that_is_wanted() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/lab/#"]);
    let agent =
        lab(server.port(), "sensor = \"sick\"\nfault = \"nack\"").set("SENSORS__SICK__WHEN_FAILING", "clear").start();
    watch.wait_for(&topic("sick", "status"), "offline");
    let gone = topic("sick", "temperature");
    watch.wait_until("the value to go", |messages| {
        messages.iter().any(|m| m.topic == gone && m.payload.is_empty()).then_some(())
    });
    assert_eq!(server.retained(&gone), None);
    assert!(server.retained(&topic("mate", "temperature")).is_some(), "the others' stay");
    agent.wait_for_log("sensor is back", 1);
    watch.wait_until("the value to be back", |messages| {
        let last = messages.iter().rfind(|message| message.topic == gone)?;
        (!last.payload.is_empty()).then_some(())
    });
    assert!(server.retained(&gone).is_some());
}

#[test]
fn garbage_never_becomes_a_reading() {
    let chips = [
        ("bme", "bme280", "0x76"),
        ("bmp", "bmp280", "0x77"),
        ("mpl", "mpl3115a2", "0x60"),
        ("t102", "tmp102", "0x48"),
        ("t117", "tmp117", "0x49"),
    ];
    let mut config =
        "[gateway]\nname = \"lab\"\n[mqtt]\nserver = \"mqtt://localhost\"\n[board]\nkind = \"simulated\"\n\
                      [defaults]\ninterval = \"50ms\"\n"
            .to_owned();
    let mut script = String::new();
    for (name, driver, address) in chips {
        config += &format!("[sensors.{name}]\ndriver = \"{driver}\"\naddress = {address}\n");
        script += &format!("[[step]]\nat = \"0s\"\nsensor = \"{name}\"\ntemperature = 21\n");
        for (at, fault) in [("1s", "garbage-ff"), ("3s", "garbage-00"), ("5s", "skipped"), ("7s", "garbage-80")] {
            let only_bosch = fault == "skipped" && name.starts_with('t');
            let fault = if only_bosch { "garbage-ff" } else { fault };
            script += &format!("[[step]]\nat = \"{at}\"\nsensor = \"{name}\"\nfault = \"{fault}\"\nlasts = \"1s\"\n");
        }
    }
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/lab/#"]);
    let agent = Recipe::new(&config).script(&script).server(server.port()).start();
    watch.wait_until("every chip to fail four times and to recover", |messages| {
        let recovered = |(name, ..): &(&str, &str, &str)| texts(messages, &topic(name, "status")).len() >= 9;
        chips.iter().all(recovered).then_some(())
    });
    for message in watch.messages() {
        let Some(value) = message.payload.parse::<f64>().ok() else { continue };
        let near = match message.topic.rsplit('/').next().expect("a quantity") {
            "temperature" => (value - 21.0).abs() < 0.6,
            "pressure" => (value - 1013.25).abs() < 2.0,
            "altitude" => value.abs() < 20.0,
            "humidity" => (1.0..99.0).contains(&value),
            _ => true,
        };
        assert!(near, "{} {}", message.topic, message.payload);
    }
    for (name, ..) in chips {
        let fails = agent.log().lines().filter(|line| line.contains("sensor fails") && line.contains(name)).count();
        assert_eq!(fails, 4, "{name}");
    }
}

#[test]
fn a_sensor_that_clears_leaves_no_value_while_it_fails() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/lab/#"]);
    let recipe = lab(server.port(), "bus = \"/dev/i2c-1\"\nfault = \"nack\"");
    let _agent = recipe.set("SENSORS__SICK__WHEN_FAILING", "clear").start();
    watch.wait_for(&topic("mate", "status"), "offline");
    watch.wait_for(&topic("sick", "temperature"), "");
    assert_eq!(server.retained(&topic("sick", "temperature")), None);
    assert!(server.retained(&topic("mate", "temperature")).is_some(), "the other one keeps its last value");
    watch.wait_until("a value again", |messages| {
        let emptied = messages.iter().position(|m| m.topic == topic("sick", "temperature") && m.payload.is_empty())?;
        (!readings(&messages[emptied..], "sick").is_empty()).then_some(())
    });
    let retained = server.subscribe(&["board2mqtt/lab/sick/temperature"]);
    assert!(retained.wait_until("the value", |messages| messages.first().cloned()).payload.contains("30.0"));
}

#[test]
fn the_figures_count_reads_and_failures() {
    let story = story("sensor = \"sick\"\nfault = \"nack\"");
    let metrics = texts(&story.messages, "board2mqtt/lab/metrics");
    let last: Value = serde_json::from_str(metrics.last().expect("figures every second")).expect("JSON");
    assert!(last["failures"].as_u64().is_some_and(|failures| (3..40).contains(&failures)), "{last}");
    let reads = readings(&story.messages, "far").len() as u64;
    assert!(last["readings"].as_u64().is_some_and(|total| total > reads), "{last}");
    let failing = |text: &String| serde_json::from_str::<Value>(text).expect("JSON")["failing"] == 1;
    assert!(metrics.iter().any(failing), "{metrics:?}");
}
