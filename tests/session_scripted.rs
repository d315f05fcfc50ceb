//! The MQTT session against a server that misbehaves on purpose: every refusal, every order of acks, every silence.

mod support;

use board2mqtt::clock::{Instant, ManualClock};
use board2mqtt::mqtt::{Event, Login, Outgoing, PublishError, Session};
use board2mqtt::topic::QoS;
use rumqttc::{ConnAck, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, PubRel, SubAck, SubscribeReasonCode};
use std::sync::Arc;
use std::time::Duration;
use support::scripted::{Link, Scripted, publish};
use support::session::{acked, connected, disconnected, message, options, received, session, until};

/// A session and the server's end of its connection.
async fn pair(server: &Scripted, session: &mut Session, session_present: bool) -> Link {
    let (link, present) = tokio::join!(server.accept(session_present), connected(session));
    assert_eq!(present, session_present);
    link
}

/// Turns the session until the server has what it waits for.
async fn while_turning<T>(session: &mut Session, server: impl Future<Output = T>) -> T {
    let mut server = std::pin::pin!(server);
    loop {
        tokio::select! {
            value = &mut server => return value,
            event = session.event() => assert!(!matches!(event, Event::Disconnected { .. }), "{event:?}"),
        }
    }
}

#[tokio::test]
async fn connect_says_who_we_are_and_what_our_end_means() {
    let server = Scripted::new().await;
    let mut options = options("drone01", server.port());
    options.login = Some(Login { username: "pi".into(), password: Some("secret".into()) });
    options.keep_alive = Duration::from_secs(30);
    let debug = format!("{options:?}");
    assert!(!debug.contains("secret"), "{debug}");
    let mut session = session(options);
    let ((_link, connect), ()) = tokio::join!(server.connect(), async {
        let _ = tokio::time::timeout(Duration::from_millis(500), session.event()).await;
    });
    assert_eq!((connect.client_id.as_str(), connect.keep_alive, connect.clean_session), ("drone01", 30, true));
    assert_eq!(connect.login, Some(rumqttc::Login::new("pi", "secret")));
    let will = rumqttc::LastWill::new("drone01/status", "offline", rumqttc::QoS::AtLeastOnce, true);
    assert_eq!(connect.last_will, Some(will));
}

#[tokio::test]
async fn every_connack_is_told_in_words() {
    use ConnectReturnCode as Code;
    let server = Scripted::new().await;
    let options = options("drone01", server.port());
    for (code, words, longest) in [
        (Code::RefusedProtocolVersion, "does not speak MQTT 3.1.1", false),
        (Code::BadClientId, "does not accept the client id `drone01`", false),
        (Code::ServiceUnavailable, "not available now", false),
        (Code::BadUserNamePassword, "refuses user name or password", true),
        (Code::NotAuthorized, "does not authorise us", true),
    ] {
        let mut session = session(options.clone());
        let refuse = async {
            let (mut link, _) = server.connect().await;
            link.say(Packet::ConnAck(ConnAck::new(code, false))).await;
        };
        let ((), (cause, retry_in)) = tokio::join!(refuse, disconnected(&mut session));
        assert!(cause.contains(words), "{cause}");
        assert_eq!(retry_in, if longest { options.reconnect_max } else { options.reconnect_min });
    }
    let mut session = session(options);
    let refuse = async {
        let (mut link, _) = server.connect().await;
        link.say_bytes(&[0x20, 2, 0, 9]).await;
    };
    let ((), (cause, _)) = tokio::join!(refuse, disconnected(&mut session));
    assert_eq!(cause, "the server refused the connection with the unknown code 9, MQTT 3.1.1 has 0 to 5");
}

