//! The MQTT session against a real Mosquitto: it stays, it comes back, it loses no ack and no subscription.

mod support;

use board2mqtt::clock::ManualClock;
use board2mqtt::mqtt::{Event, Login, Outgoing, PublishError, Server, Session};
use board2mqtt::topic::QoS;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::mosquitto::{Mosquitto, password_file};
use support::proxy::{Mode, Proxy};
use support::session::{acked, connected, disconnected, message, options, received, session, subscribed, until};

#[tokio::test]
async fn the_will_speaks_when_the_session_cannot() {
    let server = Mosquitto::start();
    let watcher = server.subscribe(&["#"]);
    let mut session = session(options("drone01", server.port()));
    connected(&mut session).await;
    drop(session);
    watcher.wait_for("drone01/status", "offline");
    assert_eq!(server.retained("drone01/status").as_deref(), Some("offline"));
}

#[tokio::test]
async fn a_clean_stop_says_offline_last_and_loses_nothing() {
    let server = Mosquitto::start();
    let watcher = server.subscribe(&["#"]);
    let mut session = session(options("drone01", server.port()));
    connected(&mut session).await;
    for token in 0..60 {
        session.publish(&message("a", &token.to_string()), Some(token)).expect("room");
        session.publish(&Outgoing { qos: QoS::AtMostOnce, ..message("b", "0") }, None).expect("room");
    }
    let acked: Vec<_> = session.close(Duration::from_secs(10)).await;
    assert_eq!(acked, (0..60).collect::<Vec<_>>());
    watcher.wait_for("drone01/status", "offline");
    let messages = watcher.messages();
    assert_eq!(messages.len(), 121, "60 at QoS 1, 60 at QoS 0, one offline and no will");
    assert_eq!(messages.last().map(|last| last.topic.as_str()), Some("drone01/status"));
    assert_eq!(server.retained("drone01/status").as_deref(), Some("offline"));
    assert!(!session.is_connected());
}

#[tokio::test]
async fn a_stop_that_is_not_acknowledged_leaves_the_will_to_speak() {
    let server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let watcher = server.subscribe(&["drone01/status"]);
    let mut session = session(options("drone01", proxy.port()));
    connected(&mut session).await;
    proxy.set(Mode::BlackHole);
    let start = Instant::now();
    assert!(session.close(Duration::from_millis(200)).await.is_empty());
    assert!(start.elapsed() < Duration::from_secs(2), "the deadline holds");
    proxy.cut();
    watcher.wait_for("drone01/status", "offline");
}

#[tokio::test]
async fn ten_restarts_of_the_server_lose_no_subscription() {
    let mut server = Mosquitto::start();
    let mut session = session(options("beaglebone", server.port()));
    connected(&mut session).await;
    subscribed(&mut session, &[("beacon/set", QoS::AtLeastOnce)]).await;
    for round in 0..10 {
        server.kill();
        disconnected(&mut session).await;
        server.start_again();
        assert!(!connected(&mut session).await, "a server that was killed remembers nothing");
        subscribed(&mut session, &[("beacon/set", QoS::AtLeastOnce)]).await;
        server.publish("beacon/set", &round.to_string());
        assert_eq!(received(&mut session, "beacon/set").await, round.to_string());
    }
    assert_eq!(session.statistics().connects, 11);
}

#[tokio::test]
async fn it_is_back_within_1200_ms_of_the_server() {
    let mut server = Mosquitto::start();
    let mut options = options("drone01", server.port());
    options.reconnect_min = Duration::from_secs(1);
    options.reconnect_max = Duration::from_secs(60);
    let mut session = session(options);
    connected(&mut session).await;
    server.kill();
    for _ in 0..3 {
        disconnected(&mut session).await;
    }
    server.start_again();
    let up = Instant::now();
    connected(&mut session).await;
    assert!(up.elapsed() < Duration::from_millis(1200), "{:?}", up.elapsed());
}

#[tokio::test]
async fn a_silent_link_is_noticed_within_one_and_a_half_keep_alives() {
    let server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let mut options = options("drone01", proxy.port());
    options.keep_alive = Duration::from_secs(1);
    let mut session = session(options);
    connected(&mut session).await;
    subscribed(&mut session, &[("a", QoS::AtMostOnce)]).await;
    // Pings keep an idle link alive for longer than that.
    let idle = tokio::time::timeout(Duration::from_millis(2500), session.event()).await;
    assert!(idle.is_err(), "nothing happens on an idle link, not {idle:?}");
    proxy.set(Mode::BlackHole);
    let start = Instant::now();
    let (cause, _) = disconnected(&mut session).await;
    assert_eq!(cause, "nothing came from the server for 1.5s, 1.5 times the keep-alive");
    assert!(start.elapsed() < Duration::from_millis(1700), "{:?}", start.elapsed());
    proxy.cut();
    proxy.set(Mode::Forward);
    connected(&mut session).await;
}

