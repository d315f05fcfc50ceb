//! Outputs and inputs: what is the same does not move, what differs is as the new file says.

use super::support::{PATIENCE, wait_for};
use super::{
    Gateway, Mosquitto, Recipe, config, connects, counter, payloads, topic, wait_for_empty, wait_for_subscriptions,
};
use std::time::Instant;

const LAMP: &str = "[outputs.lamp]\nline = \"GPIO17\"\n";

fn at_s(write: &super::support::agent::Write) -> f64 {
    write.at_ns as f64 / 1e9
}

#[test]
fn what_is_the_same_is_not_touched_by_twenty_reloads() {
    let server = Mosquitto::start();
    let outputs = "[outputs.beacon]\nline = \"GPIO17\"\ninitial = \"on\"\n\
                   [outputs.lamp]\nline = \"GPIO22\"\n\
                   [outputs.fan]\npwm = { line = \"GPIO18\", frequency = 100 }\nsafe = 30\n\
                   [outputs.heater]\nline = \"GPIO23\"\nfollow = { reading = \"ticks.count\", on_above = 3, off_below = 2, stale_after = \"10s\" }\n\
                   [inputs.door]\nline = \"GPIO27\"\n";
    let same = format!("{outputs}{}", counter("ticks", 50));
    // The parts that stay stand elsewhere in the file, after others, and other keys change around them.
    let other = format!(
        "[metrics]\ninterval = \"7s\"\n[outputs.another]\nline = \"GPIO5\"\n[inputs.first]\nline = \"GPIO6\"\n{}{outputs}{}",
        counter("before", 70),
        counter("ticks", 50)
    );
    let still = "[[step]]\nat = \"0s\"\ninput = \"door\"\nlevel = \"ON\"\n";
    let gate = Gateway::start(Recipe::new(&config(server.port(), &same)).script(still));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for(&topic("heater"), "ON");
    watch.wait_for(&topic("door"), "ON");
    wait_for_subscriptions(&server);
    server.publish(&topic("lamp/set"), "ON");
    watch.wait_for(&topic("lamp"), "ON");
    let before = gate.writes();
    watch.clear();
    for round in 0..20 {
        gate.reload(&config(server.port(), if round % 2 == 0 { &other } else { &same }));
    }
    super::wait_for_count(&watch, &topic("ticks/count"), 20);
    let of_same =
        |writes: Vec<_>| writes.into_iter().filter(|write: &super::support::agent::Write| write.line != "GPIO5");
    assert!(of_same(gate.writes()).eq(of_same(before)), "an unchanged output was written to");
    assert_eq!(gate.levels("GPIO5"), ["0"; 10], "the other one came and went");
    for still in ["beacon", "lamp", "fan", "heater", "door", "status"] {
        assert_eq!(payloads(&watch, &topic(still)), [""; 0], "{still} was published again");
    }
    super::assert_gapless(&watch, &topic("ticks/count"));
    assert_eq!(connects(&server, "board2mqtt-gate"), 1);
    // A command on a topic that was subscribed before all that.
    server.publish(&topic("lamp/set"), "OFF");
    watch.wait_for(&topic("lamp"), "OFF");
    assert!(!gate.log().contains("WARN") && !gate.log().contains("ERROR"));
}

#[test]
fn a_file_that_says_the_same_changes_nothing_and_says_so() {
    let server = Mosquitto::start();
    let text = config(server.port(), &format!("{LAMP}{}", counter("ticks", 100)));
    let gate = Gateway::start(Recipe::new(&text));
    server.subscribe(&[&topic("status")]).wait_for(&topic("status"), "online");
    assert!(gate.reload(&text).contains("nothing has changed"));
    assert!(gate.reload(&format!("# A remark.\n{text}")).contains("nothing has changed"));
    assert_eq!(gate.levels("GPIO17"), ["0"]);
}

