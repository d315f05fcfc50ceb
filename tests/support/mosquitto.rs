//! A real Mosquitto on a free loopback port, which can be killed, stopped and started again, and its command-line clients.
//!
//! Nothing is skipped where it is missing: a test then fails and says what to install.

use super::{PATIENCE, wait_for};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server; killed when dropped.
pub struct Mosquitto {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
    /// What its clients need besides host and port, such as `--cafile`.
    pub client_args: Vec<String>,
}

impl Mosquitto {
    /// A server that lets everybody in.
    pub fn start() -> Self {
        Self::with(|_| "allow_anonymous true".into())
    }

    /// A server that lets everybody in and keeps sessions and retained messages over [`Mosquitto::stop`].
    pub fn persistent() -> Self {
        let lines = |folder: &Path| {
            format!("allow_anonymous true\npersistence true\npersistence_location {}/", folder.display())
        };
        Self::with(lines)
    }

    /// A server that lets everybody in and keeps what a slow subscriber has not taken yet, where others drop beyond a thousand.
    pub fn patient() -> Self {
        let lines = "allow_anonymous true\nmax_queued_messages 100000";
        Self::start_in(tempfile::tempdir().expect("a folder for the server"), |port| {
            format!("listener {port} 127.0.0.1\n{lines}")
        })
    }

    /// A server with the configuration lines that `lines` returns, which belong to its listener on loopback; `lines` may
    /// first put files into the folder it is given.
    pub fn with(lines: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let lines = lines(folder.path());
        Self::start_in(folder, |port| format!("listener {port} 127.0.0.1\n{lines}"))
    }

    /// A server with a whole configuration file of our own for a port.
    pub fn with_file(folder: TempDir, text: impl Fn(u16) -> String) -> Self {
        Self::start_in(folder, text)
    }

    fn start_in(folder: TempDir, text: impl Fn(u16) -> String) -> Self {
        let mut server = Self { folder, port: 0, child: None, client_args: Vec::new() };
        // Somebody else may take a free port before the server does.
        for _ in 0..5 {
            server.port = free_port();
            let user = if is_root() { "user root\n" } else { "" };
            let text = format!("{user}log_dest stderr\nlog_type all\n{}\n", text(server.port));
            std::fs::write(server.file("mosquitto.conf"), text).expect("the server's configuration");
            if server.try_start() {
                return server;
            }
        }
        panic!("mosquitto does not start:\n{}", server.log());
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A path in the server's own folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.file("mosquitto.log")).unwrap_or_default()
    }

    /// Waits until its log contains `text`.
    pub fn wait_for_log(&self, text: &str) {
        wait_for(&format!("`{text}` in the server's log"), || self.log().contains(text).then_some(()));
    }

    /// SIGKILL: connections end without a word, nothing is kept.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server is ours to kill");
            child.wait().expect("the server's end");
        }
    }

    /// SIGTERM and its end: what is persistent is on disk afterwards.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = i32::try_from(child.id()).expect("a process id");
            // SAFETY: a signal to a child of ours that has not been waited for.
            unsafe { libc::kill(pid, libc::SIGTERM) };
            child.wait().expect("the server's end");
        }
    }

    /// Starts it again on the same port after [`Mosquitto::kill`] or [`Mosquitto::stop`].
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it is still running");
        assert!(self.try_start(), "mosquitto does not start again:\n{}", self.log());
    }

    /// Publishes with `mosquitto_pub` at QoS 1 and waits until the server has it.
    pub fn publish(&self, topic: &str, payload: &str) {
        self.publish_with(topic, payload, &["-q", "1"]);
    }

    /// Publishes a retained message at QoS 1.
    pub fn retain(&self, topic: &str, payload: &str) {
        self.publish_with(topic, payload, &["-q", "1", "-r"]);
    }

    /// Publishes with more arguments of `mosquitto_pub`.
    pub fn publish_with(&self, topic: &str, payload: &str, args: &[&str]) {
        let mut command = self.client("mosquitto_pub");
        let output = run(command.args(["-t", topic, "-m", payload]).args(args));
        assert!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The retained message on `topic`, if there is one.
    pub fn retained(&self, topic: &str) -> Option<String> {
        let mut command = self.client("mosquitto_sub");
        let output = run(command.args(["-t", topic, "-C", "1", "-W", "1", "--retained-only"]));
        let text = String::from_utf8(output.stdout).expect("a payload in UTF-8");
        output.status.success().then(|| text.trim_end_matches('\n').to_owned())
    }

    /// A subscriber at QoS 2 that the server has already accepted.
    pub fn subscribe(&self, filters: &[&str]) -> Subscriber {
        let mut command = self.client("mosquitto_sub");
        for filter in filters {
            command.args(["-t", filter]);
        }
        Subscriber::start(command)
    }

    /// `program` with what it needs to reach this server.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", program, "-h", "127.0.0.1", "-p", &self.port.to_string()]).args(&self.client_args);
        command
    }

    fn try_start(&mut self) -> bool {
        let logged = self.log().len();
        let log = File::options().create(true).append(true).open(self.file("mosquitto.log")).expect("the log");
        let mut child = Command::new(find("mosquitto"))
            .arg("-c")
            .arg(self.file("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mosquitto can be started");
        let port = self.port;
        // That somebody accepts is not enough: it might be another test's server on a port both have found free.
        let runs = || self.log().get(logged..).is_some_and(|log| log.contains(" running\n"));
        let accepts = wait_for("mosquitto to accept or to end", || match child.try_wait().expect("its state") {
            Some(_) => Some(false),
            None => (runs() && TcpStream::connect(("127.0.0.1", port)).is_ok()).then_some(true),
        });
        self.child = Some(child);
        if !accepts {
            self.kill();
        }
        accepts
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- mosquitto's log\n{}----", self.log());
        }
    }
}

