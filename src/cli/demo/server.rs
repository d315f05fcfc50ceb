//! The demo's own MQTT server on loopback, and a subscriber to everything that lives in the same process.

use anyhow::{Context, bail};
use rumqttd::local::LinkRx;
use rumqttd::{Broker, Config, ConnectionSettings, Notification, RouterConfig, ServerSettings};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How long the server may take to listen, in steps.
const PATIENCE: (u32, Duration) = (1000, Duration::from_millis(5));

/// A message as a subscriber to `#` sees it.
pub struct Seen {
    /// The topic.
    pub topic: String,
    /// As text.
    pub payload: String,
}

/// Starts the server on threads of its own; comes back when it listens, with all that is published from now on.
///
/// # Errors
/// It does not listen in time.
pub fn start() -> anyhow::Result<(SocketAddr, Receiver<Seen>)> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = address.context("no free port on loopback")?;
    let mut broker = Broker::new(config(address));
    let (mut subscriber, received) = broker.link("demo-table")?;
    subscriber.subscribe("#")?;
    thread::Builder::new().name("mqtt-server".to_owned()).spawn(move || {
        if let Err(error) = broker.start() {
            log::error!(error:% = error; "the embedded MQTT server has stopped");
        }
    })?;
    let (sender, seen) = sync_channel(1024);
    thread::Builder::new().name("mqtt-table".to_owned()).spawn(move || {
        // The subscription ends with its sender.
        let _subscriber = subscriber;
        receive(received, &sender);
    })?;
    wait_for(address)?;
    Ok((address, seen))
}

fn receive(mut received: LinkRx, sender: &SyncSender<Seen>) {
    while let Ok(notification) = received.recv() {
        let Some(Notification::Forward(forward)) = notification else { continue };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let seen = Seen { topic: text(&forward.publish.topic), payload: text(&forward.publish.payload) };
        if sender.send(seen).is_err() {
            return;
        }
    }
}

/// Until somebody accepts: a first connection refused would cost the demo its first second.
fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let (steps, step) = PATIENCE;
    for _ in 0..steps {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        thread::sleep(step);
    }
    bail!("nothing listens at {address}")
}

fn config(address: SocketAddr) -> Config {
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
