//! One QEMU process: started, spoken to from outside (QMP, the human monitor, qtest, its serial lines), and ended.
//!
//! It knows no machine and no guest. What it does from outside needs no help of the guest's: a register read with
//! [`Qemu::peek`] or a line driven with [`Qemu::poke`] is what the hardware is, not what the guest says. Every wait has a
//! bound. Invariant: the process ends with its value, and with the test that started it.

use crate::support::wait_for;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long QEMU may take to answer; it does so while its guest runs.
const ANSWER: Duration = Duration::from_secs(10);

/// A running QEMU; killed when dropped.
pub struct Qemu {
    folder: TempDir,
    child: Child,
    qmp: Wire,
    qtest: Wire,
}

impl Qemu {
    /// Starts `program` with `args`, that many serial lines, and the sockets it is spoken to by. A guest that resets ends it.
    ///
    /// # Panics
    /// With what it printed, if it does not start.
    pub fn start(program: &str, serial_lines: usize, args: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for QEMU");
        let path = |name: &str| folder.path().join(name);
        let mut command = Command::new(program);
        command.args(args).args(["-display", "none", "-monitor", "none", "-no-reboot"]);
        for line in 0..serial_lines {
            command.arg("-serial").arg(format!("file:{}", path(&serial_name(line)).display()));
        }
        for (option, socket) in [("-qmp", "qmp"), ("-qtest", "qtest")] {
            command.arg(option).arg(format!("unix:{},server=on,wait=off", path(socket).display()));
        }
        let printed = File::create(path("printed.log")).expect("a file");
        command.stdin(Stdio::null()).stdout(printed.try_clone().expect("a handle")).stderr(printed);
        let mut child = ending_with_us(&mut command).spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut connect = |socket| Wire::connect(&path(socket), &mut child, &path("printed.log"));
        let (qmp, qtest) = (connect("qmp"), connect("qtest"));
        let mut qemu = Self { folder, child, qmp, qtest };
        qemu.qmp.line();
        qemu.qmp("qmp_capabilities", &json!({}));
        qemu
    }

    /// Carries out a QMP command and gives what it returns.
    ///
    /// # Panics
    /// If QEMU refuses it.
    pub fn qmp(&mut self, command: &str, arguments: &Value) -> Value {
        self.qmp.send(&json!({ "execute": command, "arguments": arguments }).to_string());
        loop {
            let line = self.qmp.line();
            let mut answer: Value = serde_json::from_str(&line).expect("JSON from QEMU");
            assert!(answer.get("error").is_none(), "{command} {arguments}: {answer}");
            // Events come in between.
            if answer.get("return").is_some() {
                return answer["return"].take();
            }
        }
    }

    /// Carries out a command of the human monitor and gives what it prints.
    pub fn hmp(&mut self, command: &str) -> String {
        let printed = self.qmp("human-monitor-command", &json!({ "command-line": command }));
        printed.as_str().expect("text").to_owned()
    }

    /// Sets a property of a device given by its `id`.
    pub fn set(&mut self, id: &str, property: &str, value: impl Into<Value>) {
        let path = format!("/machine/peripheral/{id}");
        self.qmp("qom-set", &json!({ "path": path, "property": property, "value": value.into() }));
    }

    /// Reads a 32-bit register at a physical address.
    pub fn peek(&mut self, address: u64) -> u32 {
        let printed = self.hmp(&format!("xp /1xw {address:#x}"));
        let word = printed.split("0x").last().map(str::trim).and_then(|word| u32::from_str_radix(word, 16).ok());
        word.unwrap_or_else(|| panic!("no register at {address:#x}: {printed}"))
    }

    /// Writes a 32-bit register at a physical address.
    pub fn poke(&mut self, address: u64, value: u32) {
        self.qtest(&format!("writel {address:#x} {value:#x}"));
    }

    /// Drives an unnamed GPIO input of the device at a QOM path, such as `/machine/soc/gpio2`.
    pub fn drive(&mut self, device: &str, line: u32, high: bool) {
        self.qtest(&format!("set_irq_in {device} unnamed-gpio-in {line} {}", u8::from(high)));
    }

    /// Sends a line of the qtest protocol and gives the answer behind its `OK`.
    ///
    /// # Panics
    /// If QEMU refuses it.
    pub fn qtest(&mut self, line: &str) -> String {
        self.qtest.send(line);
        let answer = self.qtest.line();
        let rest = answer.strip_prefix("OK").unwrap_or_else(|| panic!("qtest {line}: {answer}"));
        rest.trim().to_owned()
    }

    /// The port on 127.0.0.1 that leads to `port` of the guest, for a network made with `hostfwd=tcp:127.0.0.1:0-:port`.
    pub fn forwarded(&mut self, port: u16) -> u16 {
        let printed = self.hmp("info usernet");
        let row = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [state, _, _, ours, _, theirs, ..] = fields[..] else { return None };
            (state == "TCP[HOST_FORWARD]" && theirs == port.to_string()).then(|| ours.parse().ok())?
        };
        printed.lines().find_map(row).unwrap_or_else(|| panic!("nothing leads to port {port}:\n{printed}"))
    }

    /// Everything the guest has written to a serial line.
    pub fn serial(&self, line: usize) -> String {
        let bytes = std::fs::read(self.folder.path().join(serial_name(line))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `condition` has a value, at most `patience`; QEMU's own end is noticed at once.
    ///
    /// # Panics
    /// With the end of the serial line `console`.
    pub fn wait<T>(
        &mut self,
        what: &str,
        patience: Duration,
        console: usize,
        mut condition: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = condition(self) {
                return value;
            }
            let ended = self.child.try_wait().expect("QEMU's state");
            if ended.is_some() || begun.elapsed() > patience {
                let text = self.serial(console);
                let tail: Vec<_> = text.lines().rev().take(40).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                panic!("waited {:?} for {what} (QEMU: {ended:?}); the console:\n{}", begun.elapsed(), tail.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Pulls the plug.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("QEMU's end");
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serial_name(line: usize) -> String {
    format!("serial{line}.log")
}

/// The child gets SIGKILL when the thread that starts it ends, however that happens.
fn ending_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is one system call, and allocates and locks nothing between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    }
}

/// A socket of lines.
struct Wire {
    reader: BufReader<UnixStream>,
}

impl Wire {
    fn connect(socket: &PathBuf, child: &mut Child, printed: &Path) -> Self {
        let stream = wait_for(&format!("QEMU's {}", socket.display()), || {
            let ended = child.try_wait().expect("QEMU's state");
            assert!(ended.is_none(), "QEMU: {}", std::fs::read_to_string(printed).unwrap_or_default());
            UnixStream::connect(socket).ok()
        });
        stream.set_read_timeout(Some(ANSWER)).expect("a socket");
        Self { reader: BufReader::new(stream) }
    }

    fn send(&mut self, line: &str) {
        self.reader.get_mut().write_all(format!("{line}\n").as_bytes()).expect("QEMU listens");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap_or_else(|error| panic!("QEMU's answer: {error}"));
        assert!(!line.is_empty(), "QEMU has ended");
        line
    }
}
