//! The command line as a person meets it: what each subcommand prints, what it says is wrong, and how it ends.
//!
//! What moves outputs is `cli_outputs.rs`, the demo `demo.rs`, the daemon's end `shutdown.rs`.

mod shell;

use serde_json::Value;
use shell::{PATIENCE, Shell};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;
use std::time::Instant;

const CONFIG: &str = r#"
[gateway]
name = "bench"
[mqtt]
server = "mqtt://127.0.0.1:1"
[defaults]
bus = "/dev/i2c-1"
interval = "100ms"
[sensors.barometer]
driver = "bmp280"
address = 0x76
[sensors.cellar]
driver = "tmp102"
bus = "/dev/i2c-2"
address = 0x48
[inputs.door]
line = "GPIO27"
[outputs.beacon]
line = "GPIO17"
[outputs.fan]
pwm = { line = "GPIO18", frequency = 25000 }
"#;

/// The configuration on a simulated board that plays this script.
fn scripted(script: &str) -> Shell {
    let shell = Shell::with(&format!(
        "{CONFIG}[board]\nkind = \"simulated\"\n[simulated]\nscript = \"script.toml\"\ntrace = \"trace.log\"\n"
    ));
    shell.write("script.toml", script);
    shell
}

const STILL: &str = "[[step]]\nat = \"0s\"\nsensor = \"barometer\"\naltitude = 100.0\ntemperature = 20.0\n";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn wrong_usage_ends_with_2_and_names_what_is_allowed() {
    let shell = Shell::with(CONFIG);
    for (line, expected) in [
        ("", "which command?\ntry `board2mqtt --help`"),
        ("chekc", "unknown command `chekc`, did you mean `check`?"),
        ("run fast", "`run` does not take the argument `fast`"),
        ("safe --json", "`safe` does not take the option --json"),
        ("run --log-level loud", "unknown log level `loud`, allowed: error, warn, info, debug, trace"),
        ("set beacon", "`set` needs a value"),
        ("set beacon ON --for soon", "`soon` is not a duration such as 5s or 2m"),
        ("demo --seconds soon", "soon"),
        ("topics --json --acl", "exclude each other"),
        ("drivers bmp28", "no driver is called `bmp28`: did you mean `bmp280`? there are `bme280`, `bmp280`"),
        ("read celar -c c.toml", "no sensor is called `celar`: did you mean `cellar`? there are `barometer`, `cellar`"),
        ("set bacon ON -c c.toml", "no output is called `bacon`: did you mean `beacon`? there are `beacon`, `fan`"),
        ("set beacon MAYBE -c c.toml", "not a command, allowed are ON, OFF, TOGGLE"),
        ("set fan 140 -c c.toml", "0 to 100"),
    ] {
        let done = shell.run(line);
        assert_eq!(done.status, Some(2), "{line}: {}", done.err);
        assert!(done.err.starts_with("board2mqtt: ") && done.err.contains(expected), "{line}: {}", done.err);
        assert_eq!(done.out, "", "{line}");
    }
    assert!(shell.writes().is_empty());
}

#[test]
fn arguments_and_overrides_that_are_not_utf_8_are_refused_in_words() {
    let mut shell = Shell::with(CONFIG);
    let strange = || OsString::from_vec(vec![b'x', 0xff]);
    assert_eq!(shell.start(&[strange()]).done().status, Some(2));
    assert_eq!(shell.start(&["read".into(), strange()]).done().status, Some(2));
    let done = shell.start(&["check".into(), "-c".into(), strange()]).done();
    assert_eq!(done.status, Some(78), "a path may be any bytes: {}", done.err);
    assert!(done.err.contains("there is no such file"), "{}", done.err);
    let mut command = shell.command(&["check", "-c", "c.toml"]);
    let done = command.env("BOARD2MQTT__MQTT__SERVER", strange()).output().expect("it runs");
    assert_eq!(done.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&done.stderr).contains("BOARD2MQTT__MQTT__SERVER: "));
    shell.set("BOARD2MQTT__MQTT__SERVAR", "mqtt://a");
    let done = shell.run("check -c c.toml");
    assert_eq!(done.status, Some(78));
    assert!(done.err.contains("did you mean BOARD2MQTT__MQTT__SERVER?"), "{}", done.err);
}

