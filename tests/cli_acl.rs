//! The access list that `topics --acl` prints, in a real Mosquitto: enough for everything, and for nothing else.

mod shell;
mod support;

use shell::Shell;
use std::io::Write as _;
use std::process::{Command, Stdio};
use support::mosquitto::{Mosquitto, password_file};

const CONFIG: &str = r#"
[gateway]
name = "bench"
[mqtt]
server = "mqtt://127.0.0.1:PORT"
username = "gateway one"
password = "sesame"
[topics]
sensor = "{base}/{sensor}"
[defaults]
bus = "/dev/i2c-1"
interval = "200ms"
[sensors.barometer]
driver = "bmp280"
address = 0x76
sea_level_pressure = { topic = "weather/qnh", unit = "hPa", otherwise = "1013.25 hPa" }
[inputs.door]
line = "GPIO27"
[outputs.beacon]
line = "GPIO17"
follow = { topic = "other/altitude", on_above = 400, off_below = 380, stale_after = "60s" }
"#;

/// A server that lets in `admin` for everything and the gateway for what the list grants.
fn server(acl: &str) -> Mosquitto {
    let mut server = Mosquitto::with(|folder| {
        let passwords = password_file(folder, &[("gateway one", "sesame"), ("admin", "admin")]);
        let list = folder.join("acl");
        std::fs::write(&list, format!("{acl}\nuser admin\ntopic readwrite #\n")).expect("the list");
        format!("allow_anonymous false\npassword_file {}\nacl_file {}", passwords.display(), list.display())
    });
    server.client_args = ["-u", "admin", "-P", "admin"].map(str::to_owned).to_vec();
    server
}

fn acl() -> String {
    let done = Shell::with(&CONFIG.replace("PORT", "1")).run("topics --acl -c c.toml");
    assert_eq!((done.status, done.err.as_str()), (Some(0), ""));
    done.out
}

#[test]
fn a_gateway_works_fully_under_its_own_list() {
    let server = server(&acl());
    let subscriber = server.subscribe(&["#"]);
    let shell = Shell::with(&CONFIG.replace("PORT", &server.port().to_string()));
    let daemon = shell.daemon();
    for (topic, payload) in [
        ("board2mqtt/bench/status", "online"),
        ("board2mqtt/bench/barometer/status", "online"),
        ("board2mqtt/bench/door", "OFF"),
        ("board2mqtt/bench/beacon", "OFF"),
    ] {
        subscriber.wait_for(topic, payload);
    }
    for topic in ["barometer", "barometer/altitude", "barometer/pressure", "barometer/health"] {
        let topic = format!("board2mqtt/bench/{topic}");
        subscriber.wait_until(&topic, |messages| messages.iter().any(|m| m.topic == topic).then_some(()));
    }
    server.publish("other/altitude", "500");
    subscriber.wait_for("board2mqtt/bench/beacon", "ON");
    server.publish("board2mqtt/bench/beacon/set", "{\"state\":\"OFF\",\"id\":7}");
    let reply = "{\"id\":7,\"outcome\":\"done\",\"state\":\"OFF\"}";
    subscriber.wait_for("board2mqtt/bench/beacon/reply", reply);
    server.publish("weather/qnh", "990");
    let lower = |payload: &str| payload.parse::<f64>().is_ok_and(|metres| metres < 0.0);
    subscriber.wait_until("an altitude by the new pressure", |messages| {
        messages.iter().any(|m| m.topic == "board2mqtt/bench/barometer/altitude" && lower(&m.payload)).then_some(())
    });
    // Somebody says that we are gone: we hear it, and say that we are not.
    subscriber.clear();
    server.retain("board2mqtt/bench/status", "offline");
    subscriber.wait_for("board2mqtt/bench/status", "online");
    assert!(!server.log().contains("Denied"), "something was refused");
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.done().status, Some(0));
    subscriber.wait_for("board2mqtt/bench/status", "offline");
}

#[test]
fn the_list_grants_nothing_else() {
    let server = server(&acl());
    let subscriber = server.subscribe(&["#"]);
    let publish = |topic: &str| {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-u", "gateway one", "-P", "sesame"]);
        let mut child = command.args(["-q", "1", "-t", topic, "-l"]).stdin(Stdio::piped()).spawn().expect("it starts");
        child.stdin.take().expect("a pipe").write_all(b"x\n").expect("a line");
        child.wait().expect("its end");
    };
    for refused in ["board2mqtt/bench/beacon/set", "board2mqtt/other/status", "weather/qnh", "elsewhere"] {
        publish(refused);
    }
    publish("board2mqtt/bench/beacon");
    subscriber.wait_for("board2mqtt/bench/beacon", "x");
    assert_eq!(subscriber.messages().len(), 1, "{:?}", subscriber.messages());
}
