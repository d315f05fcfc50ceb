//! What a board is started with: the image that `tests/board/image` keeps, and the agent built for it.
//!
//! Both are made where they are missing, which takes minutes; afterwards they are found in seconds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository.
fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder with the kernel, device tree and initrd of `machine`, and the keys to it.
pub fn image(machine: &str) -> PathBuf {
    first_line(Command::new(package().join("tests/board/image")).arg(machine)).into()
}

/// The folder with what `tests/board/<machine>/parts` keeps of a machine that has no image.
pub fn parts(machine: &str) -> PathBuf {
    first_line(&mut Command::new(package().join("tests/board").join(machine).join("parts"))).into()
}

/// The agent's binary for `target`, built as for users.
pub fn agent(target: &str) -> PathBuf {
    first_line(Command::new(package().join("cross/build")).args([target, "--install", "--locked", "--quiet"])).into()
}

/// A script of the repository that deploys.
pub fn deploy() -> PathBuf {
    package().join("cross/deploy")
}

/// Runs a script whose first line of output is a path.
fn first_line(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} ended with {}", output.status);
    let text = String::from_utf8(output.stdout).expect("a path in UTF-8");
    text.lines().next().unwrap_or_else(|| panic!("{command:?} printed nothing")).to_owned()
}
