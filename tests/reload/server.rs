//! The connection: not touched where nothing of it changes, otherwise left in order, with nothing lost at QoS 1.

use super::support::mosquitto::password_file;
use super::support::proxy::{Mode, Proxy};
use super::support::wait_for;
use super::{
    Gateway, Mosquitto, Received, Recipe, config, connects, counter, counts, payloads, topic, wait_for_count,
    wait_for_empty,
};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const STATUS: &str = "board2mqtt/gate/status";

/// Waits until every count from the first to the last is among the messages, live or in the history.
fn wait_until_none_lacks(messages: impl Fn() -> Vec<Received>, topic: &str) {
    wait_for(&format!("every count of {topic}"), || {
        let seen: BTreeSet<u64> = counts(&messages(), topic).into_iter().collect();
        (*seen.last()? - *seen.first()? + 1 == seen.len() as u64).then_some(())
    });
}

#[test]
fn another_server_gets_everything_the_old_one_did_not_acknowledge() {
    let (old, new) = (Mosquitto::start(), Mosquitto::start());
    let parts = format!("{}[outputs.lamp]\nline = \"GPIO17\"\n", counter("ticks", 20));
    let gate = Gateway::start(Recipe::new(&config(old.port(), &parts)));
    let (before, after) = (old.subscribe(&["board2mqtt/gate/#"]), new.subscribe(&["board2mqtt/gate/#"]));
    let ticks = topic("ticks/count");
    wait_for_count(&before, &ticks, 20);
    let logged = gate.reload(&config(new.port(), &parts));
    assert!(logged.contains("reconnects=true"), "{logged}");
    after.wait_for(STATUS, "online");
    let moved = *counts(&after.messages(), &ticks).last().unwrap_or(&0);
    wait_for_count(&after, &ticks, moved + 20);
    assert_eq!(old.retained(STATUS).as_deref(), Some("offline"));
    old.wait_for_log("Received DISCONNECT from board2mqtt-gate");
    let all = || [before.messages(), after.messages()].concat();
    wait_until_none_lacks(all, &ticks);
    new.publish(&topic("lamp/set"), "ON");
    gate.wait_for_levels("GPIO17", &["0", "1"]);
    assert_eq!(gate.logged("no connection to the server"), 0, "it was no outage");
    // And back, while the old one is not there: it is looked for without end, and the wait is not a fault.
    let nobody = super::shell::free_port();
    gate.reload(&config(nobody, &parts));
    gate.wait_for_log("connection refused", 1);
    gate.reload(&config(new.port(), &parts));
    wait_for("the way back", || (payloads(&after, STATUS) == ["online", "offline", "online"]).then_some(()));
    wait_until_none_lacks(all, &ticks);
    assert_eq!(gate.levels("GPIO17"), ["0", "1"], "no line heard of any of it");
}

#[test]
fn other_credentials_and_another_keep_alive_are_one_connection_more() {
    let server = Mosquitto::with(|folder| {
        let passwords = password_file(folder, &[("old", "one"), ("new", "two")]);
        format!("allow_anonymous true\npassword_file {}", passwords.display())
    });
    let with = |mqtt: &str| {
        let text = config(server.port(), &counter("ticks", 20));
        text.replace("keep_alive = \"5s\"", mqtt)
    };
    let gate = Gateway::start(Recipe::new(&with("keep_alive = \"5s\"")).file("password", "two\n"));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    let ticks = topic("ticks/count");
    wait_for_count(&watch, &ticks, 10);
    let login = "keep_alive = \"5s\"\nusername = \"new\"\npassword = { file = \"password\" }";
    let other = "keep_alive = \"7s\"\nusername = \"new\"\npassword = { file = \"password\" }";
    for (number, mqtt) in [(2, login), (3, other)] {
        let seen = counts(&watch.messages(), &ticks).into_iter().max().expect("counts");
        assert!(gate.reload(&with(mqtt)).contains("reconnects=true"));
        wait_for_count(&watch, &ticks, seen + 10);
        wait_for("the connection", || (connects(&server, "board2mqtt-gate") == number).then_some(()));
    }
    assert_eq!(connects(&server, "board2mqtt-gate"), 3);
    assert!(server.log().contains("u'new'"), "{}", server.log());
    // What only the pauses between attempts need is taken up without a new connection.
    let pauses = with(other).replace("100ms", "150ms");
    assert!(!gate.reload(&pauses).contains("reconnects=true"));
    let seen = counts(&watch.messages(), &ticks).into_iter().max().expect("counts");
    wait_for_count(&watch, &ticks, seen + 20);
    assert_eq!(connects(&server, "board2mqtt-gate"), 3);
    wait_until_none_lacks(|| watch.messages(), &ticks);
    assert_eq!(gate.logged("WARN"), 0);
}

