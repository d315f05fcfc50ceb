//! The commands that build for a board and bring the binary there, typed in the repository.
//!
//! Nothing is compiled and no ssh spoken here (`tests/cross.rs`, `tests/deploy/` and the emulated boards do that): targets and
//! options are held against what knows them, and files land where `cross/install` says.

use super::World;
use crate::documents::agent::PROGRAM;
use crate::documents::commands::Printed;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

impl World {
    pub(super) fn cross(&mut self, arguments: &[&str], command: &Printed) -> String {
        let ["build", "--release", "--no-default-features", "--target", target] = arguments else {
            panic!("{}: {arguments:?}", command.place)
        };
        self.enter("");
        for (name, path) in &command.environment {
            assert_eq!(name, "CROSS_CONFIG", "{}", command.place);
            let config = fs::read_to_string(self.real(path)).expect("cross's configuration");
            assert!(config.contains(&format!("[target.{target}]")), "{}: {target} is not in {path}", command.place);
        }
        self.built(target, command)
    }

    pub(super) fn cross_build(&mut self, arguments: &[&str], command: &Printed) -> String {
        self.enter("");
        let help = self.help("cross/build");
        assert!(help.contains(arguments[0]), "{}: {}", command.place, arguments[0]);
        for option in arguments.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(&format!("  {option} ")), "{}: {option}", command.place);
        }
        self.built(arguments[0], command)
    }

    /// A binary where cargo puts it, for a target that is checked for licences too.
    fn built(&self, target: &str, command: &Printed) -> String {
        let known = fs::read_to_string(self.real("deny.toml")).expect("deny.toml");
        assert!(known.contains(&format!("\"{target}\"")), "{}: {target} is no target of ours", command.place);
        let folder = self.real("target").join(target).join("release");
        fs::create_dir_all(&folder).expect("a folder");
        if !folder.join("board2mqtt").exists() {
            symlink(PROGRAM, folder.join("board2mqtt")).expect("a link");
        }
        String::new()
    }

    pub(super) fn cross_deploy(&mut self, arguments: &[&str], command: &Printed) -> String {
        self.enter("");
        assert!(arguments[0].contains('@'), "{}: {} is a login", command.place, arguments[0]);
        let help = self.help("cross/deploy");
        for option in arguments[1..].iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{}: {option}", command.place);
        }
        let built = fs::read_dir(self.real("target")).expect("something was built by now").next();
        let binary = built.expect("a target").expect("an entry").path().join("release/board2mqtt");
        let installer = fs::read_to_string(self.real("cross/install")).expect("the board's half");
        let placed: Vec<_> = installer.lines().filter_map(|line| line.trim().strip_prefix("\"$1\" ")).collect();
        assert!(placed.len() >= 6, "{placed:?}");
        for line in placed {
            let words: Vec<_> = line.split_whitespace().collect();
            let (source, target) = match words[0] {
                "board2mqtt" => (binary.clone(), "/usr/local/bin/board2mqtt"),
                "sample.toml" => (self.real("configs/drone01.toml"), words[1]),
                "config.toml" => continue,
                name => (self.real("systemd").join(name), words[1]),
            };
            let target = self.real(target);
            fs::create_dir_all(target.parent().expect("a folder")).expect("made");
            fs::copy(&source, &target).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        }
        self.systemd(&["systemd-sysusers", "board2mqtt.conf"], command)
    }

    fn help(&self, script: &str) -> String {
        let output = Command::new(self.real(script)).arg("--help").output().expect(script);
        assert!(output.status.success(), "{script} --help");
        String::from_utf8(output.stdout).expect("text")
    }
}