#[test]
fn help_names_every_subcommand_and_option_and_the_version_is_the_crates() {
    let shell = Shell::new();
    let help = shell.run("--help");
    assert_eq!((help.status, help.err.as_str()), (Some(0), ""));
    for word in ["run", "demo", "check", "read", "set", "safe", "drivers", "topics", "--config", "--log-level", "78"] {
        assert!(help.out.contains(word), "{word}");
    }
    assert!(help.out.lines().all(|line| line.chars().count() <= 90));
    for same in ["help", "-h", "set --help"] {
        assert_eq!(shell.run(same).out, help.out);
    }
    assert_eq!(shell.run("-V").out, format!("board2mqtt {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_c_the_file_in_the_working_folder_is_used() {
    if std::path::Path::new("/etc/board2mqtt/config.toml").exists() {
        return;
    }
    let shell = Shell::with(CONFIG);
    let done = shell.run("check");
    assert_eq!(done.status, Some(78));
    assert!(done.err.contains("neither /etc/board2mqtt/config.toml nor ./board2mqtt.toml is there"), "{}", done.err);
    assert!(done.err.contains("-c FILE"), "{}", done.err);
    std::fs::rename(shell.file("c.toml"), shell.file("board2mqtt.toml")).expect("renamed");
    let done = shell.run("check");
    assert_eq!(done.out, "board2mqtt.toml: good: 2 sensors, 1 input, 2 outputs\n");
    assert_eq!(done.status, Some(0));
}

#[test]
fn check_tells_every_fault_at_once_and_touches_nothing() {
    let shell = Shell::with(&CONFIG.replace("bmp280", "bmp28").replace("GPIO18", "GPIO17"));
    let done = shell.run("check -c c.toml");
    assert_eq!(done.status, Some(78));
    for expected in ["c.toml:10:10: no driver is called `bmp28`", "did you mean `bmp280`?", "c.toml:21:"] {
        assert!(done.err.contains(expected), "{expected}: {}", done.err);
    }
    assert_eq!(done.out, "");
    let good = Shell::with(CONFIG);
    let done = good.run("check -c c.toml");
    assert_eq!((done.status, done.err.as_str()), (Some(0), ""));
    assert_eq!(done.out, "c.toml: good: 2 sensors, 1 input, 2 outputs\n");
    assert!(!good.file("trace.log").exists() && !good.file("buffer").exists());
}

#[test]
fn check_hides_no_fault_behind_an_unknown_key() {
    let mut shell = Shell::with(&CONFIG.replace("bmp280", "bmp28").replace("GPIO18", "GPIO17").replace("name", "nmae"));
    shell.set("BOARD2MQTT__MQTT__QOS", "3");
    for subcommand in ["check", "run", "topics"] {
        let done = shell.run(&format!("{subcommand} -c c.toml"));
        assert_eq!(done.status, Some(78));
        let places = [
            "c.toml:3:1: unknown key `nmae` in [gateway]",
            "c.toml:10:10: no driver is called `bmp28`",
            "`GPIO17` is used twice",
            "BOARD2MQTT__MQTT__QOS: `qos` in [mqtt] must be",
        ]
        .map(|expected| done.err.find(expected).unwrap_or_else(|| panic!("{expected}: {}", done.err)));
        assert!(places.is_sorted(), "{}", done.err);
    }
}

#[test]
fn without_its_password_run_is_refused_for_good_and_touches_nothing() {
    for (source, expected, remedy) in [
        ("{ file = \"secret\" }", "the password file ./secret cannot be read: No such file", "first line"),
        ("{ file = \"empty\" }", "the password is empty", "write the password"),
        ("{ env = \"NOWHERE\" }", "environment variable `NOWHERE` is not set", "EnvironmentFile="),
        ("{ credential = \"mqtt\" }", "the credential `mqtt` needs `LoadCredential=`", "file ="),
    ] {
        let login = format!("[mqtt]\nusername = \"pi\"\npassword = {source}\n");
        let shell = Shell::with(&CONFIG.replace("[mqtt]\n", &login));
        shell.write("empty", "\n");
        let done = shell.daemon().done();
        assert_eq!(done.status, Some(78), "{}", done.err);
        for text in ["c.toml:6:12: `password` in [mqtt] is unusable: ", expected, remedy, "configuration refused"] {
            assert!(done.err.contains(text), "{text}: {}", done.err);
        }
        assert!(!shell.file("trace.log").exists(), "the board was opened");
        let done = shell.run("check -c c.toml");
        assert_eq!(done.status, Some(0), "{}", done.err);
        assert!(done.err.contains("warning: the ") && done.err.contains("`run` needs it"), "{}", done.err);
    }
}

#[test]
fn checking_and_reading_make_no_store() {
    let shell = Shell::with(&format!("{CONFIG}[buffer]\npath = \"buffer\"\nflush_every = \"1s\"\n"));
    for command in ["check -c c.toml", "check --probe -c c.toml", "read -c c.toml"] {
        let done = shell.run(command);
        assert_eq!((done.status, done.err.as_str()), (Some(0), ""), "{command}");
    }
    assert!(!shell.file("buffer").exists() && !shell.file("state/buffer").exists());
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let shell = Shell::new();
    shell.write("latin1.toml", b"[gateway]\nname = \"caf\xe9\"\n");
    shell.write("huge.toml", vec![b'#'; (1 << 20) + 1]);
    for (file, expected) in [
        ("nowhere.toml", "nowhere.toml: cannot be read: there is no such file"),
        ("run", "run: cannot be read"),
        ("latin1.toml", "latin1.toml:2:12: "),
        ("huge.toml", "larger than 1 MiB"),
    ] {
        for subcommand in ["check", "read", "run", "topics", "set a ON", "safe"] {
            let done = shell.run(&format!("{subcommand} -c {file}"));
            assert_eq!(done.status, Some(78), "{subcommand} {file}: {}", done.err);
            assert!(done.err.contains(expected), "{subcommand} {file}: {}", done.err);
        }
    }
}

#[test]
fn check_accepts_what_only_needs_a_look() {
    let login = "[mqtt]\nusername = \"pi\"\npassword = { file = \"secret\" }\n";
    let shell = Shell::with(&CONFIG.replace("[mqtt]\n", login));
    let done = shell.run("check -c c.toml");
    assert_eq!(done.status, Some(0));
    assert!(done.err.contains("warning: the password file ./secret cannot be read"), "{}", done.err);
    assert!(done.out.contains("good"));
    shell.write("secret", "hunter2\n");
    let done = shell.run("check -c c.toml");
    assert_eq!(done.status, Some(0));
    assert!(!done.err.contains("cannot be read"), "{}", done.err);
    assert!(!done.err.contains("hunter2") && !done.out.contains("hunter2"));
}

#[test]
fn a_script_that_does_not_fit_is_told_by_check_with_its_place() {
    let shell = scripted("[[step]]\nat = \"0s\"\nsensor = \"attic\"\naltitude = 1.0\n");
    let done = shell.run("check -c c.toml");
    assert_eq!(done.status, Some(78));
    assert!(done.err.contains("script.toml:3:"), "{}", done.err);
}

#[test]
fn probe_asks_every_part_and_moves_nothing() {
    let shell = scripted(STILL);
    let done = shell.run("check --probe -c c.toml");
    assert_eq!(done.status, Some(0), "{}", done.err);
    assert_eq!(
        done.out,
        "c.toml: good: 2 sensors, 1 input, 2 outputs\n  \
           sensor barometer (bmp280 at /dev/i2c-1 0x76): answers\n  \
           sensor cellar (tmp102 at /dev/i2c-2 0x48): answers\n  \
           input door (GPIO27): OFF\n  \
           output beacon (GPIO17): OFF\n  \
           output fan (GPIO18): 0\n"
    );
    assert!(shell.writes().is_empty());
}

#[test]
fn probe_names_the_part_that_fails_and_why() {
    let shell = scripted(&format!("{STILL}[[step]]\nat = \"0s\"\nsensor = \"cellar\"\nfault = \"nack\"\n"));
    let done = shell.run("check --probe -c c.toml");
    assert_eq!(done.status, Some(1));
    assert!(done.out.contains("sensor cellar (tmp102 at /dev/i2c-2 0x48): nack: "), "{}", done.out);
    assert!(done.out.contains("sensor barometer (bmp280 at /dev/i2c-1 0x76): answers"), "{}", done.out);
    assert!(done.err.contains("1 of 5 parts of the hardware cannot be used as configured"), "{}", done.err);
}

#[test]
fn probe_gives_up_a_bus_that_hangs_and_asks_everything_else() {
    let shell = Shell::with(&format!(
        "{CONFIG}[sensors.attic]\ndriver = \"tmp102\"\nbus = \"/dev/i2c-2\"\naddress = 0x49\n\
         [sensors.porch]\ndriver = \"tmp102\"\naddress = 0x48\n\
         [board]\nkind = \"simulated\"\n[simulated]\nscript = \"script.toml\"\n"
    ));
    shell.write("script.toml", format!("{STILL}[[step]]\nat = \"0s\"\nbus = \"/dev/i2c-2\"\nfault = \"stuck\"\n"));
    let begun = Instant::now();
    let done = shell.run("check --probe -c c.toml");
    assert_eq!(done.status, Some(1));
    for line in [
        "sensor barometer (bmp280 at /dev/i2c-1 0x76): answers",
        "sensor cellar (tmp102 at /dev/i2c-2 0x48): timeout: no answer within 2000 ms: it hangs",
        "sensor attic (tmp102 at /dev/i2c-2 0x49): timeout: not asked, because its bus hangs",
        "sensor porch (tmp102 at /dev/i2c-1 0x48): answers",
        "input door (GPIO27): OFF",
        "output beacon (GPIO17): OFF",
    ] {
        assert!(done.out.contains(line), "{line} in {}", done.out);
    }
    assert!(done.err.contains("2 of 7 parts"), "{}", done.err);
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

#[test]
fn hardware_that_is_not_there_is_told_with_its_remedy() {
    let absent = CONFIG.replace("/dev/i2c-", "/dev/i2c-9").replace("GPIO", "NOWHERE");
    let shell = Shell::with(&format!("{absent}[board]\nkind = \"linux\"\n"));
    let probe = shell.run("check --probe -c c.toml");
    assert_eq!(probe.status, Some(1));
    for part in ["barometer", "cellar", "door", "beacon", "fan"] {
        let line = probe.out.lines().find(|line| line.contains(part)).expect("a line for each part");
        assert!(line.contains(": absent: "), "{line}");
    }
    assert!(
        probe.out.contains("/dev/i2c-91 does not exist") && probe.out.contains("no line NOWHERE27"),
        "{}",
        probe.out
    );
    assert!(probe.out.contains("give chip and channel"), "{}", probe.out);
    let read = shell.run("read -c c.toml");
    assert_eq!(read.status, Some(1));
    assert!(read.err.contains("2 of 2 readings failed"), "{}", read.err);
    let set = shell.run("set beacon ON -c c.toml");
    assert_eq!(set.status, Some(1));
    assert!(set.err.contains("board2mqtt: output beacon: absent: there is no line NOWHERE17"), "{}", set.err);
    let safe = shell.run("safe -c c.toml");
    assert_eq!(safe.status, Some(1));
    assert!(safe.err.contains("2 outputs could not be driven to the safe level"), "{}", safe.err);
}

#[test]
fn read_prints_a_table_of_what_would_be_published() {
    let shell = scripted(&format!("{STILL}[[step]]\nat = \"0s\"\nsensor = \"cellar\"\ntemperature = -5.25\n"));
    let done = shell.run("read -c c.toml");
    assert_eq!((done.status, done.err.as_str()), (Some(0), ""));
    assert_eq!(
        done.out,
        "sensor     quantity      value  unit\n\
         barometer  pressure     1001.3  hPa\n\
         barometer  temperature   20.00  °C\n\
         barometer  altitude      100.0  m\n\
         cellar     temperature   -5.25  °C\n"
    );
    let one = shell.run("read cellar -c c.toml");
    assert_eq!(one.out, "sensor  quantity     value  unit\ncellar  temperature  -5.25  °C\n");
    let json_lines = shell.run("read cellar cellar --json -c c.toml");
    assert_eq!(json_lines.out.lines().count(), 1, "asked for twice is once");
    let object = json(json_lines.out.trim_end());
    assert_eq!(object["value"], -5.25);
    assert_eq!((&object["unit"], &object["failure"]), (&Value::from("°C"), &Value::Null));
}

#[test]
fn a_sensor_that_fails_and_a_bus_that_hangs_hold_up_no_other() {
    let shell = scripted(&format!("{STILL}[[step]]\nat = \"0s\"\nbus = \"/dev/i2c-2\"\nfault = \"stuck\"\n"));
    let done = shell.run("read -c c.toml");
    assert_eq!(done.status, Some(1));
    assert!(done.out.contains("barometer  altitude     100.0  m") || done.out.contains("100.0  m"), "{}", done.out);
    let hung = done.out.lines().find(|line| line.starts_with("cellar")).expect("a line");
    assert!(hung.contains("timeout: "), "{hung}");
    assert!(done.err.contains("1 of 4 readings failed"), "{}", done.err);
    let shell = scripted("[[step]]\nat = \"0s\"\nsensor = \"cellar\"\nfault = \"nack\"\n");
    let done = shell.run("read cellar --json -c c.toml");
    assert_eq!(done.status, Some(1));
    let object = json(done.out.trim_end());
    assert!(object["failure"].as_str().is_some_and(|failure| failure.starts_with("nack: ")), "{object}");
    assert_eq!(object["value"], Value::Null);
}

#[test]
fn watching_goes_on_until_nobody_reads_any_more() {
    let shell = scripted(STILL);
    for arguments in [&["read", "--watch", "-c", "c.toml"][..], &["read", "--watch", "--json", "-c", "c.toml"]] {
        let mut child =
            shell.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let lines: Vec<_> = out.lines().take(12).map(|line| line.expect("text")).collect();
        assert!(lines.iter().filter(|line| line.contains("cellar")).count() >= 2, "{lines:?}");
        // The pipe is closed now, as by `| head`.
        let start = Instant::now();
        while child.try_wait().expect("its state").is_none() {
            assert!(start.elapsed() < PATIENCE, "it goes on for nobody");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let done = child.wait_with_output().expect("its end");
        assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(0), ""));
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let shell = Shell::with(CONFIG);
    for line in ["topics -c c.toml", "drivers", "drivers --json", "--help", "check -c c.toml", "safe -c c.toml"] {
        let arguments: Vec<_> = line.split(' ').collect();
        let mut child =
            shell.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let done = child.wait_with_output().expect("its end");
        assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(0), ""), "{line}");
    }
    assert_eq!(shell.levels("GPIO17"), ["0"], "`safe` drives whether it is heard or not");
}

#[test]
fn drivers_are_listed_shown_and_told_as_json() {
    let shell = Shell::new();
    let table = shell.run("drivers").out;
    let column = table.find("addresses").expect("a head");
    assert!(table.lines().all(|line| line.chars().nth(column - 1) == Some(' ')), "{table}");
    let one = shell.run("drivers bmp280").out;
    assert!(one.contains("0x76 0x77") && one.contains("oversampling = 16|8|4|2|1 (default 16)"), "{one}");
    let all = json(&shell.run("drivers --json").out);
    let names: Vec<_> = all.as_array().expect("a list").iter().map(|driver| driver["name"].as_str()).collect();
    assert!(names.contains(&Some("bmp280")) && names.contains(&Some("test-counter")), "{names:?}");
    assert!(names.iter().flatten().all(|name| table.contains(*name)));
    assert_eq!(json(&shell.run("drivers tmp102 --json").out)[0]["addresses"], serde_json::json!([72, 73, 74, 75]));
}

#[test]
fn topics_are_told_as_a_table_and_as_json() {
    let shell = Shell::with(CONFIG);
    let table = shell.run("topics -c c.toml").out;
    assert!(table.starts_with("topic "), "{table}");
    let row = table.lines().find(|line| line.starts_with("board2mqtt/bench/beacon/set")).expect("a row");
    assert!(row.contains("subscribe  1    no      ON / OFF / TOGGLE"), "{row}");
    let all = json(&shell.run("topics --json -c c.toml").out);
    let all = all.as_array().expect("a list");
    assert_eq!(all.len() + 1, table.lines().count());
    let altitude = all.iter().find(|entry| entry["topic"] == "board2mqtt/bench/barometer/altitude").expect("altitude");
    assert_eq!((&altitude["unit"], &altitude["retain"]), (&Value::from("m"), &Value::from(true)));
}

#[test]
fn the_log_is_one_plain_line_a_record_and_as_much_as_asked_for() {
    let shell = Shell::with(CONFIG);
    let daemon = shell.daemon();
    daemon.wait_for_err("no connection to the server");
    daemon.signal(libc::SIGTERM);
    let done = daemon.done();
    assert_eq!((done.status, done.out.as_str()), (Some(0), ""));
    for line in done.err.lines() {
        assert!(["ERROR ", "WARN  ", "INFO  "].iter().any(|level| line.starts_with(level)), "{line}");
    }
    assert!(done.err.contains("INFO  stopping reason=SIGTERM\n"), "{}", done.err);
    let quiet = shell.start(&["--log-level", "error", "run", "-c", "c.toml"]);
    shell.wait_for_levels("GPIO17", &["0", "0"]);
    quiet.signal(libc::SIGINT);
    let done = quiet.done();
    assert_eq!(done.status, Some(0));
    assert!(done.err.lines().all(|line| line.starts_with("ERROR ")), "{}", done.err);
}
