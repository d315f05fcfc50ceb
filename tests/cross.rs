//! `cross/`: what `cross/build` asks of a machine and tells about a binary, cross's configuration, and the manner of all scripts.
//!
//! Nothing is compiled for a board here: cargo, rustc, rustup, compilers and apt-get are stand-ins that note how they
//! are called. What they build is what the emulated boards run.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const AARCH64: &str = "aarch64-unknown-linux-gnu";
const ARMV7: &str = "armv7-unknown-linux-gnueabihf";
const ARMV6: &str = "arm-unknown-linux-gnueabihf";

fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(repository(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A machine whose PATH is this folder.
struct Machine(TempDir);

impl Machine {
    /// With what Debian has everywhere, Rust, and nothing for boards.
    fn new() -> Self {
        let machine = Self(tempfile::Builder::new().prefix("a machine ").tempdir().expect("a folder"));
        for name in ["awk", "bash", "cat", "dirname", "env", "readelf", "readlink", "sed", "sh", "sort", "stat", "tail"]
        {
            let path = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
            let path = path.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{name} is not installed"));
            symlink(path, machine.path(name)).expect("a link");
        }
        machine.stand_in("id", "echo 0");
        machine.stand_in(
            "rustc",
            "case $1 in -vV) echo host: riscv64gc-unknown-linux-gnu ;; *) echo \"$HERE/lib\" ;; esac",
        );
        machine.stand_in(
            "rustup",
            "[ \"$*\" = \"target add $(cat \"$HERE/offered\")\" ] && : >\"$HERE/lib/libstd-1.rlib\"",
        );
        machine.stand_in("cargo", "");
        fs::create_dir(machine.path("lib")).expect("made");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program that notes its call and does this.
    fn stand_in(&self, name: &str, script: &str) {
        let here = self.0.path().display();
        let script = format!("#!/bin/sh\nHERE='{here}'\necho {name} \"$@\" >>\"$HERE/calls\"\n{script}\n");
        fs::write(self.path(name), script).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// A compiler, with its C library or without.
    fn compiler(&self, name: &str, with_library: bool) {
        let crt = if with_library { "\"$HERE/crt1.o\"" } else { "crt1.o" };
        fs::write(self.path("crt1.o"), "").expect("written");
        self.stand_in(name, &format!("echo {crt}"));
    }

    /// The standard library for every target.
    fn with_std(&self) {
        fs::write(self.path("lib/libstd-0.rlib"), "").expect("written");
    }

    /// A cargo that says, as the real one, that it built this.
    fn cargo_builds(&self, binary: &Path) {
        let built = format!("{{\"reason\":\"compiler-artifact\",\"executable\":\"{}\"}}", binary.display());
        self.stand_in(
            "cargo",
            &format!("env >\"$HERE/environment\"\necho '{built}'\necho '{{\"reason\":\"build-finished\"}}'"),
        );
    }

    fn calls(&self, program: &str) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let program = format!("{program} ");
        calls.lines().filter_map(|line| line.strip_prefix(&program)).map(str::to_owned).collect()
    }

    /// Runs `cross/build`: its exit status, stdout and stderr.
    fn build(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new("/bin/bash");
        command.arg(repository("cross/build")).args(arguments).env_clear().env("PATH", self.0.path());
        let output = command.output().expect("bash");
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code(), out, err)
    }

    /// Runs it to its bad end and wants this said.
    fn refuses(&self, arguments: &[&str], status: i32, why: &str) {
        let (ended, out, err) = self.build(arguments);
        assert_eq!((ended, out.as_str()), (Some(status), ""), "{arguments:?}: {err}");
        assert!(err.contains(why), "{arguments:?}: `{why}` in\n{err}");
    }
}

#[test]
fn help_names_every_target_and_option() {
    let (status, out, _) = Machine::new().build(&["--help"]);
    assert_eq!(status, Some(0));
    for word in [AARCH64, ARMV7, ARMV6, "x86_64-unknown-linux-gnu", "--glibc", "--install"] {
        assert!(out.contains(word), "{word}");
    }
}

#[test]
fn wrong_usage_is_told_with_the_usage() {
    let machine = Machine::new();
    machine.refuses(&[], 2, "no target");
    machine.refuses(&["mips-unknown-linux-gnu"], 2, "unknown target: mips-unknown-linux-gnu");
    machine.refuses(&[AARCH64, "--glibc"], 2, "--glibc needs a version");
    machine.refuses(&[AARCH64, "--glibc", "old"], 2, "a version such as 2.28, not old");
    machine.refuses(&[ARMV6], 1, "Debian's compilers do not build for ARMv6: give --glibc 2.28");
}

#[test]
fn what_is_missing_is_named_and_not_installed_unasked() {
    let machine = Machine::new();
    machine.refuses(&[AARCH64], 1, "install Debian's gcc-aarch64-linux-gnu libc6-dev-arm64-cross");
    machine.refuses(&[ARMV7], 1, "install Debian's gcc-arm-linux-gnueabihf libc6-dev-armhf-cross");
    machine.compiler("aarch64-linux-gnu-gcc", false);
    machine.refuses(&[AARCH64], 1, "no aarch64-linux-gnu-gcc with its C library");
    machine.refuses(&[AARCH64, "--glibc", "2.28"], 1, "no cargo-zigbuild");
    machine.stand_in("cargo-zigbuild", "");
    machine.refuses(&[AARCH64, "--glibc", "2.28"], 1, "no Zig");
    machine.compiler("aarch64-linux-gnu-gcc", true);
    fs::write(machine.path("offered"), ARMV7).expect("written");
    machine.refuses(&[AARCH64], 1, "no standard library for aarch64-unknown-linux-gnu");
    fs::remove_file(machine.path("rustup")).expect("there");
    machine.refuses(&[AARCH64], 1, "rustup (https://rustup.rs) has it");
    fs::remove_file(machine.path("cargo")).expect("there");
    machine.refuses(&[AARCH64], 1, "install Rust with rustup");
    assert_eq!(machine.calls("apt-get"), [""; 0]);
}

#[test]
fn install_asks_debian_for_the_compiler_and_rustup_for_the_library() {
    let machine = Machine::new();
    machine.stand_in("apt-get", "[ \"$1\" = update ] || : >\"$HERE/installed\"");
    machine.refuses(&[ARMV7, "--install"], 1, "no arm-linux-gnueabihf-gcc with its C library");
    let packages = "install -y -qq --no-install-recommends gcc-arm-linux-gnueabihf libc6-dev-armhf-cross";
    assert_eq!(machine.calls("apt-get"), ["update -qq", packages]);
    machine.compiler("arm-linux-gnueabihf-gcc", true);
    fs::write(machine.path("offered"), ARMV7).expect("written");
    machine.refuses(&[ARMV7, "--install"], 1, "cargo built no binary");
    assert_eq!(machine.calls("apt-get").len(), 2, "nothing was missing");
    assert_eq!(machine.calls("rustup"), [format!("target add {ARMV7}")]);
}

#[test]
fn the_binary_is_told_with_its_size_and_its_c_library() {
    let machine = Machine::new();
    machine.with_std();
    machine.compiler("aarch64-linux-gnu-gcc", true);
    let program = PathBuf::from("/bin/sh").canonicalize().expect("a shell");
    let binary = machine.path("board2mqtt");
    fs::copy(program, &binary).expect("copied");
    machine.cargo_builds(&binary);
    let (status, out, err) = machine.build(&[AARCH64, "--features", "demo", "--locked"]);
    assert_eq!(status, Some(0), "{err}");
    let mut lines = out.lines();
    assert_eq!(lines.next(), binary.to_str());
    let facts = lines.next().expect("a second line");
    let size = fs::metadata(&binary).expect("there").len();
    assert!(facts.starts_with(&format!("{size} bytes (")), "{facts}");
    let glibc = facts.split_once("needs glibc 2.").and_then(|(_, rest)| rest.split_once(" or later"));
    assert!(glibc.is_some_and(|(minor, _)| minor.parse::<u32>().is_ok()), "{facts}");

    let call = &machine.calls("cargo")[0];
    assert!(call.starts_with(&format!("build --target {AARCH64} --manifest-path ")), "{call}");
    assert!(call.contains(" --release --no-default-features --bin board2mqtt "), "{call}");
    assert!(call.ends_with(" --features demo --locked"), "{call}");
    let environment = fs::read_to_string(machine.path("environment")).expect("noted");
    for variable in ["CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "CC_aarch64_unknown_linux_gnu"] {
        let set = format!("{variable}=aarch64-linux-gnu-gcc");
        assert!(environment.lines().any(|line| line == set), "{environment}");
    }
}

#[test]
fn zig_is_told_the_version_of_the_c_library() {
    let machine = Machine::new();
    machine.with_std();
    ["cargo-zigbuild", "zig"].iter().for_each(|name| machine.stand_in(name, ""));
    machine.cargo_builds(&machine.path("sh"));
    for (number, target) in [ARMV7, ARMV6].into_iter().enumerate() {
        let (status, _, err) = machine.build(&["--glibc", "2.28", target]);
        assert_eq!(status, Some(0), "{err}");
        let call = &machine.calls("cargo")[number];
        assert!(call.starts_with(&format!("zigbuild --target {target}.2.28 ")), "{call}");
    }
}

/// The image of `cross/Containerfile` links for every target that `cross/Cross.toml` builds with it.
#[test]
fn cross_knows_every_key_and_every_target_has_its_linker() {
    let config: toml::Table = text("cross/Cross.toml").parse().expect("TOML");
    assert!(config.keys().eq(["target"]), "{config:?}");
    let targets = config["target"].as_table().expect("a table");
    assert!(targets.keys().eq([AARCH64, ARMV7]), "{targets:?}");
    let (image, known) = (text("cross/Containerfile"), text("deny.toml"));
    for (target, settings) in targets {
        let settings = settings.as_table().expect("a table");
        assert!(settings.keys().eq(["dockerfile"]), "{target}: {settings:?}");
        let image_of = settings["dockerfile"].as_table().expect("a table");
        assert!(image_of.keys().eq(["file", "context"]), "{target}: {image_of:?}");
        for (key, path) in image_of {
            assert!(repository(path.as_str().expect("text")).exists(), "{target}: {key}");
        }
        let linker = format!("CARGO_TARGET_{}_LINKER=", target.to_uppercase().replace('-', "_"));
        let linker = image.split_once(&linker).and_then(|(_, rest)| rest.split_whitespace().next());
        let package = linker.and_then(|linker| linker.strip_suffix("-gcc")).map(|prefix| format!("gcc-{prefix} "));
        assert!(package.is_some_and(|package| image.contains(&package)), "{target}: {linker:?}");
        assert!(known.contains(&format!("\"{target}\"")), "{target} is in deny.toml");
    }
}

/// Every file that a shell runs, by its first line.
fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let begin = fs::read(&path).unwrap_or_default();
        if path.is_dir() {
            scripts(&path, found);
        } else if begin.starts_with(b"#!/bin/sh\n") || begin.starts_with(b"#!/bin/bash\n") {
            found.push(path);
        }
    }
}

#[test]
fn shellcheck_finds_nothing_in_any_script() {
    let mut found = Vec::new();
    [".ci", "cross", "configs", "tests"].iter().for_each(|folder| scripts(&repository(folder), &mut found));
    assert!(found.len() >= 6, "{found:?}");
    let output = Command::new("shellcheck")
        .arg("--severity=warning")
        .args(&found)
        .output()
        .expect("shellcheck (tests/all installs it)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let executable = |path: &PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o111 != 0;
    // Its other half carries it to the board and hands it to a shell there.
    let found = found.iter().filter(|path| !path.ends_with("cross/install"));
    assert_eq!(found.filter(|path| !executable(path)).collect::<Vec<_>>(), [""; 0]);
}
