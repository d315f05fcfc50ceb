//! Who trusts whom: the session over TLS against a real Mosquitto, with certificates from `configs/mosquitto/make-ca`, and
//! the three stages of `configs/mosquitto/` as they are shipped.

mod support;

use board2mqtt::clock::{Clock, Instant, SystemClock, Wall};
use board2mqtt::mqtt::{Login, Options, Server, Session, TlsFiles};
use board2mqtt::topic::QoS;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use support::mosquitto::{Mosquitto, free_port, make_ca};
use support::session::{connected, disconnected, options, received, session, subscribed};
use support::shipped::shipped;

/// A listener with the server's certificate from `folder`.
fn listener(folder: &Path) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    format!("allow_anonymous true\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\n")
}

fn server_for(name: &str) -> Mosquitto {
    Mosquitto::with(|folder| {
        make_ca(folder, name, &[], 30);
        listener(folder)
    })
}

fn tls(host: &str, server: &Mosquitto) -> Options {
    let mut options = options("drone01", server.port());
    options.server = Server::Tls { host: host.into(), port: server.port() };
    options.tls.ca = Some(server.file("ca.pem"));
    options
}

async fn cause(options: Options) -> String {
    disconnected(&mut session(options)).await.0
}

#[tokio::test]
async fn a_name_and_an_address_are_both_verified() {
    for name in ["localhost", "127.0.0.1"] {
        let server = server_for(name);
        let mut session = session(tls(name, &server));
        connected(&mut session).await;
        subscribed(&mut session, &[("a", QoS::AtLeastOnce)]).await;
        let message = board2mqtt::mqtt::Outgoing { topic: "a", payload: b"1", qos: QoS::AtLeastOnce, retain: false };
        session.publish(&message, None).expect("room");
        assert_eq!(received(&mut session, "a").await, "1");
        assert!(session.close(Duration::from_secs(5)).await.is_empty());
        server.wait_for_log("Client drone01 disconnected.");
    }
}

#[tokio::test]
async fn a_wrong_name_is_told_with_the_right_one() {
    let server = server_for("broker.lan");
    let cause = cause(tls("localhost", &server)).await;
    assert!(cause.contains("is for `broker.lan`, not for `localhost`: set mqtt.server"), "{cause}");
}

#[tokio::test]
async fn an_unknown_authority_is_told_with_the_remedy() {
    let server = server_for("localhost");
    let mut options = tls("localhost", &server);
    let other = tempfile::tempdir().expect("a folder");
    make_ca(other.path(), "localhost", &[], 30);
    options.tls.ca = Some(other.path().join("ca.pem"));
    let told = cause(options.clone()).await;
    assert!(told.contains("is not signed by the authority in") && told.contains("set tls.ca"), "{told}");
    options.tls.ca = None;
    let told = cause(options).await;
    let named = told.contains("an authority that this system does not know: set tls.ca");
    assert!(named || told.contains("install ca-certificates"), "{told}");
}

/// A board's clock that is off by so many days until somebody sets it.
struct Unset {
    off_by_days: AtomicI64,
}

impl Clock for Unset {
    fn now(&self) -> Instant {
        SystemClock.now()
    }

    fn date(&self) -> Wall {
        Wall(SystemClock.date().0 + self.off_by_days.load(Ordering::SeqCst) * 86_400_000)
    }

    fn sleep_until(&self, instant: Instant) {
        SystemClock.sleep_until(instant);
    }
}

/// What a session over TLS says whose board is off by so many days; the pause after it is an hour.
async fn off_by(days: i64, server: &Mosquitto) -> (Arc<Unset>, Session, String) {
    const HOUR: Duration = Duration::from_secs(3600);
    let clock = Arc::new(Unset { off_by_days: AtomicI64::new(days) });
    let mut options = tls("localhost", server);
    (options.reconnect_min, options.reconnect_max) = (HOUR, HOUR);
    let mut session = Session::new(options, clock.clone()).expect("options for a session");
    let (told, pause) = disconnected(&mut session).await;
    assert_eq!(pause, HOUR);
    (clock, session, told)
}