#[test]
fn every_limit_ends_at_its_time_through_reloads() {
    let server = Mosquitto::start();
    let outputs = "[outputs.a]\nline = \"GPIO1\"\nmax_on = \"3s\"\n\
                   [outputs.b]\nline = \"GPIO2\"\nrenew_within = \"3s\"\n\
                   [outputs.c]\nline = \"GPIO3\"\n\
                   [outputs.d]\nline = \"GPIO4\"\n\
                   follow = { topic = \"far\", on_above = 400, off_below = 380, stale_after = \"3s\" }\n\
                   [outputs.e]\nline = \"GPIO5\"\nmin_off = \"3s\"\n";
    let with = |more: &str| config(server.port(), &format!("{outputs}{more}"));
    let gate = Gateway::start(Recipe::new(&with("")));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for(&topic("e"), "OFF");
    wait_for_subscriptions(&server);
    server.publish(&topic("e/set"), "ON");
    server.publish(&topic("e/set"), "OFF");
    server.publish(&topic("a/set"), "ON");
    server.publish(&topic("b/set"), "ON");
    server.publish(&topic("c/set"), r#"{"state":"ON","for":"3s"}"#);
    server.publish("far", "500");
    let lines = ["GPIO1", "GPIO2", "GPIO3", "GPIO4"];
    lines.iter().for_each(|line| gate.wait_for_levels(line, &["0", "1"]));
    gate.wait_for_levels("GPIO5", &["0", "1", "0"]);
    let changed = |line: &str| at_s(gate.writes().iter().rfind(|write| write.line == line).expect("a write"));
    let (begun, off) = (lines.map(changed), changed("GPIO5"));
    let now = || super::shell::monotonic() as f64 / 1e9;
    let mut round = 0;
    while now() < begun[3] + 2.0 {
        round += 1;
        gate.reload(&with(&format!("[metrics]\ninterval = \"{}s\"\n", 10 + round)));
        server.publish(&topic("e/set"), "ON");
    }
    for (line, on) in lines.into_iter().zip(begun) {
        gate.wait_for_levels(line, &["0", "1", "0"]);
        let lasted = changed(line) - on;
        // Time counts from the command, which comes a moment before its write.
        assert!((2.9..4.5).contains(&lasted), "{line} was on for {lasted} s, after {round} reloads");
    }
    wait_for("`min_off` to be over", || {
        server.publish(&topic("e/set"), "ON");
        (gate.levels("GPIO5").len() == 4).then_some(())
    });
    assert!(changed("GPIO5") - off >= 2.9, "a reload does not end `min_off`");
}

#[test]
fn new_limits_apply_to_the_line_as_it_stands() {
    let server = Mosquitto::start();
    let gate = Gateway::start(Recipe::new(&config(server.port(), LAMP)));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for(&topic("status"), "online");
    wait_for_subscriptions(&server);
    server.publish(&topic("lamp/set"), "ON");
    gate.wait_for_levels("GPIO17", &["0", "1"]);
    let on = at_s(gate.writes().last().expect("a write"));
    let logged = gate.reload(&config(server.port(), &format!("{LAMP}max_on = \"2s\"\n")));
    assert!(logged.contains("changed=outputs.lamp"), "{logged}");
    gate.wait_for_levels("GPIO17", &["0", "1", "0"]);
    let lasted = at_s(gate.writes().last().expect("a write")) - on;
    assert!((1.9..3.5).contains(&lasted), "counted from when it went on: {lasted} s");
}

#[test]
fn a_new_rule_judges_the_last_value_and_does_not_blink() {
    let server = Mosquitto::start();
    let rule = |above: u32, below: u32| {
        let follow =
            format!("follow = {{ topic = \"far\", on_above = {above}, off_below = {below}, stale_after = \"1h\" }}");
        config(server.port(), &format!("{LAMP}{follow}\n"))
    };
    let gate = Gateway::start(Recipe::new(&rule(400, 380)));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for(&topic("status"), "online");
    wait_for_subscriptions(&server);
    server.publish("far", "500");
    gate.wait_for_levels("GPIO17", &["0", "1"]);
    gate.reload(&rule(450, 440));
    assert_eq!(gate.levels("GPIO17"), ["0", "1"], "500 is above 450 too");
    gate.reload(&rule(600, 550));
    gate.wait_for_levels("GPIO17", &["0", "1", "0"]);
}

#[test]
fn outputs_come_and_go_with_everything_that_is_theirs() {
    let server = Mosquitto::start();
    let siren = "[outputs.siren]\nline = \"GPIO22\"\non_exit = \"off\"\n";
    let gate = Gateway::start(Recipe::new(&config(server.port(), &format!("{LAMP}{siren}"))));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for(&topic("siren"), "OFF");
    wait_for_subscriptions(&server);
    server.publish(&topic("siren/set"), "ON");
    gate.wait_for_levels("GPIO22", &["0", "1"]);
    let fan = "[outputs.fan]\npwm = { line = \"GPIO18\", frequency = 100 }\ninitial = \"on\"\n";
    let logged = gate.reload(&config(server.port(), &format!("{fan}{LAMP}")));
    assert!(logged.contains("added=outputs.fan") && logged.contains("removed=outputs.siren"), "{logged}");
    assert_eq!(gate.levels("GPIO22"), ["0", "1", "0"], "it was left at `on_exit`");
    wait_for_empty(&server, &topic("siren"));
    server.wait_for_log("Received UNSUBSCRIBE from board2mqtt-gate");
    watch.wait_for(&topic("fan"), "100");
    // Nobody hears the old topic any more; the new one is heard.
    server.publish(&topic("siren/set"), "ON");
    server.publish(&topic("fan/set"), "40");
    gate.wait_for_levels("GPIO18", &["100", "40"]);
    server.publish(&topic("lamp/set"), "ON");
    gate.wait_for_levels("GPIO17", &["0", "1"]);
    assert_eq!(gate.levels("GPIO22"), ["0", "1", "0"]);
    let table = std::fs::read_to_string(gate.file("run/outputs.json")).expect("the table of safe levels");
    assert!(table.contains("GPIO18") && !table.contains("GPIO22"), "{table}");
}

#[test]
fn a_line_may_change_its_part() {
    let server = Mosquitto::start();
    let output = |line: &str| format!("[outputs.lamp]\nline = \"{line}\"\n");
    let input = |line: &str| format!("[inputs.door]\nline = \"{line}\"\n");
    let start = config(server.port(), &format!("{}{}", output("GPIO1"), input("GPIO2")));
    let gate = Gateway::start(Recipe::new(&start));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for(&topic("lamp"), "OFF");
    wait_for_subscriptions(&server);
    gate.reload(&config(server.port(), &format!("{}{}", output("GPIO2"), input("GPIO1"))));
    assert_eq!((gate.levels("GPIO1"), gate.levels("GPIO2")), (vec!["0".to_owned()], vec!["0".to_owned()]));
    server.publish(&topic("lamp/set"), "ON");
    gate.wait_for_levels("GPIO2", &["0", "1"]);
    assert!(!gate.log().contains("WARN"), "each line was free when it was asked for");
}

#[test]
fn no_edge_is_missed() {
    // A contact that bounces for two seconds, every millisecond.
    const PULSES: usize = 1_001;
    let server = Mosquitto::start();
    let script = "[[step]]\nat = \"1s\"\ninput = \"rain\"\nlevel = \"ON\"\nbounces = 1000\n";
    let rain = "[inputs.rain]\nline = \"GPIO4\"\ncount = { edge = \"rising\", per_pulse = 1, unit = \"\", interval = \"100ms\" }\n";
    let same = config(server.port(), rain);
    let other = config(server.port(), &format!("[inputs.first]\nline = \"GPIO5\"\n{rain}"));
    let gate = Gateway::start(Recipe::new(&same).script(script));
    let watch = server.subscribe(&[&topic("rain")]);
    watch.wait_for(&topic("rain"), "0");
    let (mut round, begun) = (0, Instant::now());
    while payloads(&watch, &topic("rain")).last().and_then(|total| total.parse().ok()) != Some(PULSES) {
        round += 1;
        gate.reload(if round % 2 == 0 { &same } else { &other });
        assert!(begun.elapsed() < PATIENCE, "{:?}", payloads(&watch, &topic("rain")).last());
    }
    assert!(round > 5, "{round} reloads");
    wait_for("the total to be kept", || (server.retained(&topic("rain"))? == PULSES.to_string()).then_some(()));
}

#[test]
fn inputs_come_and_go() {
    let server = Mosquitto::start();
    let door = "[inputs.door]\nline = \"GPIO4\"\n";
    let still = "[[step]]\nat = \"0s\"\ninput = \"door\"\nlevel = \"ON\"\n";
    let gate = Gateway::start(Recipe::new(&config(server.port(), door)).script(still));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for(&topic("door"), "ON");
    gate.reload(&config(server.port(), &format!("{door}topic = \"house/door\"\n[inputs.gate]\nline = \"GPIO5\"\n")));
    wait_for_empty(&server, &topic("door"));
    assert_eq!(server.retained("house/door").as_deref(), Some("ON"));
    watch.wait_for(&topic("gate"), "OFF");
    // Its script speaks of an input that is not there any more.
    gate.write(&config(server.port(), "[inputs.gate]\nline = \"GPIO5\"\n"));
    gate.signal(libc::SIGHUP);
    gate.wait_for_log("configuration refused", 1);
    assert_eq!(server.retained("house/door").as_deref(), Some("ON"));
}