#[tokio::test]
async fn everything_that_falls_due_together_leaves_in_one_write() {
    let server = Mosquitto::start();
    let mut session = session(options("drone01", server.port()));
    connected(&mut session).await;
    subscribed(&mut session, &[]).await;
    let before = session.statistics();
    for n in 0..100 {
        let message = Outgoing { qos: QoS::AtMostOnce, ..message("sensors/drone01/altitude", "100 feet") };
        session.publish(&message, None).unwrap_or_else(|error| panic!("{n}: {error}"));
    }
    let size = session.backlog();
    session.flush();
    let after = session.statistics();
    assert_eq!(after.writes - before.writes, 1);
    assert_eq!(after.bytes_out - before.bytes_out, size as u64);
    assert_eq!(size, 100 * (4 + "sensors/drone01/altitude100 feet".len()), "4 bytes beyond topic and payload");
    assert_eq!(session.backlog(), 0);
}

#[tokio::test]
async fn a_link_that_takes_nothing_fills_a_bounded_buffer() {
    let server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let clock = Arc::new(ManualClock::new(board2mqtt::clock::Instant::from_nanos(1)));
    let mut options = options("drone01", proxy.port());
    options.keep_alive = Duration::from_secs(3600);
    let mut session = Session::new(options, clock.clone()).expect("options for a session");
    connected(&mut session).await;
    proxy.set(Mode::BlackHole);
    let payload = "x".repeat(16 * 1024);
    let message = Outgoing { qos: QoS::AtMostOnce, ..message("a", &payload) };
    // The kernel's buffers on both sides take some of it first.
    let mut before = None;
    while before != Some(session.backlog()) {
        let refused = (0..10_000).find_map(|_| session.publish(&message, None).err());
        assert_eq!(refused, Some(PublishError::Full));
        assert!(session.backlog() <= 1024 * 1024, "{}", session.backlog());
        before = Some(session.backlog());
        let waiting = tokio::time::timeout(Duration::from_millis(100), session.event()).await;
        assert!(waiting.is_err(), "{waiting:?}");
    }
    let large = "x".repeat(1024 * 1024);
    let message = Outgoing { payload: large.as_bytes(), ..message };
    assert_eq!(session.publish(&message, None), Err(PublishError::TooLong), "however empty the buffer");

    clock.advance(Duration::from_secs(30));
    assert_eq!(disconnected(&mut session).await.0, "the server took nothing for 30s");
}

