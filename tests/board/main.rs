//! The agent on emulated boards: QEMU, Debian's kernel, a bookworm root, the shipped unit, sensors on a bus and lines that
//! are looked at and driven from outside.
//!
//! `cargo test --test board` runs everything; names of machines, or parts of names of checks, choose. A machine boots once
//! for all its checks, in order.

mod board;
mod guest;
mod image;
mod qemu;
mod raspi3b;
mod report;
mod sabrelite;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A failure's place and words; the stack says nothing more.
    std::panic::set_hook(Box::new(|panic| println!("  {panic}")));
    // cargo's own options for a test harness mean nothing here.
    let wanted = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut report = report::Report::new(wanted);
    raspi3b::run(&mut report);
    sabrelite::run(&mut report);
    report.end()
}
