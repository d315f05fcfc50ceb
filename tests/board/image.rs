//! What a board is started with: the image that `tests/board/image` keeps, and the agent built for it.
//!
//! Both are made where they are missing, which takes minutes; afterwards they are found in seconds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository.
fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Seconds that a build or a download may take before it is said to hang.
const BOUND: &str = "1800";

/// The folder with the kernel, device tree and initrd of `machine`, and the keys to it.
pub fn image(machine: &str) -> PathBuf {
    first_line("tests/board/image", &[machine]).into()
}

/// The folder with what `tests/board/<machine>/parts` keeps of a machine that has no image.
pub fn parts(machine: &str) -> PathBuf {
    first_line(&format!("tests/board/{machine}/parts"), &[]).into()
}

/// The agent's binary for `target`, built as for users.
pub fn agent(target: &str) -> PathBuf {
    first_line("cross/build", &[target, "--install", "--locked", "--quiet"]).into()
}

/// The Debian package for `target`, and the same as a later version, in `folder`.
pub fn packages(target: &str, folder: &Path) -> [PathBuf; 2] {
    let [first, later] = ["first.deb", "later.deb"].map(|name| folder.join(name));
    // Copied at once: cargo-deb deletes what it made before for the same architecture.
    let made = first_line("cross/package", &[target, "--install", "--locked", "--quiet"]);
    std::fs::copy(made, &first).expect("copied");
    let version = concat!(env!("CARGO_PKG_VERSION"), "-2");
    let repackage = ["deb", "--no-build", "--no-strip", "--quiet", "--target", target, "--deb-version", version];
    first_line("cargo", &[&repackage[..], &["--output", &later.display().to_string()]].concat());
    [first, later]
}

/// A script of the repository that deploys.
pub fn deploy() -> PathBuf {
    package().join("cross/deploy")
}

/// Runs a program, given from the repository on, whose first line of output is a path.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("timeout");
    command.args([BOUND, program]).args(arguments).current_dir(package());
    // Build scripts look at what cargo tells a test of its package: what was built without would be built anew.
    let told = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start));
    for (name, _) in std::env::vars().filter(|(name, _)| told(name)) {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("timeout (package coreutils)");
    // 124 is what `timeout` ends with once the time is over.
    assert!(output.status.success(), "{command:?} ended with {}", output.status);
    let text = String::from_utf8(output.stdout).expect("a path in UTF-8");
    text.lines().next().unwrap_or_else(|| panic!("{command:?} printed nothing")).to_owned()
}
