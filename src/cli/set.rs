//! `board2mqtt set`: drives one output now, under its configured limits.
//!
//! While the daemon runs, the command goes through its socket and its guard. Otherwise this process holds the line until
//! Ctrl-C or `--for`, with a guard of its own; what the output follows or is interlocked with is then nobody's to know.
//! Invariant: a command that is refused moves nothing, and however it is asked to stop, the line is left as `on_exit` says.

use super::arguments::Arguments;
use super::{Failed, setup, unknown};
use crate::agent::control::{Answer, Ask, FILE_NAME};
use crate::clock::{Clock, SystemClock};
use crate::command::{self, Command};
use crate::outputs::{Bank, Earlier, Initial, Spec};
use anyhow::{Context, anyhow};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A daemon that says nothing for this long is not going to.
const PATIENCE: Duration = Duration::from_secs(3);

/// Drives the output.
pub fn run(arguments: &Arguments, output: &str, value: &str, hold: Option<Duration>) -> Result<(), Failed> {
    let command = words(value, hold)?;
    let daemon = setup::in_runtime_folder(FILE_NAME, |path| match UnixStream::connect(path) {
        // Nobody listens any more: the daemon was killed.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err(ErrorKind::NotFound.into()),
        outcome => outcome,
    });
    match daemon.context("the daemon's socket may not be used (try it as root, or join its group)")? {
        Some(daemon) => through(daemon, output, command, hold),
        None => alone(arguments, output, &command, hold),
    }
}

/// The command as the command topic would have it.
fn words(value: &str, hold: Option<Duration>) -> Result<String, Failed> {
    let Some(hold) = hold else { return Ok(value.to_owned()) };
    if value.trim_start().starts_with('{') {
        return Err(Failed::Usage("--for goes with a word or a number; a JSON command has its own `for`".to_owned()));
    }
    let hold = humantime::format_duration(hold).to_string();
    Ok(serde_json::json!({"state": value, "for": hold}).to_string())
}

fn through(mut daemon: UnixStream, output: &str, command: String, hold: Option<Duration>) -> Result<(), Failed> {
    daemon.set_read_timeout(Some(PATIENCE))?;
    daemon.set_write_timeout(Some(PATIENCE))?;
    let mut ask = serde_json::to_string(&Ask { output: output.to_owned(), command }).expect("strings serialise");
    ask.push('\n');
    daemon.write_all(ask.as_bytes()).context("the daemon does not take the command")?;
    let mut line = String::new();
    BufReader::new(daemon).read_line(&mut line).context("the daemon does not answer")?;
    match serde_json::from_str(&line).context("the daemon's answer makes no sense")? {
        Answer::Done { state } => {
            let state = state.unwrap_or_else(|| "is not known".to_owned());
            say(&format!("{output} {state}{}", hold.map(for_so_long).unwrap_or_default()));
            Ok(())
        }
        Answer::Refused { reason } => Err(refused(&reason)),
        Answer::Wrong { detail } => Err(Failed::Usage(detail)),
    }
}

fn alone(arguments: &Arguments, output: &str, words: &str, hold: Option<Duration>) -> Result<(), Failed> {
    let checked = setup::load(arguments)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let outputs = &checked.plan.outputs;
    let names = || outputs.iter().map(|output| output.spec.name.as_str());
    let planned = outputs.iter().find(|planned| planned.spec.name == output);
    let spec = lone(planned.ok_or_else(|| unknown("output", output, names()))?.spec.clone());
    let command = command::parse(words.as_bytes(), spec.limits.pwm);
    let command = command.map_err(|malformed| Failed::Usage(malformed.to_string()))?;
    let board = setup::board(&checked, &clock)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything moves: whoever stops us afterwards stops us in order.
        let mut signals = Signals::new()?;
        let bank = Bank::open(vec![spec], board, &|_| Earlier::default(), clock.stamp());
        Held { bank, clock, name: output.to_owned(), shown: None }.run(&command, hold, &mut signals).await
    })
}

/// The output without what only the daemon knows, taken over as it is found.
fn lone(mut spec: Spec) -> Spec {
    spec.initial = Initial::Keep;
    spec.follow = None;
    spec.limits.interlock = Vec::new();
    spec.limits.on_server_loss = None;
    spec
}

/// What asks to stop; a terminal that is closed does, too.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// One output in our hands.
struct Held {
    bank: Bank,
    clock: Arc<dyn Clock>,
    name: String,
    shown: Option<String>,
}

impl Held {
    async fn run(mut self, command: &Command, hold: Option<Duration>, signals: &mut Signals) -> Result<(), Failed> {
        let outcome = self.bank.command(0, command, false, self.clock.stamp());
        if let Some(failure) = self.bank.failure(0) {
            return Err(anyhow!("output {}: {failure}", self.name).into());
        }
        outcome.map_err(|refusal| refused(refusal.as_str()))?;
        self.show(&hold.map_or(" until Ctrl-C".to_owned(), for_so_long));
        self.hold(hold, signals).await;
        self.bank.shutdown(self.clock.stamp());
        self.show("");
        Ok(())
    }

    /// Keeps the guard's timers going until the time is over or somebody asks to stop.
    async fn hold(&mut self, hold: Option<Duration>, signals: &mut Signals) {
        let end = hold.map(|hold| self.clock.now() + hold);
        loop {
            let now = self.clock.now();
            if end.is_some_and(|end| now >= end) {
                // The command's own `for` is over, too.
                return self.bank.tick(self.clock.stamp());
            }
            let next = [end, self.bank.deadline()].into_iter().flatten().min();
            let wait = next.map_or(Duration::from_secs(3600), |next| next.since(now));
            tokio::select! {
                () = signals.any() => return,
                () = tokio::time::sleep(wait) => {
                    self.bank.tick(self.clock.stamp());
                    self.show("");
                }
            }
        }
    }

    /// Says what the output is now, where that has changed.
    fn show(&mut self, how_long: &str) {
        let pwm = self.bank.specs().next().is_some_and(|spec| spec.limits.pwm);
        let state = self.bank.level(0).map(|level| command::state_text(level, pwm).into_owned());
        if state != self.shown {
            say(&format!("{} {}{how_long}", self.name, state.as_deref().unwrap_or("is not known")));
            self.shown = state;
        }
    }
}

/// Whether anybody listens changes nothing for the line.
fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

fn for_so_long(hold: Duration) -> String {
    format!(" for {}", humantime::format_duration(hold))
}

/// A refusal with what can be done about it.
fn refused(reason: &str) -> Failed {
    let remedy = match reason {
        "expired" => ": its `expires` has passed",
        "interlock" => ": an output it is interlocked with is on, switch that off first",
        "max-on" => ": `for` is longer than the output's `max_on`",
        "min-off" => ": the output was on less than its `min_off` ago",
        "require" => ": what the output's `require` asks for does not hold, or only the running daemon could know",
        "hardware" => ": the line cannot be driven, the daemon's log says why",
        _ => "",
    };
    anyhow!("refused, {reason}{remedy}").into()
}
