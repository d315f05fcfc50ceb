//! A board under test: the emulated machine, logins on it, the server it talks to, and the agent as a user installs it.
//!
//! What is the same on every machine is here; a machine brings its devices, its configuration and its checks. Invariant: a
//! check finds the agent running under the configuration it asks for, whatever the check before it did.

use crate::guest::Guest;
use crate::image;
use crate::qemu::Qemu;
use crate::support::mosquitto::{Mosquitto, Received, Subscriber, password_file};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long anything may take on an emulated board on a busy machine before a check gives up.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How long a boot may take.
const BOOT: Duration = Duration::from_secs(400);
/// How many seconds `cross/deploy` may take.
const DEPLOYMENT: &str = "200";
/// What a board says on its console when it takes logins.
const READY: &str = "board is ready";
/// Who it is, in the README and here.
const NAME: &str = "drone01";
/// Where it says whether it is there.
pub const STATUS: &str = "sensors/drone01/status";

/// What distinguishes a machine.
pub struct Machine {
    /// As `tests/board/image` knows it.
    pub name: &'static str,
    /// The target its agent is built for.
    pub target: &'static str,
    /// The QEMU that emulates it, and its options: the machine, its devices, its network with a way in to port 22.
    pub program: &'static str,
    pub options: &'static [&'static str],
    /// What the kernel is told, its console included.
    pub kernel: &'static str,
    /// Which of the serial lines the console is; there are two.
    pub console: usize,
    /// The configuration the agent is installed with.
    pub configuration: &'static str,
    /// What is done on the board before the agent is started.
    pub prepare: fn(&Guest),
}

/// A machine that runs the agent.
pub struct Board {
    pub qemu: Qemu,
    pub guest: Guest,
    pub server: Mosquitto,
    heard: Subscriber,
    /// What the agent runs with.
    configuration: String,
    /// What `check --probe` printed before the agent was started.
    probe: String,
}

impl Board {
    /// Boots a machine and installs the agent on it as the README tells.
    pub fn boot(machine: &Machine) -> Self {
        let agent = image::agent(machine.target);
        let image = image::image(machine.name);
        let server = server();
        let heard = server.subscribe(&["#"]);
        let begun = Instant::now();
        let mut qemu = start(machine, &image);
        qemu.wait("logins", BOOT, machine.console, |qemu| qemu.serial(machine.console).contains(READY).then_some(()));
        println!("{}: takes logins after {:.1} s", machine.name, begun.elapsed().as_secs_f64());
        let guest = Guest::new(&image, qemu.forwarded(22));
        let mut board = Self { qemu, guest, server, heard, configuration: String::new(), probe: String::new() };
        board.set_clock();
        board.install(&agent, machine);
        println!("{}: has the agent after {:.1} s", machine.name, begun.elapsed().as_secs_f64());
        board
    }

    /// What a network time service does on a board without a clock.
    fn set_clock(&self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        self.guest.root(&format!("date --set=@{}", since.as_secs()));
    }