#[tokio::test]
async fn what_is_no_mqtt_server_is_named() {
    let server = Scripted::new().await;
    let url = format!("mqtt://127.0.0.1:{}", server.port());
    for (said, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], format!("what answers at `{url}` is not an MQTT server")),
        (&b"\x15\x03\x03\x00\x02\x02\x46"[..], format!("`{url}` speaks TLS on that port: write mqtts://")),
        (&b"\x20\xff\xff\xff\xff\xff"[..], format!("what answers at `{url}` is not an MQTT server")),
        (
            &b""[..],
            format!("`{url}` closed the connection before accepting it; if that port is for TLS, write mqtts://"),
        ),
    ] {
        let mut session = session(options("drone01", server.port()));
        let answer = async {
            let (mut link, _) = server.connect().await;
            link.say_bytes(said).await;
        };
        let ((), (cause, _)) = tokio::join!(answer, disconnected(&mut session));
        assert_eq!(cause, words);
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_after_ten_seconds() {
    let server = Scripted::new().await;
    let mut session = session(options("drone01", server.port()));
    let start = std::time::Instant::now();
    let ((_link, _), (cause, _)) = tokio::join!(server.connect(), disconnected(&mut session));
    assert_eq!(cause, format!("no CONNACK from `mqtt://127.0.0.1:{}` within 10 s", server.port()));
    assert!((9..12).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn acks_out_of_order_bring_their_tokens_and_never_block() {
    let server = Scripted::new().await;
    let mut session = session(options("drone01", server.port()));
    let mut link = pair(&server, &mut session, false).await;
    for round in 0..5 {
        let mut ids = Vec::new();
        for token in 0..80 {
            session.publish(&message("a", "1"), Some(round * 100 + token)).expect("room for 80");
        }
        assert_eq!(session.room(), 0);
        assert_eq!(session.publish(&message("a", "1"), None), Err(PublishError::Full));
        session.flush();
        for _ in 0..80 {
            ids.push(link.publish().await.pkid);
        }
        for token in (0..80).rev() {
            link.say(Packet::PubAck(PubAck::new(ids[token as usize]))).await;
            acked(&mut session, round * 100 + token).await;
            if token > 0 {
                link.say(Packet::PubAck(PubAck::new(ids[token as usize]))).await;
            }
        }
        assert_eq!(session.room(), 80);
    }
}

#[tokio::test]
async fn an_ack_that_never_comes_ends_the_connection_after_30_s() {
    let server = Scripted::new().await;
    let clock = Arc::new(ManualClock::new(Instant::from_nanos(1)));
    let mut options = options("drone01", server.port());
    options.keep_alive = Duration::from_secs(3600);
    let mut session = Session::new(options, clock.clone()).expect("options for a session");
    let mut link = pair(&server, &mut session, false).await;
    session.publish(&message("a", "1"), Some(1)).expect("room");
    session.flush();
    link.publish().await;
    clock.advance(Duration::from_millis(29_900));
    let waiting = tokio::time::timeout(Duration::from_millis(20), session.event()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    clock.advance(Duration::from_millis(100));
    let (cause, _) = disconnected(&mut session).await;
    assert_eq!(cause, "the server acknowledged nothing for 30s");
}

#[tokio::test]
async fn an_ack_that_never_comes_is_missed_however_much_else_is_said() {
    let server = Scripted::new().await;
    let clock = Arc::new(ManualClock::new(Instant::from_nanos(1)));
    let mut session = Session::new(options("drone01", server.port()), clock.clone()).expect("options for a session");
    let mut link = pair(&server, &mut session, false).await;
    session.publish(&message("a", "1"), Some(1)).expect("room");
    for _ in 0..5 {
        clock.advance(Duration::from_secs(5));
        session.publish(&Outgoing { qos: QoS::AtMostOnce, ..message("a", "2") }, None).expect("room");
        link.say(Packet::PingResp).await;
        let waiting = tokio::time::timeout(Duration::from_millis(50), session.event()).await;
        assert!(waiting.is_err(), "{waiting:?}");
    }
    clock.advance(Duration::from_secs(5));
    let (cause, _) = disconnected(&mut session).await;
    assert_eq!(cause, "the server acknowledged nothing for 30s");
}

#[tokio::test]
async fn acks_sent_before_the_connection_broke_count() {
    let server = Scripted::new().await;
    let mut session = session(options("drone01", server.port()));
    let mut link = pair(&server, &mut session, false).await;
    for token in 0..3 {
        session.publish(&message("a", "1"), Some(token)).expect("room");
    }
    session.flush();
    for _ in 0..3 {
        let id = link.publish().await.pkid;
        link.say(Packet::PubAck(PubAck::new(id))).await;
    }
    drop(link);
    for token in 0..3 {
        assert_eq!(session.event().await, Event::Acked(token));
    }
    disconnected(&mut session).await;
}

#[tokio::test]
async fn every_connection_starts_from_nothing() {
    let server = Scripted::new().await;
    let mut session = session(options("drone01", server.port()));
    for _ in 0..3 {
        let mut link = pair(&server, &mut session, false).await;
        for token in 0..80 {
            session.publish(&message("a", "1"), Some(token)).expect("all the room");
        }
        session.flush();
        assert_eq!(link.publish().await.pkid, 1);
        link.say(Packet::PubAck(PubAck::new(1))).await;
        acked(&mut session, 0).await;
        drop(link);
        disconnected(&mut session).await;
    }
}

#[tokio::test]
async fn a_refused_subscription_is_named() {
    let server = Scripted::new().await;
    let mut session = session(options("drone01", server.port()));
    let mut link = pair(&server, &mut session, false).await;
    session.subscribe(&[("a/set", QoS::AtLeastOnce), ("b/set", QoS::AtLeastOnce), ("c/set", QoS::AtLeastOnce)]);
    session.flush();
    let Some(Packet::Subscribe(subscribe)) = link.next().await else { panic!("a SUBSCRIBE") };
    assert_eq!(subscribe.filters.len(), 3);
    let granted = SubscribeReasonCode::Success(rumqttc::QoS::AtMostOnce);
    let codes = vec![SubscribeReasonCode::Failure, granted, SubscribeReasonCode::Failure];
    link.say(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await;
    for filter in ["a/set", "c/set"] {
        assert_eq!(session.event().await, Event::SubscriptionRefused { filter: filter.into() });
    }
}

#[tokio::test]
async fn exactly_once_is_exactly_once_over_a_broken_connection() {
    let server = Scripted::new().await;
    let mut options = options("drone01", server.port());
    options.clean_session = false;
    let mut session = session(options);
    let command = |dup| publish("beacon/set", "TOGGLE", rumqttc::QoS::ExactlyOnce, 5, dup);

    let mut link = pair(&server, &mut session, false).await;
    link.say(command(false)).await;
    assert_eq!(received(&mut session, "beacon/set").await, "TOGGLE");
    drop(link);
    disconnected(&mut session).await;

    let mut link = pair(&server, &mut session, true).await;
    link.say(command(true)).await;
    let answer = while_turning(&mut session, link.next()).await;
    assert_eq!(answer, Some(Packet::PubRec(PubRec::new(5))), "acknowledged, and not delivered again");
    // A release of an id that only the server remembers is answered too, or it would be asked for ever.
    for id in [5, 4711] {
        link.say(Packet::PubRel(PubRel::new(id))).await;
        let answer = while_turning(&mut session, link.next()).await;
        assert_eq!(answer, Some(Packet::PubComp(PubComp { pkid: id })));
    }
    link.say(command(false)).await;
    assert_eq!(received(&mut session, "beacon/set").await, "TOGGLE");
}

#[tokio::test]
async fn ids_a_resumed_session_may_still_hold_are_released_before_exactly_once_is_used() {
    let server = Scripted::new().await;
    let mut options = options("drone01", server.port());
    options.clean_session = false;
    let mut session = session(options);
    let mut link = pair(&server, &mut session, true).await;
    session.publish(&message("a", "1"), Some(1)).expect("room");
    session.publish(&Outgoing { qos: QoS::ExactlyOnce, ..message("a", "2") }, Some(2)).expect("room");
    session.flush();
    assert_eq!(link.publish().await.pkid, 1, "QoS 1 needs no release");
    for id in 1..=100 {
        assert_eq!(link.next().await, Some(Packet::PubRel(PubRel::new(id))));
        link.say(Packet::PubComp(PubComp { pkid: id })).await;
    }
    let id = link.publish().await.pkid;
    link.say(Packet::PubRec(PubRec::new(id))).await;
    while_turning(&mut session, async { assert_eq!(link.next().await, Some(Packet::PubRel(PubRel::new(id)))) }).await;
    link.say(Packet::PubComp(PubComp { pkid: id })).await;
    acked(&mut session, 2).await;
}

#[tokio::test]
async fn messages_that_come_during_a_stop_are_left_to_the_server() {
    let server = Scripted::new().await;
    let mut session = session(options("drone01", server.port()));
    let mut link = pair(&server, &mut session, false).await;
    let serve = async {
        let offline = link.publish().await;
        assert_eq!(
            (offline.topic.as_str(), &offline.payload[..], offline.retain),
            ("drone01/status", &b"offline"[..], true)
        );
        link.say(publish("beacon/set", "ON", rumqttc::QoS::AtLeastOnce, 9, false)).await;
        assert!(link.is_quiet(Duration::from_millis(50)).await, "no PUBACK for what nobody will do");
        link.say(Packet::PubAck(PubAck::new(offline.pkid))).await;
        assert_eq!(link.next().await, Some(Packet::Disconnect));
        assert_eq!(link.next().await, None);
    };
    let ((), acked) = tokio::join!(serve, session.close(Duration::from_secs(10)));
    assert!(acked.is_empty());
}

#[tokio::test]
async fn somebody_with_our_name_is_told_from_a_bad_link() {
    let server = Scripted::new().await;
    let mut session = session(options("drone01", server.port()));
    for _ in 0..6 {
        pair(&server, &mut session, false).await.reset();
        assert_eq!(disconnected(&mut session).await.0, "the connection broke: connection reset by peer");
    }
    let mut causes = Vec::new();
    for _ in 0..3 {
        drop(pair(&server, &mut session, false).await);
        causes.push(disconnected(&mut session).await.0);
    }
    let closed = "the server closed the connection";
    assert_eq!(causes[..2], [closed, closed]);
    let named = "another client with the id `drone01` seems to take over this session (the server's log tells)";
    assert_eq!(causes[2], format!("{closed}: {named}"));
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() {
    let server = Scripted::new().await;
    let mut session = session(options("drone01", server.port()));
    for (bytes, words) in [
        (&[0x00, 0x00][..], "the server sent what is not MQTT 3.1.1"),
        (&[0xf0, 0x00][..], "the server sent what is not MQTT 3.1.1"),
        (&[0x36, 0x04, 0x00, 0x01, b'a', 0x00][..], "the server sent what is not MQTT 3.1.1"),
        (&[0x32, 0x05, 0x00, 0x01, b'a', 0x00, 0x00][..], "the server sent what is not MQTT 3.1.1"),
        (&[0x30, 0x04, 0x00, 0x02, 0xff, 0xfe][..], "the server sent what is not MQTT 3.1.1"),
        (&[0x30, 0xff, 0xff, 0xff, 0x7f][..], "the server sent a packet of 268435455 bytes"),
        (&[0xc0, 0x00][..], "the server sent PINGREQ, which only clients send"),
        (&[0x82, 0x06, 0x00, 0x01, 0x00, 0x01, b'a', 0x00][..], "the server sent SUBSCRIBE"),
    ] {
        let mut link = pair(&server, &mut session, false).await;
        link.say_bytes(bytes).await;
        let (cause, _) = disconnected(&mut session).await;
        assert!(cause.starts_with(words), "{cause} for {bytes:x?}");
    }
    let mut link = pair(&server, &mut session, false).await;
    for id in [0, 1, 100, 101, 65_535] {
        link.say(Packet::PubAck(PubAck::new(id))).await;
        link.say(Packet::PubComp(PubComp { pkid: id })).await;
    }
    link.say(publish("a", "still here", rumqttc::QoS::AtMostOnce, 0, false)).await;
    let text = until(&mut session, "the message", |event| match event {
        Event::Message(message) => Some(message.payload),
        Event::Disconnected { cause, .. } => panic!("acks nobody waits for are ignored: {cause}"),
        _ => None,
    });
    assert_eq!(text.await, "still here");
}
