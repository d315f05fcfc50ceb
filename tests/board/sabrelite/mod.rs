//! An emulated i.MX6 board (QEMU's `sabrelite`, Debian's kernel for armv7) with the agent in a root file system in memory.
//!
//! The other machine has the shipped unit and systemd; this one has what that one lacks: GPIO edges from outside, another
//! I2C controller with other errors, a 32-bit processor. Lines are driven at the controller's pins and read in its registers,
//! so nothing here believes the guest about them. Invariant: the agent that runs is the one built for boards, with no demo in it.

mod checks;
mod initramfs;

use crate::image;
use crate::qemu::Qemu;
use crate::report::Report;
use crate::support::mosquitto::{Mosquitto, Subscriber};
use crate::support::wait_for;
use initramfs::Initramfs;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The controller GPIO2 as qtest knows it.
const GPIO2: &str = "/machine/soc/gpio2";
/// Its registers: data, direction, interrupt mask, interrupt status (i.MX 6Dual/6Quad reference manual, chapter 28).
const DR: u64 = 0x020a_0000;
const GDIR: u64 = 0x020a_0004;
const IMR: u64 = 0x020a_0014;
const ISR: u64 = 0x020a_0018;

/// The console is `ttymxc1`.
const CONSOLE: usize = 1;
/// How long the board may take to its shell on a busy machine.
const BOOT: Duration = Duration::from_secs(180);
/// How long the guest may take to handle an interrupt, or a command.
const ANSWER: Duration = Duration::from_secs(20);

/// The kernel's own tests and certificates cost the emulated processor most of a boot.
const KERNEL: &str =
    "console=ttymxc1,115200 quiet panic=-1 cryptomgr.notests initcall_blacklist=load_system_certificate_list";

/// Where the agent keeps its things, as its unit would tell it.
const AGENT: &str = "STATE_DIRECTORY=/tmp/state RUNTIME_DIRECTORY=/tmp board2mqtt --config /etc/board2mqtt.toml";

/// Boots the board and carries out the checks.
pub fn run(report: &mut Report) {
    report.machine("sabrelite", Sabrelite::boot, checks::CHECKS, Sabrelite::tell);
}

/// The running board, the server it is connected to, and a subscriber to everything.
pub struct Sabrelite {
    qemu: Qemu,
    /// The port on 127.0.0.1 that leads to the guest's shell.
    shell: u16,
    server: Mosquitto,
    inbox: Subscriber,
    _files: TempDir,
}

impl Sabrelite {
    /// Boots the board and starts the agent.
    fn boot() -> Self {
        let agent = image::agent("armv7-unknown-linux-gnueabihf");
        let parts = image::parts("sabrelite");
        let server = Mosquitto::start();
        let inbox = server.subscribe(&["#"]);
        let files = tempfile::tempdir().expect("a folder");
        let root = files.path().join("root.cpio");
        fs::write(&root, root_file_system(&parts, &agent, server.port())).expect("the root file system");
        let mut qemu = Qemu::start("qemu-system-arm", CONSOLE + 1, &machine(&parts, &root));
        let shell = qemu.forwarded(23);
        qemu.wait("the board's shell", BOOT, CONSOLE, |_| shell_at(shell, "echo up").filter(|answer| answer == "up\n"));
        let board = Self { qemu, shell, server, inbox, _files: files };
        board.guest("mkdir /tmp/state");
        board.start_agent();
        board
    }

    /// Starts the agent and waits until it is online.
    fn start_agent(&self) {
        self.inbox.clear();
        self.guest(&format!("{AGENT} --log-level debug run >> /tmp/log 2>&1 &"));
        self.inbox.wait_for("board2mqtt/sabre/status", "online");
    }

    /// Ends the agent with a signal and waits for its end.
    fn end_agent(&self, signal: &str) {
        self.guest(&format!(
            "kill -{signal} $(pidof board2mqtt); while pidof board2mqtt > /dev/null; do usleep 10000; done"
        ));
    }

    /// The last of what the agent has logged, for whoever looks at a failure.
    fn tell(&self) {
        eprintln!("---- the agent's log\n{}----", self.guest("grep -v '^DEBUG sample' /tmp/log | tail -n 30"));
    }

    /// Runs a script in the guest and gives what it prints.
    fn guest(&self, script: &str) -> String {
        shell_at(self.shell, script).expect("the guest's shell")
    }

