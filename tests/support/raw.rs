//! A small MQTT client that sends as fast as the server takes it, and any bytes a test likes. QoS 0 only.

use super::PATIENCE;
use bytes::BytesMut;
use rumqttc::{Connect, Packet, Publish, QoS, Subscribe};
use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

#[derive(Default)]
struct Inbox {
    accepted: bool,
    subscribed: bool,
    messages: Vec<Publish>,
    count: usize,
}

/// A connected client; its connection ends when dropped.
pub struct Raw {
    stream: BufWriter<TcpStream>,
    inbox: Arc<(Mutex<Inbox>, Condvar)>,
}

impl Raw {
    /// Connects to 127.0.0.1:`port` and waits until it is accepted.
    pub fn connect(port: u16, client_id: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server");
        stream.set_nodelay(true).expect("a TCP socket");
        let reading = stream.try_clone().expect("a handle");
        let inbox = Arc::new((Mutex::new(Inbox::default()), Condvar::new()));
        let shared = inbox.clone();
        std::thread::spawn(move || read(reading, &shared));
        let mut client = Self { stream: BufWriter::new(stream), inbox };
        client.send(&Packet::Connect(Connect::new(client_id)));
        client.flush();
        client.wait("CONNACK", |inbox| inbox.accepted);
        client
    }

    /// Subscribes at QoS 0 and waits for the answer.
    pub fn subscribe(&mut self, filter: &str) {
        let mut subscribe = Subscribe::new(filter, QoS::AtMostOnce);
        subscribe.pkid = 1;
        self.send(&Packet::Subscribe(subscribe));
        self.flush();
        self.wait("SUBACK", |inbox| inbox.subscribed);
    }

    /// Appends a PUBLISH; it leaves with [`Raw::flush`] or when much has gathered.
    pub fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) {
        let mut publish = Publish::new(topic, QoS::AtMostOnce, payload);
        publish.retain = retain;
        self.send(&Packet::Publish(publish));
    }

    /// Sends what was appended.
    pub fn flush(&mut self) {
        self.stream.flush().expect("a server that listens");
    }

    /// How many messages have come.
    pub fn count(&self) -> usize {
        self.inbox.0.lock().expect("the inbox").count
    }

    /// Waits until `count` messages have come, and takes those that were not taken yet.
    pub fn wait_for_count(&self, count: usize) -> Vec<Publish> {
        self.wait(&format!("{count} messages"), |inbox| inbox.count >= count);
        std::mem::take(&mut self.inbox.0.lock().expect("the inbox").messages)
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).expect("a packet");
        self.stream.write_all(&bytes).expect("a server that listens");
    }

    fn wait(&self, what: &str, condition: impl Fn(&Inbox) -> bool) {
        let start = Instant::now();
        let mut inbox = self.inbox.0.lock().expect("the inbox");
        while !condition(&inbox) {
            assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}, {} messages came", inbox.count);
            inbox = self.inbox.1.wait_timeout(inbox, PATIENCE / 100).expect("the inbox").0;
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.stream.get_ref().shutdown(std::net::Shutdown::Both);
    }
}

fn read(mut stream: TcpStream, inbox: &(Mutex<Inbox>, Condvar)) {
    let mut input = BytesMut::new();
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        input.extend_from_slice(&chunk[..count]);
        let mut inbox_now = inbox.0.lock().expect("the inbox");
        while let Ok(packet) = Packet::read(&mut input, usize::MAX) {
            match packet {
                Packet::ConnAck(_) => inbox_now.accepted = true,
                Packet::SubAck(_) => inbox_now.subscribed = true,
                Packet::Publish(publish) => {
                    inbox_now.count += 1;
                    inbox_now.messages.push(publish);
                }
                _ => {}
            }
        }
        drop(inbox_now);
        inbox.1.notify_all();
    }
}
