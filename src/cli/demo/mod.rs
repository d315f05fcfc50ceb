//! `board2mqtt demo`: the whole thing on this machine, nothing needed: a simulated board, an MQTT server of its own on
//! loopback, and what a subscriber sees, as a live table in a terminal and as plain lines elsewhere.
//!
//! The agent is the real one, on its own thread of execution: a terminal that is slow to take lines slows only the table.

mod screen;
mod server;
mod viewer;

use super::{Failed, setup, tell};
use crate::agent;
use crate::board::simulated::Script;
use crate::clock::{Clock, SystemClock};
use crate::config;
use anyhow::Context;
use std::fs::DirBuilder;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use viewer::Viewer;

const CONFIG: &str = include_str!("../../../configs/demo.toml");
const FLIGHT: &str = include_str!("../../../configs/simulated/flight.toml");
/// The last words (the clean `offline`) are with the subscriber by then.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs until Ctrl-C, or for so many seconds.
pub fn run(seconds: Option<u64>) -> Result<(), Failed> {
    let (address, messages) = server::start().context("the embedded MQTT server does not start")?;
    let folder = Folder::new().context("no folder for what the gateway keeps")?;
    let setup = agent_setup(address, &folder.0)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let (closed, on_closed) = oneshot::channel();
        let end = until(seconds, on_closed)?;
        let viewer = if screen::is_usable() {
            Viewer::table(messages, address)
        } else {
            tell(&format!(
                "board2mqtt demo: a simulated board, its MQTT server at {address}; try: {}",
                command(address)
            ));
            Viewer::lines(messages, closed)
        };
        let outcome = agent::run(setup, None, end).await;
        viewer.finish(LAST_WORDS);
        outcome
    });
    runtime.shutdown_background();
    Ok(outcome?)
}

/// What moves the beacon.
fn command(address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port());
    format!("mosquitto_pub -h {host} -p {port} -t sensors/demo/beacon/set -m TOGGLE")
}

/// The demo's own configuration and script on its own server, through the same loader as any other.
fn agent_setup(address: SocketAddr, folder: &Path) -> Result<agent::Setup, Failed> {
    let server = ("BOARD2MQTT__MQTT__SERVER".to_owned(), format!("mqtt://{address}"));
    let path = Path::new("configs/demo.toml");
    let loaded = config::parse(CONFIG, "configs/demo.toml", Path::new("."), std::iter::once(server));
    let checked = setup::check(path, loaded)?;
    let script = Script::parse(FLIGHT, Path::new("configs/simulated/flight.toml")).context("the demo's script")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let board = Arc::new(setup::simulated_board(&checked, Some(script), None, &clock)?);
    let session = setup::session(&checked)?;
    let store = setup::Store::in_memory(&checked.config.buffer);
    let mut setup = setup::agent_on(checked, session, board, clock, store);
    setup.state_file = folder.join("state.json");
    setup.runtime_folder = None;
    Ok(setup)
}

/// Completes when the demo is to end: a signal, the time, or nobody who listens any more.
fn until(seconds: Option<u64>, closed: oneshot::Receiver<()>) -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
    let limit = seconds.map_or(Duration::MAX, Duration::from_secs);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
            Ok(()) = closed => "stdout closed",
            () = tokio::time::sleep(limit) => "--seconds",
        }
    })
}

/// A temporary folder that nobody else may enter, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let name = format!("board2mqtt-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        // One that is there already is somebody else's.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: the folder holds nothing that matters.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
