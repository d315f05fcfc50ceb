//! Sensors: a reading is neither missed nor doubled, and what is published is as the new file says.

use super::support::wait_for;
use super::{
    Gateway, Mosquitto, Recipe, assert_gapless, config, counter, counts, payloads, topic, wait_for_count,
    wait_for_empty, wait_for_retained,
};

#[test]
fn every_count_comes_once_and_on_its_grid() {
    let server = Mosquitto::start();
    let json = "[sensors.fast.readings.count]\npayload = \"json\"\n";
    let same = format!("{}{json}{}", counter("fast", 50), counter("slow", 100));
    let gate = Gateway::start(Recipe::new(&config(server.port(), &same)));
    let watch = server.subscribe(&[&topic("fast/count"), &topic("slow/count")]);
    wait_for_count(&watch, &topic("slow/count"), 2);
    for round in 0..20 {
        let more = if round % 2 == 0 { counter("another", 60) } else { String::new() };
        gate.reload(&config(server.port(), &format!("{more}{same}")));
        wait_for_count(&watch, &topic("slow/count"), 4 + round);
    }
    assert_gapless(&watch, &topic("slow/count"));
    let objects: Vec<serde_json::Value> = payloads(&watch, &topic("fast/count"))
        .iter()
        .map(|payload| serde_json::from_str(payload).expect("an object"))
        .collect();
    let values: Vec<_> = objects.iter().map(|object| object["value"].as_u64().expect("a count")).collect();
    assert!(values.windows(2).all(|pair| pair[1] == pair[0] + 1), "{values:?}");
    // A sensor begun anew is read at once, so each reload would have added a reading to what the grid has room for.
    let time = |object: &serde_json::Value| {
        let time = humantime::parse_rfc3339(object["time"].as_str().expect("a time")).expect("a date");
        time.duration_since(std::time::UNIX_EPOCH).expect("after 1970")
    };
    let lasted = time(&objects[objects.len() - 1]) - time(&objects[0]);
    let room = lasted.as_millis() / 50 + 2;
    assert!(objects.len() as u128 <= room, "{} readings in {lasted:?}", objects.len());
}

#[test]
fn a_sensor_comes_and_goes_with_everything_that_is_its() {
    let server = Mosquitto::start();
    let chip = "[sensors.roof]\ndriver = \"tmp117\"\naddress = 0x48\ninterval = \"50ms\"\n";
    let gate = Gateway::start(Recipe::new(&config(server.port(), &counter("ticks", 50))));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    wait_for_count(&watch, &topic("ticks/count"), 3);
    let logged = gate.reload(&config(server.port(), &format!("{chip}{}", counter("ticks", 50))));
    assert!(logged.contains("added=sensors.roof changed=\"\" removed=\"\" reconnects=false"), "{logged}");
    watch.wait_for(&topic("roof/status"), "online");
    wait_for_retained(&server, &topic("roof/temperature"));
    let logged = gate.reload(&config(server.port(), chip));
    assert!(logged.contains("removed=sensors.ticks"), "{logged}");
    for gone in ["ticks/count", "ticks/status", "ticks/health"] {
        wait_for_empty(&server, &topic(gone));
    }
    assert_gapless_until_cleared(&watch);
    let log = gate.reload(&config(server.port(), &format!("{chip}{}", counter("ticks", 50))));
    assert!(log.contains("added=sensors.ticks"), "{log}");
    watch.clear();
    wait_for_count(&watch, &topic("ticks/count"), 2);
    assert!(!gate.log().contains("sensor fails"));
}

