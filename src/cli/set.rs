//! `board2mqtt set`: drives one output now, under its configured limits.
//!
//! While the daemon runs, the command goes through its socket and its guard. Otherwise this process holds the line until
//! Ctrl-C or `--for`, with a guard of its own; what the output follows or is interlocked with is then nobody's to know.

use super::arguments::Arguments;
use super::{Failed, setup, write_out};
use crate::agent::control::{Answer, Ask, FILE_NAME};
use crate::clock::{Clock, SystemClock};
use crate::command;
use crate::outputs::{Bank, Spec};
use anyhow::{Context, anyhow};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A daemon that says nothing for this long is not going to.
const PATIENCE: Duration = Duration::from_secs(3);

/// Drives the output.
pub fn run(arguments: &Arguments, output: &str, value: &str, hold: Option<Duration>) -> Result<(), Failed> {
    let command = words(value, hold);
    match setup::runtime_folder().and_then(|folder| UnixStream::connect(folder.join(FILE_NAME)).ok()) {
        Some(daemon) => through(daemon, output, command),
        None => alone(arguments, output, &command, hold),
    }
}

/// The command as the command topic would have it.
fn words(value: &str, hold: Option<Duration>) -> String {
    let Some(hold) = hold else { return value.to_owned() };
    let hold = humantime::format_duration(hold).to_string().replace(' ', "");
    match value.parse::<f64>() {
        Ok(level) => serde_json::json!({"level": level, "for": hold}).to_string(),
        Err(_) => serde_json::json!({"state": value, "for": hold}).to_string(),
    }
}

fn through(mut daemon: UnixStream, output: &str, command: String) -> Result<(), Failed> {
    daemon.set_read_timeout(Some(PATIENCE))?;
    let mut ask = serde_json::to_string(&Ask { output: output.to_owned(), command }).expect("strings serialise");
    ask.push('\n');
    daemon.write_all(ask.as_bytes()).context("the daemon does not take the command")?;
    let mut line = String::new();
    BufReader::new(daemon).read_line(&mut line).context("the daemon does not answer")?;
    let answer: Answer = serde_json::from_str(&line).context("the daemon's answer makes no sense")?;
    match answer {
        Answer { done: true, state, .. } => write_out(&format!("{output} {}\n", state.unwrap_or_default())),
        Answer { reason, .. } => Err(anyhow!("refused: {}", reason.unwrap_or_default()).into()),
    }
}

fn alone(arguments: &Arguments, output: &str, words: &str, hold: Option<Duration>) -> Result<(), Failed> {
    let checked = setup::load(arguments)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let outputs = &checked.plan.outputs;
    let all = || outputs.iter().map(|output| output.spec.name.as_str()).collect::<Vec<_>>().join(", ");
    let planned = outputs.iter().find(|planned| planned.spec.name == output);
    let spec = planned.ok_or_else(|| anyhow!("no output is called `{output}`; there are: {}", all()))?.spec.clone();
    let pwm = spec.drive.is_pwm();
    let command = command::parse(words.as_bytes(), pwm).map_err(|_| {
        anyhow!("`{words}` is no command for this output, such as ON, OFF or {}", if pwm { "40" } else { "TOGGLE" })
    })?;
    let board = setup::board(&checked, &clock)?;
    let mut bank = Bank::open(vec![lone(spec)], board, &|_| None, clock.stamp());
    if let Some(failure) = bank.failure(0) {
        return Err(anyhow!("{failure}").into());
    }
    bank.command(0, &command, false, clock.stamp()).map_err(|refusal| anyhow!("refused: {}", refusal.as_str()))?;
    let state = bank.level(0).map(|level| command::state_text(level, pwm)).unwrap_or_default();
    let until = hold.map_or("until Ctrl-C".to_owned(), |hold| format!("for {}", humantime::format_duration(hold)));
    write_out(&format!("{output} {state} {until}\n"))?;
    hold_line(&mut bank, &*clock, hold)
}

/// The output without what only the daemon knows.
fn lone(mut spec: Spec) -> Spec {
    spec.follow = None;
    spec.limits.interlock = Vec::new();
    spec.limits.on_server_loss = None;
    spec
}

/// Keeps the guard's timers going until the time is over or somebody asks to stop.
fn hold_line(bank: &mut Bank, clock: &dyn Clock, hold: Option<Duration>) -> Result<(), Failed> {
    let end = hold.map(|hold| clock.now() + hold);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        loop {
            let now = clock.now();
            if end.is_some_and(|end| now >= end) {
                return Ok::<_, std::io::Error>(());
            }
            let next = [end, bank.deadline()].into_iter().flatten().min();
            let wait = next.map_or(Duration::from_secs(3600), |next| next.since(now));
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                () = tokio::time::sleep(wait) => bank.tick(clock.stamp()),
            }
        }
    })?;
    bank.shutdown(clock.stamp());
    Ok(())
}
