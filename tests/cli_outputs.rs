//! What moves outputs from the command line: `set` through the daemon and alone, and `safe` when the daemon has died.

mod shell;

use shell::{Shell, wait_for};
use std::time::Duration;

const CONFIG: &str = r#"
[gateway]
name = "bench"
[mqtt]
server = "mqtt://127.0.0.1:1"
[outputs.beacon]
line = "GPIO17"
max_on = "5m"
[outputs.siren]
line = "GPIO22"
active = "low"
initial = "on"
[outputs.fan]
pwm = { line = "GPIO18", frequency = 25000 }
safe = 100
[outputs.pump]
line = "GPIO23"
interlock = { with = ["beacon"] }
on_exit = "keep"
"#;

/// A daemon whose outputs stand and whose socket is there.
fn daemon(shell: &Shell) -> shell::Running {
    let daemon = shell.daemon();
    wait_for("the daemon's socket", || shell.file("run/control.sock").exists().then_some(()));
    daemon
}

#[test]
fn alone_a_line_is_held_for_so_long_and_left_as_on_exit_says() {
    let shell = Shell::with(CONFIG);
    for (words, out, line, levels) in [
        ("beacon ON", "beacon ON for 50ms\nbeacon OFF\n", "GPIO17", &["1", "0"][..]),
        ("siren on", "siren ON for 50ms\nsiren OFF\n", "GPIO22", &["0", "1"]),
        ("fan 12.5", "fan 12.5 for 50ms\nfan 100\n", "GPIO18", &["12.5", "100"]),
        ("pump 1", "pump ON for 50ms\npump OFF\n", "GPIO23", &["1", "0"]),
    ] {
        let done = shell.run(&format!("set {words} --for 50ms -c c.toml"));
        assert_eq!((done.status, done.out.as_str(), done.err.as_str()), (Some(0), out, ""), "{words}");
        assert_eq!(shell.levels(line), levels, "{words}: taken over as found, no other level before the wanted one");
    }
}

#[test]
fn alone_a_line_is_held_until_somebody_asks_to_stop() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let shell = Shell::with(CONFIG);
        let held = shell.start(&["set", "beacon", "ON", "-c", "c.toml"]);
        held.wait_for_out("beacon ON until Ctrl-C\n");
        assert_eq!(shell.levels("GPIO17"), ["1"]);
        held.signal(signal);
        let done = held.done();
        assert_eq!((done.status, done.out.as_str()), (Some(0), "beacon ON until Ctrl-C\nbeacon OFF\n"));
        assert_eq!(shell.levels("GPIO17"), ["1", "0"]);
    }
    let shell = Shell::with(CONFIG);
    let held = shell.start(&["set", "pump", "ON", "-c", "c.toml"]);
    held.wait_for_out("pump ON until Ctrl-C\n");
    held.signal(libc::SIGINT);
    assert_eq!(held.done().out, "pump ON until Ctrl-C\n");
    assert_eq!(shell.levels("GPIO23"), ["1"], "on_exit = \"keep\"");
}

#[test]
fn alone_the_limits_hold_while_nobody_looks() {
    let shell = Shell::with(&CONFIG.replace("5m", "200ms"));
    let held = shell.start(&["set", "beacon", "ON", "-c", "c.toml"]);
    held.wait_for_out("beacon OFF\n");
    assert_eq!(shell.levels("GPIO17"), ["1", "0"]);
    held.signal(libc::SIGINT);
    assert_eq!(held.done().status, Some(0));
}

#[test]
fn a_refused_command_moves_nothing_and_says_what_to_do() {
    let require = "require = { topic = \"flue\", below = 90, stale_after = \"30s\" }";
    let shell = Shell::with(&CONFIG.replace("on_exit = \"keep\"", require));
    let done = shell.run("set beacon ON --for 6m -c c.toml");
    assert_eq!((done.status, done.out.as_str()), (Some(1), ""));
    assert_eq!(done.err, "board2mqtt: refused, max-on: `for` is longer than the output's `max_on`\n");
    let done = shell.run("set pump ON -c c.toml");
    assert_eq!(done.status, Some(1));
    assert!(done.err.starts_with("board2mqtt: refused, require: "), "{}", done.err);
    let done = shell.start(&["set", "beacon", "{\"state\":\"ON\"}", "--for", "5s", "-c", "c.toml"]).done();
    assert_eq!(done.status, Some(2));
    assert!(done.err.contains("has its own `for`"), "{}", done.err);
    assert!(shell.writes().is_empty(), "{:?}", shell.writes());
}

#[test]
fn while_the_daemon_runs_its_guard_decides() {
    let shell = Shell::with(CONFIG);
    let daemon = daemon(&shell);
    // The daemon knows its outputs; no configuration is read.
    let done = shell.run("set beacon ON");
    assert_eq!((done.status, done.out.as_str(), done.err.as_str()), (Some(0), "beacon ON\n", ""));
    assert_eq!(shell.levels("GPIO17"), ["0", "1"], "it stays on when `set` has ended");
    let done = shell.run("set pump ON");
    assert_eq!(done.status, Some(1));
    assert!(done.err.contains("refused, interlock: an output it is interlocked with is on"), "{}", done.err);
    let done = shell.run("set fan 40 --for 100ms");
    assert_eq!((done.status, done.out.as_str()), (Some(0), "fan 40 for 100ms\n"));
    shell.wait_for_levels("GPIO18", &["100", "40", "100"]);
    let done = shell.run("set bacon ON");
    assert_eq!(done.status, Some(2));
    assert!(done.err.contains("no output is called `bacon`, there are `beacon`, `siren`"), "{}", done.err);
    let done = shell.run("set beacon PERHAPS");
    assert_eq!(done.status, Some(2));
    assert!(done.err.contains("allowed are ON, OFF"), "{}", done.err);
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.done().status, Some(0));
    assert_eq!(shell.levels("GPIO17"), ["0", "1", "0"]);
    assert!(!shell.file("run/control.sock").exists());
}

