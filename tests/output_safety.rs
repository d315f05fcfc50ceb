//! Where an output is led by what happens to the server and to the daemon: at start, at a stop, after a crash, while the
//! server is away and when it is back. The real binary, its trace of writes, a real Mosquitto.

mod shell;
mod support;

use board2mqtt::board::Board;
use board2mqtt::line::{Active, Drive, Initial, Level, LineId};
use shell::{Manager, Running, Shell, free_port};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::inside::Inside;
use support::mosquitto::{Mosquitto, Subscriber};
use support::proxy::{Mode, Proxy};

const STATE: &str = "board2mqtt/house/lamp";
const SET: &str = "board2mqtt/house/lamp/set";
const REPLY: &str = "board2mqtt/house/lamp/reply";

/// A gateway called `house` with a lamp on GPIO17; `lamp` is the rest of its table.
fn house(server: u16, lamp: &str) -> String {
    format!(
        "[gateway]\nname = \"house\"\n\
         [mqtt]\nserver = \"mqtt://127.0.0.1:{server}\"\nkeep_alive = \"5s\"\n\
         reconnect = {{ min = \"100ms\", max = \"500ms\" }}\n\
         [outputs.lamp]\nline = \"GPIO17\"\n{lamp}\n"
    )
}

/// A daemon whose outputs stand.
fn started(shell: &Shell, manager: &Manager) -> Running {
    let daemon = shell.daemon();
    manager.wait_for("READY=1");
    daemon
}

fn stop(daemon: Running) {
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.done().status, Some(0));
}

