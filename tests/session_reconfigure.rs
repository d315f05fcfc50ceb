//! A session that goes on under other options: what is unacked, what is said last, and how long it takes.

mod support;

use board2mqtt::mqtt::{Event, Options, PublishError, Server, Session};
use board2mqtt::topic::QoS;
use rumqttc::{Packet, PubAck, SubAck, SubscribeReasonCode, UnsubAck};
use std::time::{Duration, Instant};
use support::scripted::{Link, Scripted};
use support::session::{connected, message, options, session};

async fn pair(server: &Scripted, session: &mut Session) -> Link {
    let (link, _) = tokio::join!(server.accept(false), connected(session));
    link
}

fn elsewhere(options: &Options, port: u16) -> Options {
    Options { server: Server::Tcp { host: "127.0.0.1".into(), port }, ..options.clone() }
}

/// What the server hears until the end of the connection, while the session turns; and what the session says meanwhile.
async fn to_the_end(session: &mut Session, link: &mut Link, acks: bool) -> (Vec<Packet>, Vec<Event>) {
    let (mut heard, mut events) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            packet = link.next() => match packet {
                None => return (heard, events),
                Some(packet) => {
                    if let (Packet::Publish(publish), true) = (&packet, acks) {
                        link.say(Packet::PubAck(PubAck::new(publish.pkid))).await;
                    }
                    heard.push(packet);
                }
            },
            event = session.event() => events.push(event),
        }
    }
}

#[tokio::test]
async fn the_old_server_acks_what_is_out_then_hears_offline_and_disconnect() {
    let (old, new) = (Scripted::new().await, Scripted::new().await);
    let options = options("drone01", old.port());
    let mut session = session(options.clone());
    let mut link = pair(&old, &mut session).await;
    session.publish(&message("a", "1"), Some(7)).expect("room");
    assert!(session.reconfigure(elsewhere(&options, new.port())));
    assert!(!session.is_connected());
    assert_eq!(session.publish(&message("a", "2"), Some(8)), Err(PublishError::NotConnected));
    let (heard, events) = to_the_end(&mut session, &mut link, true).await;
    let said: Vec<_> = heard.iter().map(|packet| format!("{packet:?}")).collect();
    assert!(matches!(heard.last(), Some(Packet::Disconnect)), "{said:?}");
    let topics: Vec<_> = heard
        .iter()
        .filter_map(|packet| if let Packet::Publish(p) = packet { Some(&*p.topic) } else { None })
        .collect();
    assert_eq!(topics, ["a", "drone01/status"]);
    assert_eq!(events[0], Event::Acked(7));
    assert!(matches!(&events[1], Event::Disconnected { retry_in, .. } if retry_in.is_zero()), "{events:?}");
    let _link = pair(&new, &mut session).await;
    assert!(session.is_connected());
}

#[tokio::test]
async fn a_server_that_acks_nothing_is_given_a_second() {
    let (old, new) = (Scripted::new().await, Scripted::new().await);
    let options = options("drone01", old.port());
    let mut session = session(options.clone());
    let mut link = pair(&old, &mut session).await;
    session.publish(&message("a", "1"), Some(7)).expect("room");
    let begun = Instant::now();
    session.reconfigure(elsewhere(&options, new.port()));
    let (heard, events) = to_the_end(&mut session, &mut link, false).await;
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert!(!heard.iter().any(|packet| matches!(packet, Packet::Disconnect)), "the will is to speak");
    assert!(matches!(&events[..], [Event::Disconnected { cause, .. }] if cause.contains("in time")), "{events:?}");
    let _link = pair(&new, &mut session).await;
}

