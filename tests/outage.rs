//! The server dies and comes back: what was measured meanwhile, what everybody then sees first, and what still works.

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::agent::{Agent, Recipe};
use support::mosquitto::{Mosquitto, Received, Subscriber};
use support::proxy::Proxy;
use support::wait_for;

const STATUS: &str = "board2mqtt/mast/status";

/// A gateway called `mast`: sensors that count their reads every 100 ms, a lamp and a door; `more` follows.
fn mast(server: u16, sensors: &[&str], more: &str) -> Recipe {
    let sensors: String = sensors.iter().map(|name| format!("[sensors.{name}]\ndriver = \"test-counter\"\n")).collect();
    Recipe::new(&format!(
        "[gateway]\nname = \"mast\"\n\
         [mqtt]\nserver = \"mqtt://localhost\"\n\
         [board]\nkind = \"simulated\"\n\
         [defaults]\ninterval = \"100ms\"\n\
         [outputs.lamp]\nline = \"GPIO17\"\n\
         [inputs.door]\nline = \"GPIO27\"\n\
         {sensors}{more}"
    ))
    .script("")
    .server(server)
}

fn live(sensor: &str) -> String {
    format!("board2mqtt/mast/{sensor}/count")
}

fn history(sensor: &str) -> String {
    format!("{}/history", live(sensor))
}

fn counts(messages: &[Received], topic: &str) -> Vec<u64> {
    let of = messages.iter().filter(|message| message.topic == topic);
    of.map(|message| message.payload.parse().expect("a count")).collect()
}

/// Every record on a history topic, in the order of arrival.
fn records(messages: &[Received], topic: &str) -> Vec<Value> {
    let of = messages.iter().filter(|message| message.topic == topic);
    of.flat_map(|message| serde_json::from_str::<Vec<Value>>(&message.payload).expect("an array")).collect()
}

fn values(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["value"].as_u64().expect("a count")).collect()
}

/// The first of `numbers` up to `last` that is missing.
fn missing(numbers: impl IntoIterator<Item = u64>, last: u64) -> Vec<u64> {
    let seen: std::collections::BTreeSet<u64> = numbers.into_iter().collect();
    (1..=last).filter(|number| !seen.contains(number)).collect()
}

/// Kills the server for `time`. The subscriber that is returned is there before the gateway is let in again.
fn outage(server: &mut Mosquitto, proxy: &Proxy, agent: &Agent, time: Duration) -> Subscriber {
    let lost = agent.logged("no connection to the server");
    proxy.refuse(true);
    server.kill();
    agent.wait_for_log("no connection to the server", lost + 1);
    // This is how long the outage lasts; nothing is waited for.
    std::thread::sleep(time);
    server.start_again();
    let watch = server.subscribe(&["board2mqtt/mast/#"]);
    proxy.refuse(false);
    watch
}

