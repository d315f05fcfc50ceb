//! A file that is not taken up changes nothing, and says why where a person looks; and what a service manager hears.

use super::shell::{Manager, Running, Shell};
use super::support::wait_for;
use super::{Gateway, Mosquitto, Recipe, config, counter, topic, wait_for_count};
use std::ffi::CString;
use std::io::Write;

/// A daemon with a lamp that is on and a counter, and the configuration it runs.
fn started(server: &Mosquitto) -> (Shell, Manager, Running, String) {
    let parts = format!("{}[outputs.lamp]\nline = \"GPIO17\"\n", counter("ticks", 50));
    let good = format!("{}[simulated]\ntrace = \"trace.log\"\n", config(server.port(), &parts));
    let mut shell = Shell::with(&good);
    let manager = Manager::new(&mut shell);
    let daemon = shell.daemon();
    assert_eq!(manager.next(), "READY=1\n");
    manager.wait_for("STATUS=connected to");
    super::wait_for_subscriptions(server);
    server.publish(&topic("lamp/set"), "ON");
    shell.wait_for_levels("GPIO17", &["0", "1"]);
    (shell, manager, daemon, good)
}

/// What `check` says of the file, as one block.
fn checked(shell: &Shell) -> String {
    let done = shell.run("check -c c.toml");
    assert_eq!(done.status, Some(78), "{}", done.err);
    done.err
}

