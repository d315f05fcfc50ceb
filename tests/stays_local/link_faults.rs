//! What can go wrong on the link and beyond it: floods, servers that misbehave, names that are not found. The real binary.

use crate::bystanders::*;
use crate::support::agent::{Agent, Recipe};
use crate::support::mosquitto::{Mosquitto, Subscriber};
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw::Raw;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

struct Scene {
    server: Mosquitto,
    watch: Subscriber,
    proxy: Proxy,
    agent: Agent,
    /// KiB when all was well.
    memory: u64,
}

/// It says little, as it is said much.
fn mosquitto() -> Mosquitto {
    Mosquitto::with(|_| {
        "allow_anonymous true\nlog_type none\nlog_type error\nlog_type information\nset_tcp_nodelay true".into()
    })
}

impl Scene {
    /// All is well with the bystanders and what `more` configures.
    fn new(more: &str) -> Self {
        let server = mosquitto();
        let watch = server.subscribe(&FILTERS);
        let proxy = Proxy::to(server.port());
        let agent = Recipe::new(&format!("{CONFIG}{more}")).script("").server(proxy.port()).start();
        go_on(&watch, 10);
        let memory = agent.memory_kib();
        Self { server, watch, proxy, agent, memory }
    }

    fn commands_are_carried_out(&self, times: usize) {
        commands_are_carried_out(&self.server, &self.watch, times);
    }

    /// The account at the end.
    fn ends_well(mut self) {
        wait_for_metric(&self.watch, "buffered", |count| count < 10);
        let grown = self.agent.memory_kib().saturating_sub(self.memory);
        assert!(grown < GROWTH_KIB, "{grown} KiB more than {}", self.memory);
        assert!(self.agent.stop().0.success());
        self.watch.wait_for("board2mqtt/yard/status", "offline");
        kept_their_cadence(&self.watch.messages());
    }
}

/// `board2mqtt set` on the running daemon: how a command comes without the server.
fn set_here(agent: &Agent, state: &str) {
    let done = agent.command(&["set", "lamp", state]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_server_that_never_acks() {
    let scene = Scene::new("");
    scene.proxy.set(Mode::SwallowAcks);
    let begun = Instant::now();
    // Long enough for the window to be full, and shorter than the agent's patience.
    while begun.elapsed() < Duration::from_secs(20) {
        scene.commands_are_carried_out(1);
        // How often somebody wants something.
        std::thread::sleep(Duration::from_millis(200));
    }
    scene.agent.wait_for_log("the server acknowledged nothing for 30s", 1);
    // The next connection may have lost acks as well, which none of the server's would ever make good.
    scene.proxy.set(Mode::Forward);
    scene.proxy.cut();
    wait_for_metric(&scene.watch, "connects", |count| count > 1);
    scene.commands_are_carried_out(2);
    scene.ends_well();
}

#[test]
fn a_server_that_acks_out_of_order() {
    let scene = Scene::new("");
    scene.proxy.set(Mode::ReorderAcks);
    go_on(&scene.watch, LASTS);
    scene.commands_are_carried_out(6);
    scene.proxy.set(Mode::Forward);
    go_on(&scene.watch, LASTS / 2);
    assert_eq!(metric(&scene.watch.messages(), "connects").last(), Some(&1), "no reason to end the connection");
    scene.ends_well();
}

#[test]
fn a_server_that_sends_a_packet_of_256_mib() {
    let scene = Scene::new("");
    let sent = scene.proxy.say_to_clients(b"\x30\xff\xff\xff\x7f", 256 << 20);
    assert!(sent < 32 << 20, "it has read {sent} bytes");
    scene.agent.wait_for_log("the server sent a packet of 268435455 bytes, at most 262144 are accepted", 1);
    assert_eq!(wait_for_metric(&scene.watch, "connects", |count| count > 1), 2);
    go_on(&scene.watch, LASTS / 2);
    scene.commands_are_carried_out(2);
    scene.ends_well();
}

#[test]
fn a_connection_that_is_half_open() {
    let scene = Scene::new("");
    scene.proxy.set(Mode::BlackHole);
    for state in ["ON", "OFF", "ON"] {
        set_here(&scene.agent, state);
    }
    scene.agent.wait_for_log("nothing came from the server for 7.5s", 1);
    set_here(&scene.agent, "OFF");
    scene.proxy.set(Mode::Forward);
    assert_eq!(wait_for_metric(&scene.watch, "connects", |count| count > 1), 2);
    scene.commands_are_carried_out(2);
    scene.ends_well();
}

/// A C library whose resolver hangs until a file is there, and then knows one address for every name.
fn hanging_resolver(folder: &Path) -> String {
    let (source, library) = (folder.join("resolver.c"), folder.join("resolver.so"));
    let text = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    lookup *real = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
    while (access(getenv("RESOLVER_ANSWERS"), F_OK) != 0)
        usleep(10000);
    return real("127.0.0.1", service, hints, found);
}
"#;
    std::fs::write(&source, text).expect("the source");
    let mut compiler = Command::new("cc");
    let done = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().expect("a C compiler");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    library.display().to_string()
}

#[test]
fn a_name_server_that_hangs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, answers) = (mosquitto(), folder.path().join("answers"));
    let watch = server.subscribe(&FILTERS);
    let mut agent = Recipe::new(CONFIG)
        .script("")
        .set("MQTT__SERVER", format!("mqtt://broker.test:{}", server.port()))
        .variable("LD_PRELOAD", hanging_resolver(folder.path()))
        .variable("RESOLVER_ANSWERS", answers.display().to_string())
        .start();
    agent.wait_for_levels("GPIO17", &["0"]);
    set_here(&agent, "ON");
    let (threads, memory) = (agent.threads(), agent.memory_kib());
    let given_up = "no answer from DNS about";
    agent.wait_for_log(given_up, 1);
    set_here(&agent, "OFF");
    agent.wait_for_levels("GPIO17", &["0", "1", "0"]);
    // The next attempt begins within a second.
    std::thread::sleep(Duration::from_secs(2));
    assert!(agent.threads() <= threads, "each attempt keeps a thread");

    std::fs::write(&answers, "").expect("a file");
    go_on(&watch, LASTS);
    wait_for_metric(&watch, "buffered", |count| count < 10);
    let grown = agent.memory_kib().saturating_sub(memory);
    assert!(grown < GROWTH_KIB, "{grown} KiB more than {memory}");
    assert_eq!(agent.logged(given_up), 1, "the question that was open was answered");
    assert!(agent.stop().0.success());
    watch.wait_for("board2mqtt/yard/status", "offline");
    let messages = watch.messages();
    kept_their_cadence(&messages);
    assert_eq!(first_count(&messages), 1, "what was read before there was a server has come too");
}

