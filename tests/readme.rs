//! What README.md, ARCHITECTURE.md and the comments in `configs/` say, held against the program: configurations load,
//! commands run, transcripts come out, tables are complete.
//!
//! A new command in the documentation needs a rule in `documents/world.rs`. `UPDATE_README=1` writes the table of drivers anew.

mod documents;
mod support;

use board2mqtt::sensors::{Attach, DRIVERS, Driver};
use board2mqtt::{config, plan};
use documents::agent::{Agent, PROGRAM};
use documents::commands::{self, Printed};
use documents::world::World;
use documents::{Block, blocks, file, rows, section, spans};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::mosquitto::{Mosquitto, free_port, make_ca};

/// What a fragment of a configuration is put below; one with `[mqtt]` of its own stands as it is.
const HEADER: &str = "[mqtt]\nserver = \"mqtt://broker.lan\"\n";

fn complete(block: &Block) -> String {
    let before = block.note("before").and_then(|note| note.split_once('\n')).map_or("", |(_, toml)| toml);
    let text = format!("{before}{}", block.text);
    if text.contains("[mqtt]") { text } else { format!("{HEADER}{text}") }
}

#[test]
fn every_configuration_in_the_readme_is_accepted_without_a_warning() {
    let found: Vec<_> = blocks(&file("README.md")).into_iter().filter(|block| block.language == "toml").collect();
    assert!(found.len() >= 8, "{} configurations", found.len());
    for block in found {
        let name = format!("README.md:{}", block.line);
        let loaded = config::parse(&complete(&block), &name, Path::new("."), std::iter::empty());
        let loaded = loaded.unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.warnings, [], "{name}");
        let (_, warnings) = plan::build(&loaded.config).unwrap_or_else(|faults| panic!("{name}: {faults:#?}"));
        assert_eq!(warnings, [], "{name}");
    }
}

/// What the README has written where an editor is opened.
fn edited(found: &[Block]) -> Vec<(String, String)> {
    let noted = found.iter().filter_map(|block| Some((block.note("file")?.trim().to_owned(), block.text.clone())));
    noted.chain([("/etc/board2mqtt/password".to_owned(), "secret\n".to_owned())]).collect()
}

/// The users that `-u` names for Mosquitto's clients.
fn users(commands: &[Printed]) -> Vec<&str> {
    let clients = commands.iter().filter(|command| command.words[0].starts_with("mosquitto_"));
    let named = clients.flat_map(|command| command.words.windows(2).filter(|pair| pair[0] == "-u"));
    let all: BTreeSet<_> = named.map(|pair| pair[1].as_str()).chain(["drone01"]).collect();
    all.into_iter().collect()
}

#[test]
fn every_command_in_the_readme_does_what_it_says() {
    let found = blocks(&file("README.md"));
    let known = ["toml", "sh", "console", "text", "json"];
    assert!(found.iter().all(|block| known.contains(&block.language.as_str())), "blocks are of {known:?}");
    let all: Vec<_> = found.iter().flat_map(|block| commands::of_block("README.md", block)).collect();
    assert!(all.len() >= 30, "{} commands", all.len());
    let mut world = World::new(&users(&all), edited(&found));
    let mut heading = "";
    for block in &found {
        if block.heading != heading {
            heading = &block.heading;
            world.enter("");
        }
        commands::of_block("README.md", block).iter().for_each(|command| world.carry_out(command));
    }
}

#[test]
#[should_panic(expected = "no rule tells how to check `frobnicate the board`")]
fn a_command_that_nobody_can_check_is_refused() {
    let mut world = World::new(&["drone01"], Vec::new());
    commands::of_line("here", "sudo frobnicate the board").iter().for_each(|command| world.carry_out(command));
}

#[test]
#[should_panic(expected = "printed")]
fn a_transcript_that_is_not_what_comes_out_is_refused() {
    let mut world = World::new(&["drone01"], Vec::new());
    let text = "$ board2mqtt drivers test-counter\ntest-counter\n".to_owned();
    let block = Block { language: "console".to_owned(), text, line: 1, heading: String::new(), comment: None };
    commands::of_block("here", &block).iter().for_each(|command| world.carry_out(command));
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// Every file below `configs/`, by its name in the repository.
fn configs() -> Vec<String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    files_below(&repository.join("configs"), &mut files);
    files.sort();
    files.iter().map(|path| path.strip_prefix(repository).expect("below").display().to_string()).collect()
}