#[test]
fn ten_deaths_of_the_server_cost_no_subscription_and_leave_nothing_stale() {
    let mut server = Mosquitto::start();
    let mut agent = mast(server.port(), &["ticks"], "").start();
    let mut lit = false;
    let mut newest = 0;
    for death in 0..=10 {
        if death > 0 {
            server.kill();
            server.start_again();
        }
        let returned = Instant::now();
        let watch = server.subscribe(&["board2mqtt/mast/#"]);
        // A server without persistence knows nothing: whatever is retained now, it has been told since.
        let lamp = if lit { "ON" } else { "OFF" };
        watch.wait_for("board2mqtt/mast/lamp", lamp);
        watch.wait_for("board2mqtt/mast/door", "OFF");
        watch.wait_for("board2mqtt/mast/ticks/status", "online");
        watch.wait_for("board2mqtt/mast/ticks/health", r#"{"state":"ok"}"#);
        watch.wait_for(STATUS, "online");
        let first = watch.wait_until("a count", |messages| counts(messages, &live("ticks")).first().copied());
        // It may be back before there is a newer one.
        assert!(first >= newest, "death {death}: {first} after {newest}");
        let back = Instant::now().duration_since(returned);
        assert!(back < Duration::from_secs(2), "death {death}: back after {back:?}");

        lit = !lit;
        let lamp = if lit { "ON" } else { "OFF" };
        wait_for("the command to be heard", || {
            let state = format!(r#"{{"state":"{lamp}","id":{death}}}"#);
            server.publish("board2mqtt/mast/lamp/set", &state);
            let reply = format!(r#"{{"id":{death},"outcome":"done","state":"{lamp}"}}"#);
            watch.messages().iter().any(|message| message.payload == reply).then_some(())
        });
        newest = counts(&watch.messages(), &live("ticks")).last().copied().expect("there was one");
        assert_eq!(
            watch.messages().iter().rfind(|message| message.topic == STATUS).expect("a status").payload,
            "online"
        );
    }
    agent.assert_alive();
    assert_eq!(agent.logged("another client"), 0, "a server that dies again and again is no twin");
    let expected: Vec<_> = (0..=11).map(|write| if write % 2 == 0 { "0" } else { "1" }).collect();
    assert_eq!(agent.levels("GPIO17"), expected);
}

#[test]
fn what_was_measured_during_an_outage_follows_the_newest_in_order_and_complete() {
    let sensors = ["a", "b", "c"];
    let mut server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let mut agent = mast(proxy.port(), &sensors, "").start();
    let before = server.subscribe(&["board2mqtt/mast/#"]);
    for sensor in sensors {
        before.wait_until("ten counts", |messages| (counts(messages, &live(sensor)).len() >= 10).then_some(()));
    }
    let watch = outage(&mut server, &proxy, &agent, Duration::from_secs(4));
    let before = before.messages();
    let topics = sensors.map(|sensor| (live(sensor), history(sensor)));

    // Complete: whatever was not seen live is in the history.
    let last = watch.wait_until("everything up to some count", |messages| {
        let complete = |(live, history): &(String, String)| {
            let last = counts(messages, live).last().copied()?;
            let all = counts(&before, live).into_iter().chain(counts(messages, live));
            let all = all.chain(values(&records(messages, history)));
            missing(all, last).is_empty().then_some(last)
        };
        topics.iter().map(complete).collect::<Option<Vec<_>>>()
    });
    assert!(last.iter().all(|last| *last > 45), "ten before and forty meanwhile: {last:?}");

    let messages = watch.messages();
    for (live, history) in &topics {
        let seen = counts(&messages, live);
        assert!(seen.is_sorted(), "live values went back in time: {seen:?}");
        assert!(seen[0] > counts(&before, live).last().copied().unwrap_or_default() + 30, "the newest first: {seen:?}");
        let at = |topic: &str| messages.iter().position(|message| message.topic == topic).expect("it came");
        assert!(at(STATUS) < at(live) && at(live) < at(history), "status, the newest, history");
        let records = records(&messages, history);
        let values = values(&records);
        assert!(values.is_sorted(), "history is not in order: {values:?}");
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "history repeats itself: {values:?}");
        let times: Vec<_> = records.iter().map(|record| record["time"].as_str().expect("a time")).collect();
        assert!(times.iter().all(|time| time.len() == 24 && time.ends_with('Z')), "{times:?}");
        // RFC 3339 in UTC sorts like time itself.
        assert!(times.is_sorted(), "{times:?}");
        assert!(records.iter().all(|record| record["unit"].is_string()), "{records:?}");
    }
    for message in messages.iter().filter(|message| message.topic.ends_with("/history")) {
        assert_eq!((message.qos, message.retain), (1, false));
        assert!(message.payload.len() <= 16 * 1024);
    }
    // Nothing is kept for who comes later.
    assert_eq!(server.retained(&topics[0].1), None);
    agent.assert_alive();
}

#[test]
fn what_asks_for_no_acknowledgement_is_not_kept() {
    let more = "readings.count.qos = 0\n[sensors.b]\ndriver = \"test-counter\"\n";
    let mut server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let agent = mast(proxy.port(), &["a"], more).start();
    let before = server.subscribe(&["board2mqtt/mast/#"]);
    before.wait_until("counts", |messages| (counts(messages, &live("b")).len() >= 3).then_some(()));
    let watch = outage(&mut server, &proxy, &agent, Duration::from_secs(2));
    watch.wait_until("the history of the other sensor", |messages| {
        let values = values(&records(messages, &history("b")));
        (values.len() >= 10 && counts(messages, &live("b")).len() >= 10).then_some(())
    });
    let messages = watch.messages();
    assert_eq!(records(&messages, &history("a")), Vec::<Value>::new());
    let seen = counts(&messages, &live("a"));
    assert!(seen[0] > 15 && seen.is_sorted(), "only what is new: {seen:?}");
}

#[test]
fn no_history_where_none_is_wanted() {
    let mut server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let agent = mast(proxy.port(), &["a"], "").set("TOPICS__HISTORY", "none").start();
    let before = server.subscribe(&["board2mqtt/mast/#"]);
    before.wait_until("counts", |messages| (counts(messages, &live("a")).len() >= 3).then_some(()));
    let watch = outage(&mut server, &proxy, &agent, Duration::from_secs(1));
    watch.wait_until("counts", |messages| (counts(messages, &live("a")).len() >= 10).then_some(()));
    let topics: Vec<_> = watch.messages().into_iter().map(|message| message.topic).collect();
    assert!(!topics.iter().any(|topic| topic.contains("history")), "{topics:?}");
}

#[test]
fn a_live_reading_and_a_command_do_not_wait_behind_the_history() {
    let names: Vec<_> = (0..20).map(|number| format!("s{number}")).collect();
    let sensors: Vec<_> = names.iter().map(String::as_str).collect();
    let mut server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    // 200 readings a second against 40 that go out: the history of two seconds takes ten.
    let agent = mast(proxy.port(), &sensors, "").set("BUFFER__DRAIN", "40/s").start();
    agent.wait_for_log("connected to the server", 1);
    let watch = outage(&mut server, &proxy, &agent, Duration::from_secs(2));
    let history_of =
        |messages: &[Received]| messages.iter().filter(|message| message.topic.ends_with("/history")).count();
    watch.wait_until("the history to begin", |messages| (history_of(messages) > 0).then_some(()));
    let asked = watch.messages().len();
    server.publish("board2mqtt/mast/lamp/set", "ON");
    watch.wait_for("board2mqtt/mast/lamp/reply", r#"{"outcome":"done","state":"ON"}"#);
    agent.wait_for_levels("GPIO17", &["0", "1"]);
    // Live readings of every sensor came in while the history was on its way.
    watch.wait_until("live readings after the command", |messages| {
        sensors.iter().all(|sensor| counts(&messages[asked..], &live(sensor)).len() >= 2).then_some(())
    });
    let then = history_of(&watch.messages());
    watch.wait_until("more history after them", |messages| (history_of(messages) > then).then_some(()));
}

#[test]
fn a_stop_sends_what_waits_however_slow_the_drain() {
    let sensors = ["a", "b"];
    let mut server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let mut agent = mast(proxy.port(), &sensors, "").set("BUFFER__DRAIN", "4/s").start();
    let before = server.subscribe(&["board2mqtt/mast/#"]);
    for sensor in sensors {
        before.wait_until("counts", |messages| (!counts(messages, &live(sensor)).is_empty()).then_some(()));
    }
    let watch = outage(&mut server, &proxy, &agent, Duration::from_secs(2));
    agent.wait_for_log("connected to the server", 2);
    assert!(agent.stop().0.success());
    watch.wait_for(STATUS, "offline");
    assert_eq!(agent.logged("lost"), 0);
    let (before, messages) = (before.messages(), watch.messages());
    for sensor in sensors {
        let last = counts(&messages, &live(sensor)).last().copied().expect("a live value");
        let all = counts(&before, &live(sensor)).into_iter().chain(counts(&messages, &live(sensor)));
        let all = all.chain(values(&records(&messages, &history(sensor))));
        assert_eq!(missing(all, last), Vec::<u64>::new(), "of {sensor} up to {last}");
    }
}

#[test]
fn what_the_buffer_cannot_keep_is_told_when_it_begins_and_counted_when_it_is_over() {
    let names: Vec<_> = (0..20).map(|number| format!("s{number}")).collect();
    let sensors: Vec<_> = names.iter().map(String::as_str).collect();
    let mut server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let agent = mast(proxy.port(), &sensors, "")
        .set("DEFAULTS__INTERVAL", "10ms")
        .set("BUFFER__MAX_SIZE", "64KiB")
        .set("BUFFER__DRAIN", "10000/s")
        .start();
    agent.wait_for_log("connected to the server", 1);
    proxy.refuse(true);
    server.kill();
    agent.wait_for_log("readings are being lost", 1);
    server.start_again();
    proxy.refuse(false);
    agent.wait_for_log("readings lost while they waited", 1);
    assert_eq!(agent.logged("readings are being lost"), 1);
    let log = agent.log();
    let total = log.lines().find(|line| line.contains("readings lost while")).expect("it was logged");
    assert!(total.starts_with("ERROR") && total.contains("dropped="), "{total}");
}
