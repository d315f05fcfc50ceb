//! Faults of keys and faults of meaning come in one report, and none of the second kind follows from one of the first.
//!
//! What the loader says of single keys is `config_errors.rs`.

use board2mqtt::config::{self, Diagnostic, Report};
use board2mqtt::plan::{self, Judged};
use std::ops::Range;
use std::path::Path;

/// Good, and full of what depends on something else: names, units, templates, addresses, limits, interlocks.
const GOOD: &str = r#"
[gateway]
name = "drone01"
[mqtt]
server = "mqtts://broker.lan:8883"
username = "pi"
password = { file = "password" }
qos = 0
clean_session = true
tls = { ca = "ca.pem", cert = "drone01.pem", key = "drone01.key" }
reconnect = { min = "1s", max = "60s" }
[topics]
base = "{gateway}/b"
reading = "{base}/{sensor}/{quantity}"
history = "{base}/{sensor}"
sensor = "none"
status = "{gateway}/status"
input = "{base}/in/{input}"
output = "{base}/out/{output}"
set = "{output_topic}/set"
reply = "{output_topic}/reply"
metrics = "none"
[board]
kind = "simulated"
[defaults]
bus = "/dev/i2c-1"
interval = "1s"
sea_level_pressure = "1013.25 hPa"
[sensors.barometer]
driver = "bmp280"
address = 0x77
oversampling = 4
quantities = ["altitude", "pressure"]
sea_level_pressure = { topic = "weather/qnh", unit = "hPa", stale_after = "3h", otherwise = "1013.25 hPa" }
[sensors.barometer.readings.altitude]
topic = "{base}/in/altitude"
unit = "ft"
payload = "{value} feet"
median = 5
change = 1.0
at_least_every = "4s"
[sensors.roof]
driver = "bme280"
address = 0x76
[sensors.attic]
driver = "bmp280"
bus = "/dev/i2c-2"
interval = "500ms"
readings.temperature = { topic = "attic", unit = "K" }
[inputs.door]
line = "GPIO27"
topic = "{base}/door"
debounce = "20ms"
[inputs.rain]
line = { chip = "gpiochip0", offset = 22 }
count = { edge = "falling", per_pulse = 0.2794, unit = "mm", interval = "60s" }
[outputs.beacon]
line = "GPIO17"
safe = "on"
on_exit = "on"
require = { reading = "roof.temperature", below = 90, stale_after = "2s" }
[outputs.siren]
line = "GPIO18"
topic = "yard/siren"
initial = "off"
max_on = "5m"
interlock = { with = ["beacon", "fan"], conflict = "refuse", gap = "100ms" }
follow = { reading = "barometer.altitude", on_above = 400, off_below = 380, stale_after = "10s" }
[outputs.fan]
pwm = { line = "GPIO19", frequency = 25000 }
safe = 0
initial = "safe"
follow = { reading = "attic.temperature", curve = [[24, 0], [26, 20], [34, 100]], stale_after = "750ms" }
[outputs.pump]
pwm = { chip = "pwmchip0", channel = 1, frequency = 100 }
safe = 100
interlock = { with = ["siren"] }
follow = { topic = "well/level", unit = "m", on_below = 1, off_above = 2, stale_after = "10s" }
[buffer]
max_size = "1MiB"
"#;

/// A fault of meaning that has to do with nothing in [`GOOD`].
const STRANGER: &str = "[sensors.stranger]\ndriver = \"nothing\"\n";

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<config::Loaded, Report> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    config::parse(text, "c.toml", Path::new("/etc/board2mqtt"), variables)
}

fn judge(text: &str, variables: &[(&str, &str)]) -> Result<Judged, Report> {
    plan::judge(parse(text, variables))
}

fn good() -> String {
    if let Err(report) = judge(GOOD, &[]) {
        panic!("{report}")
    }
    GOOD.to_owned()
}

fn messages(report: &Report) -> Vec<&str> {
    report.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect()
}

