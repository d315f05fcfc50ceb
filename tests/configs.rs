//! The files in `configs/` are accepted as they stand, say what the documentation says they do, and leave out no driver.

use board2mqtt::config::{self, Config};
use board2mqtt::line::Level;
use board2mqtt::plan::{self, Direction, Plan};
use board2mqtt::sensors::DRIVERS;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|suffix| suffix == "toml")).collect();
    files.sort();
    files
}

/// Loads and plans a file that has to be accepted without a warning.
fn accepted(path: &Path) -> (Config, Plan) {
    let loaded = config::load(path, std::iter::empty()).unwrap_or_else(|report| panic!("{}: {report}", path.display()));
    assert_eq!(loaded.warnings, [], "{}", path.display());
    let (plan, warnings) =
        plan::build(&loaded.config).unwrap_or_else(|faults| panic!("{}: {faults:#?}", path.display()));
    assert_eq!(warnings, [], "{}", path.display());
    (loaded.config, plan)
}

fn story(name: &str) -> Plan {
    accepted(&folder().join(name)).1
}

fn published(plan: &Plan) -> BTreeSet<String> {
    let uses = plan::topics(plan).into_iter();
    uses.filter(|entry| entry.direction == Direction::Publish).map(|entry| entry.topic).collect()
}

#[test]
fn every_file_is_accepted_without_a_warning() {
    let stories = files(&folder());
    assert_eq!(stories.len(), 6);
    for path in stories {
        let (config, _) = accepted(&path);
        if path.ends_with("demo.toml") {
            continue;
        }
        assert!(config.mqtt.username.is_some() && config.mqtt.password.is_some(), "{}", path.display());
    }
}

/// The cells of the README's table of boards, by the file that the row links to.
fn readme_boards() -> Vec<(String, String)> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    let rows = readme.lines().filter(|line| line.starts_with("| [") && line.contains("](configs/boards/"));
    let file = |row: &str| Some(row.split_once("](configs/boards/")?.1.split_once(')')?.0.to_owned());
    rows.map(|row| (file(row).expect("a link"), row.to_owned())).collect()
}

#[test]
fn every_board_has_its_file_and_its_row_with_the_same_bus_and_lines() {
    let boards = readme_boards();
    let names: Vec<_> = files(&folder().join("boards"));
    assert_eq!((names.len(), boards.len()), (10, 10));
    for path in names {
        let (config, plan) = accepted(&path);
        assert!(config.mqtt.username.is_some() && config.mqtt.password.is_some(), "{}", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let (_, row) = boards.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("{name} has a row"));
        let place = plan.sensors[0].place.as_ref().expect("a bus");
        let (input, output) = (&plan.inputs[0].spec.line, &plan.outputs[0].spec.drive);
        for what in [place.bus.display().to_string(), input.to_string(), output.to_string()] {
            assert!(row.contains(&format!("`{what}`")), "{name}: `{what}` in {row}");
        }
    }
}

#[test]
fn every_driver_has_its_sample() {
    let mut drivers = BTreeSet::new();
    for path in files(&folder().join("sensors")) {
        let (_, plan) = accepted(&path);
        assert_eq!(plan.sensors.len(), 1, "{}", path.display());
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        assert_eq!(plan.sensors[0].driver.name, name);
        drivers.insert(name.to_owned());
    }
    assert_eq!(drivers, DRIVERS.iter().map(|driver| driver.name.to_owned()).collect());
}

#[test]
fn the_drones_publish_what_the_story_says() {
    let drone01 = published(&story("drone01.toml"));
    assert!(drone01.contains("sensors/drone01/altitude") && drone01.contains("sensors/drone01/status"), "{drone01:?}");
    let drone40 = published(&story("drone40.toml"));
    assert!(
        drone40.contains("sensors/drone40/temperature") && drone40.contains("sensors/drone40/status"),
        "{drone40:?}"
    );
}

#[test]
fn the_beacon_follows_the_drone() {
    let plan = story("beaglebone-beacon.toml");
    let plan::Source::Topic { topic, .. } = &plan.sources[0] else { panic!("a topic") };
    assert!(published(&story("drone01.toml")).contains(topic));
}

#[test]
fn the_boiler_is_off_whatever_happens() {
    let plan = story("boiler.toml");
    let burner = &plan.outputs[0].spec;
    assert_eq!(burner.limits.safe, Level::OFF);
    assert_eq!(burner.initial, board2mqtt::outputs::Initial::Level(Level::OFF));
    assert_eq!(burner.on_exit, board2mqtt::outputs::Exit::Level(Level::OFF));
    let limits = &burner.limits;
    assert!(limits.max_on.is_some() && limits.renew_within.is_some() && limits.on_server_loss.is_some());
    assert!(burner.require.is_some() && !burner.accept_retained);
}

#[test]
fn the_greenhouse_needs_no_server_to_heat_and_to_cool() {
    let plan = story("greenhouse.toml");
    assert!(plan.sources.iter().all(|source| matches!(source, plan::Source::Reading { .. })));
    assert_eq!((plan.sensors.len(), plan.inputs.len(), plan.outputs.len()), (4, 2, 2));
    assert!(plan.outputs.iter().all(|output| output.spec.follow.is_some()));
}
