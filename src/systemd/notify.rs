//! Messages to the service manager: sd_notify(3) and sd_watchdog_enabled(3).
//!
//! The words come from the crate sd-notify; the socket is kept here because the crate opens one a message, knows no
//! abstract address, and would wait for a stuck manager without end. Invariant: no call takes longer than
//! [`PATIENCE`], and none fails: a manager that cannot be told is logged once.

use super::{Environment, process_environment};
use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a message may wait for room in the manager's queue.
const PATIENCE: Duration = Duration::from_millis(500);

/// The way to the service manager; does nothing where there is none.
#[derive(Debug)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    status: Mutex<String>,
    unreachable: AtomicBool,
}

impl Notifier {
    /// The manager that `$NOTIFY_SOCKET` names, and its watchdog.
    pub fn from_environment() -> Self {
        Self::new(&process_environment)
    }

    fn new(environment: Environment<'_>) -> Self {
        let manager = environment("NOTIFY_SOCKET").and_then(|address| match open(&address) {
            Ok(manager) => Some(manager),
            Err(error) => {
                log::warn!(error:% = error, socket:% = address.display(); "service manager cannot be notified");
                None
            }
        });
        let watchdog = manager.is_some().then(|| watchdog(environment)).flatten();
        Self { manager, watchdog, status: Mutex::default(), unreachable: AtomicBool::new(false) }
    }

    /// Whether a service manager listens.
    pub fn is_present(&self) -> bool {
        self.manager.is_some()
    }

    /// `READY=1`: the start, or a reload announced by [`Self::reloading`], is finished.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// `RELOADING=1` with the monotonic time, as `Type=notify-reload` wants it; [`Self::ready`] ends it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => log::warn!(error:% = error; "service manager cannot be told of the reload"),
        }
    }

    /// `STOPPING=1`
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// `STATUS=text`, one line for `systemctl status`; sent only when it differs from the last.
    pub fn status(&self, text: &str) {
        if self.manager.is_none() {
            return;
        }
        // A line break would begin another assignment.
        let text = text.replace(char::is_control, " ");
        let mut last = self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *last != text {
            self.send(&[NotifyState::Status(&text)]);
            *last = text;
        }
    }

    /// `WATCHDOG=1`: the agent is alive.
    pub fn watchdog(&self) {
        if self.watchdog.is_some() {
            self.send(&[NotifyState::Watchdog]);
        }
    }

    /// How often [`Self::watchdog`] is to be called: half of what the manager allows; `None` where it does not watch us.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some((socket, address)) = &self.manager else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        // By address each time: the manager may have replaced its socket since.
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => self.unreachable.store(false, Ordering::Relaxed),
            Err(error) if self.unreachable.swap(true, Ordering::Relaxed) => drop(error),
            Err(error) => log::warn!(error:% = error; "service manager cannot be notified"),
        }
    }
}

/// A socket for the address of `$NOTIFY_SOCKET`: a path, or `@` and a name in the abstract namespace.
fn open(address: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(address)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither an absolute path nor `@` and a name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok((socket, address))
}