    /// `cross/deploy`, then what it says to do on a board without a configuration.
    fn install(&mut self, agent: &Path, machine: &Machine) {
        let mut deploy = Command::new("timeout");
        let options = [Path::new("--binary"), agent, Path::new("pi@board")];
        deploy.arg(DEPLOYMENT).arg(image::deploy()).args(options).stdin(Stdio::null());
        let output = deploy.env("SSH_OPTIONS", format!("-F {}", self.guest.ssh_config().display())).output();
        let output = output.expect("cross/deploy");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("installed and not started"), "cross/deploy: {text}");
        self.configuration = self.complete(machine.configuration);
        self.type_into("/etc/board2mqtt/config.toml", &self.configuration);
        self.type_into("/etc/board2mqtt/password", "secret\n");
        self.guest.pi("sudo systemd-tmpfiles --create board2mqtt.conf");
        (machine.prepare)(&self.guest);
        // It fails where a part cannot be used, which is said in what it prints.
        self.probe = self.guest.pi("sudo -u board2mqtt board2mqtt check --probe 2>&1 || true");
        self.guest.pi("sudo systemctl enable --now board2mqtt");
        self.wait_for_payload(STATUS, "online");
    }

    /// What somebody types into an editor that sudo opened.
    fn type_into(&self, path: &str, text: &str) {
        let output = self.guest.run("pi", &format!("sudo tee {path} >/dev/null"), text);
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A configuration's text, with the server that is really there.
    fn complete(&self, configuration: &str) -> String {
        configuration.replace("broker.lan:1883", &format!("10.0.2.2:{}", self.server.port()))
    }

    /// Has the agent run with this configuration and this drop-in of its unit, restarted only if it does not.
    pub fn configure(&mut self, configuration: &str, drop_in: &str) {
        let configuration = self.complete(configuration);
        let wanted = format!("{configuration}\n{drop_in}");
        if self.configuration != wanted && !(drop_in.is_empty() && self.configuration == configuration) {
            self.guest.write("/etc/board2mqtt/config.toml", &configuration);
            self.guest.write("/etc/systemd/system/board2mqtt.service.d/test.conf", drop_in);
            self.configuration = wanted;
            self.restart();
        }
    }

    /// Puts another configuration in the place of the one that the agent was given without a drop-in; it is not told.
    pub fn replace(&mut self, configuration: &str) {
        self.configuration = self.complete(configuration);
        self.guest.write("/etc/board2mqtt/config.toml", &self.configuration);
    }

    /// The agent's process, as systemd knows it.
    pub fn process(&self) -> String {
        self.guest.root("systemctl show -p MainPID --value board2mqtt").trim().to_owned()
    }

    /// What `check --probe` printed before the agent was started.
    pub fn probe(&self) -> String {
        self.probe.clone()
    }

    /// The board's own time, as `journalctl --since` takes it.
    pub fn now(&self) -> String {
        self.guest.root("date '+%F %T'").trim().to_owned()
    }

    /// Restarts the agent, and waits until it is there again.
    pub fn restart(&mut self) {
        let begun = Instant::now();
        self.guest.root("systemctl daemon-reload; systemctl restart board2mqtt");
        self.wait_for_return(begun);
    }

    /// Waits until the agent has connected since then.
    pub fn wait_for_return(&mut self, since: Instant) {
        self.wait("the agent to be online again", |board| {
            let status = board.newest(STATUS)?;
            (status.payload == "online" && status.at > since).then_some(())
        });
    }

    /// Forgets what was heard so far.
    pub fn forget(&self) {
        self.heard.clear();
    }

    /// The newest message on a topic.
    pub fn newest(&self, topic: &str) -> Option<Received> {
        self.heard.messages().into_iter().rev().find(|message| message.topic == topic)
    }

    /// All payloads on a topic, in order.
    pub fn payloads(&self, topic: &str) -> Vec<String> {
        self.heard.messages().into_iter().filter(|message| message.topic == topic).map(|m| m.payload).collect()
    }

    /// Waits until the newest message on a topic has a value in `judge`.
    pub fn wait_for<T>(&mut self, topic: &str, judge: impl Fn(&str) -> Option<T>) -> T {
        let found = self.within(PATIENCE, |board| judge(&board.newest(topic)?.payload));
        found.unwrap_or_else(|| panic!("waited {PATIENCE:?} for {topic}, which is {:?}", self.newest(topic)))
    }

    /// Waits until the newest message on a topic is this.
    pub fn wait_for_payload(&mut self, topic: &str, payload: &str) {
        let found = self.within(PATIENCE, |board| (board.newest(topic)?.payload == payload).then_some(()));
        found.unwrap_or_else(|| panic!("waited {PATIENCE:?} for {topic} {payload}, it is {:?}", self.newest(topic)))
    }

    /// Waits until `condition` has a value.
    pub fn wait<T>(&mut self, what: &str, condition: impl FnMut(&mut Self) -> Option<T>) -> T {
        self.within(PATIENCE, condition).unwrap_or_else(|| panic!("waited {PATIENCE:?} for {what}"))
    }

    fn within<T>(&mut self, patience: Duration, mut condition: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let begun = Instant::now();
        loop {
            let found = condition(self);
            if found.is_some() || begun.elapsed() > patience {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Publishes a command and waits for its reply.
    pub fn command(&mut self, output: &str, payload: &str) -> String {
        let reply = format!("board2mqtt/{NAME}/{output}/reply");
        let before = self.payloads(&reply).len();
        self.server.publish(&format!("board2mqtt/{NAME}/{output}/set"), payload);
        self.wait(&format!("the reply to {output} {payload}"), |board| board.payloads(&reply).get(before).cloned())
    }

    /// What the agent has logged, a line for each entry, by fields of the journal.
    pub fn journal(&self) -> Vec<serde_json::Value> {
        let text = self.guest.root("journalctl --no-pager -o json -u board2mqtt _COMM=board2mqtt");
        text.lines().map(|line| serde_json::from_str(line).expect("the journal's JSON")).collect()
    }

    /// The last of what the agent and its unit have logged, for whoever looks at a failure.
    pub fn tell(&self) {
        let output = self.guest.run("root", "journalctl --no-pager -n 30 -o short -u board2mqtt", "");
        eprintln!("---- the board's journal\n{}----", String::from_utf8_lossy(&output.stdout));
    }
}

/// The machine, on its way.
fn start(machine: &Machine, image: &Path) -> Qemu {
    let file = |name: &str| image.join(name).display().to_string();
    let (kernel, dtb, initrd) = (file("kernel"), file("board.dtb"), file("initrd"));
    let told = format!("quiet systemd.show_status=0 net.ifnames=0 panic=-1 {}", machine.kernel);
    let common = ["-kernel", &kernel, "-dtb", &dtb, "-initrd", &initrd, "-append", &told];
    let options: Vec<String> = machine.options.iter().chain(&common).map(|option| (*option).to_owned()).collect();
    Qemu::start(machine.program, 2, &options)
}

/// A server with passwords, as the README has it.
fn server() -> Mosquitto {
    let mut server = Mosquitto::with(|folder| {
        let passwords = password_file(folder, &[(NAME, "secret"), ("udooneo", "secret")]);
        format!("password_file {}\nallow_anonymous false", passwords.display())
    });
    server.client_args = ["-u", "udooneo", "-P", "secret"].map(str::to_owned).to_vec();
    server
}
