//! SIGHUP on the real binary, against a real Mosquitto: what is the same goes on as if nothing had happened, what differs is
//! as the new file says, and a bad file changes nothing.
//!
//! `lines`: outputs and inputs. `sensors`: readings and their topics. `server`: the connection. `waiting`: what is on disk.
//! `refusal`: files that are not taken up, and what a service manager hears.

mod lines;
mod refusal;
mod sensors;
mod server;
#[path = "../shell/mod.rs"]
mod shell;
#[path = "../support/mod.rs"]
mod support;
mod waiting;

use std::cell::Cell;
use std::ops::Deref;
use support::agent::{Agent, Recipe};
use support::mosquitto::{Mosquitto, Received, Subscriber};
use support::wait_for;

/// The topic of a part of the gateway.
fn topic(part: &str) -> String {
    format!("board2mqtt/gate/{part}")
}

/// The configuration of a gateway called `gate` at this server; `more` follows.
fn config(port: u16, more: &str) -> String {
    format!(
        "[gateway]\nname = \"gate\"\n\
         [mqtt]\nserver = \"mqtt://127.0.0.1:{port}\"\nkeep_alive = \"5s\"\nreconnect = {{ min = \"100ms\", max = \"1s\" }}\n\
         [board]\nkind = \"simulated\"\n{more}\n"
    )
}

/// A sensor that counts its reads.
fn counter(name: &str, interval_ms: u64) -> String {
    format!("[sensors.{name}]\ndriver = \"test-counter\"\ninterval = \"{interval_ms}ms\"\n")
}

/// A running agent whose configuration can be replaced.
struct Gateway {
    agent: Agent,
    reloads: Cell<usize>,
}

impl Deref for Gateway {
    type Target = Agent;
    fn deref(&self) -> &Agent {
        &self.agent
    }
}

impl Gateway {
    fn start(recipe: Recipe) -> Self {
        Self { agent: recipe.start(), reloads: Cell::new(0) }
    }

    /// Puts another configuration into the place of the one there is, as a whole.
    fn write(&self, config: &str) {
        std::fs::write(self.file("config.new"), config).expect("the configuration");
        std::fs::rename(self.file("config.new"), self.file("config.toml")).expect("the configuration");
    }

    /// Lets it take up another configuration; the line it logs.
    fn reload(&self, config: &str) -> String {
        self.write(config);
        self.signal(libc::SIGHUP);
        self.reloads.set(self.reloads.get() + 1);
        self.wait_for_log("configuration reloaded", self.reloads.get());
        let log = self.log();
        log.lines().rfind(|line| line.contains("configuration reloaded")).expect("it was logged").to_owned()
    }
}

/// The payloads on a topic so far.
fn payloads(watch: &Subscriber, topic: &str) -> Vec<String> {
    let messages = watch.messages().into_iter().filter(|message| message.topic == topic);
    messages.map(|message| message.payload).collect()
}

/// The counts among these messages, live on a topic and in its history.
fn counts(messages: &[Received], topic: &str) -> Vec<u64> {
    let history = format!("{topic}/history");
    let of = |message: &Received| -> Vec<u64> {
        if message.topic == topic {
            vec![message.payload.parse().expect("a count")]
        } else if message.topic == history {
            let array: Vec<serde_json::Value> = serde_json::from_str(&message.payload).expect("an array");
            array.iter().map(|entry| entry["value"].as_u64().expect("a count")).collect()
        } else {
            Vec::new()
        }
    };
    messages.iter().flat_map(of).collect()
}

/// Waits until a topic has carried a count of at least `count`.
fn wait_for_count(watch: &Subscriber, topic: &str, count: u64) {
    watch.wait_until(&format!("{topic} {count}"), |messages| {
        counts(messages, topic).iter().any(|seen| *seen >= count).then_some(())
    });
}

/// Asserts that every count from the first to the last has come live, in order and once.
fn assert_gapless(watch: &Subscriber, topic: &str) {
    let seen: Vec<u64> = payloads(watch, topic).iter().map(|count| count.parse().expect("a count")).collect();
    assert!(!seen.is_empty() && seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{topic}: {seen:?}");
}

/// Waits until the gateway hears its commands: its status is told before it has subscribed.
fn wait_for_subscriptions(server: &Mosquitto) {
    server.wait_for_log("SUBACK to board2mqtt-gate");
}

/// How often that client has connected.
fn connects(server: &Mosquitto, client: &str) -> usize {
    server.log().matches(&format!(" as {client} (")).count()
}

/// Waits until something is retained on a topic; what comes live meanwhile is not it, and looks empty.
fn wait_for_retained(server: &Mosquitto, topic: &str) -> String {
    wait_for(&format!("a value retained on {topic}"), || server.retained(topic).filter(|payload| !payload.is_empty()))
}

/// Waits until nothing is retained on a topic.
fn wait_for_empty(server: &Mosquitto, topic: &str) {
    wait_for(&format!("nothing retained on {topic}"), || server.retained(topic).is_none().then_some(()));
}