/// Every count until the empty message that ended them.
fn assert_gapless_until_cleared(watch: &super::Subscriber) {
    let mut seen = payloads(watch, &topic("ticks/count"));
    assert_eq!(seen.pop().as_deref(), Some(""), "the last word");
    let numbers: Vec<u64> = seen.iter().map(|count| count.parse().expect("a count")).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

#[test]
fn a_changed_topic_or_unit_is_published_at_once_and_the_chip_is_not_touched() {
    let server = Mosquitto::start();
    let roof = |reading: &str| {
        let chip = "[sensors.roof]\ndriver = \"tmp117\"\naddress = 0x48\ninterval = \"1h\"\n";
        let ticks = "[sensors.ticks]\ndriver = \"test-counter\"\ninterval = \"1h\"\n";
        config(server.port(), &format!("{chip}[sensors.roof.readings.temperature]\n{reading}\n{ticks}"))
    };
    let gate = Gateway::start(Recipe::new(&roof("unit = \"°C\"")));
    let watch = server.subscribe(&["board2mqtt/gate/#", "sensors/#"]);
    let (old, ticks) = (topic("roof/temperature"), topic("ticks/count"));
    watch.wait_for(&ticks, "1");
    wait_for_retained(&server, &old);
    watch.clear();
    gate.reload(&roof("unit = \"K\"\ntopic = \"sensors/roof\""));
    let kelvin: f64 = wait_for_retained(&server, "sensors/roof").parse().expect("a number");
    assert!((200.0..400.0).contains(&kelvin), "{kelvin}");
    wait_for_empty(&server, &old);
    gate.reload(&roof("unit = \"K\"\ntopic = \"sensors/roof\"\npayload = \"{value} K\""));
    wait_for("the new form", || server.retained("sensors/roof").filter(|text| text.ends_with(" K")));
    gate.reload(&roof("unit = \"K\"\ntopic = \"sensors/roof\"\nretain = false"));
    wait_for_empty(&server, "sensors/roof");
    assert_eq!(counts(&watch.messages(), &ticks), [0; 0], "the other one was not read for that");
    assert_eq!(payloads(&watch, &topic("roof/status")), [""; 0], "and this one did not fail in between");
}

#[test]
fn other_topics_for_everything_leave_nothing_behind() {
    let server = Mosquitto::start();
    let parts = format!("{}[outputs.lamp]\nline = \"GPIO17\"\n[inputs.door]\nline = \"GPIO4\"\n", counter("ticks", 50));
    let gate = Gateway::start(Recipe::new(&config(server.port(), &parts)).script(""));
    let watch = server.subscribe(&["#"]);
    watch.wait_for(&topic("door"), "OFF");
    wait_for_count(&watch, &topic("ticks/count"), 3);
    gate.reload(&config(
        server.port(),
        &format!("[topics]\nbase = \"house\"\nstatus = \"board2mqtt/gate/status\"\n{parts}"),
    ));
    for old in ["ticks/count", "ticks/status", "ticks/health", "lamp", "door"] {
        wait_for_empty(&server, &topic(old));
    }
    for (new, payload) in [("house/door", "OFF"), ("house/lamp", "OFF"), ("house/ticks/status", "online")] {
        watch.wait_for(new, payload);
    }
    server.publish("house/lamp/set", "ON");
    gate.wait_for_levels("GPIO17", &["0", "1"]);
    let seen: Vec<u64> = watch
        .messages()
        .iter()
        .filter(|m| [topic("ticks/count").as_str(), "house/ticks/count"].contains(&m.topic.as_str()))
        .filter_map(|message| message.payload.parse().ok())
        .collect();
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
    assert_eq!(super::connects(&server, "board2mqtt-gate"), 1, "the status is where it was");
}

#[test]
fn a_filter_goes_on_unless_its_own_keys_change() {
    let server = Mosquitto::start();
    let ticks = |keys: &str| {
        let more = format!("{}[sensors.ticks.readings.count]\n{keys}\n{}", counter("ticks", 50), counter("fence", 50));
        config(server.port(), &more)
    };
    // One published, then nothing for a thousand reads.
    let gate = Gateway::start(Recipe::new(&ticks("change = 1000")));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for(&topic("ticks/count"), "1");
    for _ in 0..5 {
        gate.reload(&format!("{}[outputs.lamp]\nline = \"GPIO17\"\n", ticks("change = 1000")));
        gate.reload(&ticks("change = 1000"));
    }
    watch.clear();
    wait_for_count(&watch, &topic("fence/count"), 5);
    assert_eq!(counts(&watch.messages(), &topic("ticks/count")), [0; 0]);
    gate.reload(&ticks("change = 2000"));
    watch.wait_until("one more", |messages| (!counts(messages, &topic("ticks/count")).is_empty()).then_some(()));
}

#[test]
fn a_sensor_that_fails_goes_on_failing_since_then() {
    let server = Mosquitto::start();
    let chip = "[sensors.roof]\ndriver = \"tmp117\"\naddress = 0x48\ninterval = \"50ms\"\n";
    let fault = "[[step]]\nat = \"0s\"\nsensor = \"roof\"\nfault = \"nack\"\n";
    let gate = Gateway::start(Recipe::new(&config(server.port(), chip)).script(fault));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for(&topic("roof/status"), "offline");
    let health = wait_for_retained(&server, &topic("roof/health"));
    let since = |health: &str| -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(health).expect("an object")["since"].clone()
    };
    gate.reload(&config(server.port(), &format!("{chip}{}", counter("ticks", 50))));
    wait_for_count(&watch, &topic("ticks/count"), 3);
    assert_eq!(since(&server.retained(&topic("roof/health")).expect("its health")), since(&health));
    assert_eq!(payloads(&watch, &topic("roof/status")).len(), 1);
    assert_eq!(gate.logged("sensor fails"), 1, "told once");
}