/// Where keys, values and words of headers stand.
fn places(text: &str) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let (mut words, mut values) = (Vec::new(), Vec::new());
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    for (at, _) in text.match_indices(" = ") {
        let start = text[..at].rfind(|c| !is_word(c)).map_or(0, |before| before + 1);
        words.push(start..at);
        let value = at + " = ".len();
        let (mut depth, mut quoted) = (0, false);
        let end = text[value..].find(|c| {
            quoted ^= c == '"';
            depth += i32::from(!quoted && "{[".contains(c)) - i32::from(!quoted && "}]".contains(c));
            !quoted && (c == '\n' || depth < 0 || (depth == 0 && c == ','))
        });
        let end = value + end.expect("each line ends");
        values.push(value..value + text[value..end].trim_end().len());
    }
    for (at, _) in text.match_indices("\n[") {
        let end = at + text[at..].find(']').expect("a header ends");
        let mut start = at + 2;
        for word in text[start..end].split('.') {
            words.push(start..start + word.len());
            start += word.len() + 1;
        }
    }
    (words, values)
}

/// Every single thing that goes wrong at one place of a text.
fn mutations(text: &str) -> Vec<String> {
    const VALUES: [&str; 12] = [
        "nan",
        "-1",
        "1",
        "[]",
        "{}",
        "\"\"",
        "true",
        "\"on\"",
        "\"a/#\"",
        "1979-05-27",
        "[\"siren\", 3]",
        "{ topic = 1, reading = 2 }",
    ];
    let (words, values) = places(text);
    let with = |place: &Range<usize>, new: &str| format!("{}{new}{}", &text[..place.start], &text[place.end..]);
    let mut all = Vec::new();
    for place in &words {
        let word = &text[place.clone()];
        let misspelt =
            [format!("{word}x"), word[1..].to_owned(), format!("x{word}"), "zzz".to_owned(), "\"a b\"".into()];
        all.extend(misspelt.iter().map(|word| with(place, word)));
    }
    for place in &values {
        all.extend(VALUES.iter().map(|value| with(place, value)));
    }
    let lines: Vec<_> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let (before, after) = (lines[..index].join("\n"), lines[index + 1..].join("\n"));
        // Without its header what follows stands in the table above, and means what it says there.
        if !line.starts_with('[') {
            all.push(format!("{before}\n{after}\n"));
        }
        all.push(format!("{before}\n{line}\n{line}\n{after}\n"));
    }
    all
}

fn is_meaning(diagnostic: &Diagnostic, keys: &Report) -> bool {
    !keys.diagnostics.contains(diagnostic)
}

