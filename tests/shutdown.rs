//! A stop is in order whatever state the daemon is in: outputs first, then what waits, then `offline`; status 0, in two seconds.
//!
//! And what a service manager hears meanwhile. The two seconds are the promise; a busy machine gets [`SLACK`] on top.

mod shell;
mod support;

use shell::{Done, Manager, Running, Shell, free_port, monotonic, wait_for};
use std::time::{Duration, Instant};
use support::mosquitto::Mosquitto;
use support::proxy::{Mode, Proxy};

const PROMISE: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(2);

const CONFIG: &str = r#"
[gateway]
name = "bench"
[mqtt]
server = "SERVER"
[defaults]
bus = "/dev/i2c-1"
interval = "50ms"
[sensors.barometer]
driver = "bmp280"
address = 0x76
[outputs.beacon]
line = "GPIO17"
initial = "on"
"#;

fn config(server: &str) -> String {
    CONFIG.replace("SERVER", server)
}

/// So many sensors that need no bus.
fn counters(count: usize) -> String {
    let one = |number| format!("[sensors.c{number}]\ndriver = \"test-counter\"\ninterval = \"100ms\"\n");
    (0..count).map(one).collect()
}

/// A daemon in a shell of its own whose outputs stand.
fn started(config: &str) -> (Shell, Manager, Running) {
    started_with(config, |_| {})
}

/// The same, with something done to the shell before.
fn started_with(config: &str, prepare: impl FnOnce(&mut Shell)) -> (Shell, Manager, Running) {
    let mut shell = Shell::with(config);
    prepare(&mut shell);
    let manager = Manager::new(&mut shell);
    let daemon = shell.daemon();
    manager.wait_for("READY=1");
    assert_eq!(shell.levels("GPIO17"), ["1"], "READY comes when the outputs stand");
    (shell, manager, daemon)
}

/// Stops it and checks what holds for every stop.
fn stops(shell: &Shell, daemon: Running, signal: i32) -> (Done, Duration) {
    let begun = Instant::now();
    daemon.signal(signal);
    let done = daemon.done();
    let took = begun.elapsed();
    assert_eq!((done.status, done.out.as_str()), (Some(0), ""), "{}", done.err);
    assert!(took < PROMISE + SLACK, "it took {took:?}\n{}", done.err);
    assert_eq!(shell.levels("GPIO17"), ["1", "0"]);
    assert!(done.err.contains("INFO  stopped\n"), "{}", done.err);
    (done, took)
}

#[test]
fn with_the_server_there_everything_is_sent_and_offline_comes_last() {
    let server = Mosquitto::start();
    let subscriber = server.subscribe(&["board2mqtt/bench/#"]);
    let (shell, manager, daemon) = started(&config(&format!("mqtt://127.0.0.1:{}", server.port())));
    subscriber.wait_for("board2mqtt/bench/beacon", "ON");
    assert!(manager.wait_for("STATUS=connected to").contains("1 of 1 sensors ok"));
    let (done, _) = stops(&shell, daemon, libc::SIGTERM);
    subscriber.wait_for("board2mqtt/bench/status", "offline");
    let messages = subscriber.messages();
    assert_eq!(messages.last().map(|message| message.topic.as_str()), Some("board2mqtt/bench/status"));
    assert!(messages.iter().any(|m| m.topic == "board2mqtt/bench/beacon" && m.payload == "OFF"), "{messages:?}");
    assert_eq!(messages.iter().filter(|message| message.payload == "offline").count(), 1, "and no will");
    assert!(!done.err.contains("lost"), "{}", done.err);
}

#[test]
fn with_the_server_absent() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let (shell, manager, daemon) = started(&config(&format!("mqtt://127.0.0.1:{}", free_port())));
        let status = manager.wait_for("STATUS=no connection to");
        assert!(status.contains("connection refused"), "{status}");
        stops(&shell, daemon, signal);
        manager.wait_for("STOPPING=1");
    }
}