#[test]
fn a_thousand_sensors_and_a_command_do_not_notice() {
    let server = Mosquitto::patient();
    let counters: String = (0..1_000).map(|number| counter(&format!("c{number}"), 1_000)).collect();
    let lamp = "[outputs.lamp]\nline = \"GPIO17\"\n";
    let text = |more: &str| config(server.port(), &format!("{more}{counters}{lamp}"));
    let texts = [text(&counter("first", 500)), text("")];
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    let gate = Gateway::start(Recipe::new(&texts[1]));
    wait_for_count(&watch, &topic("c999/count"), 1);
    super::wait_for_subscriptions(&server);
    for round in 0..5 {
        gate.reload(&texts[round % 2]);
        let level = if round % 2 == 0 { "ON" } else { "OFF" };
        server.publish(&topic("lamp/set"), level);
        wait_for("the lamp", || (gate.levels("GPIO17").len() == round + 2).then_some(()));
    }
    let last = counts(&watch.messages(), &topic("c0/count")).into_iter().max().expect("counts") + 2;
    wait_for_count(&watch, &topic("c999/count"), last);
    // On a busy machine a value may come too late to be the newest one: then it is history.
    watch.wait_until("every count", |messages| {
        let whole = |number| {
            let mut seen = counts(messages, &topic(&format!("c{number}/count")));
            seen.sort_unstable();
            seen.windows(2).all(|pair| pair[1] == pair[0] + 1)
        };
        (0..1_000).all(whole).then_some(())
    });
    let messages = watch.messages();
    let status = |message: &&super::Received| message.topic.ends_with("/status") && message.topic.contains("/c");
    assert_eq!(messages.iter().filter(status).count(), 1_000, "each is online once");
}

#[test]
fn two_hundred_reloads_leave_no_memory_behind() {
    let server = Mosquitto::start();
    let counters = |first: usize| (first..first + 40).map(|n| counter(&format!("c{n}"), 100)).collect::<String>();
    let texts = [0, 20].map(|first| config(server.port(), &counters(first)));
    let gate = Gateway::start(Recipe::new(&texts[0]));
    let watch = server.subscribe(&[&topic("c30/count")]);
    wait_for_count(&watch, &topic("c30/count"), 1);
    let rounds = |from: usize, to: usize| (from..to).for_each(|round| drop(gate.reload(&texts[round % 2])));
    rounds(1, 60);
    let before = gate.memory_kib();
    rounds(60, 260);
    let after = gate.memory_kib();
    // A thread, a plan or a sensor kept of each would be more; the allocator takes up to 2 MiB as its threads come and go.
    assert!(after < before + 3 * 1024, "{before} KiB, then {after} KiB");
}

#[test]
fn a_sea_level_pressure_is_kept_and_a_sensor_that_newly_wants_it_gets_it() {
    let server = Mosquitto::start();
    server.retain("weather/qnh", "1000");
    let from = "sea_level_pressure = { topic = \"weather/qnh\", unit = \"hPa\" }\n";
    let chip = |name: &str, address: u8| {
        format!("[sensors.{name}]\ndriver = \"bmp280\"\naddress = {address}\ninterval = \"100ms\"\n{from}")
    };
    let gate = Gateway::start(
        Recipe::new(&config(server.port(), &chip("low", 0x76)))
            .script("[[step]]\nat = \"0s\"\nsensor = \"low\"\npressure = 990.0\n"),
    );
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    let altitude = |name: &str| wait_for_retained(&server, &topic(&format!("{name}/altitude")));
    let before: f64 = altitude("low").parse().expect("metres");
    assert!((80.0..90.0).contains(&before), "{before}");
    gate.reload(&config(server.port(), &format!("{}{}", chip("low", 0x76), chip("high", 0x77))));
    altitude("high");
    let seen = watch.messages();
    let statuses: Vec<_> = seen.iter().filter(|m| m.topic == topic("low/status")).map(|m| &m.payload).collect();
    assert_eq!(statuses.last().map(|status| status.as_str()), Some("online"), "{statuses:?}");
    let after_first_online = statuses.iter().skip_while(|status| **status != "online").count();
    assert_eq!(after_first_online, 1, "the altitude never missed its reference: {statuses:?}");
}