#[test]
fn no_fault_of_meaning_follows_from_a_single_refused_key() {
    let good = good();
    let mut refused = 0;
    for text in mutations(&good) {
        let Err(keys) = parse(&text, &[]) else { continue };
        refused += 1;
        let all = judge(&text, &[]).err().expect("refused keys stay refused");
        let cascade: Vec<_> = all.diagnostics.iter().filter(|found| is_meaning(found, &keys)).collect();
        assert!(cascade.is_empty(), "{cascade:#?}\nbeside\n{keys}");
    }
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn an_unrelated_fault_of_meaning_is_told_beside_any_refused_key() {
    let good = good();
    for text in mutations(&good) {
        let text = text + STRANGER;
        let Err(keys) = parse(&text, &[]) else { continue };
        if keys.partial.is_none() {
            continue; // A syntax error: no key is certain to stand in its table.
        }
        let all = judge(&text, &[]).err().expect("refused");
        assert!(messages(&all).contains(&"no driver is called `nothing`"), "{all}");
    }
}

#[test]
fn no_fault_of_meaning_follows_from_a_refused_override() {
    let good = good();
    for (name, value) in [
        ("SENSORS__ROOF__ADDRESS", "1000"),
        ("SENSORS__ATTIC__BUS", "1"),
        ("SENSORS__ATTIC__INTERVAL", "often"),
        ("DEFAULTS__INTERVAL", "often"),
        ("DEFAULTS__INTERVALL", "10ms"),
        ("GATEWAY__NAME", "a/+"),
        ("TOPICS__BASE", "3 # x"),
        ("OUTPUTS__PUMP__SAFE", "[]"),
        ("SENSORS", "none"),
        ("OUTPUTS", "{ a = 1 }"),
        ("MQTT", "none"),
    ] {
        let variable = [(&*format!("BOARD2MQTT__{name}"), value)];
        let Err(keys) = parse(&good, &variable) else { continue };
        let all = judge(&good, &variable).err().expect("refused");
        assert_eq!(messages(&all), messages(&keys), "{name}");
    }
    let misspelt = [("BOARD2MQTT__MQTT__SEVER", "mqtt://a")];
    let all = judge(&(good + STRANGER), &misspelt).err().expect("refused");
    assert_eq!(messages(&all), ["no driver is called `nothing`", "there is no such key to override"]);
}

#[test]
fn a_key_in_the_wrong_table_is_not_held_against_the_right_one() {
    let good = good();
    for text in [good.replace("[defaults]\n", ""), good.replace("\n[sensors.roof]\ndriver", "\n[metrics]\ndriver")] {
        let keys = parse(&text, &[]).expect_err("unknown keys");
        assert_eq!(messages(&judge(&text, &[]).err().expect("refused")), messages(&keys));
    }
}

#[test]
fn faults_of_both_kinds_come_in_one_report_by_place() {
    let text = r#"
[topics]
base = "b/{plane}"
sensor = "x/{sensr}"
statsu = "online"
[sensors.roof]
driver = "bmp208"
adress = 0x76
[sensors.cellar]
driver = "lm75"
address = 0x48
interval = "10s"
quantites = ["temperature"]
readings.temperature = { unit = "ft", topic = "a/#", qos = 3 }
[inputs.door]
line = "GPIO17"
bias = "up"
[outputs.beacon]
line = "GPIO17"
max_on = 5
interlock = { with = ["sirene"] }
follow = { reading = "cellar.temperature", on_above = 30, off_below = 28, stale_after = "5s" }
[outputs.siren]
line = "GPIO5"
follow = { reading = "atic.temperature", on_above = 30, off_below = 28, stale_after = "5s" }
"#;
    let report = judge(text, &[("BOARD2MQTT__MQTT__QOSS", "1")]).err().expect("faults");
    let told = report.to_string();
    let expected = [
        "[mqtt] is missing: there is no server to publish to",
        "unknown field `{plane}`, allowed here: {gateway}",
        "unknown field `{sensr}`, allowed here: {base} {gateway} {sensor}",
        "unknown key `statsu` in [topics]",
        "no driver is called `bmp208`",
        "unknown key `adress` in [sensors.roof]",
        "unknown key `quantites` in [sensors.cellar]",
        "`ft` is no unit of temperature",
        "`qos` in [sensors.cellar.readings.temperature] must be a whole number from 0 to 2, found the number 3",
        "`bias` in [inputs.door] must be \"as-is\", \"disabled\", \"pull-up\" or \"pull-down\", found \"up\"",
        "`GPIO17` is used twice: by input `door` and output `beacon`",
        "`max_on` in [outputs.beacon] must be a duration from 10ms to 365d, found the number 5",
        "no output is called `sirene`",
        "`stale_after` of 5s is over before `cellar` is read again, every 10s",
        "no sensor is called `atic`",
        "there is no such key to override",
    ];
    assert_eq!(messages(&report), expected, "{told}");
}

#[test]
fn what_could_be_read_is_kept_without_a_server_and_nothing_after_a_syntax_error() {
    let report = parse("[gateway]\nname = \"a\"\n[sensors.x]\ndriver = \"lm75\"\n", &[]).expect_err("no server");
    assert_eq!(report.partial.expect("read").config.sensors.len(), 1);
    assert_eq!(parse("[gateway\nname = 1", &[]).expect_err("syntax").partial, None);
}