#[test]
fn every_command_in_the_comments_of_configs_does_what_it_says() {
    let files = configs();
    let found: Vec<_> = files.iter().map(|name| commands::of_comments(name, &file(name))).collect();
    let all: Vec<_> = found.iter().flatten().cloned().collect();
    assert!(all.len() >= 10, "{} commands", all.len());
    let configuration = (String::from("/etc/board2mqtt/config.toml"), file("configs/drone01.toml"));
    let mut world = World::new(&users(&all), vec![configuration.clone()]);
    let edit = ["mkdir -p /etc/board2mqtt", "nano /etc/board2mqtt/config.toml"];
    edit.iter().flat_map(|line| commands::of_line("here", line)).for_each(|command| world.carry_out(&command));
    for (name, commands) in files.iter().zip(&found) {
        world.enter(name.rsplit_once('/').expect("a folder").0);
        commands.iter().filter(|command| !is_mention(command)).for_each(|command| world.carry_out(command));
    }
}

/// `board2mqtt demo` and the like in a sentence: named, not to be typed there.
fn is_mention(command: &Printed) -> bool {
    command.words[0] == "board2mqtt" && !command.words.iter().any(|word| word == "-c")
}

#[test]
fn every_subcommand_and_option_that_is_mentioned_exists() {
    let help = Command::new(PROGRAM).arg("--help").output().expect("help").stdout;
    let help = String::from_utf8(help).expect("text");
    let documents = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned);
    for name in documents.into_iter().chain(configs()) {
        for span in spans(&file(&name)).iter().filter(|span| span.starts_with("board2mqtt ")) {
            let mut words = span.split_whitespace().skip(1);
            let subcommand = words.next().expect("a word");
            assert!(help.contains(&format!("\n  {subcommand} ")), "{name}: `{span}`");
            for option in words.filter(|word| word.starts_with('-')) {
                assert!(help.contains(option), "{name}: `{span}`");
            }
        }
    }
}

/// A table of the drivers, as `board2mqtt drivers` knows them.
fn drivers() -> String {
    let list = |words: Vec<String>| if words.is_empty() { "–".to_owned() } else { words.join(", ") };
    let row = |driver: &&Driver| {
        let addresses = match driver.attach {
            Attach::I2c([first, .., last]) if driver.name == "lm75" => format!("{first:#04x} to {last:#04x}"),
            Attach::I2c(addresses) => list(addresses.iter().map(|address| format!("{address:#04x}")).collect()),
            Attach::None => "–".to_owned(),
        };
        let pressure = driver.quantities.iter().any(|quantity| quantity.name() == "pressure");
        let quantities = driver.quantities.iter().map(|quantity| quantity.name().to_owned());
        let quantities = list(quantities.chain(pressure.then(|| "altitude".to_owned())).collect());
        let (name, chips, accuracy) = (driver.name, driver.chips, driver.accuracy);
        format!("| `{name}` | {chips} | {addresses} | {quantities} | {accuracy} |\n")
    };
    let head = "| driver | chips | addresses | quantities | by the datasheet |\n| --- | --- | --- | --- | --- |\n";
    format!("\n{head}{}\n", DRIVERS.iter().map(row).collect::<String>())
}

#[test]
fn the_readme_has_every_driver() {
    let readme = file("README.md");
    let (begin, end) = ("<!-- drivers:begin -->\n", "<!-- drivers:end -->");
    let from = readme.find(begin).expect("the table's begin") + begin.len();
    let to = readme.find(end).expect("the table's end");
    if std::env::var_os("UPDATE_README").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        std::fs::write(path, format!("{}{}{}", &readme[..from], drivers(), &readme[to..])).expect("written");
        return;
    }
    assert!(readme[from..to] == drivers(), "README.md should have (UPDATE_README=1 writes it):\n{}", drivers());
}

/// The words that an enumeration's `as_str` gives, from its source.
fn words_of(source: &str, enumeration: &str) -> Vec<String> {
    let text = file(source);
    let body = &text[text.find(&format!("impl {enumeration} {{")).expect("the enumeration")..];
    let arms = body[..body.find("\n}\n").expect("its end")].lines().filter_map(|line| line.split_once("=> \""));
    arms.map(|(_, rest)| rest.trim_end_matches("\",").to_owned()).collect()
}

