//! `board2mqtt demo`, the first thing a visitor types: plain lines into a pipe, a table in a terminal, nothing left behind.
#![cfg(feature = "demo")]

mod shell;

use shell::{PATIENCE, Shell, wait_for};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What is left of the demo in the temporary folder.
fn leftovers(shell: &Shell) -> Vec<String> {
    let entries = std::fs::read_dir(shell.path()).expect("the folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("board2mqtt")).collect()
}

#[test]
fn without_a_terminal_it_prints_topics_and_payloads_and_ends_by_itself() {
    let shell = Shell::new();
    let demo = shell.start(&["demo", "--seconds", "2"]);
    demo.wait_for_out("sensors/demo/status online\n");
    assert_eq!(leftovers(&shell).len(), 1, "a folder of its own while it runs");
    let done = demo.done();
    assert_eq!(done.status, Some(0));
    let lines: Vec<_> = done.out.lines().collect();
    assert_eq!(lines.first(), Some(&"sensors/demo/status online"));
    assert_eq!(lines.last(), Some(&"sensors/demo/status offline"));
    assert!(lines.iter().all(|line| line.starts_with("sensors/") && line.contains(' ')), "{}", done.out);
    let feet = |line: &&str| line.strip_prefix("sensors/drone01/altitude ")?.strip_suffix(" feet")?.parse::<i32>().ok();
    let feet: Vec<_> = lines.iter().filter_map(feet).collect();
    assert!(feet.len() >= 3 && feet.last() > feet.first(), "it climbs: {feet:?}");
    assert_eq!(done.err.lines().count(), 1, "one hint, no warning: {}", done.err);
    assert!(done.err.contains("mosquitto_pub -h 127.0.0.1 -p "), "{}", done.err);
    assert_eq!(leftovers(&shell), Vec::<String>::new());
}

#[test]
fn the_beacon_lights_above_400_feet_a_door_opens_and_a_wire_comes_loose() {
    let shell = Shell::new();
    let demo = shell.start(&["demo"]);
    demo.wait_for_out("sensors/demo/door ON\n");
    demo.wait_for_out("sensors/demo/beacon ON\n");
    let out = demo.out();
    let before = &out[..out.find("sensors/demo/beacon ON").expect("it is there")];
    let feet =
        before.lines().rev().find_map(|line| line.strip_prefix("sensors/drone01/altitude ")).expect("an altitude");
    assert!(feet.trim_end_matches(" feet").parse::<i32>().is_ok_and(|feet| feet >= 400), "{feet}");
    demo.wait_for_out("sensors/demo/thermometer/health {\"state\":\"failing\",\"reason\":\"nack\"");
    demo.signal(libc::SIGINT);
    let done = demo.done();
    assert_eq!(done.status, Some(0));
    assert!(done.out.ends_with("sensors/demo/status offline\n"), "{}", done.out);
}

#[test]
fn its_hint_commands_the_beacon() {
    let shell = Shell::new();
    let demo = shell.start(&["demo"]);
    demo.wait_for_out("sensors/demo/beacon OFF\n");
    let err = demo.err();
    let mut words = err.lines().next().and_then(|line| line.split("try: ").nth(1)).expect("a hint").split(' ');
    let status =
        Command::new(words.next().expect("a program")).args(words).status().expect("mosquitto-clients are there");
    assert!(status.success());
    demo.wait_for_out("sensors/demo/beacon ON\n");
    demo.signal(libc::SIGTERM);
    assert_eq!(demo.done().status, Some(0));
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let shell = Shell::new();
    let mut child = shell.command(&["demo"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    assert_eq!(out.lines().take(3).filter_map(Result::ok).count(), 3);
    assert_eq!(end_of(&mut child), Some(0));
    assert_eq!(leftovers(&shell), Vec::<String>::new());
}

#[test]
fn two_demos_do_not_meet() {
    let shell = Shell::new();
    let demos = [(); 2].map(|()| shell.start(&["demo", "--seconds", "1"]));
    for demo in demos {
        let done = demo.done();
        assert_eq!(done.status, Some(0));
        assert_eq!(done.out.matches("sensors/demo/status online").count(), 1, "{}", done.out);
    }
}

fn end_of(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("its state") {
            return status.code();
        }
        assert!(start.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The demo in a terminal of its own.
struct Terminal {
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    fn start(shell: &Shell, arguments: &[&str], columns: u16, rows: u16) -> Self {
        let (ours, theirs) = pty(columns, rows);
        let mut command = shell.command(arguments);
        let copy = || Stdio::from(theirs.try_clone().expect("a copy"));
        command.env("TERM", "xterm").stdin(copy()).stdout(copy()).stderr(copy());
        // SAFETY: only calls that are safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                // So that Ctrl-C is a signal.
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().expect("it starts");
        // The command holds copies, which would keep the terminal open.
        drop((command, theirs));
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, into) = (File::from(ours.try_clone().expect("a copy")), shown.clone());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                match screen.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(count) => into.lock().expect("the screen").extend_from_slice(&chunk[..count]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        });
        Self { keyboard: File::from(ours), shown, child }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("the screen")).into_owned()
    }

    fn wait_for(&self, text: &str) {
        wait_for(&format!("`{text}` on the screen"), || self.shown().contains(text).then_some(()));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our end and theirs.
fn pty(columns: u16, rows: u16) -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (0, 0);
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both places are writable, the size is valid, and the descriptors are new and ours alone.
    unsafe {
        let none = std::ptr::null_mut();
        assert_eq!(libc::openpty(&mut ours, &mut theirs, none, std::ptr::null_mut(), &size), 0);
        libc::fcntl(ours, libc::F_SETFD, libc::FD_CLOEXEC);
        (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    }
}

const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

#[test]
fn a_terminal_is_borrowed_and_given_back_on_ctrl_c() {
    let shell = Shell::new();
    let mut terminal = Terminal::start(&shell, &["demo"], 80, 24);
    terminal.wait_for(" ft  [");
    for text in ["board2mqtt demo", "beacon off", "sensors/drone01/altitude", " feet", "Ctrl-C stops", "mosquitto_pub"]
    {
        terminal.wait_for(text);
    }
    terminal.keyboard.write_all(b"\x03").expect("a key");
    assert_eq!(end_of(&mut terminal.child), Some(0));
    terminal.wait_for("sensors/demo/status offline");
    let shown = terminal.shown();
    // The terminal itself shows the key.
    let start = shown.find(ENTER).expect("it enters");
    assert_eq!(start, 0, "nothing before: {:?}", &shown[..start]);
    assert_eq!((shown.matches(ENTER).count(), shown.matches(LEAVE).count()), (1, 1));
    let after = &shown[shown.find(LEAVE).expect("it leaves") + LEAVE.len()..];
    assert!(!after.contains('\x1b'), "plain text once the screen is given back: {after:?}");
    assert!(after.contains("sensors/demo/status offline"), "{after:?}");
    assert_eq!(leftovers(&shell), Vec::<String>::new());
}

#[test]
fn a_small_window_gets_no_line_too_wide_and_no_page_too_high() {
    let shell = Shell::new();
    let mut terminal = Terminal::start(&shell, &["demo", "--seconds", "2"], 30, 6);
    assert_eq!(end_of(&mut terminal.child), Some(0));
    wait_for("the screen given back", || terminal.shown().contains(LEAVE).then_some(()));
    let shown = terminal.shown();
    let drawn = &shown[..shown.find(LEAVE).expect("it leaves")];
    let pages: Vec<_> = drawn.split("\x1b[H").skip(1).collect();
    assert!(pages.len() > 3, "{} pages", pages.len());
    for page in pages {
        assert!(page.matches('\n').count() < 6, "{page:?}");
        for line in page.split("\r\n") {
            let mut text = String::new();
            for (index, piece) in line.split('\x1b').enumerate() {
                let end = if index == 0 { 0 } else { piece.find(char::is_alphabetic).expect("an end") + 1 };
                text.push_str(&piece[end..]);
            }
            assert!(text.trim_end_matches('\r').chars().count() <= 30, "{text:?}");
        }
    }
}

#[test]
fn a_terminal_that_can_do_nothing_gets_plain_lines() {
    let mut shell = Shell::new();
    shell.set("TERM", "dumb");
    let (ours, theirs) = pty(80, 24);
    let mut child =
        shell.command(&["demo", "--seconds", "1"]).stdout(theirs).stderr(Stdio::null()).spawn().expect("it starts");
    let mut text = String::new();
    // A terminal without an other end gives an error, not an end.
    let _ = File::from(ours).read_to_string(&mut text);
    assert_eq!(end_of(&mut child), Some(0));
    assert!(text.contains("sensors/demo/status online") && !text.contains('\x1b'), "{text:?}");
}