#[tokio::test]
async fn a_packet_that_is_too_large_ends_the_connection_with_its_size_and_never_in_a_tight_loop() {
    let server = Mosquitto::start();
    let file = server.file("large");
    std::fs::write(&file, vec![b'x'; 300 * 1024]).expect("written");
    let large = file.to_str().expect("a path in UTF-8");
    server.publish_with("ok", "y", &["-r"]);
    let mut publish = server.client("mosquitto_pub");
    assert!(publish.args(["-t", "large", "-r", "-q", "1", "-f", large]).status().expect("mosquitto_pub").success());

    let mut session = session(options("drone01", server.port()));
    let start = Instant::now();
    let mut connects = 0;
    while start.elapsed() < Duration::from_secs(2) {
        match tokio::time::timeout(Duration::from_secs(5), session.event()).await.expect("an event") {
            Event::Connected { .. } => {
                connects += 1;
                session.subscribe(&[("large", QoS::AtMostOnce)]);
            }
            Event::Disconnected { cause, .. } => {
                let sized = "the server sent a packet of 307207 bytes, at most 262144 are accepted";
                assert!(cause.starts_with(sized), "{cause}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((3..40).contains(&connects), "{connects} connections in 2 s with pauses of up to 200 ms");
    connected(&mut session).await;
    session.subscribe(&[("ok", QoS::AtMostOnce)]);
    assert_eq!(received(&mut session, "ok").await, "y");
}

#[tokio::test]
async fn a_wrong_password_is_named_and_waits_longest() {
    let server = Mosquitto::with(|folder| {
        let passwords = password_file(folder, &[("drone01", "right")]);
        format!("allow_anonymous false\npassword_file {}", passwords.display())
    });
    let mut options = options("drone01", server.port());
    let login = |password: &str| Some(Login { username: "drone01".into(), password: Some(password.into()) });
    options.login = login("wrong");
    let mut refused = session(options.clone());
    let (cause, retry_in) = disconnected(&mut refused).await;
    assert!(cause.contains("authorise") || cause.contains("user name or password"), "{cause}");
    assert!(!cause.contains("wrong"), "no secret: {cause}");
    assert_eq!(retry_in, options.reconnect_max);
    options.login = login("right");
    connected(&mut session(options)).await;
}

#[tokio::test]
async fn a_unix_socket_works_and_its_absence_is_named() {
    let mut server = Mosquitto::with(|folder| {
        format!("allow_anonymous true\nlistener 0 {}\nallow_anonymous true", folder.join("socket").display())
    });
    let path = server.file("socket");
    let mut options = options("drone01", 0);
    options.server = Server::Unix(path.clone());
    let mut session = session(options);
    connected(&mut session).await;
    subscribed(&mut session, &[("a", QoS::AtLeastOnce)]).await;
    server.publish("a", "1");
    assert_eq!(received(&mut session, "a").await, "1");
    server.kill();
    std::fs::remove_file(&path).expect("a killed server leaves its socket");
    disconnected(&mut session).await;
    let (cause, retry_in) = disconnected(&mut session).await;
    assert_eq!(cause, format!("no connection to `unix:{}`: no such file or directory", path.display()));
    assert_eq!(retry_in, Duration::from_millis(20));
    server.start_again();
    connected(&mut session).await;
}

#[tokio::test]
async fn two_gateways_with_one_client_id_are_told_so() {
    let server = Mosquitto::start();
    let mut first = session(options("drone01", server.port()));
    let mut second = session(options("drone01", server.port()));
    let mut named = None;
    let search = async {
        while named.is_none() {
            let event = tokio::select! { event = first.event() => event, event = second.event() => event };
            if let Event::Disconnected { cause, retry_in } = event
                && cause.contains("another client with the id `drone01` seems to take over this session")
            {
                named = Some(retry_in);
            }
        }
    };
    tokio::time::timeout(support::PATIENCE, search).await.expect("the takeover to be named");
    let pause = named.expect("it was found");
    assert!(pause >= Duration::from_millis(100), "half of the longest at least, not {pause:?}");
}

#[tokio::test]
async fn many_subscriptions_are_split_and_all_of_them_work() {
    let server = Mosquitto::start();
    let mut session = session(options("drone01", server.port()));
    connected(&mut session).await;
    let names: Vec<_> = (0..1000).map(|n| format!("many/{n}/set")).collect();
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), QoS::AtLeastOnce)).collect();
    session.subscribe(&filters);
    assert_eq!(session.room(), 0, "subscriptions that wait for ids go first");
    while session.room() == 0 {
        let _ = tokio::time::timeout(Duration::from_millis(5), session.event()).await;
    }
    subscribed(&mut session, &[]).await;
    for n in [0, 7, 8, 640, 999] {
        server.publish(&names[n], "ON");
        assert_eq!(received(&mut session, &names[n]).await, "ON");
    }
}

#[tokio::test]
async fn a_persistent_session_gets_what_was_sent_while_it_was_away() {
    let mut server = Mosquitto::persistent();
    let mut options = options("beaglebone", server.port());
    options.clean_session = false;
    let mut first = session(options.clone());
    assert!(!connected(&mut first).await);
    subscribed(&mut first, &[("one", QoS::AtLeastOnce), ("two", QoS::ExactlyOnce)]).await;
    drop(first);
    server.publish("one", "1");
    server.publish_with("two", "2", &["-q", "2"]);
    server.stop();
    server.start_again();
    let mut second = session(options);
    assert!(connected(&mut second).await, "the session is still there");
    assert_eq!(received(&mut second, "one").await, "1");
    assert_eq!(received(&mut second, "two").await, "2");
    let twice = Outgoing { qos: QoS::ExactlyOnce, ..message("back", "3") };
    let watcher = server.subscribe(&["back"]);
    for token in 0..200 {
        while second.room_at(QoS::ExactlyOnce) == 0 {
            until(&mut second, "an ack", |event| matches!(event, Event::Acked(_)).then_some(())).await;
        }
        second.publish(&twice, Some(token)).expect("room");
    }
    acked(&mut second, 199).await;
    watcher.wait_until("200 messages", |messages| (messages.len() == 200).then_some(()));
}

#[tokio::test]
async fn exactly_once_goes_both_ways() {
    let server = Mosquitto::start();
    let watcher = server.subscribe(&["up"]);
    let mut session = session(options("drone01", server.port()));
    connected(&mut session).await;
    subscribed(&mut session, &[("down", QoS::ExactlyOnce)]).await;
    for token in 0..10 {
        let message = Outgoing { qos: QoS::ExactlyOnce, ..message("up", "x") };
        session.publish(&message, Some(token)).expect("room");
        acked(&mut session, token).await;
        server.publish_with("down", &token.to_string(), &["-q", "2"]);
        assert_eq!(received(&mut session, "down").await, token.to_string());
    }
    let up = watcher.wait_until("ten messages", |messages| (messages.len() >= 10).then(|| messages.to_vec()));
    assert!(up.len() == 10 && up.iter().all(|message| message.qos == 2));
}

#[tokio::test]
async fn an_attempt_goes_on_though_its_caller_is_called_away() {
    let server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    proxy.set(Mode::Delay(Duration::from_millis(50)));
    let mut session = session(options("drone01", proxy.port()));
    let start = Instant::now();
    while !session.is_connected() {
        assert!(start.elapsed() < support::PATIENCE, "no connection in turns of 1 ms");
        let _ = tokio::time::timeout(Duration::from_millis(1), session.event()).await;
    }
    assert_eq!(proxy.accepted(), 1, "one attempt, never started again");
}

#[tokio::test]
async fn what_was_received_but_not_acked_is_the_callers_to_send_again() {
    let server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let watcher = server.subscribe(&["reading"]);
    let mut session = session(options("drone01", proxy.port()));
    connected(&mut session).await;
    proxy.set(Mode::SwallowAcks);
    session.publish(&message("reading", "1"), Some(1)).expect("room");
    session.flush();
    watcher.wait_for("reading", "1");
    let waiting = tokio::time::timeout(Duration::from_millis(100), session.event()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    assert_eq!(session.room(), 79);
    proxy.set(Mode::Forward);
    proxy.cut();
    disconnected(&mut session).await;
    connected(&mut session).await;
    assert_eq!(session.room(), 80, "every connection starts from nothing");
    session.publish(&message("reading", "1"), Some(1)).expect("room");
    acked(&mut session, 1).await;
    watcher.wait_until("the same again", |messages| (messages.len() == 2).then_some(()));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() {
    let mut options = options("drone01", 1883);
    options.server = Server::Tcp { host: "no-such-host.invalid".into(), port: 1883 };
    let (cause, _) = disconnected(&mut session(options)).await;
    let told = cause.starts_with("cannot resolve `no-such-host.invalid`: ");
    assert!(told || cause.starts_with("no answer from DNS about"), "{cause}");
}

#[tokio::test]
async fn ten_thousand_publishes_survive_a_link_that_breaks_again_and_again() {
    const ALL: u64 = 10_000;
    let server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let watcher = server.subscribe(&["reading"]);
    let mut session = session(options("drone01", proxy.port()));
    let (mut waiting, mut out): (BTreeSet<u64>, BTreeSet<u64>) = ((0..ALL).collect(), BTreeSet::new());
    let (mut acks, mut breaks) = (0u64, 0);
    while !(waiting.is_empty() && out.is_empty()) {
        while let Some(token) = waiting.first().copied().filter(|_| session.room() > 0) {
            session.publish(&message("reading", &token.to_string()), Some(token)).expect("there is room");
            waiting.remove(&token);
            out.insert(token);
        }
        match tokio::time::timeout(support::PATIENCE, session.event()).await.expect("an event") {
            Event::Acked(token) => {
                assert!(out.remove(&token), "{token} was acked twice");
                acks += 1;
                if acks.is_multiple_of(500) {
                    proxy.cut();
                }
            }
            Event::Disconnected { .. } => {
                breaks += 1;
                waiting.append(&mut out);
            }
            _ => {}
        }
    }
    assert!(breaks >= 15, "{breaks} breaks");
    let numbers = |messages: &[support::mosquitto::Received]| -> BTreeSet<u64> {
        messages.iter().filter_map(|message| message.payload.parse().ok()).collect()
    };
    watcher.wait_until("every reading", |messages| (numbers(messages).len() as u64 == ALL).then_some(()));
}