#[test]
fn the_readme_explains_every_refusal_and_every_reason() {
    let readme = file("README.md");
    for (source, enumeration, heading) in
        [("src/command.rs", "Refusal", "Commands and replies"), ("src/sample.rs", "Reason", "Topics and payloads")]
    {
        let words = words_of(source, enumeration);
        assert!(words.len() >= 9, "{words:?}");
        for word in words {
            let explained = rows(section(&readme, heading)).iter().any(|row| row[0] == format!("`{word}`"));
            assert!(explained, "{heading}: `{word}`");
        }
    }
}

#[test]
fn the_readme_has_every_row_of_the_guards_table() {
    let guard = file("src/outputs/guard.rs").replace("//! ", "");
    let numbers = |text: &str| -> Vec<usize> { rows(text).iter().filter_map(|row| row[0].parse().ok()).collect() };
    let readme = numbers(section(&file("README.md"), "Outputs and their limits"));
    assert_eq!(readme, numbers(&guard));
    assert!(readme.len() >= 11, "{readme:?}");
}

#[test]
fn the_metrics_in_the_readme_are_those_that_are_published() {
    let server = Mosquitto::start();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/sensors/bmp280.toml");
    let url = format!("mqtt://127.0.0.1:{}", server.port());
    let subscriber = server.subscribe(&["board2mqtt/here/metrics"]);
    let environment = [("BOARD2MQTT__GATEWAY__NAME", "here"), ("BOARD2MQTT__METRICS__INTERVAL", "1s")];
    let _agent = Agent::start(&config, &url, &environment);
    let published = subscriber.wait_until("metrics", |messages| messages.first().map(|first| first.payload.clone()));
    let printed = blocks(&file("README.md")).into_iter().find(|block| block.language == "json").expect("an example");
    let keys = |text: &str| -> Vec<String> {
        let object: serde_json::Map<_, _> = serde_json::from_str(text).expect("an object");
        object.keys().cloned().collect()
    };
    assert_eq!(keys(&printed.text), keys(&published));
}

/// A TLS server for `name` with a CA of its own.
fn tls_server(name: &str, more: &str) -> Mosquitto {
    Mosquitto::with(|folder| {
        make_ca(folder, name, &[], 30);
        let path = |file: &str| folder.join(file).display().to_string();
        let (ca, cert, key) = (path("ca.pem"), path("server.pem"), path("server.key"));
        format!("allow_anonymous true\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\n{more}")
    })
}

/// The message in the README's row whose first cell is `what`, with our places in it.
fn message(what: &str, port: u16, other_ca: &Path) -> String {
    let readme = file("README.md");
    let row = rows(section(&readme, "When things fail")).into_iter().find(|row| row[0].starts_with(what));
    let cell = row.unwrap_or_else(|| panic!("README.md tells what is logged when {what}"))[1].clone();
    let bare = cell.trim_matches('`').trim_start();
    let port = format!(":{port}");
    bare.replace(":1883", &port)
        .replace(":8883", &port)
        .replace("broker.lan", "localhost")
        .replace("other.pem", &other_ca.display().to_string())
}

/// What happens, the scheme and port of the server, and what else is configured.
type Case<'a> = (&'a str, &'a str, u16, Vec<(&'a str, String)>);

