//! Each file of `configs/boards/` as it stands, on a simulated board with a real Mosquitto: it publishes what it measures,
//! tells its input, and drives its output. Only the server's address, the kind of board and the folders differ.

mod support;

use board2mqtt::{config, plan};
use std::path::Path;
use support::agent::Recipe;
use support::mosquitto::Mosquitto;

/// Sets the scene: the ground at 100 m, and the door opens.
const SCENE: &str = "[[step]]\nat = \"0s\"\nsensor = \"barometer\"\naltitude = 100\n\
                     [[step]]\nat = \"1s\"\ninput = \"door\"\nlevel = \"ON\"";

fn runs(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/boards").join(name);
    let loaded = config::load(&path, std::iter::empty()).unwrap_or_else(|report| panic!("{report}"));
    let (plan, _) = plan::build(&loaded.config).unwrap_or_else(|faults| panic!("{name}: {faults:#?}"));
    let (gateway, line) = (plan.name.clone(), plan.outputs[0].spec.drive.to_string());
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/#"]);
    let recipe = Recipe::shipped(&format!("boards/{name}"), "secret").script(SCENE).server(server.port());
    let mut agent = recipe.set("DEFAULTS__INTERVAL", "100ms").start();
    let topic = |what: &str| format!("board2mqtt/{gateway}/{what}");
    watch.wait_for(&topic("status"), "online");
    watch.wait_for(&topic("barometer/altitude"), "100.0");
    watch.wait_for(&topic("door"), "ON");
    server.publish(&topic("beacon/set"), "ON");
    watch.wait_for(&topic("beacon"), "ON");
    agent.wait_for_levels(&line, &["0", "1"]);
    assert!(agent.stop().0.success(), "{name}");
    assert_eq!(agent.levels(&line), ["0", "1", "0"], "{name}");
}

/// A test for each file, and one that none is left out.
macro_rules! boards {
    ($($test:ident => $file:literal),* $(,)?) => {
        $(#[test] fn $test() { runs($file) })*

        #[test]
        fn no_board_is_left_out() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/boards");
            let mut there: Vec<String> = std::fs::read_dir(folder).expect("a folder")
                .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
            there.sort();
            assert_eq!(there, [$($file),*]);
        }
    };
}

boards! {
    beaglebone_black => "beaglebone-black.toml",
    dragonboard_410c => "dragonboard-410c.toml",
    esomimx6 => "esomimx6.toml",
    minnowboard => "minnowboard.toml",
    phyboard_zeta => "phyboard-zeta.toml",
    raspberry_pi_3 => "raspberry-pi-3.toml",
    raspberry_pi_4 => "raspberry-pi-4.toml",
    raspberry_pi_5 => "raspberry-pi-5.toml",
    raspberry_pi_zero_2 => "raspberry-pi-zero-2.toml",
    udoo_neo => "udoo-neo.toml",
}
