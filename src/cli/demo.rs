//! `board2mqtt demo`: the whole thing on this machine, nothing needed: a simulated board, an MQTT server of its own on
//! loopback, and what a subscriber sees, as a live table in a terminal and as plain lines elsewhere.

use super::arguments::Arguments;
use super::{Failed, setup};
use crate::agent;
use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::systemd;
use anyhow::Context;
use rumqttd::local::LinkRx;
use rumqttd::{Broker, Config, ConnectionSettings, Notification, RouterConfig, ServerSettings};
use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

const CONFIG: &str = include_str!("../../configs/demo.toml");
/// The table is drawn at most this often.
const REDRAW: Duration = Duration::from_millis(200);
/// The embedded server starts within this.
const LISTENS_WITHIN: Duration = Duration::from_secs(5);

/// Runs until Ctrl-C, or for so many seconds.
pub fn run(arguments: &Arguments, seconds: Option<u64>) -> Result<(), Failed> {
    systemd::init_log(arguments.log_level.min(log::LevelFilter::Warn)).context("no log")?;
    let address = free_address().context("no free port on loopback")?;
    let messages = serve(address).context("the embedded MQTT server does not start")?;
    let folder = std::env::temp_dir().join(format!("board2mqtt-demo-{}", std::process::id()));
    let setup = agent_setup(address, &folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let end = until(seconds)?;
        let shown = tokio::spawn(show(messages, address));
        let outcome = agent::run(setup, end).await;
        // The last words (the clean `offline`) are on their way to the table.
        tokio::time::sleep(Duration::from_millis(100)).await;
        shown.abort();
        outcome
    });
    runtime.shutdown_background();
    // Best effort: the folder holds nothing that matters.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(outcome?)
}

/// The demo's own configuration on its own server, through the same loader as any other.
fn agent_setup(address: SocketAddr, folder: &Path) -> Result<agent::Setup, Failed> {
    let server = ("BOARD2MQTT__MQTT__SERVER".to_owned(), format!("mqtt://{address}"));
    let path = Path::new("configs/demo.toml");
    let loaded = config::parse(CONFIG, "configs/demo.toml", Path::new("."), std::iter::once(server))
        .map_err(|report| Failed::Configuration(report.to_string()))?;
    let mut setup = setup::agent(setup::check(path, loaded)?)?;
    setup.state_file = folder.join("state.json");
    setup.runtime_folder = None;
    Ok(setup)
}

fn until(seconds: Option<u64>) -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let limit = seconds.map_or(Duration::MAX, Duration::from_secs);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            () = tokio::time::sleep(limit) => "--seconds",
        }
    })
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A message as a subscriber to `#` sees it.
struct Seen {
    topic: String,
    payload: String,
}

/// Starts the server on threads of its own and subscribes to everything.
fn serve(address: SocketAddr) -> anyhow::Result<mpsc::Receiver<Seen>> {
    let mut broker = Broker::new(server_config(address));
    let (mut subscriber, received) = broker.link("demo-table")?;
    subscriber.subscribe("#")?;
    std::thread::Builder::new().name("mqtt-server".to_owned()).spawn(move || {
        if let Err(error) = broker.start() {
            log::error!(error:% = error; "the embedded MQTT server has stopped");
        }
    })?;
    let (sender, seen) = mpsc::channel(1024);
    wait_until_it_listens(address)?;
    std::thread::Builder::new().name("mqtt-table".to_owned()).spawn(move || receive(received, &sender))?;
    Ok(seen)
}

/// So that the agent's first attempt finds it: an attempt that is refused costs a second.
fn wait_until_it_listens(address: SocketAddr) -> std::io::Result<()> {
    let give_up = SystemClock.now() + LISTENS_WITHIN;
    loop {
        match TcpStream::connect(address) {
            Err(_) if SystemClock.now() < give_up => std::thread::sleep(Duration::from_millis(5)),
            outcome => return outcome.map(drop),
        }
    }
}

fn receive(mut received: LinkRx, sender: &mpsc::Sender<Seen>) {
    while let Ok(notification) = received.recv() {
        let Some(Notification::Forward(forward)) = notification else { continue };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let seen = Seen { topic: text(&forward.publish.topic), payload: text(&forward.publish.payload) };
        if sender.blocking_send(seen).is_err() {
            return;
        }
    }
}

fn server_config(address: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 5000,
        max_payload_size: 256 * 1024,
        max_inflight_count: 200,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "demo".to_owned(),
        listen: address,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    let router = RouterConfig {
        max_connections: 100,
        max_outgoing_packet_count: 5000,
        max_segment_size: 1024 * 1024,
        max_segment_count: 10,
        ..RouterConfig::default()
    };
    Config { router, v4: Some(HashMap::from([("demo".to_owned(), server)])), ..Config::default() }
}

/// Shows what arrives, for as long as it does.
async fn show(mut messages: mpsc::Receiver<Seen>, address: SocketAddr) {
    if std::io::stdout().is_terminal() {
        table(&mut messages, address).await;
        return;
    }
    while let Some(seen) = messages.recv().await {
        // Nobody reads any more: the demo goes on until it is stopped.
        let _ = writeln!(std::io::stdout().lock(), "{} {}", seen.topic, seen.payload);
    }
}

/// One line a topic, redrawn in place.
async fn table(messages: &mut mpsc::Receiver<Seen>, address: SocketAddr) {
    let mut rows: BTreeMap<String, (String, u64)> = BTreeMap::new();
    let mut drawn = SystemClock.now();
    while let Some(seen) = messages.recv().await {
        let mut newest = Some(seen);
        while let Some(seen) = newest {
            let row = rows.entry(seen.topic).or_default();
            *row = (seen.payload, row.1 + 1);
            newest = messages.try_recv().ok();
        }
        tokio::time::sleep(REDRAW.saturating_sub(SystemClock.now().since(drawn))).await;
        drawn = SystemClock.now();
        let _ = draw(&rows, address);
    }
}

fn draw(rows: &BTreeMap<String, (String, u64)>, address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    // Home, then each line cleared to its end, then everything below.
    write!(
        out,
        "\x1b[Hboard2mqtt demo: a simulated board, its own MQTT server at {address}, Ctrl-C stops\x1b[K\r\n\x1b[K\r\n"
    )?;
    write!(out, "\x1b[1m{:<36} {:<34} messages\x1b[0m\x1b[K\r\n", "topic", "newest payload")?;
    for (topic, (payload, count)) in rows {
        let payload: String = payload.chars().filter(|c| !c.is_control()).take(34).collect();
        write!(out, "{topic:<36} {payload:<34} {count:>8}\x1b[K\r\n")?;
    }
    let (host, port) = (address.ip(), address.port());
    write!(out, "\x1b[K\r\ntry: mosquitto_pub -h {host} -p {port} -t sensors/demo/beacon/set -m TOGGLE\x1b[K\x1b[J")?;
    out.flush()
}
