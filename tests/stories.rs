//! The story, told by the real parts: each file of `configs/` as it stands, on a simulated board, with the real agent and a
//! real Mosquitto that runs the files of `configs/mosquitto/`. Only the server's address, the board and the folders differ.

mod support;

use std::time::Duration;
use support::agent::{Agent, Recipe};
use support::mosquitto::{Mosquitto, Received, free_port};
use support::shipped::shipped;

const USERS: [(&str, &str); 6] = [
    ("drone01", "one"),
    ("drone40", "forty"),
    ("beaglebone", "black"),
    ("udooneo", "neo"),
    ("greenhouse", "glass"),
    ("boiler", "fire"),
];

/// 100 feet and 75 °F, for ever.
const STILL: &str = "[[step]]\nat = \"0s\"\nsensor = \"barometer\"\naltitude = 30.48";
const WARM: &str = "[[step]]\nat = \"0s\"\nsensor = \"thermometer\"\ntemperature = 24";

/// The server's first stage, watched by the Udoo Neo.
fn with_passwords() -> Mosquitto {
    let mut server = shipped("password.conf", &USERS);
    server.client_args = as_user("udooneo").map(str::to_owned).to_vec();
    server
}

fn as_user(name: &'static str) -> [&'static str; 4] {
    ["-u", name, "-P", password(name)]
}

fn password(name: &str) -> &'static str {
    USERS.iter().find(|(user, _)| *user == name).expect("a user of the story").1
}

fn gateway(file: &str, user: &str) -> Recipe {
    Recipe::shipped(file, password(user))
}

/// The values an output was driven to, as numbers.
fn percentages(agent: &Agent, line: &str) -> Vec<f64> {
    agent.levels(line).iter().map(|value| value.parse().expect("a percentage")).collect()
}

#[test]
fn the_drones_publish_what_everybody_reads() {
    let server = with_passwords();
    let watch = server.subscribe(&["sensors/#"]);
    let _drone01 = gateway("drone01.toml", "drone01").script(STILL).server(server.port()).start();
    let _drone40 = gateway("drone40.toml", "drone40").script(WARM).server(server.port()).start();
    watch.wait_for("sensors/drone01/status", "online");
    watch.wait_for("sensors/drone01/altitude", "100 feet");
    watch.wait_for("sensors/drone40/status", "online");
    watch.wait_for("sensors/drone40/temperature", "75 F");
    // Who comes later finds the same, retained.
    let later = server.subscribe(&["sensors/#"]);
    for (topic, payload) in [
        ("sensors/drone01/status", "online"),
        ("sensors/drone01/altitude", "100 feet"),
        ("sensors/drone40/status", "online"),
        ("sensors/drone40/temperature", "75 F"),
    ] {
        assert!(later.wait_for(topic, payload).retain, "{topic}");
    }
}

#[test]
fn the_demos_flight_needs_no_script() {
    let server = with_passwords();
    let _drone = gateway("drone01.toml", "drone01").server(server.port()).start();
    let altitude = server.subscribe(&["sensors/drone01/altitude"]).wait_until("an altitude", |m| m.first().cloned());
    let feet = altitude.payload.strip_suffix(" feet").expect("a number and its unit");
    assert!(feet.parse::<i32>().is_ok_and(|feet| (-100..10_000).contains(&feet)), "{feet}");
}

#[test]
fn the_beacon_follows_a_drone_that_a_second_agent_publishes() {
    let server = with_passwords();
    let flight = "[[step]]\nat = \"0s\"\nsensor = \"barometer\"\naltitude = 60\n\
                  [[step]]\nat = \"2s\"\nsensor = \"barometer\"\naltitude = 140\n\
                  [[step]]\nat = \"5s\"\nsensor = \"barometer\"\naltitude = 60\n\
                  [[step]]\nat = \"8s\"\nsensor = \"barometer\"\naltitude = 140";
    let state = server.subscribe(&["board2mqtt/beaglebone/beacon"]);
    let beacon = gateway("beaglebone-beacon.toml", "beaglebone").server(server.port()).start();
    state.wait_for("board2mqtt/beaglebone/beacon", "OFF");
    let mut drone = gateway("drone01.toml", "drone01").script(flight).server(server.port()).start();
    let line = "P9_12";
    beacon.wait_for_levels(line, &["0", "1", "0", "1"]);
    state.wait_for("board2mqtt/beaglebone/beacon", "ON");
    // The drone dies up there; the beacon does not burn for ever on its last word.
    drone.kill();
    beacon.wait_for_levels(line, &["0", "1", "0", "1", "0"]);
}

