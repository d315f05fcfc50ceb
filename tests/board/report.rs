//! Named checks, carried out in order, each with its time and how it ended. A failure does not stop the next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A check by its name.
pub type Check<Board> = (&'static str, fn(&mut Board));

/// What was asked for and what has come of it.
pub struct Report {
    /// Machines or parts of checks' names; none for everything.
    wanted: Vec<String>,
    begun: Instant,
    passed: usize,
    failed: Vec<String>,
}

impl Report {
    /// Asked for by the arguments of the program.
    pub fn new(wanted: Vec<String>) -> Self {
        Self { wanted, begun: Instant::now(), passed: 0, failed: Vec::new() }
    }

    /// Boots a machine if it or one of its checks is asked for, and carries out what is asked for.
    ///
    /// `boot` is the first check: without it there are no others. After one that fails, `tell` says what there is to say.
    pub fn machine<Board>(
        &mut self,
        machine: &str,
        boot: impl FnOnce() -> Board,
        checks: &[Check<Board>],
        tell: impl Fn(&Board),
    ) {
        let all = self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == machine);
        let asked = |name: &str| all || self.wanted.iter().any(|wanted| name.contains(wanted.as_str()));
        let chosen: Vec<_> = checks.iter().filter(|(name, _)| asked(name)).collect();
        if chosen.is_empty() {
            return;
        }
        let Some(mut board) = self.carry_out(machine, "boots and is set up", boot) else { return };
        for (name, check) in chosen {
            if self.carry_out(machine, name, || check(&mut board)).is_none() {
                tell(&board);
            }
        }
    }

    fn carry_out<T>(&mut self, machine: &str, name: &str, check: impl FnOnce() -> T) -> Option<T> {
        let begun = Instant::now();
        // What a failed check leaves behind is judged by those that follow it.
        let outcome = catch_unwind(AssertUnwindSafe(check)).ok();
        let word = if outcome.is_some() { "ok" } else { "FAILED" };
        println!("{machine}: {name} ... {word} ({:.1} s)", begun.elapsed().as_secs_f64());
        match outcome {
            Some(_) => self.passed += 1,
            None => self.failed.push(format!("{machine}: {name}")),
        }
        outcome
    }

    /// Prints the totals.
    pub fn end(self) -> ExitCode {
        println!(
            "\n{} checks passed, {} failed, in {} s",
            self.passed,
            self.failed.len(),
            self.begun.elapsed().as_secs()
        );
        self.failed.iter().for_each(|name| println!("FAILED {name}"));
        if self.passed + self.failed.len() == 0 {
            println!("nothing is called {:?}", self.wanted);
        }
        ExitCode::from(u8::from(self.passed == 0 || !self.failed.is_empty()))
    }
}