#[test]
fn with_a_server_name_nobody_knows() {
    let (shell, _manager, daemon) = started(&config("mqtt://no-such-host.invalid"));
    stops(&shell, daemon, libc::SIGTERM);
}

#[test]
fn with_a_server_that_accepts_and_says_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("mqtt://{}", listener.local_addr().expect("an address"));
    let (shell, _manager, daemon) = started(&config(&server));
    let _silent = listener.accept().expect("the daemon connects");
    stops(&shell, daemon, libc::SIGTERM);
}

#[test]
fn into_a_black_hole_outputs_go_first_and_what_waits_is_stored() {
    let (shell, err) = stopped_into_a_black_hole(|_| {});
    assert!(err.contains("readings wait on disk for the next start readings=") && !err.contains("lost"), "{err}");
    assert!(shell.file("state/buffer/0000000000000000.log").exists());
}

#[test]
fn into_a_black_hole_without_a_store_what_is_lost_is_told() {
    let (_, err) = stopped_into_a_black_hole(|shell| shell.set("STATE_DIRECTORY", ""));
    assert!(err.contains("readings wait in memory only") && err.contains("ERROR readings lost"), "{err}");
}

/// Stops a daemon whose connection swallows everything; its folder, and what it said.
fn stopped_into_a_black_hole(prepare: impl FnOnce(&mut Shell)) -> (Shell, String) {
    let server = Mosquitto::start();
    let subscriber = server.subscribe(&["board2mqtt/bench/status"]);
    let proxy = Proxy::to(server.port());
    let (shell, _manager, daemon) = started_with(&config(&format!("mqtt://127.0.0.1:{}", proxy.port())), prepare);
    subscriber.wait_for("board2mqtt/bench/status", "online");
    proxy.set(Mode::BlackHole);
    wait_for("readings on their way", || (shell.run("read -c c.toml").status == Some(0)).then_some(()));
    let (done, _) = stops(&shell, daemon, libc::SIGTERM);
    let ended = monotonic();
    let safe = shell.writes().last().expect("the write of the stop").0;
    // It waited more than a second for acknowledgements that could not come, but not before the outputs were safe.
    assert!(ended - safe > 1_000_000_000, "outputs were driven {} ns before the end", ended - safe);
    (shell, done.err)
}

#[test]
fn with_a_stuck_bus() {
    let script = "[[step]]\nat = \"0s\"\nbus = \"/dev/i2c-1\"\nfault = \"stuck\"\n";
    let simulated = "[board]\nkind = \"simulated\"\n[simulated]\nscript = \"s.toml\"\ntrace = \"trace.log\"\n";
    let mut shell = Shell::with(&format!("{}{simulated}", config("mqtt://127.0.0.1:1")));
    shell.write("s.toml", script);
    let manager = Manager::new(&mut shell);
    let daemon = shell.daemon();
    manager.wait_for("READY=1");
    daemon.wait_for_err("timeout");
    stops(&shell, daemon, libc::SIGTERM);
}

#[test]
fn with_a_thousand_sensors_and_a_full_queue() {
    let small = "[buffer]\nmax_size = \"64KiB\"\n";
    let text = format!("{}{}{small}", config("mqtt://127.0.0.1:1"), counters(1_000));
    for state in ["state", ""] {
        let (shell, _manager, daemon) = started_with(&text, |shell| {
            let folder = if state.is_empty() { String::new() } else { shell.file(state).display().to_string() };
            shell.set("STATE_DIRECTORY", &folder);
        });
        daemon.wait_for_err("readings are being lost");
        let (done, _) = stops(&shell, daemon, libc::SIGTERM);
        assert!(done.err.contains("ERROR readings lost"), "{}", done.err);
    }
}