#[test]
fn failures_are_logged_as_the_readme_says() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/sensors/bmp280.toml");
    let plain = Mosquitto::with(|folder| {
        let passwords = support::mosquitto::password_file(folder, &[("drone01", "secret")]);
        format!("allow_anonymous false\npassword_file {}", passwords.display())
    });
    let (ours, others) = (tls_server("localhost", ""), tls_server("other.lan", ""));
    let strict = tls_server("localhost", "require_certificate true");
    let ca = |server: &Mosquitto| server.file("ca.pem").display().to_string();
    let nobody = free_port();
    let login = [("BOARD2MQTT__MQTT__USERNAME", "drone01"), ("BOARD2MQTT__MQTT__PASSWORD", "wrong")];
    let cases: [Case; 8] = [
        ("the server is down", "mqtt", nobody, vec![]),
        ("wrong password", "mqtt", plain.port(), login.map(|(key, value)| (key, value.to_owned())).to_vec()),
        ("TLS to a port without", "mqtts", plain.port(), vec![]),
        ("no TLS to a port with", "mqtt", ours.port(), vec![]),
        ("a CA we do not know", "mqtts", ours.port(), vec![]),
        ("the wrong `tls.ca`", "mqtts", ours.port(), vec![("BOARD2MQTT__MQTT__TLS__CA", ca(&others))]),
        ("a certificate for another name", "mqtts", others.port(), vec![("BOARD2MQTT__MQTT__TLS__CA", ca(&others))]),
        ("the server wants a client", "mqtts", strict.port(), vec![("BOARD2MQTT__MQTT__TLS__CA", ca(&strict))]),
    ];
    for (what, scheme, port, environment) in cases {
        let environment: Vec<_> = environment.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let agent = Agent::start(&config, &format!("{scheme}://localhost:{port}"), &environment);
        agent.wait_for_log(&message(what, port, &others.file("ca.pem")));
    }
}

#[test]
fn two_agents_with_one_name_are_told_as_the_readme_says() {
    let server = Mosquitto::start();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/sensors/bmp280.toml");
    let url = format!("mqtt://127.0.0.1:{}", server.port());
    let name = [("BOARD2MQTT__GATEWAY__NAME", "drone01"), ("BOARD2MQTT__MQTT__RECONNECT__MIN", "100ms")];
    let (first, second) = (Agent::start(&config, &url, &name), Agent::start(&config, &url, &name));
    let expected = message("two agents with one name", 0, Path::new(""));
    support::wait_for(&expected, || {
        [&first, &second].iter().any(|agent| agent.log().contains(&expected)).then_some(())
    });
}

/// What stands in the README's table of hardware for what differs from board to board.
const EXAMPLES: [&str; 11] = [
    "/dev/i2c-1 0x76",
    "/dev/i2c-1",
    "(/dev/gpiochip0:17)",
    "/dev/gpiochip4",
    "GPIO17",
    "GPIO71",
    "bmp280",
    "pwmchip2",
    "NC",
    "12",
    "i2c",
];

#[test]
fn what_the_hardware_lacks_is_said_in_the_words_of_the_readme() {
    let said: String =
        ["adapter", "i2c", "lines", "pwm", "words"].map(|name| file(&format!("src/board/linux/{name}.rs"))).concat();
    let readme = file("README.md");
    let (_, table) = readme.split_once("<!-- hardware:begin -->").expect("the table's begin");
    let (table, _) = table.split_once("<!-- hardware:end -->").expect("the table's end");
    let cells = rows(table);
    assert!(cells.len() >= 12, "{} rows", cells.len());
    for row in cells {
        let general =
            EXAMPLES.iter().fold(row[0].trim_matches('`').to_owned(), |text, example| text.replace(example, "…"));
        for words in general.split('…').map(str::trim).filter(|words| !words.is_empty()) {
            assert!(said.contains(words), "`{words}` of `{}` is said nowhere", row[0]);
        }
    }
}

#[test]
fn links_within_the_documentation_lead_somewhere() {
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        let text = file(name);
        let anchor = |heading: &str| {
            let kept = heading
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'))
                .collect::<String>();
            format!("#{}", kept.replace(' ', "-"))
        };
        let anchors: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor).collect();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists();
            let known = link.starts_with("https://") || anchors.iter().any(|anchor| anchor == link) || there;
            assert!(known, "{name}: {link}");
        }
    }
}

#[test]
fn the_architecture_names_every_module_and_every_dependency() {
    let architecture = file("ARCHITECTURE.md");
    let named = |word: &str| architecture.contains(&format!("`{word}`"));
    let manifest: toml::Table = file("Cargo.toml").parse().expect("Cargo.toml");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    let missing: Vec<_> = dependencies.keys().filter(|name| !named(name)).collect();
    assert!(missing.is_empty(), "dependencies without a reason: {missing:?}");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in std::fs::read_dir(source).expect("src") {
        let path = entry.expect("an entry").path();
        let module = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        assert!(module == "lib" || named(module), "the module `{module}` has no place");
    }
    assert!(architecture.lines().count() <= 250, "{} lines", architecture.lines().count());
}