/// Asks for a reload that is refused; the status line it leads to.
fn refused(manager: &Manager, daemon: &Running) -> String {
    daemon.signal(libc::SIGHUP);
    assert!(manager.wait_for("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.wait_for("READY=1");
    manager.wait_for("STATUS=reload refused")
}

#[test]
fn a_bad_file_is_refused_as_check_refuses_it_and_the_old_one_goes_on() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    let (shell, manager, daemon, good) = started(&server);
    let one = good.replace("interval", "intervall");
    let two = one.replace("GPIO17", "");
    let syntax = good.replace("[mqtt]", "[mqtt");
    let meaning = good.replace("test-counter", "test-countre");
    for (bad, status) in [
        (one, "STATUS=reload refused: c.toml:11:1: unknown key `intervall`"),
        (two, "STATUS=reload refused, 2 faults, the first: c.toml:11:1: unknown key `intervall`"),
        (syntax, "STATUS=reload refused: c.toml:3:"),
        (meaning, "STATUS=reload refused: c.toml:10:10: no driver is called `test-countre`"),
    ] {
        shell.write("c.toml", bad);
        let report = checked(&shell);
        let told = refused(&manager, &daemon);
        assert!(told.starts_with(status) && told.contains("; connected to mqtt://"), "{told}");
        wait_for(&format!("the report\n{report}in\n{}", daemon.err()), || daemon.err().contains(&report).then_some(()));
    }
    assert_eq!(daemon.err().matches("ERROR configuration refused, the one before goes on faults=").count(), 4);
    // Good again: the status line is what it was, and all along nothing has moved or been missed.
    shell.write("c.toml", &good);
    daemon.signal(libc::SIGHUP);
    manager.wait_for("READY=1");
    let status = manager.wait_for("STATUS=connected to");
    assert!(status.contains("1 of 1 sensors ok"), "{status}");
    let seen = super::counts(&watch.messages(), &topic("ticks/count")).into_iter().max().expect("counts");
    wait_for_count(&watch, &topic("ticks/count"), seen + 3);
    super::assert_gapless(&watch, &topic("ticks/count"));
    assert_eq!(shell.levels("GPIO17"), ["0", "1"]);
    assert_eq!(super::connects(&server, "board2mqtt-gate"), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let server = Mosquitto::start();
    let (shell, manager, daemon, good) = started(&server);
    let file = shell.file("c.toml");
    let gone = || std::fs::remove_file(&file).expect("the file");
    gone();
    assert!(refused(&manager, &daemon).contains("c.toml: cannot be read: there is no such file"));
    std::fs::create_dir(&file).expect("a folder");
    assert!(refused(&manager, &daemon).contains("c.toml: cannot be read: "));
    std::fs::remove_dir(&file).expect("the folder");
    // Nobody can read what leads to itself, not even root.
    std::os::unix::fs::symlink("c.toml", &file).expect("a link");
    assert!(refused(&manager, &daemon).contains("c.toml: cannot be read: "));
    gone();
    let huge = std::fs::File::create(&file).expect("a file");
    huge.set_len(100 << 20).expect("100 MB");
    assert!(refused(&manager, &daemon).contains("c.toml: larger than 1 MiB"));
    shell.write("c.toml", b"[gateway]\nname = \"gr\xfc\xdfe\"\n");
    assert!(refused(&manager, &daemon).contains("c.toml:2:11: is not UTF-8"));
    shell.write("c.toml", good.replace("[mqtt]", "[mqtt]\nusername = \"u\"\npassword = { file = \"absent\" }"));
    assert!(refused(&manager, &daemon).contains("the password file"));
    shell.write("c.toml", &good);
    daemon.signal(libc::SIGHUP);
    manager.wait_for("STATUS=connected to");
    assert_eq!(shell.levels("GPIO17"), ["0", "1"]);
}

#[test]
fn what_only_a_start_can_change_is_refused_with_its_place() {
    let server = Mosquitto::start();
    let (shell, manager, daemon, good) = started(&server);
    for (change, status) in [
        (good.replace("kind = \"simulated\"", "kind = \"linux\""), "c.toml:8:8: `kind` in [board] is not as it was"),
        (good.replace("trace.log", "other.log"), "`trace` in [simulated] is not as it was"),
        (format!("{good}[buffer]\npath = \"elsewhere\"\n"), "`path` in [buffer] is not as it was"),
    ] {
        shell.write("c.toml", change);
        let told = refused(&manager, &daemon);
        assert!(told.contains(status) && told.contains("needs a restart"), "{told}");
    }
    assert!(daemon.err().contains("systemctl restart board2mqtt"), "the remedy\n{}", daemon.err());
    assert_eq!(shell.levels("GPIO17"), ["0", "1"]);
}

#[test]
fn a_hundred_hangups_are_a_few_readings_and_the_last_file_counts() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    let text = |more: &str| config(server.port(), &format!("{}{more}", counter("ticks", 50)));
    let gate = Gateway::start(Recipe::new(&text("")));
    wait_for_count(&watch, &topic("ticks/count"), 2);
    for _ in 0..99 {
        gate.signal(libc::SIGHUP);
    }
    gate.write(&text("[outputs.lamp]\nline = \"GPIO17\"\n"));
    gate.signal(libc::SIGHUP);
    watch.wait_for(&topic("lamp"), "OFF");
    let seen = super::counts(&watch.messages(), &topic("ticks/count")).into_iter().max().expect("counts");
    wait_for_count(&watch, &topic("ticks/count"), seen + 3);
    super::assert_gapless(&watch, &topic("ticks/count"));
    assert_eq!(super::connects(&server, "board2mqtt-gate"), 1);
    assert!((1..=100).contains(&gate.logged("configuration reloaded")));
}

#[test]
fn a_file_that_takes_its_time_delays_nothing_and_hangups_meanwhile_are_one() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/gate/#"]);
    let parts = format!("{}[outputs.lamp]\nline = \"GPIO17\"\n", counter("ticks", 50));
    let text = config(server.port(), &parts);
    let gate = Gateway::start(Recipe::new(&text));
    wait_for_count(&watch, &topic("ticks/count"), 2);
    super::wait_for_subscriptions(&server);
    // Whoever opens it waits until somebody writes, as on a card that has stalled.
    let slow = CString::new(gate.file("slow").to_str().expect("text")).expect("a path");
    // SAFETY: a NUL-terminated path for the duration of the call.
    assert_eq!(unsafe { libc::mkfifo(slow.as_ptr(), 0o600) }, 0);
    std::fs::rename(gate.file("slow"), gate.file("config.toml")).expect("in its place");
    gate.signal(libc::SIGHUP);
    wait_for("the thread that reads", || (threads(&gate, "reload") == 1).then_some(()));
    for level in ["ON", "OFF", "ON"] {
        gate.signal(libc::SIGHUP);
        watch.clear();
        server.publish(&topic("lamp/set"), level);
        watch.wait_for(&topic("lamp"), level);
    }
    wait_for_count(&watch, &topic("ticks/count"), 3);
    assert_eq!((threads(&gate, "reload"), gate.logged("configuration reloaded")), (1, 0));
    let mut pipe = std::fs::File::options().write(true).open(gate.file("config.toml")).expect("the reader is there");
    gate.write(&text.replace("[mqtt]", "[metrics]\ninterval = \"9s\"\n[mqtt]"));
    pipe.write_all(text.as_bytes()).expect("it reads");
    drop(pipe);
    gate.wait_for_log("configuration reloaded, nothing has changed", 1);
    gate.wait_for_log("configuration reloaded added=\"\" changed=metrics", 1);
    assert_eq!(gate.logged("configuration reloaded"), 2, "three hangups meanwhile were one");
    assert_eq!(gate.levels("GPIO17"), ["0", "1", "0", "1"]);
}

/// How many threads of the agent have this name.
fn threads(gate: &Gateway, name: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gate.pid())).expect("a running process");
    let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|comm| comm.trim_end() == name).count()
}

#[test]
fn the_metrics_count_reloads_and_connections() {
    let server = Mosquitto::start();
    let text = config(server.port(), "[metrics]\ninterval = \"1s\"\n");
    let gate = Gateway::start(Recipe::new(&text));
    server.subscribe(&[&topic("status")]).wait_for(&topic("status"), "online");
    gate.reload(&text);
    gate.write("nonsense");
    gate.signal(libc::SIGHUP);
    gate.wait_for_log("configuration refused", 1);
    gate.reload(&text);
    wait_for("two reloads in the metrics", || {
        let metrics = super::wait_for_retained(&server, &topic("metrics"));
        let metrics: serde_json::Value = serde_json::from_str(&metrics).expect("an object");
        (metrics["reloads"] == 2 && metrics["connects"] == 1).then_some(())
    });
}