#[tokio::test]
async fn what_connect_does_not_carry_touches_no_connection() {
    let server = Scripted::new().await;
    let options = options("drone01", server.port());
    let mut session = session(options.clone());
    let mut link = pair(&server, &mut session).await;
    assert!(!session.reconfigure(options.clone()));
    let pauses = Options { reconnect_max: Duration::from_secs(9), ..options.clone() };
    assert!(!session.reconfigure(pauses.clone()));
    session.publish(&message("a", "1"), Some(7)).expect("still connected");
    let said = async {
        let first = link.publish().await;
        (first, link.is_quiet(Duration::from_millis(200)).await)
    };
    let (first, quiet) = tokio::select! {
        said = said => said,
        event = session.event() => panic!("{event:?}"),
    };
    assert_eq!((first.topic.as_str(), quiet), ("a", true));
    for other in [
        Options { client_id: "drone02".into(), ..pauses.clone() },
        Options { keep_alive: Duration::from_secs(11), ..pauses.clone() },
        Options { status_topic: "other/status".into(), ..pauses.clone() },
        Options { clean_session: false, ..pauses.clone() },
        elsewhere(&pauses, 1),
    ] {
        assert!(session.reconfigure(other.clone()), "{other:?}");
        assert!(session.reconfigure(pauses.clone()), "and back, while it is being left");
    }
}

#[tokio::test]
async fn an_attempt_under_old_options_is_given_up() {
    let new = Scripted::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port nobody answers on");
    let options = options("drone01", listener.local_addr().expect("its address").port());
    let mut session = session(options.clone());
    let attempt = tokio::time::timeout(Duration::from_millis(200), session.event()).await;
    assert!(attempt.is_err(), "it waits for CONNACK");
    let begun = Instant::now();
    assert!(session.reconfigure(elsewhere(&options, new.port())));
    let _link = pair(&new, &mut session).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn filters_come_and_go_one_by_one() {
    let server = Scripted::new().await;
    let mut session = session(options("drone01", server.port()));
    let mut link = pair(&server, &mut session).await;
    session.subscribe(&[("a", QoS::AtLeastOnce), ("b", QoS::AtLeastOnce)]);
    session.unsubscribe(&["a"]);
    session.subscribe(&[("c", QoS::AtMostOnce)]);
    let conversation = async {
        let mut said = Vec::new();
        while said.len() < 3 {
            match link.next().await.expect("a packet") {
                Packet::Subscribe(packet) => {
                    let codes = vec![SubscribeReasonCode::Success(rumqttc::QoS::AtMostOnce); packet.filters.len()];
                    link.say(Packet::SubAck(SubAck::new(packet.pkid, codes))).await;
                    said.push(packet.filters.iter().map(|filter| format!("+{}", filter.path)).collect::<String>());
                }
                Packet::Unsubscribe(packet) => {
                    link.say(Packet::UnsubAck(UnsubAck::new(packet.pkid))).await;
                    said.push(format!("-{}", packet.topics.concat()));
                }
                other => panic!("{other:?}"),
            }
        }
        said
    };
    let said = tokio::select! {
        said = conversation => said,
        event = session.event() => panic!("{event:?}"),
    };
    assert_eq!(said, ["+a+b", "-a", "+c"]);
}

#[tokio::test]
async fn a_stop_while_a_server_is_left_still_ends_in_order() {
    let (old, new) = (Scripted::new().await, Scripted::new().await);
    let options = options("drone01", old.port());
    let mut session = session(options.clone());
    let mut link = pair(&old, &mut session).await;
    session.publish(&message("a", "1"), Some(7)).expect("room");
    session.reconfigure(elsewhere(&options, new.port()));
    let server = async {
        let mut heard = Vec::new();
        while let Some(packet) = link.next().await {
            if let Packet::Publish(publish) = &packet {
                link.say(Packet::PubAck(PubAck::new(publish.pkid))).await;
            }
            heard.push(packet);
        }
        heard
    };
    let (acked, heard) = tokio::join!(session.close(Duration::from_secs(5)), server);
    assert_eq!(acked, [7]);
    assert!(matches!(heard.last(), Some(Packet::Disconnect)), "{heard:?}");
}