#[test]
fn a_socket_left_by_a_killed_daemon_is_no_daemon() {
    let shell = Shell::with(CONFIG);
    daemon(&shell).kill();
    assert!(shell.file("run/control.sock").exists());
    let done = shell.run("set beacon ON --for 50ms -c c.toml");
    assert_eq!((done.status, done.out.as_str()), (Some(0), "beacon ON for 50ms\nbeacon OFF\n"));
    let again = daemon(&shell);
    wait_for("the daemon to answer", || (shell.run("set beacon ON").out == "beacon ON\n").then_some(()));
    again.signal(libc::SIGTERM);
    assert_eq!(again.done().status, Some(0));
}

#[test]
fn a_daemon_that_hangs_is_told_and_not_passed_by() {
    let shell = Shell::with(CONFIG);
    let daemon = daemon(&shell);
    daemon.signal(libc::SIGSTOP);
    let done = shell.run("set beacon ON -c c.toml");
    daemon.signal(libc::SIGCONT);
    assert_eq!(done.status, Some(1));
    assert!(done.err.contains("the daemon does not answer"), "{}", done.err);
}

#[test]
fn hostile_words_on_the_socket_harm_nobody() {
    use std::io::{Read, Write};
    let shell = Shell::with(CONFIG);
    let daemon = daemon(&shell);
    let long = vec![b'x'; 100_000];
    for words in [&b""[..], b"\n", b"{}\n", b"\xff\xfe\n", b"{\"output\":\"beacon\"}\n", &long] {
        let mut socket = std::os::unix::net::UnixStream::connect(shell.file("run/control.sock")).expect("a daemon");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a bound");
        // It may hang up before it has read everything.
        let _ = socket.write_all(words);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
    let idle: Vec<_> =
        (0..50).map(|_| std::os::unix::net::UnixStream::connect(shell.file("run/control.sock"))).collect();
    assert_eq!(shell.run("set beacon ON").out, "beacon ON\n");
    drop(idle);
    assert_eq!(shell.levels("GPIO17"), ["0", "1"]);
    drop(daemon);
}

#[test]
fn safe_needs_no_configuration_after_the_daemon_has_died() {
    let shell = Shell::with(CONFIG);
    let daemon = daemon(&shell);
    assert_eq!(shell.run("set beacon ON").status, Some(0));
    daemon.kill();
    shell.write("c.toml", "this is [no configuration");
    std::fs::create_dir(shell.file("elsewhere")).expect("a folder");
    for arguments in [&["safe", "-c", "../c.toml"][..], &["safe"]] {
        std::fs::remove_file(shell.file("trace.log")).expect("a trace");
        let done = shell.command(arguments).current_dir(shell.file("elsewhere")).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&done.stderr), "");
        assert_eq!(String::from_utf8_lossy(&done.stdout), "beacon OFF\nsiren OFF\npump OFF\nfan 100\n");
        assert_eq!(done.status.code(), Some(0));
        let writes: Vec<_> = shell.writes().into_iter().map(|(_, line, level)| format!("{line} {level}")).collect();
        assert_eq!(writes, ["GPIO17 0", "GPIO22 1", "GPIO23 0", "GPIO18 100"], "what goes off goes first");
    }
}

#[test]
fn safe_asks_the_configuration_where_no_table_can_be_used() {
    let shell = Shell::with(CONFIG);
    let done = shell.run("safe -c c.toml");
    assert_eq!((done.status, done.err.as_str()), (Some(0), ""));
    assert_eq!(shell.levels("GPIO17"), ["0"]);
    for table in ["", "{", "{\"version\":9}", "{\"version\":1,\"board\":\"toaster\",\"outputs\":[]}"] {
        shell.write("run/outputs.json", table);
        let done = shell.run("safe -c c.toml");
        assert_eq!(done.status, Some(0), "{table}: {}", done.err);
        assert!(done.err.contains("the table the daemon left is of no use"), "{}", done.err);
        let done = shell.run("safe -c nowhere.toml");
        assert_eq!(done.status, Some(78), "neither: {}", done.err);
    }
    assert_eq!(shell.levels("GPIO17"), ["0"; 5]);
}

#[test]
fn safe_drives_the_kind_of_board_the_daemon_had() {
    let shell = Shell::with(&format!("{}[board]\nkind = \"linux\"\n", CONFIG.replace("GPIO", "NOWHERE")));
    daemon(&shell).kill();
    // The configuration says otherwise by now; the lines are still where the daemon had them.
    shell.write("c.toml", format!("{CONFIG}[board]\nkind = \"simulated\"\n"));
    let done = shell.run("safe -c c.toml");
    assert_eq!(done.status, Some(1));
    assert!(done.err.contains("output beacon: absent: there is no line NOWHERE17"), "{}", done.err);
    assert!(done.err.contains("4 outputs could not be driven"), "{}", done.err);
}

#[test]
fn a_stop_in_order_leaves_nothing_behind_for_safe() {
    let shell = Shell::with(CONFIG);
    let daemon = daemon(&shell);
    assert!(shell.file("run/outputs.json").exists());
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.done().status, Some(0));
    let files = std::fs::read_dir(shell.file("run")).expect("a folder").map(|file| file.expect("a file"));
    // The store's file stays, empty.
    let left: Vec<_> =
        files.filter(|file| file.metadata().is_ok_and(|file| file.len() > 0 || !file.is_file())).collect();
    assert!(left.is_empty(), "{left:?}");
}