#[test]
fn another_name_takes_everything_along() {
    let server = Mosquitto::start();
    let gate = Gateway::start(Recipe::new(&config(server.port(), &counter("ticks", 50))));
    let watch = server.subscribe(&["board2mqtt/#"]);
    watch.wait_for(STATUS, "online");
    wait_for_count(&watch, &topic("ticks/count"), 3);
    gate.reload(&config(server.port(), &counter("ticks", 50)).replace("\"gate\"", "\"door\""));
    watch.wait_for("board2mqtt/door/status", "online");
    let told = payloads(&watch, STATUS);
    assert!(told.starts_with(&["online".into(), "offline".into()]), "told before it is taken away: {told:?}");
    for old in ["status", "ticks/count", "ticks/status", "ticks/health"] {
        wait_for_empty(&server, &topic(old));
    }
    assert_eq!(connects(&server, "board2mqtt-door"), 1);
}

#[test]
fn a_link_that_takes_no_acks_does_not_hold_the_move_up() {
    let (old, new) = (Mosquitto::start(), Mosquitto::start());
    let link = Proxy::to(old.port());
    let parts = format!("{}[outputs.lamp]\nline = \"GPIO17\"\n", counter("ticks", 20));
    let gate = Gateway::start(Recipe::new(&config(link.port(), &parts)));
    let (before, after) = (old.subscribe(&["board2mqtt/gate/#"]), new.subscribe(&["board2mqtt/gate/#"]));
    let ticks = topic("ticks/count");
    wait_for_count(&before, &ticks, 10);
    link.set(Mode::BlackHole);
    let begun = Instant::now();
    gate.reload(&config(new.port(), &parts));
    after.wait_for(STATUS, "online");
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    let moved = *counts(&after.messages(), &ticks).last().unwrap_or(&0);
    wait_for_count(&after, &ticks, moved + 20);
    wait_for("what the black hole had", || {
        let all = [before.messages(), after.messages()].concat();
        let seen: BTreeSet<u64> = counts(&all, &ticks).into_iter().collect();
        (*seen.last()? - *seen.first()? + 1 == seen.len() as u64).then_some(())
    });
}

#[test]
fn what_changes_while_the_server_is_away_is_so_when_it_is_back() {
    let mut server = Mosquitto::persistent();
    let port = server.port();
    let keeps = |more: &str| config(port, more).replace("[mqtt]", "[mqtt]\nclean_session = false");
    let old = keeps(&format!("{}[outputs.lamp]\nline = \"GPIO17\"\n", counter("ticks", 50)));
    let new = keeps(&format!("{}[outputs.siren]\nline = \"GPIO22\"\n", counter("tocks", 50)));
    let gate = Gateway::start(Recipe::new(&old));
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    watch.wait_for(&topic("lamp"), "OFF");
    wait_for_count(&watch, &topic("ticks/count"), 3);
    drop(watch);
    server.stop();
    gate.wait_for_log("no connection to the server", 1);
    for _ in 0..3 {
        gate.reload(&new);
        gate.reload(&old);
    }
    gate.reload(&new);
    assert_eq!(gate.levels("GPIO22").first().map(String::as_str), Some("0"));
    server.start_again();
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    for gone in ["lamp", "ticks/count", "ticks/status", "ticks/health"] {
        wait_for_empty(&server, &topic(gone));
    }
    wait_for_count(&watch, &topic("tocks/count"), 3);
    watch.wait_for(&topic("siren"), "OFF");
    // The server has kept our session, and with it what was subscribed in it.
    server.wait_for_log("Received UNSUBSCRIBE from board2mqtt-gate");
    server.wait_for_log(&topic("lamp/set"));
    server.publish(&topic("siren/set"), "ON");
    wait_for("the siren", || (gate.levels("GPIO22").last()? == "1").then_some(()));
    // What was measured for the old sensor before the server went is not lost with its topic.
    assert_eq!(gate.logged("readings lost"), 0);
}

#[test]
fn other_limits_of_the_buffer_hold_at_once_and_leave_what_waits() {
    let server = Mosquitto::start();
    let link = Proxy::to(server.port());
    let with = |buffer: &str| config(link.port(), &format!("{}[buffer]\n{buffer}\n", counter("ticks", 20)));
    let texts = [with("drain = \"1/s\""), with("drain = \"1000/s\"")];
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    let gate = Gateway::start(Recipe::new(&texts[0]));
    let ticks = topic("ticks/count");
    wait_for_count(&watch, &ticks, 10);
    link.refuse(true);
    link.cut();
    gate.wait_for_log("no connection to the server", 1);
    let reached = counts(&watch.messages(), &ticks).into_iter().max().expect("counts");
    for text in [&texts[1], &texts[0], &texts[1]] {
        gate.reload(text);
    }
    // Long enough for fifty readings; nothing is waited for.
    std::thread::sleep(Duration::from_secs(1));
    link.refuse(false);
    let newest = || counts(&watch.messages(), &ticks).into_iter().max().expect("counts");
    wait_for("the connection", || (newest() > reached + 20).then_some(()));
    // At one record a second this would take longer than anybody waits.
    wait_for("the whole history", || {
        let seen: BTreeSet<u64> = counts(&watch.messages(), &ticks).into_iter().collect();
        (1..=newest()).all(|count| seen.contains(&count)).then_some(())
    });
}
