//! A board that lacks everything the configuration names: the real `linux` board on a machine without such devices. Each
//! missing part is told with its cause and remedy, and is tried again; what is there goes on.
//!
//! Names that exist nowhere are used (`/dev/i2c-250`), so that it is the same on a machine that has some hardware.

mod support;

use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use support::agent::Recipe;
use support::mosquitto::{Mosquitto, Received};

/// A gateway called `lab`; `bus` is where its second sensor hangs.
fn lab(bus: &Path) -> String {
    format!(
        "[gateway]\nname = \"lab\"\n\
         [mqtt]\nserver = \"mqtt://localhost\"\n\
         [board]\nkind = \"linux\"\n\
         [defaults]\ninterval = \"10ms\"\n\
         [sensors.gone]\ndriver = \"tmp102\"\naddress = 0x48\nbus = \"/dev/i2c-250\"\n\
         [sensors.strange]\ndriver = \"lm75\"\naddress = 0x49\nbus = \"{}\"\n\
         [sensors.counter]\ndriver = \"test-counter\"\n\
         [inputs.door]\nline = {{ chip = \"gpiochip250\", offset = 3 }}\n\
         [outputs.beacon]\nline = {{ chip = \"/dev/null\", offset = 17 }}\n\
         [outputs.fan]\npwm = {{ chip = \"pwmchip250\", channel = 0, frequency = 1000 }}\n",
        bus.display()
    )
}

/// What each missing part says, in the order of `check --probe`.
const PARTS: [(&str, &str); 5] = [
    ("sensor gone (tmp102 at /dev/i2c-250 0x48)", "/dev/i2c-250 does not exist, there is "),
    ("sensor strange (lm75 at ", "/i2c-77 does not exist, there is "),
    ("input door (gpiochip250:3)", "/dev/gpiochip250 does not exist; there is "),
    ("output beacon (/dev/null:17)", "/dev/null is no GPIO chip; there is "),
    ("output fan (pwmchip250:0)", "there is no pwm chip pwmchip250; there is "),
];

fn health(messages: &[Received], sensor: &str) -> Vec<Value> {
    let topic = format!("board2mqtt/lab/{sensor}/health");
    let of = messages.iter().filter(|message| message.topic == topic);
    of.map(|message| serde_json::from_str(&message.payload).expect("JSON")).collect()
}

#[test]
fn every_missing_part_is_named_and_retried_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let bus = folder.path().join("i2c-77");
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/lab/#"]);
    let agent = Recipe::new(&lab(&bus)).server(server.port()).start();
    for sensor in ["gone", "strange"] {
        watch.wait_for(&format!("board2mqtt/lab/{sensor}/status"), "offline");
    }
    for (part, cause) in PARTS {
        let name = part.split(' ').nth(1).expect("a name");
        let told = agent
            .log()
            .lines()
            .filter(|line| line.contains(&format!("={name} ")))
            .map(str::to_owned)
            .collect::<Vec<_>>();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("WARN") && told[0].contains("reason=absent"), "{told:?}");
        assert!(told[0].contains(cause), "{told:?}");
    }
    let first = watch.wait_until("health", |messages| health(messages, "gone").first().cloned());
    assert_eq!((&first["state"], &first["reason"]), (&"failing".into(), &"absent".into()));
    assert!(first["detail"].as_str().expect("a sentence").starts_with(PARTS[0].1), "{first}");

    // What hangs on nothing that is missing is not held up by it.
    let counted = watch.messages().iter().filter(|message| message.topic.ends_with("counter/count")).count();
    watch.wait_until("a hundred more readings", |messages| {
        let now = messages.iter().filter(|message| message.topic.ends_with("counter/count")).count();
        (now >= counted + 100).then_some(())
    });
    server.publish("board2mqtt/lab/beacon/set", "ON");
    watch.wait_for("board2mqtt/lab/beacon/reply", r#"{"outcome":"refused","reason":"hardware"}"#);

    // The next attempts meet a file in place of the bus.
    fs::write(&bus, "").expect("a file");
    watch.wait_until("another cause", |messages| {
        let details =
            health(messages, "strange").into_iter().filter_map(|health| health["detail"].as_str().map(str::to_owned));
        details.into_iter().any(|detail| detail.contains("is no I2C bus")).then_some(())
    });
}

fn probe(config: &Path, user: Option<u32>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_board2mqtt"));
    command.args(["check", "--probe", "-c"]).arg(config);
    user.map(|user| command.uid(user).gid(user));
    command.output().expect("the program runs")
}

#[test]
fn a_probe_asks_for_every_part_and_counts_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    fs::write(&config, lab(&folder.path().join("i2c-77"))).expect("a file");
    let output = probe(&config, None);
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<_> = printed.lines().skip(1).filter(|line| !line.contains("counter")).collect();
    assert_eq!(lines.len(), PARTS.len(), "{printed}");
    for (line, (part, cause)) in lines.iter().zip(PARTS) {
        assert!(line.trim_start().starts_with(part) && line.contains("absent: ") && line.contains(cause), "{line}");
    }
    assert!(printed.contains("sensor counter (test-counter at no bus): answers"), "{printed}");
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("5 of 6 parts of the hardware cannot be used as configured"), "{said}");
}

/// A user and a group that own nothing.
const NOBODY: u32 = 65_534;
const STRANGERS: u32 = 54_321;

#[test]
fn a_bus_without_permission_names_the_group_and_the_command_to_join_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, bus) = (folder.path().join("config.toml"), folder.path().join("i2c-77"));
    fs::write(&config, lab(&bus)).expect("a file");
    fs::write(&bus, "").expect("a file");
    // A user who is not root owns the file: not even the owner may read it.
    let is_root = chown(&bus, None, Some(STRANGERS)).is_ok();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    let told = |mode| {
        fs::set_permissions(&bus, Permissions::from_mode(mode)).expect("a mode");
        let printed = probe(&config, is_root.then_some(NOBODY)).stdout;
        let printed = String::from_utf8_lossy(&printed).into_owned();
        printed.lines().find(|line| line.contains("sensor strange")).expect("a line").to_owned()
    };
    let alone = told(0o000);
    assert!(alone.contains("permission: ") && alone.contains("install 60-board2mqtt.rules"), "{alone}");
    if is_root {
        let group = told(0o660);
        assert!(group.contains("i2c-77 may be opened by the group number 54321, which nobody is not in"), "{group}");
        assert!(group.contains("sudo usermod -aG"), "{group}");
    }
}