    /// Drives a line from outside.
    fn drive(&mut self, line: u32, high: bool) {
        self.qemu.drive(GPIO2, line, high);
    }

    /// Waits until the guest has dealt with the last edge of a line: the kernel masks its interrupt, then clears its status,
    /// and unmasks it when the edge is in the queue.
    fn settle(&mut self, line: u32) {
        let begun = Instant::now();
        while self.bit(ISR, line) || !self.bit(IMR, line) {
            assert!(begun.elapsed() < ANSWER, "the edge on line {line} is not dealt with");
        }
    }

    /// What an output drives: `None` while the line is an input.
    fn driven(&mut self, line: u32) -> Option<bool> {
        self.bit(GDIR, line).then(|| self.bit(DR, line))
    }

    fn bit(&mut self, register: u64, line: u32) -> bool {
        self.qemu.peek(register) >> line & 1 == 1
    }

    /// Waits for a message of the agent.
    fn hear(&self, topic: &str, payload: &str) {
        self.inbox.wait_for(&format!("board2mqtt/sabre/{topic}"), payload);
    }

    /// The payloads on a topic of the agent since the inbox was cleared.
    fn heard(&self, topic: &str) -> Vec<String> {
        let topic = format!("board2mqtt/sabre/{topic}");
        let messages = self.inbox.messages().into_iter();
        messages.filter(|message| message.topic == topic).map(|message| message.payload).collect()
    }

    /// Waits until the newest message on a topic is `payload`.
    fn settles_on(&self, topic: &str, payload: &str) {
        wait_for(&format!("{topic} {payload}, last"), || (self.heard(topic).last()? == payload).then_some(()));
    }

    /// Sends a command; the server has it afterwards.
    fn command(&self, output: &str, payload: &str) {
        self.server.publish(&format!("board2mqtt/sabre/{output}/set"), payload);
    }

    /// Has a command sent meanwhile.
    fn command_meanwhile(&self, output: &str, payload: &str) -> Child {
        let mut publisher = self.server.client("mosquitto_pub");
        publisher.args(["-t", &format!("board2mqtt/sabre/{output}/set"), "-m", payload]);
        publisher.spawn().expect("mosquitto_pub")
    }

    /// Waits until the line is driven to this level.
    fn reaches(&mut self, line: u32, high: bool) {
        wait_for(&format!("line {line} at {high}"), || (self.driven(line) == Some(high)).then_some(()));
    }
}

fn machine(parts: &Path, root: &Path) -> Vec<String> {
    let file = |name: &str| parts.join(name).display().to_string();
    let options = [
        ("-machine", "sabrelite".to_owned()),
        ("-m", "256".to_owned()),
        ("-kernel", file("kernel")),
        ("-dtb", file("imx6q-sabrelite.dtb")),
        ("-initrd", root.display().to_string()),
        ("-append", KERNEL.to_owned()),
        ("-nic", "user,model=imx.enet,hostfwd=tcp:127.0.0.1:0-:23".to_owned()),
        ("-device", "tmp105,id=roof,bus=i2c-bus.0,address=0x48".to_owned()),
    ];
    options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
}

fn root_file_system(parts: &Path, agent: &Path, port: u16) -> Vec<u8> {
    let read = |path: PathBuf| fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut root = Initramfs::default();
    for folder in ["dev", "proc", "sys", "tmp"] {
        root.folder(folder);
    }
    root.file("init", 0o755, include_bytes!("init"));
    root.file("bin/busybox", 0o755, &read(parts.join("busybox")));
    root.file("bin/board2mqtt", 0o755, &read(agent.to_owned()));
    for library in ["ld-linux-armhf.so.3", "libc.so.6", "libm.so.6", "libgcc_s.so.1"] {
        root.file(&format!("lib/{library}"), 0o755, &read(parts.join(library)));
    }
    for module in fs::read_dir(parts.join("modules")).expect("the kernel's modules").flatten() {
        root.file(&format!("modules/{}", module.file_name().display()), 0o644, &read(module.path()));
    }
    let config = format!("{}\n[mqtt]\nserver = \"mqtt://10.0.2.2:{port}\"\n", include_str!("config.toml"));
    root.file("etc/board2mqtt.toml", 0o644, config.as_bytes());
    root.finish()
}

/// Runs a script in the shell behind a port; `None` while there is none.
fn shell_at(port: u16, script: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(ANSWER)).expect("a socket");
    stream.write_all(format!("exec 2>&1\n{script}\n").as_bytes()).ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