/// Switches the lamp, through the server, and waits for the answer.
fn command(server: &Mosquitto, watch: &Subscriber, state: &str) {
    let id = fastrand::u32(..);
    server.publish(SET, &format!(r#"{{"state":"{state}","id":{id}}}"#));
    watch.wait_for(REPLY, &format!(r#"{{"id":{id},"outcome":"done","state":"{state}"}}"#));
}

/// A gateway behind a link, whose lamp was switched on by a command.
struct Linked {
    server: Mosquitto,
    proxy: Proxy,
    shell: Shell,
    _manager: Manager,
    watch: Subscriber,
    daemon: Running,
}

/// The lamp is safe when the server has been lost for `after`.
fn linked(after: &str) -> Linked {
    let server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let mut shell = Shell::with(&house(proxy.port(), &format!("on_server_loss = {{ after = \"{after}\" }}")));
    let manager = Manager::new(&mut shell);
    let watch = server.subscribe(&["board2mqtt/house/#"]);
    let daemon = started(&shell, &manager);
    server.wait_for_log(&format!("board2mqtt-house 1 {SET}"));
    command(&server, &watch, "ON");
    Linked { server, proxy, shell, _manager: manager, watch, daemon }
}

/// The time between the writes of that number and of the next to the lamp's line.
fn between(shell: &Shell, write: usize) -> Duration {
    let at: Vec<_> = shell.writes().into_iter().filter(|(_, line, _)| line == "GPIO17").map(|(at, ..)| at).collect();
    Duration::from_nanos(at[write + 1] - at[write])
}

#[test]
fn without_a_server_from_boot_an_output_is_safe_after_its_grace_time_and_stays_so() {
    let mut server = Mosquitto::start();
    server.kill();
    let mut shell = Shell::with(&house(server.port(), "initial = \"on\"\non_server_loss = { after = \"2s\" }"));
    let manager = Manager::new(&mut shell);
    let daemon = started(&shell, &manager);
    shell.wait_for_levels("GPIO17", &["1", "0"]);
    let grace = between(&shell, 0);
    // It counts from the start, which is a moment before the line is requested.
    assert!(grace >= Duration::from_millis(1_900), "{grace:?}");

    server.start_again();
    let watch = server.subscribe(&["board2mqtt/house/#"]);
    watch.wait_for(STATE, "OFF");
    daemon.wait_for_err("connected to the server");
    command(&server, &watch, "ON");
    shell.wait_for_levels("GPIO17", &["1", "0", "1"]);
    stop(daemon);
}

#[test]
fn when_the_server_is_lost_an_output_is_safe_after_its_grace_time_until_a_new_command() {
    let mut server = Mosquitto::start();
    let mut shell = Shell::with(&house(server.port(), "on_server_loss = { after = \"1s\" }"));
    let manager = Manager::new(&mut shell);
    let watch = server.subscribe(&["board2mqtt/house/#"]);
    let daemon = started(&shell, &manager);
    server.wait_for_log(&format!("board2mqtt-house 1 {SET}"));
    command(&server, &watch, "ON");
    watch.wait_for(STATE, "ON");

    server.kill();
    shell.wait_for_levels("GPIO17", &["0", "1", "0"]);
    assert!(between(&shell, 1) >= Duration::from_secs(1));
    server.start_again();
    let watch = server.subscribe(&["board2mqtt/house/#"]);
    watch.wait_for(STATE, "OFF");
    // It is connected and hears commands, and still nothing moved by itself.
    command(&server, &watch, "OFF");
    assert_eq!(shell.levels("GPIO17"), ["0", "1", "0"]);
    command(&server, &watch, "ON");
    watch.wait_for(STATE, "ON");
    assert_eq!(shell.levels("GPIO17"), ["0", "1", "0", "1"]);
    stop(daemon);
}

#[test]
fn a_server_that_lets_us_in_and_takes_nothing_is_no_server() {
    let link = linked("2s");
    link.proxy.set(Mode::SwallowAcks);
    // Each new connection is let in and then cut, sooner than the grace time is over.
    shell::wait_for("the lamp to go off", || {
        link.proxy.cut();
        std::thread::sleep(Duration::from_millis(500));
        (link.shell.levels("GPIO17") == ["0", "1", "0"]).then_some(())
    });
    assert!(link.proxy.accepted() > 2, "it was let in again");
    stop(link.daemon);
}

#[test]
fn a_link_that_falls_silent_is_a_lost_server_and_what_it_brings_back_is_safe() {
    let link = linked("1s");
    link.watch.wait_for(STATE, "ON");
    link.proxy.set(Mode::BlackHole);
    let begun = Instant::now();
    link.shell.wait_for_levels("GPIO17", &["0", "1", "0"]);
    // One and a half keep-alives until the silence is noticed, then the grace time.
    assert!(begun.elapsed() < Duration::from_millis(7_500 + 1_000 + 2_000), "{:?}", begun.elapsed());

    link.watch.clear();
    link.proxy.set(Mode::Forward);
    link.watch.wait_for(STATE, "OFF");
    command(&link.server, &link.watch, "ON");
    link.shell.wait_for_levels("GPIO17", &["0", "1", "0", "1"]);
    stop(link.daemon);
}

#[test]
fn a_stop_leads_each_output_where_its_on_exit_says() {
    let more = "on_exit = \"on\"\n\
        [outputs.siren]\nline = \"GPIO22\"\ninitial = \"on\"\n\
        [outputs.pump]\nline = \"GPIO23\"\ninitial = \"on\"\non_exit = \"keep\"\n\
        [outputs.fan]\npwm = { line = \"GPIO18\", frequency = 100 }\nsafe = 30\ninitial = \"off\"\n";
    let mut shell = Shell::with(&house(free_port(), more));
    let manager = Manager::new(&mut shell);
    stop(started(&shell, &manager));
    let levels = ["GPIO17", "GPIO22", "GPIO23", "GPIO18"].map(|line| shell.levels(line).join(" "));
    assert_eq!(levels, ["0 1", "1 0", "1", "0 30"]);
}

#[test]
fn a_crash_is_followed_by_safe_and_a_start_by_initial() {
    let more = "initial = \"on\"\non_exit = \"keep\"\n[outputs.pump]\nline = \"GPIO23\"\nsafe = \"on\"\n";
    let mut shell = Shell::with(&house(free_port(), more));
    let manager = Manager::new(&mut shell);
    let daemon = started(&shell, &manager);
    assert_eq!(shell.run("set pump OFF -c c.toml").status, Some(0));
    daemon.kill();
    // What the unit's ExecStopPost runs; tests/unit_files.rs has that line.
    assert_eq!(shell.run("safe -c c.toml").status, Some(0));
    assert_eq!((shell.levels("GPIO17"), shell.levels("GPIO23")), (words("1 0"), words("1 0 1")));
    stop(started(&shell, &manager));
    assert_eq!((shell.levels("GPIO17"), shell.levels("GPIO23")), (words("1 0 1"), words("1 0 1 1")));
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_daemon_that_hangs_feeds_no_watchdog_and_what_replaces_it_starts_safe() {
    let mut shell = Shell::with(&house(free_port(), ""));
    let manager = Manager::new(&mut shell);
    shell.set("WATCHDOG_USEC", "1000000");
    let daemon = started(&shell, &manager);
    manager.wait_for("WATCHDOG=1");
    assert_eq!(shell.run("set lamp ON -c c.toml").status, Some(0));
    daemon.signal(libc::SIGSTOP);
    while manager.speaks_within(Duration::from_secs(1)) {}
    // The watchdog's time is over: what systemd does then.
    daemon.kill();
    assert_eq!(shell.run("safe -c c.toml").status, Some(0));
    stop(started(&shell, &manager));
    assert_eq!(shell.levels("GPIO17"), ["0", "1", "0", "0"]);
}

#[test]
fn the_last_level_outlives_a_stop_and_is_requested_at_once() {
    let mut shell = Shell::with(&house(free_port(), "initial = \"last\""));
    let manager = Manager::new(&mut shell);
    let daemon = started(&shell, &manager);
    assert_eq!(shell.run("set lamp ON -c c.toml").status, Some(0));
    stop(daemon);
    assert_eq!(shell.levels("GPIO17"), ["0", "1", "0"]);
    let daemon = started(&shell, &manager);
    assert_eq!(shell.levels("GPIO17"), ["0", "1", "0", "1"], "on with the request, not off first");
    assert_eq!(shell.run("set lamp OFF -c c.toml").status, Some(0));
    stop(daemon);
    stop(started(&shell, &manager));
    assert_eq!(shell.levels("GPIO17"), ["0", "1", "0", "1", "0", "0"]);
}

#[test]
fn what_was_switched_off_before_a_crash_does_not_come_back_on() {
    let mut shell = Shell::with(&house(free_port(), "initial = \"last\""));
    let manager = Manager::new(&mut shell);
    let levels = || -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(shell.file("state/state.json")).unwrap_or_default()).unwrap_or_default()
    };
    let kept = |percent: f64| {
        shell::wait_for("the state file", || (levels()["levels"]["lamp"] == percent).then_some(()));
    };
    let daemon = started(&shell, &manager);
    kept(0.0);
    assert_eq!(shell.run("set lamp ON -c c.toml").status, Some(0));
    stop(daemon);
    kept(100.0);
    let daemon = started(&shell, &manager);
    assert_eq!(shell.run("set lamp OFF -c c.toml").status, Some(0));
    kept(0.0);
    daemon.kill();
    stop(started(&shell, &manager));
    assert_eq!(shell.levels("GPIO17"), ["0", "1", "0", "1", "0", "0"]);
}

#[test]
fn no_restart_shortens_the_time_off_of_an_output_with_its_last_level() {
    let mut shell = Shell::with(&house(free_port(), "initial = \"last\"\nmin_off = \"2s\""));
    let manager = Manager::new(&mut shell);
    let daemon = started(&shell, &manager);
    assert_eq!(shell.run("set lamp ON -c c.toml").status, Some(0));
    assert_eq!(shell.run("set lamp OFF -c c.toml").status, Some(0));
    stop(daemon);
    let daemon = started(&shell, &manager);
    let refused = shell.run("set lamp ON -c c.toml");
    assert!(refused.status != Some(0) && refused.err.contains("min-off"), "{}", refused.err);
    shell::wait_for("the end of min_off", || (shell.run("set lamp ON -c c.toml").status == Some(0)).then_some(()));
    let most_of_it = Duration::from_millis(1_500);
    assert!(between(&shell, 3) >= most_of_it, "from the start of the second run");

    // Now on is the last level; the stop has switched it off.
    stop(daemon);
    let daemon = started(&shell, &manager);
    shell.wait_for_levels("GPIO17", &["0", "1", "0", "0", "1", "0", "0", "1"]);
    assert!(between(&shell, 6) >= most_of_it, "from the start of the third run");
    stop(daemon);
}

#[test]
fn an_output_that_is_kept_is_written_by_commands_alone() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/house/#"]);
    let text = format!("{}[board]\nkind = \"simulated\"\n", house(1, "initial = \"keep\"\non_exit = \"keep\""));
    let mut agent = Inside::start(&text, server.port(), |board| {
        let drive = Drive::Switch { line: LineId::Name("GPIO17".into()), active: Active::High };
        // Whoever had it before has left it on.
        drop(board.output(&drive, Initial::Level(Level::ON)).expect("a free line"));
        Arc::new(board)
    });
    watch.wait_for(STATE, "ON");
    assert_eq!(agent.control.writes("GPIO17"), 1, "nobody has written it since");
    server.wait_for_log(&format!("board2mqtt-house 1 {SET}"));
    command(&server, &watch, "OFF");
    command(&server, &watch, "ON");
    assert_eq!(agent.control.writes("GPIO17"), 3);
    agent.stop();
    watch.wait_for("board2mqtt/house/status", "offline");
    assert_eq!((agent.control.writes("GPIO17"), agent.control.is_high("GPIO17")), (3, Some(true)));
}
