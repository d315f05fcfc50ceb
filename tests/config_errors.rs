//! Every configuration in `tests/golden/config` gives exactly the report beside it; `UPDATE_GOLDEN=1` writes the reports anew.
//!
//! A file may hold lines `#! NAME=VALUE`: the environment it is read with. The report of a good file has warnings alone.

use board2mqtt::config::{self, BoardKind, Loaded, Report, Rule, SeaLevel, Secret, ServerUrl};
use board2mqtt::line::{Drive, Level, LineId, PwmId};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/config");

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(FOLDER).expect("the golden folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

fn parse(text: &str, name: &str) -> Result<Loaded, Report> {
    let environment: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#! ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    config::parse(text, name, Path::new("/etc/board2mqtt"), environment.into_iter())
}

fn design() -> String {
    std::fs::read_to_string(Path::new(FOLDER).join("design.toml")).expect("the documentation's example")
}

#[test]
fn reports_are_the_golden_ones() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in files() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a golden file");
        let report = match parse(&text, &name) {
            Ok(loaded) => loaded.source.report(loaded.warnings).to_string(),
            Err(report) => report.to_string(),
        };
        assert!(!report.contains("hunter2"), "{name} shows its secret:\n{report}");
        let expected = path.with_extension("expected");
        if update {
            std::fs::write(&expected, &report).expect("written");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != report {
            wrong.push(format!("{name}:\n{report}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "these differ from their .expected (UPDATE_GOLDEN=1 rewrites them):\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_golden_file_but_the_good_ones_has_a_fault() {
    let good = ["design.toml", "environment_good.toml", "minimal.toml"];
    for path in files() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a golden file");
        assert_eq!(parse(&text, &name).is_ok(), good.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn the_example_of_the_documentation_means_what_it_says() {
    let config = parse(&design(), "design.toml").expect("no fault").config;
    assert_eq!(config.name.value, "drone01");
    assert_eq!(config.mqtt.server.value, ServerUrl::Mqtts("broker.lan".into(), 8883));
    assert_eq!(config.mqtt.password.expect("given").value, Secret::File("/etc/board2mqtt/password".into()));
    assert_eq!(config.mqtt.keep_alive, Duration::from_secs(30));
    assert_eq!(config.topics.sensor, None);
    assert_eq!(*config.board, BoardKind::Auto);
    let barometer = &config.sensors[0];
    assert_eq!((barometer.name.as_str(), barometer.interval), ("barometer", Duration::from_secs(1)));
    assert_eq!(barometer.address.as_deref(), Some(&0x76));
    assert_eq!(barometer.bus.value, Path::new("/dev/i2c-1"));
    assert_eq!(barometer.sea_level_pressure.as_deref(), Some(&SeaLevel::Fixed(1013.25)));
    assert_eq!((barometer.readings[0].median, barometer.readings[0].change), (5, Some(1.0)));
    assert_eq!(config.inputs[0].line.value, LineId::Name("GPIO27".into()));
    assert_eq!(config.inputs[1].count.as_ref().expect("given").per_pulse, 0.2794);
    let (beacon, fan) = (&config.outputs[0], &config.outputs[1]);
    let follow = beacon.follow.as_ref().expect("given");
    assert_eq!(follow.rule, Rule::OnAbove { on_above: 400.0, off_below: 380.0 });
    assert_eq!(follow.stale_after.value, Duration::from_secs(10));
    let PwmId::Line(line) = (match &fan.drive.value {
        Drive::Pwm { channel, frequency_hz: 25_000, .. } => channel.clone(),
        other => panic!("{other:?}"),
    }) else {
        panic!("a line")
    };
    assert_eq!((line.as_str(), fan.safe), ("GPIO18", Level::ON));
    let curve = vec![(24.0, 0.0), (26.0, 20.0), (34.0, 100.0)];
    assert_eq!(fan.follow.as_ref().expect("given").rule, Rule::Curve(curve));
    assert_eq!((config.buffer.max_size, config.buffer.drain_per_second), (64 << 20, 200));
}

#[test]
fn what_the_example_leaves_out_is_what_it_says_the_defaults_are() {
    let full = parse(&design(), "design.toml").expect("no fault").config;
    let minimal = "[gateway]\nname = \"drone01\"\n[mqtt]\nserver = \"mqtt://a\"\n";
    let bare = parse(minimal, "minimal.toml").expect("no fault").config;
    assert_eq!(bare.topics, full.topics);
    // What stands there is where the unit has its state folder, which nothing but the unit tells.
    assert_eq!(config::Buffer { path: full.buffer.path.clone(), ..bare.buffer.clone() }, full.buffer);
    assert_eq!(bare.buffer.path, None);
    assert_eq!(bare.board, full.board);
    assert_eq!(bare.mqtt.client_id, full.mqtt.client_id);
    assert_eq!(
        (bare.mqtt.keep_alive, bare.mqtt.clean_session, bare.mqtt.qos, bare.mqtt.retain),
        (full.mqtt.keep_alive, full.mqtt.clean_session, full.mqtt.qos, full.mqtt.retain)
    );
    assert_eq!((bare.mqtt.reconnect_min, bare.mqtt.reconnect_max), (full.mqtt.reconnect_min, full.mqtt.reconnect_max));
}

#[test]
fn the_environment_replaces_what_the_file_says() {
    let path = Path::new(FOLDER).join("environment_good.toml");
    let text = std::fs::read_to_string(path).expect("a golden file");
    let config = parse(&text, "environment_good.toml").expect("no fault").config;
    assert_eq!(config.mqtt.server.value, ServerUrl::Mqtt("elsewhere".into(), 1883));
    assert_eq!(config.mqtt.server.origin.variable.as_deref(), Some("BOARD2MQTT__MQTT__SERVER"));
    assert_eq!(config.mqtt.password.expect("given").value, Secret::Text("hunter2".into()));
    assert_eq!(config.sensors[0].interval, Duration::from_secs(5));
    assert_eq!(config.sensors[0].address.as_deref(), Some(&0x77));
}

#[test]
fn a_thousand_sensors_are_loaded_in_the_order_of_the_file() {
    let mut text = "[gateway]\nname = \"a\"\n[mqtt]\nserver = \"mqtt://b\"\n[defaults]\ninterval = \"1s\"\n".to_owned();
    for n in (0..1_000).rev() {
        text += &format!("[sensors.s{n}]\ndriver = \"test-counter\"\n[sensors.s{n}.readings.count]\nqos = 0\n");
    }
    let config = parse(&text, "x.toml").expect("no fault").config;
    let names: Vec<_> = config.sensors.iter().map(|sensor| sensor.name.value.clone()).collect();
    assert_eq!(names, (0..1_000).rev().map(|n| format!("s{n}")).collect::<Vec<_>>());
    assert!(config.sensors.iter().all(|sensor| sensor.interval == Duration::from_secs(1)));
}

#[test]
fn keys_of_a_driver_are_kept_for_whoever_knows_them() {
    let text = "[gateway]\nname = \"a\"\n[mqtt]\nserver = \"mqtt://b\"\n\
                [sensors.roof]\ndriver = \"x\"\noversampling = 4\nmode = \"fast\"\n";
    let config = parse(text, "x.toml").expect("no fault").config;
    let (key, value) = &config.sensors[0].options[0];
    assert_eq!((key.as_str(), value.value), ("oversampling", 4));
    let misfit = &config.sensors[0].misfits[0];
    assert_eq!(&text[misfit.origin.span.clone()], "mode");
    let diagnostic = config::unknown_key("sensors.roof", misfit, &["model", "range"]);
    assert_eq!(diagnostic.message, "unknown key `mode` in [sensors.roof]");
    assert_eq!(diagnostic.help.as_deref(), Some("did you mean `model`? allowed here: model, range"));
}

#[test]
fn a_fault_in_the_defaults_is_said_once() {
    let text = "[gateway]\nname = \"a\"\n[mqtt]\nserver = \"mqtt://b\"\n[defaults]\nsea_level_pressure = { topic = 1 }\n\
                [sensors.a]\ndriver = \"x\"\n[sensors.b]\ndriver = \"x\"\n";
    let report = parse(text, "x.toml").expect_err("a fault");
    assert_eq!(report.diagnostics.len(), 1, "{report}");
    assert!(report.diagnostics[0].message.contains("[defaults.sea_level_pressure]"), "{report}");
}

/// What must hold of any text at all: an answer, spans inside the text, and a report that can be shown.
fn answers(text: &str) -> Result<(), TestCaseError> {
    let report = match parse(text, "x.toml") {
        Ok(loaded) => loaded.source.report(loaded.warnings),
        Err(report) => report,
    };
    for diagnostic in &report.diagnostics {
        let span = &diagnostic.origin.span;
        prop_assert!(span.start <= span.end && span.end <= text.len(), "{diagnostic:?}");
    }
    let shown = report.to_string();
    prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        answers(&text)?;
    }

    #[test]
    fn any_toml_like_text_is_answered(
        text in proptest::collection::vec(
            prop_oneof![
                Just("[".to_owned()), Just("]".to_owned()), Just("[[".to_owned()), Just("]]\n".to_owned()),
                Just("{".to_owned()), Just("}".to_owned()), Just("=".to_owned()), Just("\n".to_owned()),
                Just(".".to_owned()), Just(",".to_owned()), Just("\"".to_owned()), Just("\"\"\"".to_owned()),
                Just("\r\n".to_owned()), Just("#".to_owned()), Just("sensors".to_owned()), Just("mqtt".to_owned()),
                Just("password".to_owned()), Just("outputs.a".to_owned()), Just("line".to_owned()),
                Just("0x76".to_owned()), Just("1e400".to_owned()), Just("-inf".to_owned()), "\\PC{0,3}",
            ],
            0..40,
        )
    ) {
        answers(&text.concat())?;
    }

    /// The documentation's example with a piece of it put elsewhere, left out, or replaced by something strange.
    #[test]
    fn any_mutation_of_the_example_is_answered(
        at in any::<proptest::sample::Index>(),
        len in 0usize..60,
        to in any::<proptest::sample::Index>(),
        put in prop_oneof![Just(String::new()), "\\PC{0,8}", "[\\[\\]{}=\"\n.,#-]{1,4}", "-?[0-9]{1,30}"],
    ) {
        let chars: Vec<char> = design().chars().collect();
        let start = at.index(chars.len());
        let end = (start + len).min(chars.len());
        let mut mutated: Vec<char> = chars[..start].iter().chain(&chars[end..]).copied().collect();
        let to = to.index(mutated.len());
        mutated.splice(to..to, put.chars().chain(chars[start..end].iter().copied()).collect::<Vec<_>>());
        answers(&mutated.into_iter().collect::<String>())?;
    }

    /// A replaced value is either taken or reported, whatever it is.
    #[test]
    fn any_value_of_any_key_is_answered(
        line in any::<proptest::sample::Index>(),
        value in prop_oneof![
            Just("nan".to_owned()), Just("-1".to_owned()), Just("[]".to_owned()), Just("{}".to_owned()),
            Just("[[1]]".to_owned()), Just("\"\"".to_owned()), Just("true".to_owned()), Just("1979-05-27".to_owned()),
            Just("99999999999999999999".to_owned()), Just("{ topic = 1, reading = 2 }".to_owned()),
        ],
    ) {
        let design = design();
        let mut lines: Vec<String> = design.lines().map(str::to_owned).collect();
        let keys: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].contains(" = ")).collect();
        let chosen = keys[line.index(keys.len())];
        let (key, _) = lines[chosen].split_once('=').expect("a key");
        lines[chosen] = format!("{key}= {value}");
        answers(&lines.join("\n"))?;
    }

    #[test]
    fn any_environment_is_answered(name in "[A-Z_0-9]{0,40}", value in "\\PC*") {
        let variables = [(format!("BOARD2MQTT__{name}"), value.clone()), ("BOARD2MQTT__MQTT__TLS".to_owned(), value)];
        let text = design();
        let result = config::parse(&text, "x.toml", Path::new("."), variables.into_iter());
        if let Err(report) = result {
            prop_assert!(!report.to_string().is_empty());
        }
    }
}
