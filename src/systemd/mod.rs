//! systemd: readiness, status and watchdog ([`Notifier`]), the log's way out ([`init_log`]), credentials and folders.
//!
//! It does not decide when the agent is ready or alive, and reads no configuration. Invariant: without systemd, which
//! shows as absent environment variables, every call here does nothing or says `None`.

mod folders;
mod log_sink;
mod notify;

pub use folders::{credential, runtime_directory, state_directory};
pub use log_sink::{Destination, init_log};
pub use notify::Notifier;

use std::ffi::OsString;

/// Where environment variables come from, so that tests need not touch the process's own.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The process's environment.
fn process_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