#[test]
fn with_a_disk_that_stalls() {
    let rain = "[inputs.rain]\nline = \"GPIO22\"\ncount = { edge = \"falling\", per_pulse = 0.5, unit = \"mm\", interval = \"1s\" }\n";
    let text = format!("{}{rain}", config(&format!("mqtt://127.0.0.1:{}", free_port())));
    // Opening this for writing waits until somebody opens it for reading.
    let fifo = |shell: &Shell| {
        let made = std::process::Command::new("mkfifo").arg(shell.file("state/state.json.new")).status();
        assert!(made.expect("mkfifo").success());
    };
    let mut shell = Shell::with(&text);
    fifo(&shell);
    let manager = Manager::new(&mut shell);
    let daemon = shell.daemon();
    manager.wait_for("READY=1");
    let (done, _) = stops(&shell, daemon, libc::SIGTERM);
    assert!(done.err.contains("state.json: the disk does not answer"), "{}", done.err);
}

#[test]
fn asking_again_while_it_stops_changes_nothing() {
    let server = Mosquitto::start();
    let subscriber = server.subscribe(&["board2mqtt/bench/status"]);
    let proxy = Proxy::to(server.port());
    let (shell, manager, daemon) = started(&config(&format!("mqtt://127.0.0.1:{}", proxy.port())));
    subscriber.wait_for("board2mqtt/bench/status", "online");
    proxy.set(Mode::BlackHole);
    daemon.signal(libc::SIGTERM);
    manager.wait_for("STOPPING=1");
    shell.wait_for_levels("GPIO17", &["1", "0"]);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        daemon.signal(signal);
    }
    stops(&shell, daemon, libc::SIGTERM);
}

#[test]
fn the_service_manager_hears_a_whole_life() {
    let mut shell = Shell::with(&config(&format!("mqtt://127.0.0.1:{}", free_port())));
    let manager = Manager::new(&mut shell);
    let timeout = Duration::from_secs(2);
    shell.set("WATCHDOG_USEC", &timeout.as_micros().to_string());
    let daemon = shell.daemon();
    assert_eq!(manager.next(), "READY=1\n", "the first word, with the server absent");
    manager.wait_for("WATCHDOG=1");
    let mut fed = Instant::now();
    for _ in 0..2 {
        manager.wait_for("WATCHDOG=1");
        let gap = fed.elapsed();
        assert!(gap > timeout / 4 && gap < timeout, "fed after {gap:?}, half of {timeout:?} is asked for");
        fed = Instant::now();
    }
    stops(&shell, daemon, libc::SIGTERM);
    manager.wait_for("STOPPING=1");
}

#[test]
fn a_stop_before_anything_has_begun_touches_nothing() {
    let shell = Shell::with(&config("mqtt://127.0.0.1:1"));
    let daemon = shell.daemon();
    daemon.signal(libc::SIGTERM);
    // Killed before its signals were caught, or stopped in order: never left half way.
    let done = daemon.done();
    assert!(matches!(done.status, None | Some(0)), "{}", done.err);
    let levels = shell.levels("GPIO17");
    assert!(levels.is_empty() || levels == ["1", "0"], "{levels:?}");
}

#[test]
fn a_bad_configuration_ends_with_78_and_nothing_is_touched() {
    let good = config("mqtt://127.0.0.1:1");
    for (find, replace) in [("bmp280", "bmp999"), ("interval", "intervall"), ("GPIO17", ""), ("[mqtt]", "[mqtt")] {
        let mut shell = Shell::with(&good.replace(find, replace));
        let manager = Manager::new(&mut shell);
        let done = shell.daemon().done();
        assert_eq!((done.status, done.out.as_str()), (Some(78), ""), "{}", done.err);
        assert!(done.err.starts_with("ERROR configuration refused\nc.toml:"), "{}", done.err);
        assert_eq!(manager.next(), "STATUS=configuration refused, see the journal\n");
        assert!(manager.is_silent(), "no READY");
        assert!(!shell.file("trace.log").exists() && !shell.file("buffer").exists());
        for folder in ["run", "state"] {
            assert_eq!(std::fs::read_dir(shell.file(folder)).expect("a folder").count(), 0, "{folder}");
        }
    }
}