#[test]
fn the_greenhouse_heats_and_airs_with_no_server_at_all() {
    let climate = "[[step]]\nat = \"0s\"\nsensor = \"bench\"\ntemperature = 5\n\
                   [[step]]\nat = \"0s\"\nsensor = \"roof\"\ntemperature = 26\n\
                   [[step]]\nat = \"2s\"\nsensor = \"bench\"\ntemperature = 12\n\
                   [[step]]\nat = \"2s\"\nsensor = \"roof\"\ntemperature = 30";
    let mut agent = gateway("greenhouse.toml", "greenhouse")
        .script(climate)
        .server(free_port())
        .set("DEFAULTS__INTERVAL", "500ms")
        .start();
    agent.wait_for_levels("GPIO17", &["0", "1", "0"]);
    let near = |wanted: f64| {
        let what = format!("the fan at {wanted} %");
        support::wait_for(&what, || {
            percentages(&agent, "GPIO18").last().is_some_and(|now| (now - wanted).abs() < 1.0).then_some(())
        });
    };
    near(60.0);
    let fan = percentages(&agent, "GPIO18");
    assert!((fan[0] - 30.0).abs() < 1e-9, "some air while nothing is known: {fan:?}");
    assert!(fan.iter().any(|level| (level - 20.0).abs() < 1.0), "{fan:?}");
    let (status, _) = agent.stop();
    assert!(status.success());
    assert_eq!(agent.levels("GPIO18").last().map(String::as_str), Some("30"));
}