/// Half of `$WATCHDOG_USEC`, unless `$WATCHDOG_PID` names another process.
fn watchdog(environment: Environment<'_>) -> Option<Duration> {
    let number = |name| environment(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
    let ours = environment("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
    let allowed = number("WATCHDOG_USEC").filter(|&usec| ours && usec > 0)?;
    Some(Duration::from_micros(allowed) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::ffi::OsString;
    use tempfile::TempDir;

    /// A service manager's end: a real datagram socket, and the environment that leads to it.
    struct Manager {
        _folder: TempDir,
        socket: UnixDatagram,
        environment: HashMap<&'static str, OsString>,
    }

    impl Manager {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
            Self { _folder: folder, socket, environment: HashMap::from([("NOTIFY_SOCKET", path.into())]) }
        }

        fn with(mut self, name: &'static str, value: &str) -> Self {
            self.environment.insert(name, value.into());
            self
        }

        fn notifier(&self) -> Notifier {
            Notifier::new(&|name| self.environment.get(name).cloned())
        }

        fn received(&self) -> String {
            let mut buffer = [0; 4096];
            let len = self.socket.recv(&mut buffer).expect("a message within the limit");
            String::from_utf8(buffer[..len].to_vec()).expect("text")
        }

        fn silent(&self) -> bool {
            self.socket.set_nonblocking(true).expect("set");
            self.socket.recv(&mut [0; 16]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        }
    }

    #[test]
    fn a_life_is_told_in_the_managers_words() {
        let manager = Manager::new();
        let notifier = manager.notifier();
        notifier.ready();
        assert_eq!(manager.received(), "READY=1\n");
        notifier.reloading();
        let reloading = manager.received();
        let now: u64 = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .and_then(|rest| rest.trim_end().parse().ok())
            .expect("both in one message");
        assert!(now > 0);
        notifier.stopping();
        assert_eq!(manager.received(), "STOPPING=1\n");
        assert!(manager.silent());
    }

    #[test]
    fn a_status_is_one_line_and_sent_when_it_changed() {
        let manager = Manager::new();
        let notifier = manager.notifier();
        notifier.status("connected, 3 sensors");
        notifier.status("connected, 3 sensors");
        notifier.status("sensor\nREADY=1");
        notifier.status("connected, 3 sensors");
        assert_eq!(manager.received(), "STATUS=connected, 3 sensors\n");
        assert_eq!(manager.received(), "STATUS=sensor READY=1\n");
        assert_eq!(manager.received(), "STATUS=connected, 3 sensors\n");
        assert!(manager.silent());
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_asked_and_only_by_the_process_meant() {
        let own = std::process::id().to_string();
        let interval = |usec: &str, pid: &str| {
            let manager = Manager::new().with("WATCHDOG_USEC", usec).with("WATCHDOG_PID", pid);
            manager.notifier().watchdog_interval()
        };
        assert_eq!(interval("20000000", &own), Some(Duration::from_secs(10)));
        assert_eq!(interval("20000000", "1"), None);
        assert_eq!(interval("20000000", "me"), None);
        assert_eq!(interval("0", &own), None);
        assert_eq!(interval("soon", &own), None);

        let watched = Manager::new().with("WATCHDOG_USEC", "20000000");
        let notifier = watched.notifier();
        assert_eq!(notifier.watchdog_interval(), Some(Duration::from_secs(10)));
        notifier.watchdog();
        assert_eq!(watched.received(), "WATCHDOG=1\n");

        let unwatched = Manager::new();
        unwatched.notifier().watchdog();
        assert!(unwatched.silent());
    }

    #[test]
    fn an_abstract_address_is_reached_too() {
        let name = format!("board2mqtt-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        let notifier = Notifier::new(&|asked| (asked == "NOTIFY_SOCKET").then(|| format!("@{name}").into()));
        notifier.ready();
        let mut buffer = [0; 64];
        let len = socket.recv(&mut buffer).expect("a message");
        assert_eq!(&buffer[..len], b"READY=1\n");
    }

    #[test]
    fn without_a_manager_nothing_happens_and_no_call_fails() {
        for address in [None, Some(""), Some("relative"), Some("/nowhere/at/all")] {
            let notifier = Notifier::new(&|name| match name {
                "NOTIFY_SOCKET" => address.map(OsString::from),
                "WATCHDOG_USEC" => Some("1000000".into()),
                _ => None,
            });
            notifier.ready();
            notifier.status("x");
            notifier.reloading();
            notifier.watchdog();
            notifier.stopping();
            assert_eq!(notifier.watchdog_interval().is_some(), address == Some("/nowhere/at/all"), "{address:?}");
        }
    }

    #[test]
    fn a_manager_that_comes_back_is_told_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let notifier = Notifier::new(&|name| (name == "NOTIFY_SOCKET").then(|| path.clone().into()));
        notifier.ready();
        let socket = UnixDatagram::bind(&path).expect("a socket");
        notifier.ready();
        let mut buffer = [0; 64];
        let len = socket.recv(&mut buffer).expect("a message");
        assert_eq!(&buffer[..len], b"READY=1\n");
    }
}
