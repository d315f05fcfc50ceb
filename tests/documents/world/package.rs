//! The commands that build the Debian package and install it: an empty file of its name on the computer, its files in place
//! on the board.
//!
//! Nothing is packed here: tests/package builds and installs the real one, and holds that it has these files.

use super::World;
use crate::documents::commands::Printed;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Target and Debian's name of it.
const ARCHITECTURES: [(&str, &str); 2] =
    [("aarch64-unknown-linux-gnu", "arm64"), ("armv7-unknown-linux-gnueabihf", "armhf")];
/// What the commands after an installation need of it: the file in the repository, and where it goes.
const FILES: [(&str, &str); 4] = [
    ("systemd/board2mqtt.service", "usr/lib/systemd/system/board2mqtt.service"),
    ("systemd/board2mqtt.sysusers", "usr/lib/sysusers.d/board2mqtt.conf"),
    ("systemd/board2mqtt.tmpfiles", "usr/lib/tmpfiles.d/board2mqtt.conf"),
    ("configs/drone01.toml", "usr/share/doc/board2mqtt/examples/drone01.toml"),
];

impl World {
    pub(super) fn cross_package(&mut self, arguments: &[&str], command: &Printed) -> String {
        self.enter("");
        let known = ARCHITECTURES.iter().find(|(target, _)| arguments == [*target]);
        let (_, architecture) = known.unwrap_or_else(|| panic!("{}: cross/package {arguments:?}", command.place));
        let file = format!("target/debian/board2mqtt_{}-1_{architecture}.deb", env!("CARGO_PKG_VERSION"));
        fs::create_dir_all(self.real("target/debian")).expect("a folder");
        fs::write(self.real(&file), "").expect("written");
        String::new()
    }

    /// `apt install ./FILE`: the files are put in place and the user is made, as by the package.
    pub(super) fn apt(&self, arguments: &[&str], command: &Printed) -> String {
        let ["install", file] = arguments else { panic!("{}: no rule for apt {arguments:?}", command.place) };
        assert!(file.starts_with("./"), "{}: apt takes `{file}` for the name of a package", command.place);
        self.only(file, command);
        for (source, target) in FILES {
            let target = self.root.path().join(target);
            fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(source), target).expect("copied");
        }
        fs::create_dir_all(self.real("/etc/board2mqtt")).expect("a folder");
        let root = format!("--root={}", self.root.path().display());
        let made = Command::new("systemd-sysusers").arg(root).arg("board2mqtt.conf").status();
        assert!(made.expect("systemd-sysusers").success(), "{}: the user is made", command.place);
        String::new()
    }

    /// The one file that is meant by a path with at most one `*` in its name.
    pub(super) fn only(&self, path: &str, command: &Printed) -> PathBuf {
        let path = self.real(path);
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let Some((begin, end)) = name.split_once('*') else { return path };
        let names = fs::read_dir(path.parent().expect("a folder")).expect("a folder");
        let names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
        let found: Vec<_> = names.filter(|name| name.starts_with(begin) && name.ends_with(end)).collect();
        assert_eq!(found.len(), 1, "{}: {} is one file: {found:?}", command.place, path.display());
        path.with_file_name(&found[0])
    }
}