#[test]
fn the_greenhouse_tells_what_it_measures() {
    let server = with_passwords();
    let watch = server.subscribe(&["board2mqtt/#"]);
    let climate = "[[step]]\nat = \"0s\"\nsensor = \"bench\"\ntemperature = 9\n\
                   [[step]]\nat = \"2s\"\ninput = \"rain\"\nlevel = \"ON\"\n\
                   [[step]]\nat = \"3s\"\ninput = \"door\"\nlevel = \"ON\"";
    let recipe = gateway("greenhouse.toml", "greenhouse").script(climate).server(server.port());
    let _agent = recipe.set("INPUTS__RAIN__COUNT__INTERVAL", "1s").start();
    for (name, payload) in [
        ("bench/temperature", "9.00"),
        ("bench/status", "online"),
        ("bench/health", r#"{"state":"ok"}"#),
        ("roof/status", "online"),
        ("soil/status", "online"),
        ("outside/status", "online"),
        ("heater", "OFF"),
        ("door", "OFF"),
        ("door", "ON"),
        ("rain", "0.2794"),
    ] {
        watch.wait_for(&format!("board2mqtt/greenhouse/{name}"), payload);
    }
    for name in ["soil/temperature", "outside/temperature", "roof/temperature", "roof/humidity", "roof/pressure", "fan"]
    {
        let topic = format!("board2mqtt/greenhouse/{name}");
        watch.wait_until(&topic, |messages| messages.iter().any(|message| message.topic == topic).then_some(()));
    }
}

const SET: &str = "board2mqtt/boiler/burner/set";

/// The boiler, burning.
fn burning(server: &Mosquitto, script: &str) -> Agent {
    let text = format!("[[step]]\nat = \"0s\"\nsensor = \"flue\"\ntemperature = 60\n{script}");
    let agent = gateway("boiler.toml", "boiler")
        .script(&text)
        .server(server.port())
        .set("OUTPUTS__BURNER__ON_SERVER_LOSS__AFTER", "1s")
        .start();
    let watch = server.subscribe(&["board2mqtt/boiler/#"]);
    watch.wait_for("board2mqtt/boiler/flue/temperature", "60.00");
    agent.wait_for_levels("GPIO17", &["0"]);
    server.publish_with(SET, "ON", &[&["-q", "1"][..], &as_user("boiler")].concat());
    watch.wait_for("board2mqtt/boiler/burner/reply", r#"{"outcome":"done","state":"ON"}"#);
    agent.wait_for_levels("GPIO17", &["0", "1"]);
    agent
}

#[test]
fn the_boiler_stops_when_the_flue_is_hot_and_says_why_it_will_not_start() {
    let server = with_passwords();
    let agent = burning(&server, "[[step]]\nat = \"6s\"\nsensor = \"flue\"\ntemperature = 95");
    agent.wait_for_levels("GPIO17", &["0", "1", "0"]);
    let watch = server.subscribe(&["board2mqtt/boiler/#"]);
    server.publish_with(SET, "ON", &[&["-q", "1"][..], &as_user("boiler")].concat());
    let refused = |message: &Received| message.topic.ends_with("/reply").then(|| message.payload.clone());
    let reply = watch.wait_until("a reply", |messages| messages.iter().find_map(refused));
    assert!(reply.contains(r#""outcome":"refused","state":"OFF""#), "{reply}");
    assert!(reply.contains(r#""reason":"require""#) || reply.contains(r#""reason":"min-off""#), "{reply}");
    assert_eq!(agent.levels("GPIO17"), ["0", "1", "0"]);
}

#[test]
fn the_boiler_stops_when_the_flue_is_not_known() {
    let server = with_passwords();
    let agent = burning(&server, "[[step]]\nat = \"6s\"\nsensor = \"flue\"\nfault = \"nack\"");
    agent.wait_for_levels("GPIO17", &["0", "1", "0"]);
}

#[test]
fn the_boiler_stops_when_the_server_is_gone_and_when_the_agent_stops() {
    let mut server = with_passwords();
    let mut agent = burning(&server, "");
    server.kill();
    agent.wait_for_levels("GPIO17", &["0", "1", "0"]);
    server.start_again();
    agent.wait_for_log("connected to the server", 2);
    assert_eq!(agent.levels("GPIO17"), ["0", "1", "0"], "a server that is back does not light it");
    agent.stop();

    let mut agent = burning(&server, "");
    let (status, _) = agent.stop();
    assert!(status.success());
    assert_eq!(agent.levels("GPIO17"), ["0", "1", "0"]);
}

/// The story over TLS: `recipe` adds what a gateway of that name needs.
fn over_tls(mut server: Mosquitto, watcher: &[String], recipe: impl Fn(Recipe, &Mosquitto, &str) -> Recipe) {
    let ca = server.file("certs/ca.pem").display().to_string();
    server.client_args = [&["-h", "localhost", "--cafile", &ca].map(str::to_owned)[..], watcher].concat();
    let start = |file, user: &str, script| {
        let secured = gateway(file, user)
            .script(script)
            .set("MQTT__SERVER", format!("mqtts://localhost:{}", server.port()))
            .set("MQTT__TLS__CA", ca.clone());
        recipe(secured, &server, user).start()
    };
    let watch = server.subscribe(&["sensors/#", "board2mqtt/#"]);
    let beacon = start("beaglebone-beacon.toml", "beaglebone", "");
    watch.wait_for("board2mqtt/beaglebone/beacon", "OFF");
    let high = STILL.replace("30.48", "152.4");
    let mut drone = start("drone01.toml", "drone01", &high);
    watch.wait_for("sensors/drone01/altitude", "500 feet");
    beacon.wait_for_levels("P9_12", &["0", "1"]);
    watch.wait_for("board2mqtt/beaglebone/beacon", "ON");
    let (status, took) = drone.stop();
    assert!(status.success() && took < Duration::from_secs(2), "{status} after {took:?}");
    watch.wait_for("sensors/drone01/status", "offline");
}

#[test]
fn the_story_goes_on_over_tls() {
    let server = shipped("tls.conf", &USERS);
    over_tls(server, &as_user("udooneo").map(str::to_owned), |recipe, _, _| recipe);
}

#[test]
fn the_story_goes_on_with_client_certificates() {
    let server = shipped("client-certificates.conf", &USERS);
    let file = |server: &Mosquitto, name: &str| server.file(&format!("certs/{name}")).display().to_string();
    let (cert, key) = (file(&server, "udooneo.pem"), file(&server, "udooneo.key"));
    over_tls(server, &["--cert".into(), cert, "--key".into(), key], |recipe, server, user| {
        let cert = file(server, &format!("{user}.pem"));
        recipe.set("MQTT__TLS__CERT", cert).set("MQTT__TLS__KEY", file(server, &format!("{user}.key")))
    });
}