/// Commands to one after the other of some outputs, 10,000 a second, for as long as it lives.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
}

impl Flood {
    fn start(port: u16, outputs: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || send_commands(port, &outputs, &stopped));
        Self { stop, thread: Some(thread) }
    }

    /// How many commands it has sent.
    fn end(mut self) -> u32 {
        self.stop.store(true, Ordering::SeqCst);
        let sent = self.thread.take().expect("it runs").join().expect("no panic");
        assert!(sent > 10_000, "a flood of {sent} commands is none");
        sent
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn send_commands(port: u16, outputs: &[String], stop: &AtomicBool) -> u32 {
    const A_SECOND: u32 = 10_000;
    const A_BURST: u32 = 100;
    let mut client = Raw::connect(port, "flood");
    let (begun, mut sent) = (Instant::now(), 0);
    while !stop.load(Ordering::SeqCst) {
        for _ in 0..A_BURST {
            let (round, output) = (sent as usize / outputs.len(), sent as usize % outputs.len());
            let word: &[u8] = if round % 2 == 0 { b"ON" } else { b"OFF" };
            client.publish(&topic(&outputs[output], "set"), word, false);
            sent += 1;
        }
        client.flush();
        std::thread::sleep((Duration::from_secs(1) * sent / A_SECOND).saturating_sub(begun.elapsed()));
    }
    sent
}

fn a_flood_of_commands(outputs: usize) {
    let names: Vec<_> = (0..outputs).map(|number| format!("relay{number}")).collect();
    let relay = |(offset, name): (usize, &String)| {
        format!("[outputs.{name}]\nline = {{ chip = \"gpiochip0\", offset = {offset} }}\n")
    };
    let scene = Scene::new(&names.iter().enumerate().map(relay).collect::<String>());
    let flood = Flood::start(scene.server.port(), names);
    go_on(&scene.watch, LASTS / 2);
    scene.commands_are_carried_out(6);
    go_on(&scene.watch, LASTS / 2);
    let sent = flood.end();
    // Those that came before it have all been carried out by now.
    scene.commands_are_carried_out(1);
    let writes = scene.agent.writes().iter().filter(|write| write.line.contains("gpiochip0")).count();
    assert!(writes > sent as usize / 2, "{writes} writes after {sent} commands");
    scene.ends_well();
}

#[test]
fn a_flood_of_commands_for_one_output() {
    a_flood_of_commands(1);
}

#[test]
fn a_flood_of_commands_for_many_outputs() {
    a_flood_of_commands(50);
}