fn year(date: Wall) -> String {
    date.to_string()[..5].to_owned()
}

#[tokio::test]
async fn an_expired_certificate_is_told_with_its_end_and_our_clock() {
    let server = server_for("localhost");
    let (clock, _, told) = off_by(2_000, &server).await;
    let end = year(Wall(SystemClock.date().0 + 30 * 86_400_000));
    assert!(told.contains(&format!("has expired, it was valid until {end}")), "{told}");
    let ours = year(clock.date());
    let remedy = format!(": renew it, or set this board's clock (this board's clock says {ours}");
    assert!(told.contains(&remedy), "{told}");
}

#[tokio::test]
async fn a_clock_from_before_the_certificate_is_told_with_both_dates_and_the_next_attempt_comes_when_it_is_set() {
    let server = server_for("localhost");
    let (clock, mut session, told) = off_by(-20_000, &server).await;
    let start = year(SystemClock.date());
    assert!(told.contains(&format!("is valid from {start}")), "{told}");
    let ours = year(clock.date());
    assert!(told.contains(&format!("on: set this board's clock (this board's clock says {ours}")), "{told}");

    // A clock that is set to another wrong date is worth another attempt, and no more.
    session.clock_set();
    assert!(disconnected(&mut session).await.1 > Duration::from_secs(60));
    clock.off_by_days.store(0, Ordering::SeqCst);
    session.clock_set();
    connected(&mut session).await;
    session.clock_set();
    assert!(session.is_connected());
}

#[tokio::test]
async fn a_clock_that_is_set_does_not_hurry_what_another_cause_has_ended() {
    let (clock, mut options) = (Arc::new(SystemClock), options("drone01", free_port()));
    (options.reconnect_min, options.reconnect_max) = (Duration::from_secs(3600), Duration::from_secs(3600));
    let mut session = Session::new(options, clock).expect("options for a session");
    disconnected(&mut session).await;
    session.clock_set();
    let next = tokio::time::timeout(Duration::from_millis(200), session.event()).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test]
