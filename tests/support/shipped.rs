//! The server's configurations in `configs/mosquitto/`, run as they are shipped but for port and folder.

use super::mosquitto::{Mosquitto, make_ca, password_file};
use std::fs;
use std::path::Path;

/// A server with `configs/mosquitto/NAME` on a free port, its folder moved to ours; every other line is as it stands.
///
/// Each of `users` has a name and a password, and a certificate in `certs/`; the server's own is for `localhost`.
pub fn shipped(name: &str, users: &[(&str, &str)]) -> Mosquitto {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/mosquitto");
    let folder = tempfile::tempdir().expect("a folder");
    let names: Vec<_> = users.iter().map(|(name, _)| *name).collect();
    let text = fs::read_to_string(configs.join(name)).expect("a shipped file");
    if text.contains("cafile") {
        make_ca(&folder.path().join("certs"), "localhost", &names, 30);
    }
    password_file(folder.path(), users);
    fs::copy(configs.join("acl"), folder.path().join("acl")).expect("the access list");
    let text = text.replace("/etc/mosquitto", &folder.path().display().to_string());
    let port = if text.contains("listener 1883") { "listener 1883" } else { "listener 8883" };
    assert!(text.contains(port), "{name} has the usual port");
    Mosquitto::with_file(folder, |free| text.replace(port, &format!("listener {free} 127.0.0.1")))
}