/// A message as `mosquitto_sub` received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub topic: String,
    pub payload: String,
    pub qos: u8,
    pub retain: bool,
    pub at: Instant,
}

#[derive(Default)]
struct Inbox {
    subscribed: bool,
    ended: bool,
    messages: Vec<Received>,
}

/// A running `mosquitto_sub`, which connects again by itself; killed when dropped.
pub struct Subscriber {
    child: Child,
    inbox: Arc<(Mutex<Inbox>, Condvar)>,
}

impl Subscriber {
    fn start(mut command: Command) -> Self {
        // The payload in hexadecimal cannot be mistaken for the client's own lines.
        command.args(["-q", "2", "-d", "-F", "MESSAGE %q %r %x %t"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("mosquitto_sub and stdbuf (packages mosquitto-clients and coreutils)");
        let stdout = child.stdout.take().expect("its output is a pipe");
        let inbox = Arc::new((Mutex::new(Inbox::default()), Condvar::new()));
        let shared = inbox.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut inbox = shared.0.lock().expect("the inbox");
                inbox.subscribed |= line.starts_with("Subscribed (");
                inbox.messages.extend(parse(&line));
                shared.1.notify_all();
            }
            shared.0.lock().expect("the inbox").ended = true;
            shared.1.notify_all();
        });
        let subscriber = Self { child, inbox };
        subscriber.wait("mosquitto_sub to be subscribed", |inbox| inbox.subscribed.then_some(()));
        subscriber
    }

    /// Waits until the messages so far satisfy `condition`, and returns its value.
    pub fn wait_until<T>(&self, what: &str, condition: impl Fn(&[Received]) -> Option<T>) -> T {
        self.wait(what, |inbox| condition(&inbox.messages))
    }

    /// Waits for a message with this topic and payload.
    pub fn wait_for(&self, topic: &str, payload: &str) -> Received {
        let wanted = |message: &&Received| message.topic == topic && message.payload == payload;
        self.wait_until(&format!("{topic} {payload}"), |messages| messages.iter().find(wanted).cloned())
    }

    /// What has come so far.
    pub fn messages(&self) -> Vec<Received> {
        self.inbox.0.lock().expect("the inbox").messages.clone()
    }

    /// What has come so far, which is then forgotten here.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.inbox.0.lock().expect("the inbox").messages)
    }

    /// Forgets what has come so far.
    pub fn clear(&self) {
        self.take();
    }

    fn wait<T>(&self, what: &str, condition: impl Fn(&Inbox) -> Option<T>) -> T {
        let start = Instant::now();
        let mut inbox = self.inbox.0.lock().expect("the inbox");
        loop {
            if let Some(value) = condition(&inbox) {
                return value;
            }
            assert!(!inbox.ended, "mosquitto_sub ended while we waited for {what}");
            assert!(
                start.elapsed() < PATIENCE,
                "waited {PATIENCE:?} for {what}, got {} messages: {:?}",
                inbox.messages.len(),
                tail(&inbox.messages)
            );
            inbox = self.inbox.1.wait_timeout(inbox, Duration::from_millis(100)).expect("the inbox").0;
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(messages: &[Received]) -> &[Received] {
    &messages[messages.len().saturating_sub(20)..]
}

fn parse(line: &str) -> Option<Received> {
    let mut fields = line.strip_prefix("MESSAGE ")?.splitn(4, ' ');
    let qos = fields.next()?.parse().ok()?;
    let retain = fields.next()? == "1";
    let payload = String::from_utf8_lossy(&hex(fields.next()?)).into_owned();
    Some(Received { topic: fields.next()?.to_owned(), payload, qos, retain, at: Instant::now() })
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).filter_map(byte).collect()
}

/// A port of 127.0.0.1 that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Makes a password file in `folder` with `mosquitto_passwd`.
pub fn password_file(folder: &Path, users: &[(&str, &str)]) -> PathBuf {
    let path = folder.join("passwords");
    File::create(&path).expect("the password file");
    for (user, password) in users {
        let output = run(Command::new(find("mosquitto_passwd")).arg("-b").arg(&path).args([user, password]));
        assert!(output.status.success(), "mosquitto_passwd: {}", String::from_utf8_lossy(&output.stderr));
    }
    path
}

/// Runs `configs/mosquitto/make-ca` into `folder`; `days` is how long the certificates hold, negative for expired ones.
pub fn make_ca(folder: &Path, server_name: &str, clients: &[&str], days: i32) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/mosquitto/make-ca");
    let mut command = Command::new("sh");
    let output = run(command.arg(script).arg(folder).arg(server_name).args(clients).env("DAYS", days.to_string()));
    assert!(output.status.success(), "make-ca: {}", String::from_utf8_lossy(&output.stderr));
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()))
}

pub fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("`{program}` is missing: apt-get install mosquitto mosquitto-clients"))
}

fn is_root() -> bool {
    // SAFETY: it cannot fail and touches nothing.
    unsafe { libc::geteuid() == 0 }
}