async fn plain_and_tls_are_not_confused() {
    let plain = Mosquitto::start();
    let secured = server_for("localhost");
    let mut options = tls("localhost", &secured);
    options.server = Server::Tls { host: "localhost".into(), port: plain.port() };
    let told = cause(options.clone()).await;
    assert!(told.contains("is not TLS: write mqtt://") || told.contains("write mqtt://"), "{told}");
    options.server = Server::Tcp { host: "localhost".into(), port: secured.port() };
    let told = cause(options).await;
    assert!(told.contains("write mqtts://"), "{told}");
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_taken_and_refused() {
    let server = Mosquitto::with(|folder| {
        make_ca(folder, "localhost", &["drone01"], 30);
        make_ca(&folder.join("other"), "localhost", &["drone01"], 30);
        format!("{}require_certificate true\nuse_identity_as_username true\n", listener(folder))
    });
    let mut options = tls("localhost", &server);
    let told = cause(options.clone()).await;
    assert!(told.contains("asks for a client certificate") && told.contains("set tls.cert and tls.key"), "{told}");

    let files = |folder: &str| TlsFiles {
        ca: Some(server.file("ca.pem")),
        cert: Some(server.file(&format!("{folder}drone01.pem"))),
        key: Some(server.file(&format!("{folder}drone01.key"))),
    };
    options.tls = files("other/");
    let told = cause(options.clone()).await;
    assert!(told.contains("refuses our certificate") && told.contains("other/drone01.pem"), "{told}");

    options.tls = TlsFiles { key: files("other/").key, ..files("") };
    let told = cause(options.clone()).await;
    assert!(told.contains("drone01.pem and") && told.contains("do not fit"), "{told}");

    options.tls = files("");
    connected(&mut session(options)).await;
    server.wait_for_log("u'drone01'");
}

#[tokio::test]
async fn files_that_appear_later_are_taken_up_without_a_restart() {
    let server = server_for("localhost");
    let mut options = tls("localhost", &server);
    let ca = server.file("later.pem");
    options.tls.ca = Some(ca.clone());
    let mut session = session(options);
    let (told, _) = disconnected(&mut session).await;
    assert_eq!(told, format!("tls.ca {}: no such file or directory", ca.display()));
    fs::copy(server.file("ca.pem"), &ca).expect("the authority");
    connected(&mut session).await;
}

#[test]
fn make_ca_keeps_what_there_is_and_hides_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    make_ca(folder.path(), "broker.lan", &["drone01"], 30);
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    let (ca, first) = (read("ca.pem"), read("drone01.pem"));
    make_ca(folder.path(), "broker.lan", &["drone01", "drone40"], 30);
    assert_eq!((read("ca.pem"), read("drone01.pem")), (ca, first));
    assert!(!read("drone40.pem").is_empty());
    for key in ["ca.key", "server.key", "drone01.key", "drone40.key"] {
        let mode = fs::metadata(folder.path().join(key)).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

const USERS: [(&str, &str); 2] = [("drone01", "one"), ("beaglebone", "two")];

/// The story on `server`: the drone's altitude reaches the BeagleBone, and nobody writes on another's topics.
async fn story(server: &Mosquitto, connection: impl Fn(&str) -> Options) {
    let mut drone = session(connection("drone01"));
    let mut beaglebone = session(connection("beaglebone"));
    connected(&mut drone).await;
    connected(&mut beaglebone).await;
    let publish = |topic: &'static str, payload: &'static str| board2mqtt::mqtt::Outgoing {
        topic,
        payload: payload.as_bytes(),
        qos: QoS::AtLeastOnce,
        retain: true,
    };
    beaglebone.publish(&publish("sensors/drone01/altitude", "999 feet"), Some(1)).expect("room");
    support::session::acked(&mut beaglebone, 1).await;
    drone.publish(&publish("sensors/drone01/altitude", "100 feet"), Some(1)).expect("room");
    support::session::acked(&mut drone, 1).await;
    beaglebone.subscribe(&[("sensors/drone01/altitude", QoS::AtLeastOnce)]);
    assert_eq!(received(&mut beaglebone, "sensors/drone01/altitude").await, "100 feet");
    server.wait_for_log("Denied PUBLISH");
}

#[tokio::test]
async fn the_first_stage_knows_passwords() {
    let server = shipped("password.conf", &USERS);
    story(&server, |name| with_password(options(name, server.port()), name)).await;
    let told = cause(options("drone01", server.port())).await;
    assert!(told.contains("authorise"), "nobody without a name: {told}");
}

#[tokio::test]
async fn the_second_stage_hides_them() {
    let server = shipped("tls.conf", &USERS);
    story(&server, |name| with_password(secured(name, &server), name)).await;
}

#[tokio::test]
async fn the_third_stage_needs_none() {
    let server = shipped("client-certificates.conf", &USERS);
    story(&server, |name| {
        let mut options = secured(name, &server);
        options.tls.cert = Some(server.file(&format!("certs/{name}.pem")));
        options.tls.key = Some(server.file(&format!("certs/{name}.key")));
        options
    })
    .await;
}

fn secured(name: &str, server: &Mosquitto) -> Options {
    let mut options = options(name, server.port());
    options.server = Server::Tls { host: "localhost".into(), port: server.port() };
    options.tls.ca = Some(server.file("certs/ca.pem"));
    options
}

fn with_password(mut options: Options, name: &str) -> Options {
    let password = if name == "drone01" { "one" } else { "two" };
    options.login = Some(Login { username: name.into(), password: Some(password.into()) });
    options
}
